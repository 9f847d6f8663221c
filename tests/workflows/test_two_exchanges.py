"""Two exchanges that really differ, Binance's protocol and Kraken's, under one deployment."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import ServiceClient
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.workflows.desk import Desk, Exchange, a_desk, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending, ReasonCode
from trading.oms.errors import ExchangeUnavailable
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.venue import Amend, ExecutionReport, OrderRequest
from workers.composition import running

pytestmark = pytest.mark.temporal
RUNNER = SandboxedWorkflowRunner()
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED


@pytest.fixture(scope="module")
async def module_desk(
    temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    url = f"sqlite:///{tmp_path_factory.mktemp('desk') / 'store.sqlite3'}"
    async with a_desk(temporal_client, url, protocols=("binance", "kraken")) as desk:
        yield desk


@pytest.fixture
def kraken(desk: Desk) -> Exchange:
    return desk.exchanges[1]


async def test_an_order_rests_fills_in_parts_and_is_cancelled_at_each(desk: Desk) -> None:
    for exchange in desk.exchanges:
        resting = await desk.resting(exchange=exchange.name)
        order_id = resting.client_order_id
        exchange.market("SELL", "30000", "0.004")
        part = await desk.until(order_id, lambda state: state.filled_quantity)
        answer = await desk.cancel(order_id)
        closed = await desk.until_closed(order_id)

        assert part.filled_quantity == Decimal("0.004")
        assert answer.outcome is CancelOutcome.CANCELLED
        assert closed.status is OrderStatus.CANCELLED
        (fill,) = await desk.store.fills(order_id)
        (there,) = exchange.orders(clientOrderId=str(resting.exchange_client_id))
        assert (there["executedQty"], there["status"]) == ("0.00400000", "CANCELED")
        # Binance takes its fee from what is received, Kraken in the quote asset.
        assert fill.fee_currency == ("USDT" if exchange.kind == "kraken" else "BTC")


async def test_a_buy_reserves_its_fee_where_the_exchange_takes_it_on_top(desk: Desk) -> None:
    for exchange, factor in zip(desk.exchanges, ("1", "1.004"), strict=True):
        before = await desk.store.risk.book(exchange.name, "main")
        order = await desk.resting(exchange=exchange.name)
        after = await desk.store.risk.book(exchange.name, "main")
        held = after.reserved("USDT") - before.reserved("USDT")
        assert held == 300 * Decimal(factor), exchange.kind
        await desk.cancel(order.client_order_id)


async def test_a_market_order_fills_although_its_answer_says_nothing_of_it(
    desk: Desk, kraken: Exchange
) -> None:
    kraken.market("SELL", "29000", "0.004", "GTC")
    kraken.market("SELL", "29500", "0.006", "GTC")

    result = await desk.submit(order_type="market", exchange=kraken.name)
    closed = await desk.until_closed(result.order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.average_fill_price) == (FILLED, Decimal(29300))
    assert len(await desk.store.fills(result.order_id)) == 2


@pytest.mark.parametrize("stream", [True, False], ids=["", "deaf stream"])
@pytest.mark.parametrize(
    "fault",
    [{"kind": "reply_lost"}, {"kind": "code_-1007", "order": "alive"}, {"kind": "garbled"}],
    ids=lambda fault: fault["kind"],
)
async def test_a_krakens_order_in_doubt_is_found_by_its_client_id(
    desk: Desk, kraken: Exchange, fault: dict[str, Any], *, stream: bool
) -> None:
    if not stream:
        kraken.fault("stream_drop")
    options = {"count": 1, "endpoint": "AddOrder", **fault}
    kraken.fault(options.pop("kind"), **options)

    result = await desk.submit(exchange=kraken.name)
    state = await desk.until_status(result.order_id, ACCEPTED)

    (there,) = kraken.orders(status="NEW")
    assert there["clientOrderId"] == state.exchange_client_id
    assert state.in_doubt_since is None
    names = await desk.names(result.order_id)
    assert names.count("order_in_doubt") == names.count("order_doubt_ended") <= 1


async def test_a_krakens_order_that_was_not_placed_is_proved_so_and_sent_again_once(
    desk: Desk, kraken: Exchange
) -> None:
    kraken.fault("http_503", count=1, endpoint="AddOrder")

    result = await desk.submit(exchange=kraken.name)
    assert result.in_doubt
    state = await desk.until_status(result.order_id, ACCEPTED)

    (there,) = kraken.orders(status="NEW")
    assert there["clientOrderId"] == state.exchange_client_id
    claims = await desk.store.claims_of(result.order_id)
    assert [(claim.key.generation, str(claim.outcome)) for claim in claims] == [
        (1, "not_placed"), (2, "accepted"),
    ]  # fmt: skip


async def test_a_refusal_in_krakens_words_rejects_the_order(desk: Desk, kraken: Exchange) -> None:
    kraken.market("SELL", "29000", "1", "GTC")

    result = await desk.submit(exchange=kraken.name, post_only=True)

    assert result.status is OrderStatus.REJECTED
    assert result.state is not None
    assert result.state.reason_code is ReasonCode.EXCHANGE_REJECTED
    assert "EOrder:Post only order" in (result.state.rejection_reason or "")
    assert kraken.orders(status="NEW") == []


async def test_a_fill_in_a_gap_of_krakens_stream_is_caught_up(desk: Desk, kraken: Exchange) -> None:
    resting = await desk.resting(exchange=kraken.name)
    kraken.fault("stream_drop", event="trade", count=1)
    kraken.market("SELL", "30000", "0.01")
    closed = await desk.until_closed(resting.client_order_id)

    assert closed.status is FILLED
    await until(lambda: _has_fills(desk, resting.client_order_id))


async def test_kraken_changes_price_and_quantity_in_place(desk: Desk, kraken: Exchange) -> None:
    before = await desk.resting(exchange=kraken.name)
    order_id = before.client_order_id

    dearer = await desk.oms.modify_order(order_id, new_price=Decimal(30100))
    more = await desk.oms.modify_order(
        order_id, new_price=Decimal(30200), new_quantity=Decimal("0.02")
    )
    too_much = await desk.oms.modify_order(order_id, new_quantity=Decimal(1000))
    less = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.015"))

    assert (dearer.success, more.success, less.success) == (True, True, True), (dearer, more, less)
    assert (too_much.success, "funds" in str(too_much.error)) == (False, True)
    after = await desk.state(order_id)
    assert (after.price, after.quantity) == (Decimal(30200), Decimal("0.015"))
    assert (after.leg, after.revision, after.exchange_order_id) == (1, 3, before.exchange_order_id)
    (there,) = kraken.orders(status="NEW")
    assert (there["clientOrderId"], Decimal(there["price"]), Decimal(there["origQty"])) == (
        before.exchange_client_id, Decimal(30200), Decimal("0.015"),
    )  # fmt: skip
    kraken.market("SELL", "30200", "0.015")
    assert (await desk.until_closed(order_id)).status is FILLED


@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_an_amendment_that_gets_no_answer_is_looked_for_and_made_once(
    desk: Desk, kraken: Exchange, order: str
) -> None:
    order_id = (await desk.resting(exchange=kraken.name)).client_order_id
    kraken.fault("reply_lost", count=1, endpoint="AmendOrder", order=order)

    result = await desk.oms.modify_order(order_id, new_price=Decimal(30100))

    assert result.success, result
    (there,) = kraken.orders(status="NEW")
    assert Decimal(there["price"]) == (await desk.state(order_id)).price == Decimal(30100)
    assert (await desk.names(order_id)).count("order_modified") == 1


async def test_an_amendment_that_would_take_leaves_a_post_only_order_as_it_was(
    desk: Desk, kraken: Exchange
) -> None:
    kraken.market("SELL", "30050", "1", "GTC")
    order_id = (await desk.resting(exchange=kraken.name, post_only=True)).client_order_id

    result = await desk.oms.modify_order(order_id, new_price=Decimal(30100))

    assert (result.success, result.status) == (False, ACCEPTED)
    assert "Post only" in str(result.error)
    (there,) = kraken.orders(status="NEW")
    assert Decimal(there["price"]) == (await desk.state(order_id)).price == Decimal(30000)


@pytest.mark.parametrize("filled", ["0.004", "0.01"])
async def test_an_amendment_at_kraken_meets_a_fill_that_was_not_heard_of(
    desk: Desk, kraken: Exchange, filled: str
) -> None:
    resting = await desk.resting(exchange=kraken.name)
    kraken.fault("stream_drop")
    kraken.market("SELL", "30000", filled)

    changed = await desk.oms.modify_order(resting.client_order_id, new_price=Decimal(29500))

    assert changed.state is not None
    assert changed.state.filled_quantity == Decimal(filled)
    (there,) = kraken.orders(clientOrderId=str(resting.exchange_client_id))
    if filled == "0.01":
        assert (changed.success, changed.status) == (False, FILLED)
    else:
        assert changed.success, changed.error
        assert Decimal(there["price"]) == changed.state.price == Decimal(29500)
        assert changed.state.leg == 1


async def test_a_replacement_at_kraken_sends_what_is_left_although_a_fill_was_not_heard_of(
    desk: Desk, kraken: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kraken's answer to a cancel does not say what the order has traded."""
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[kraken.name, "main"]
    nothing = connector.capabilities.model_copy(update={"amend": Amend.NONE})
    monkeypatch.setattr(connector, "capabilities", nothing)
    resting = await desk.resting(exchange=kraken.name)
    kraken.fault("stream_drop")
    kraken.market("SELL", "30000", "0.004")

    changed = await desk.oms.modify_order(resting.client_order_id, new_price=Decimal(29500))

    assert changed.success, changed.error
    assert changed.state is not None
    assert changed.state.filled_quantity == Decimal("0.004")
    ids = resting.exchange_client_id, changed.state.exchange_client_id
    (first,), (second,) = (kraken.orders(clientOrderId=str(one)) for one in ids)
    assert (first["executedQty"], first["status"]) == ("0.00400000", "CANCELED")
    assert (second["origQty"], second["status"]) == ("0.00600000", "NEW")


async def test_a_cancel_at_kraken_answers_with_what_was_filled_unheard(
    desk: Desk, kraken: Exchange
) -> None:
    resting = await desk.resting(exchange=kraken.name)
    kraken.fault("stream_drop")
    kraken.market("SELL", "30000", "0.004")

    answer = await desk.cancel(resting.client_order_id)

    assert (answer.outcome, answer.filled_quantity) == (CancelOutcome.CANCELLED, Decimal("0.004"))


async def test_a_reduction_at_kraken_below_what_was_filled_unheard_is_refused_and_ends_the_order(
    desk: Desk, kraken: Exchange
) -> None:
    """Kraken takes it, cancels the rest, and does not say so."""
    resting = await desk.resting(exchange=kraken.name)
    kraken.fault("stream_drop")
    kraken.market("SELL", "30000", "0.006")

    changed = await desk.oms.modify_order(resting.client_order_id, new_quantity=Decimal("0.005"))
    closed = await desk.until_closed(resting.client_order_id)

    assert not changed.success
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity, closed.state.quantity) == (
        OrderStatus.CANCELLED, Decimal("0.006"), Decimal("0.01"),
    )  # fmt: skip
    assert "order_alarm" not in await desk.names(resting.client_order_id)


async def _has_fills(desk: Desk, order_id: str) -> bool:
    return len(await desk.store.fills(order_id)) == 1


async def test_two_workers_that_share_one_key_of_krakens_lose_and_doubt_no_order(
    temporal_client: Client, sqlite_url: str
) -> None:
    """One worker's requests are overtaken now and then by the other's, who asks all the time."""
    async with a_desk(temporal_client, sqlite_url, protocols=("kraken",)) as desk:
        assert desk.runtime is not None
        (ahead,) = desk.runtime.parts.connectors.values()
        # A client of its own, as another process has: one client has one worker for a queue.
        config = temporal_client.config()
        config["service_client"] = await _connected(temporal_client)
        async with running(desk.settings, Client(**config), runner=RUNNER) as other:
            (behind,) = other.parts.connectors.values()
            refusals = _late_nonces(behind)
            using = asyncio.create_task(_use(ahead))
            orders = (desk.submit(exchange=desk.exchange.name) for _ in range(20))
            results = await asyncio.gather(*orders)
            states = [await desk.until_status(one.order_id, ACCEPTED) for one in results]
            using.cancel()
        names = [name for one in results for name in await desk.names(one.order_id)]
        there = [order["clientOrderId"] for order in desk.exchange.orders(status="NEW")]

    assert refusals, "the two were never in each other's way: this proves nothing"
    assert sorted(there) == sorted(str(state.exchange_client_id) for state in states)
    assert "order_in_doubt" not in names


async def _connected(client: Client) -> ServiceClient:
    return await ServiceClient.connect(client.service_client.config)


async def _use(connector: Any) -> None:
    """Ask with the key all the time."""
    while True:
        with contextlib.suppress(ExchangeUnavailable):
            await connector.balances()
        await asyncio.sleep(0.01)


def _late_nonces(connector: Any) -> list[ExchangeUnavailable]:
    """From now on every other request is 50 ms on its way; what is placed in vain is noted."""
    refusals: list[ExchangeUnavailable] = []
    place, delays_us = connector.place, itertools.cycle((0, 50_000))

    async def noting(request: OrderRequest) -> ExecutionReport:
        try:
            report: ExecutionReport = await place(request)
        except ExchangeUnavailable as error:
            refusals.append(error)
            raise
        return report

    def nonce() -> int:
        return time.time_ns() // 1000 - next(delays_us)

    connector.place, connector._wire.incrementing_nonce = noting, nonce
    return refusals


async def test_a_deposit_and_a_withdrawal_that_the_exchange_tells_of_are_no_drift(
    desk: Desk,
) -> None:
    """Told twice they count once; what nobody told of is one."""
    for exchange in desk.exchanges:
        await desk.oms.reconcile(exchange.name)
        exchange.fault("stream_duplicate")
        exchange.deposit("ETH", "-300")
        exchange.deposit("BTC", "2")
        audited = partial(desk.store.risk.adjustments, exchange.name, "main")

        async def both_are_noted(audited: Any = audited) -> bool:
            noted = [one for one in await audited() if one.reason.startswith("transfer ")]
            return [one.after - one.before for one in noted] == [Decimal(-300), Decimal(2)]

        await until(both_are_noted)
        (report,) = await desk.oms.reconcile(exchange.name)
        assert [one for one in report.findings if one.kind == "balance_drift"] == []
        assert f"account:{exchange.name}/main" not in await desk.store.trading_states()

        exchange.fault("stream_drop")
        exchange.deposit("ETH", "-200")
        (report,) = await desk.oms.reconcile(exchange.name)
        (drift,) = [one for one in report.findings if one.kind == "balance_drift"]
        assert drift.numbers["missing_here"] == -200


@pytest.mark.parametrize("newest", ["30500", "30200"])
async def test_a_change_that_was_made_before_is_not_asked_for_again(
    desk: Desk, kraken: Exchange, newest: str
) -> None:
    """Its task was swallowed by a worker that stood still; others have made it, or a later one."""
    kraken.fault("stream_drop")
    order_id = (await desk.resting(exchange=kraken.name)).client_order_id
    prices = dict.fromkeys(["30500", newest])
    for revision, price in enumerate(prices, 1):
        changed = {"revision": revision, "quantity": Decimal("0.01"), "price": Decimal(price)}
        event = LifecycleEvent(kind=EventKind.MODIFIED, at=utc_now(), leg=1, **changed)
        await desk.store.record(order_id, [event])
    before = kraken.requests("POST AmendOrder")

    answer = await desk.oms.modify_order(order_id, new_price=Decimal(30500))

    assert kraken.requests("POST AmendOrder") == before
    assert answer.success is (newest == "30500"), answer
    state = await desk.state(order_id)
    assert (state.price, state.pending) == (Decimal(newest), Pending.NONE)
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
