"""Modifying: in place, by a new exchange order, and what may come between."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.workflows.desk import Desk, Exchange, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending, ReasonCode
from trading.oms.errors import InvalidOrder, OrderNotFound

pytestmark = pytest.mark.temporal
CANCELLED, FILLED = OrderStatus.CANCELLED, OrderStatus.FILLED
ACCEPTED, PART = OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED


SEND_OF = {"at once": "POST order/cancelReplace", "in steps": "POST order"}


@pytest.fixture(params=["at once", "in steps"])
def way(request: pytest.FixtureRequest, desk: Desk) -> Iterator[str]:
    """How the exchange replaces: in one request, or by a cancel and a new order."""
    desk.replaces_at_once(at_once=request.param == "at once")
    yield request.param
    desk.replaces_at_once(at_once=True)


def D(text: str) -> Decimal:  # noqa: N802 - short, in tables of numbers
    return Decimal(text)


async def test_a_reduction_keeps_the_exchange_order(desk: Desk, exchange: Exchange) -> None:
    before = await desk.resting()
    order_id = before.client_order_id

    result = await desk.oms.modify_order(order_id, new_quantity=D("0.006"))

    assert (result.success, result.status, result.error) == (True, ACCEPTED, None)
    after = await desk.state(order_id)
    assert (after.quantity, after.remaining_quantity) == (D("0.006"), D("0.006"))
    assert (after.exchange_order_id, after.leg) == (before.exchange_order_id, 1)
    assert (after.revision, after.pending) == (1, Pending.NONE)
    (there,) = exchange.orders(status="NEW")
    assert D(there["origQty"]) == D("0.006")
    exchange.market("SELL", "30000", "0.006")
    assert (await desk.until_closed(order_id)).status is FILLED


async def test_a_partly_filled_order_is_reduced_to_a_total(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, PART)

    result = await desk.oms.modify_order(order_id, new_quantity=D("0.007"))

    assert result.state is not None
    assert (result.success, result.state.remaining_quantity) == (True, D("0.003"))
    too_low = await desk.oms.modify_order(order_id, new_quantity=D("0.004"))
    assert not too_low.success
    assert "must be greater than the 0.004 already filled" in str(too_low.error)
    exchange.market("SELL", "30000", "0.003")
    assert (await desk.until_closed(order_id)).status is FILLED


@pytest.mark.parametrize("door", ["order manager", "signal"])
async def test_another_price_is_another_exchange_order(
    desk: Desk, exchange: Exchange, way: str, door: str
) -> None:
    before = await desk.resting()
    order_id = before.client_order_id
    cancels = exchange.requests("DELETE order")

    if door == "signal":
        await desk.handle(order_id).signal("modify", {"new_price": "30100"})
        after = await desk.until(order_id, lambda state: state.revision == 1 and state.leg == 2)
    else:
        assert (await desk.oms.modify_order(order_id, new_price=D("30100"))).success
    after = await desk.until(order_id, lambda state: state.pending is Pending.NONE)

    assert (after.status, after.price, after.leg) == (ACCEPTED, D("30100"), 2)
    old, new = exchange.orders()[-2:]
    assert (old["status"], new["status"]) == ("CANCELED", "NEW")
    assert (old["clientOrderId"], new["clientOrderId"]) == (
        before.exchange_client_id, after.exchange_client_id,
    )  # fmt: skip
    assert "order_cancelled" not in await desk.names(order_id)
    assert (await desk.names(order_id)).count("order_modified") == 1
    assert exchange.requests("DELETE order") - cancels == (0 if way == "at once" else 1)
    exchange.market("SELL", "30100", "0.01")
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.average_fill_price) == (FILLED, D("30100"))


@pytest.mark.usefixtures("way")
async def test_fills_of_all_exchange_orders_count(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, PART)
    await desk.oms.modify_order(order_id, new_price=D("30100"))
    exchange.market("SELL", "30100", "0.001")
    await desk.until(order_id, lambda state: state.filled_quantity == D("0.005"))

    result = await desk.oms.modify_order(order_id, new_quantity=D("0.02"), new_price=D("30200"))

    assert result.state is not None
    assert (result.state.leg, result.state.remaining_quantity) == (3, D("0.015"))
    assert D(exchange.orders(status="NEW")[-1]["origQty"]) == D("0.015")
    shrunk = await desk.oms.modify_order(order_id, new_quantity=D("0.01"))
    assert (shrunk.success, D(exchange.orders(status="NEW")[-1]["origQty"])) == (True, D("0.005"))
    exchange.market("SELL", "30200", "0.005")
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (FILLED, D("0.01"))
    assert closed.state.average_fill_price == D("30110")
    assert len(await desk.store.fills(order_id)) == 3


@pytest.mark.usefixtures("way")
async def test_a_fill_that_comes_before_the_old_order_is_cancelled_counts(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    exchange.market("SELL", "30000", "0.004")

    result = await desk.oms.modify_order(order_id, new_price=D("30100"))

    assert (result.success, result.status) == (True, PART)
    assert D(exchange.orders(status="NEW")[-1]["origQty"]) == D("0.006")
    assert (await desk.state(order_id)).filled_quantity == D("0.004")
    await desk.cancel(order_id)
    assert len(await desk.store.fills(order_id)) == 1


@pytest.mark.usefixtures("way")
async def test_a_whole_fill_wins_the_race_with_a_modification(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    exchange.market("SELL", "30000", "0.01")

    result = await desk.oms.modify_order(order_id, new_price=D("30100"))

    assert (result.success, result.status) == (False, FILLED)
    assert "filled before" in str(result.error)
    closed = await desk.until_closed(order_id)
    assert (closed.status, len(exchange.orders(status="NEW"))) == (FILLED, 0)


async def test_a_reduction_that_meets_fills_is_refused_and_the_order_goes_on(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    exchange.market("SELL", "30000", "0.006")

    result = await desk.oms.modify_order(order_id, new_quantity=D("0.005"))

    assert (result.success, result.status) == (False, PART)
    state = await desk.state(order_id)
    assert (state.quantity, state.pending) == (D("0.01"), Pending.NONE)
    exchange.market("SELL", "30000", "0.004")
    assert (await desk.until_closed(order_id)).status is FILLED


@pytest.mark.usefixtures("way")
async def test_a_refused_new_order_ends_the_order_with_the_reason(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting(post_only=True)).client_order_id
    exchange.market("SELL", "31000", "1", "GTC")

    result = await desk.oms.modify_order(order_id, new_price=D("32000"))

    assert (result.success, result.status) == (False, CANCELLED)
    assert "immediately match" in str(result.error)
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (CANCELLED, ReasonCode.REPLACE_FAILED)


@pytest.mark.parametrize("if_not_placed", ["resend", "reject"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reply_lost"},
        {"kind": "reply_lost", "order": "dead"},
        {"kind": "http_503", "order": "alive"},
        {"kind": "code_-1007"},
        {"kind": "rate_429", "retry_after": "0.2"},
        {"kind": "garbled"},
    ],
    ids=lambda fault: "-".join(fault.values()),
)
async def test_the_new_order_is_found_or_proved_absent(
    desk: Desk, exchange: Exchange, way: str, fault: dict[str, str], if_not_placed: str
) -> None:
    """Proved absent it is sent again if the trader wants that, else one order was replaced."""
    order_id = (await desk.resting(if_not_placed=if_not_placed)).client_order_id
    options = {name: value for name, value in fault.items() if name != "kind"}
    exchange.fault(fault["kind"], count=1, endpoint=SEND_OF[way], **options)
    is_dead = fault["kind"] == "code_-1007" or fault.get("order") == "dead"

    result = await desk.oms.modify_order(order_id, new_price=D("30100"), wait=20)

    state = await desk.until(order_id, lambda state: state.pending is Pending.NONE)
    assert (state.pending, state.in_doubt_since, state.replacing) == (Pending.NONE, None, False)
    if not is_dead or if_not_placed == "resend":
        assert result.success, result
        assert (state.status, state.price, state.leg) == (ACCEPTED, D("30100"), 2)
        assert [D(one["price"]) for one in exchange.orders(status="NEW")] == [D("30100")]
        claims = await desk.store.claims_of(order_id)
        assert [claim.key.generation for claim in claims if claim.key.leg == 2][-1] == 1 + is_dead
        assert (await desk.names(order_id)).count("order_modified") == 1
    elif way == "at once":
        assert (result.success, result.status) == (False, ACCEPTED)
        assert "proved not to be placed" in str(result.error)
        assert (state.price, state.leg, state.revision) == (D("30000"), 1, 0)
        assert [D(one["price"]) for one in exchange.orders(status="NEW")] == [D("30000")]
        assert (await desk.oms.modify_order(order_id, new_price=D("30200"))).success
    else:
        assert not result.success
        closed = await desk.until_closed(order_id)
        assert closed.state is not None
        assert (closed.status, closed.state.reason_code) == (CANCELLED, ReasonCode.REPLACE_FAILED)
        assert exchange.orders(status="NEW") == []


@pytest.mark.parametrize("endpoint", ["DELETE order", "PUT order/amend/keepPriority"])
@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_a_change_that_gets_no_clear_answer_is_repeated(
    desk: Desk, exchange: Exchange, endpoint: str, order: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    desk.replaces_at_once(at_once=False)
    exchange.fault("reply_lost", count=1, endpoint=endpoint, order=order)
    wish: dict[str, Any] = (
        {"new_price": D("30100")} if endpoint.startswith("DELETE") else {"new_quantity": D("0.005")}
    )

    result = await desk.oms.modify_order(order_id, **wish)

    assert result.success, result
    assert len(exchange.orders(status="NEW")) == 1
    state = await desk.state(order_id)
    assert (state.pending, state.revision) == (Pending.NONE, 1)


async def test_a_cancel_while_the_order_is_replaced_ends_it(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    desk.replaces_at_once(at_once=False)
    exchange.fault("http_503", endpoint="DELETE order")
    change = asyncio.create_task(desk.oms.modify_order(order_id, new_price=D("30100")))
    await desk.until(order_id, lambda state: state.replacing)
    cancel = asyncio.create_task(desk.cancel(order_id))
    await until(lambda: _asked(desk, order_id))
    exchange.clear()

    changed, cancelled = await asyncio.gather(change, cancel)

    assert (changed.success, cancelled.outcome) == (False, CancelOutcome.CANCELLED)
    assert (await desk.until_closed(order_id)).status is CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_what_cannot_be_modified_is_refused_with_the_reason(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id

    off_tick = await desk.oms.modify_order(order_id, new_price=D("30000.001"))
    off_lot = await desk.oms.modify_order(order_id, new_quantity=D("0.0050001"))
    same = await desk.oms.modify_order(order_id, new_price=D("30000.00"))
    with pytest.raises(InvalidOrder, match="new_price"):
        await desk.oms.modify_order(order_id, new_price=D("-1"))
    with pytest.raises(InvalidOrder, match="new_quantity, new_price or both"):
        await desk.oms.modify_order(order_id)
    with pytest.raises(OrderNotFound):
        await desk.oms.modify_order("nobody-knows-it", new_price=D("1"))

    assert (off_tick.success, off_tick.reason_code) == (False, ReasonCode.PRICE_OFF_TICK)
    assert (off_lot.success, off_lot.reason_code) == (False, ReasonCode.QUANTITY_OFF_LOT)
    assert (same.success, same.status) == (True, ACCEPTED)
    await desk.cancel(order_id)
    ended = await desk.oms.modify_order(order_id, new_price=D("30100"))
    assert (ended.success, ended.status) == (False, CANCELLED)
    assert "has ended as cancelled" in str(ended.error)
    assert (await desk.state(order_id)).leg == 1


async def test_an_order_in_doubt_or_without_a_price_is_not_modified(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("http_503", count=1, endpoint="POST order")
    in_doubt = await desk.submit(if_not_placed="reject")
    assert in_doubt.in_doubt

    result = await desk.oms.modify_order(in_doubt.order_id, new_price=D("30100"))
    stop = await desk.submit(order_type="stop", side="sell", stop_price="20000")
    priced = await desk.oms.modify_order(stop.order_id, new_price=D("30100"))

    assert (result.success, result.in_doubt) == (False, True)
    assert "not confirmed" in str(result.error)
    assert (priced.success, "has no price" in str(priced.error)) == (False, True)


@pytest.mark.usefixtures("way")
async def test_two_modifications_at_once_leave_one_order(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id

    results = await asyncio.gather(
        *(desk.oms.modify_order(order_id, new_price=D(price)) for price in ("30100", "30200"))
    )

    assert any(result.success for result in results)
    assert len(exchange.orders(status="NEW")) == 1
    state = await desk.state(order_id)
    assert D(exchange.orders(status="NEW")[0]["price"]) == state.price


async def test_an_order_is_modified_long_after_its_send_by(desk: Desk, exchange: Exchange) -> None:
    send_by = datetime.now(UTC) + timedelta(milliseconds=600)
    order_id = (await desk.resting(send_by=send_by)).client_order_id
    await until(lambda: _passed(send_by))

    result = await desk.oms.modify_order(order_id, new_price=D("30100"))

    assert (result.success, result.status) == (True, ACCEPTED)
    assert len(exchange.orders(status="NEW")) == 1


async def _asked(desk: Desk, order_id: str) -> bool:
    history = await desk.history(order_id)
    return history.count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") >= 2


async def _passed(time: datetime) -> bool:
    return datetime.now(UTC) > time
