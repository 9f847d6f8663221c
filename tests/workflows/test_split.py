"""An order that is split over two real sandboxes: its legs, and that it is always their sum."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from activities import markets
from activities.store import OrderFilter
from tests.workflows.desk import Desk, Exchange, a_desk, until
from trading.oms.enums import (
    CancelOutcome,
    OrderStatus,
    Pending,
    ReasonCode,
    RejectedBy,
    TradingState,
)
from trading.oms.models import OrderState
from trading.oms.routing.smart import RoutingStrategy
from trading.oms.split import summed

pytestmark = pytest.mark.temporal
ACCEPTED, CANCELLED = OrderStatus.ACCEPTED, OrderStatus.CANCELLED
FILLED, REJECTED = OrderStatus.FILLED, OrderStatus.REJECTED


@pytest.fixture(scope="module")
async def module_desk(
    temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    """Two exchanges, and orders that are split."""
    url = f"sqlite:///{tmp_path_factory.mktemp('split') / 'store.sqlite3'}"
    split = RoutingStrategy.SPLIT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markets, "_BOOK_AGE_S", Decimal(0))  # The books are another test's.
        async with a_desk(temporal_client, url, exchanges=2, routing=split) as desk:
            yield desk


@pytest.fixture(autouse=True)
async def no_halt_is_remembered(desk: Desk) -> None:
    """The test before may have halted an exchange, which is looked at again only now and then."""
    assert desk.runtime is not None
    for exchange in desk.exchanges:
        exchange.rules(max_quantity="9000")
    for connector in desk.runtime.parts.connectors.values():
        await connector.load_instruments()


def sells(exchange: Exchange, price: str, quantity: str) -> None:
    exchange.market("SELL", price, quantity, "GTC")


async def legs_of(desk: Desk, order_id: str) -> list[OrderState]:
    legs = await desk.store.orders(OrderFilter(parent_order_id=order_id), limit=None)
    return sorted(legs, key=lambda leg: leg.client_order_id)


async def a_whole(desk: Desk, order_id: str) -> OrderState:
    """The parent, which has to be the sum of its legs."""
    state = await desk.state(order_id)
    legs = await legs_of(desk, order_id)
    assert summed(state, legs) == state
    assert sum(leg.filled_quantity for leg in legs) == state.filled_quantity
    return state


async def two_at_rest(desk: Desk, **fields: str) -> tuple[str, list[OrderState]]:
    """A split order: 0.004 filled at the first exchange and 0.006 at rest, 0.002 of 0.01 there."""
    first, second = desk.exchanges
    sells(first, "29000", "0.006")
    sells(second, "29500", "0.002")
    result = await desk.submit(**{"quantity": "0.02", **fields})
    assert result.error is None
    order_id = result.order_id
    legs = await legs_of(desk, order_id)
    return order_id, legs


async def three_at_rest(desk: Desk) -> tuple[str, list[OrderState]]:
    """A split order of 0.03 at 28000 with three legs of 0.01, all at rest: no exchange takes more.

    The third was made by making the order greater.
    """
    for exchange in desk.exchanges:
        exchange.rules(max_quantity="0.01")
    assert desk.runtime is not None
    for connector in desk.runtime.parts.connectors.values():
        await connector.load_instruments()
    result = await desk.submit(quantity="0.02", price="28000")
    assert result.error is None
    await until(lambda: all_are(desk, result.order_id, ACCEPTED))
    result = await desk.oms.modify_order(result.order_id, new_quantity=Decimal("0.03"), wait=20)
    assert result.error is None
    await until(lambda: all_are(desk, result.order_id, ACCEPTED))
    return result.order_id, await legs_of(desk, result.order_id)


async def all_are(desk: Desk, order_id: str, status: OrderStatus) -> bool:
    return {leg.status for leg in await legs_of(desk, order_id)} == {status}


async def quantities(desk: Desk, order_id: str) -> list[str]:
    return [str(leg.quantity) for leg in await legs_of(desk, order_id)]


def resting(desk: Desk) -> set[tuple[Decimal, Decimal]]:
    """Quantity and price of what rests at any exchange."""
    found = [one for exchange in desk.exchanges for one in exchange.orders(status="NEW")]
    return {(Decimal(one["origQty"]), Decimal(one["price"])) for one in found}


async def ends_of_workflows(desk: Desk, order_id: str) -> None:
    """The parent closes, and so have its legs."""
    for leg in await legs_of(desk, order_id):
        await desk.until_closed(leg.client_order_id)
    await desk.until_closed(order_id)


async def test_the_cheapest_levels_of_both_books_are_taken_and_the_rest_rests(desk: Desk) -> None:
    first, second = desk.exchanges
    order_id, legs = await two_at_rest(desk)

    assert [(leg.client_order_id, leg.exchange, leg.quantity) for leg in legs] == [
        (f"{order_id}.leg1", first.name, Decimal("0.018")),
        (f"{order_id}.leg2", second.name, Decimal("0.002")),
    ]
    assert {leg.parent_order_id for leg in legs} == {order_id}
    await desk.until(order_id, filled("0.008"))
    await desk.until_status(legs[1].client_order_id, FILLED)
    state = await a_whole(desk, order_id)
    assert (state.status, state.exchange, state.is_split) == (
        OrderStatus.PARTIALLY_FILLED, "", True
    )  # fmt: skip
    assert state.average_fill_price == Decimal(29125)
    assert state.fees_by_currency == {"BTC": Decimal("0.000008")}

    first.market("SELL", "30000", "0.005")
    await desk.until(order_id, filled("0.013"))
    await a_whole(desk, order_id)
    first.market("SELL", "30000", "0.007")
    await desk.until_status(order_id, FILLED)
    await ends_of_workflows(desk, order_id)
    state = await a_whole(desk, order_id)
    names = await desk.names(order_id)
    assert names[:2] == ["order_created", "order_split"]
    assert "order_fill" not in names
    assert names[-1] == "order_filled"
    entries = await desk.journal(order_id)
    assert [entry.order_sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[-1].state == state
    shown = await desk.handle(order_id).query("state", result_type=OrderState)
    assert shown == state


async def test_the_workflow_of_the_parent_hears_of_every_change(desk: Desk) -> None:
    first, _ = desk.exchanges
    order_id, _ = await two_at_rest(desk)
    first.market("SELL", "30000", "0.001")

    async def shows() -> bool:
        shown = await desk.handle(order_id).query("state", result_type=OrderState)
        return bool(shown.filled_quantity == Decimal("0.009"))

    await until(shows)
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED


async def test_a_quantity_that_one_exchange_takes_whole_is_no_split(desk: Desk) -> None:
    sells(desk.exchanges[1], "29000", "0.5")

    result = await desk.submit()

    assert result.state is not None
    assert (result.status, result.state.exchange) == (FILLED, desk.exchanges[1].name)
    assert not await legs_of(desk, result.order_id)


async def test_a_cancel_ends_every_leg_and_answers_when_all_have_ended(desk: Desk) -> None:
    first, second = desk.exchanges
    first.market("SELL", "29000", "0.006", "GTC")
    second.market("SELL", "29500", "0.002", "GTC")
    order_id, legs = await two_at_rest(desk, quantity="0.03")
    await desk.until(order_id, filled("0.016"))

    answer = await desk.cancel(order_id)

    assert (answer.outcome, answer.filled_quantity) == (CancelOutcome.CANCELLED, Decimal("0.016"))
    state = await a_whole(desk, order_id)
    assert (state.status, state.reason_code) == (CANCELLED, ReasonCode.CANCEL_REQUESTED)
    assert "0.014 is left" in str(state.rejection_reason)
    assert not [one for exchange in desk.exchanges for one in exchange.orders(status="NEW")]
    await ends_of_workflows(desk, order_id)
    assert len(await legs_of(desk, order_id)) == len(legs)


async def test_a_leg_that_is_rejected_is_routed_again(desk: Desk) -> None:
    first, second = desk.exchanges
    sells(first, "29000", "0.006")
    sells(second, "29500", "0.002")
    first.fault("symbol_status", symbol="BTCUSDT", status="HALT")

    result = await desk.submit(quantity="0.02")

    order_id = result.order_id
    await desk.until(order_id, filled("0.002"))
    await until(lambda: has_legs(desk, order_id, 3))
    legs = await legs_of(desk, order_id)
    assert [(leg.exchange, leg.quantity) for leg in legs] == [
        (first.name, Decimal("0.018")),
        (second.name, Decimal("0.002")),
        (second.name, Decimal("0.018")),
    ]
    await desk.until_status(legs[2].client_order_id, ACCEPTED)
    assert legs[0].status is REJECTED
    assert (await desk.cancel(order_id)).success
    await a_whole(desk, order_id)


async def test_what_nobody_takes_is_reported(desk: Desk) -> None:
    for exchange in desk.exchanges:
        sells(exchange, "29000", "0.006")
        exchange.fault("symbol_status", symbol="BTCUSDT", status="HALT")

    result = await desk.submit()

    state = await desk.until_status(result.order_id, REJECTED)
    assert state.rejected_by is RejectedBy.EXCHANGE
    assert "0.01 is left: " in str(state.rejection_reason)
    assert "Market is closed" in str(state.rejection_reason)
    assert "no exchange can take the order" in str(state.rejection_reason)
    await ends_of_workflows(desk, result.order_id)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"time_in_force": "FOK"}, "a fill-or-kill order cannot be split"),
        ({"post_only": True}, "a post-only order cannot be split"),
        ({"order_type": "stop_limit", "stop_price": "31000"}, "a stop order cannot be split"),
        ({"client_order_id": "x" * 59}, "client_order_id has 59 characters"),
        ({"price": "30000.001"}, "the tick is 0.01"),
        ({"quantity": "0.0100000001"}, "0.0000000001 of 0.0100000001 is left"),
        ({"quantity": "0.0001"}, "the smallest is 5"),
    ],
)
async def test_what_cannot_be_split_is_denied(
    desk: Desk, fields: dict[str, object], reason: str
) -> None:
    result = await desk.submit(**fields)

    assert (result.status, result.state.exchange if result.state else None) == (REJECTED, "")
    assert reason in str(result.error)


async def test_a_change_of_price_reaches_every_leg(desk: Desk) -> None:
    order_id, _ = await three_at_rest(desk)

    result = await desk.oms.modify_order(order_id, new_price=Decimal(28100), wait=20)

    assert result.error is None
    state = await a_whole(desk, order_id)
    assert (state.price, state.pending, state.quantity) == (
        Decimal(28100), Pending.NONE, Decimal("0.03")
    )  # fmt: skip
    legs = await legs_of(desk, order_id)
    assert {leg.price for leg in legs} == {Decimal(28100)}
    assert resting(desk) == {(leg.quantity, leg.price) for leg in legs}
    off = await desk.oms.modify_order(order_id, new_price=Decimal("28100.001"), wait=20)
    assert f"{order_id}.leg1: price is 28100.001, the tick is 0.01" in str(off.error)
    assert (await desk.cancel(order_id)).success
    await ends_of_workflows(desk, order_id)


async def test_less_is_taken_from_the_last_legs_and_ends_what_has_nothing_left(desk: Desk) -> None:
    order_id, legs = await three_at_rest(desk)
    second, third = legs[1].client_order_id, legs[2].client_order_id

    result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.025"), wait=20)

    assert result.error is None
    assert await quantities(desk, order_id) == ["0.01", "0.01", "0.005"]
    result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.012"), wait=20)
    assert result.error is None
    state = await a_whole(desk, order_id)
    assert (state.quantity, state.remaining_quantity) == (Decimal("0.012"), Decimal("0.012"))
    assert (await desk.state(third)).status is CANCELLED
    assert (await desk.state(second)).quantity == Decimal("0.002")
    assert resting(desk) == {(Decimal("0.01"), Decimal(28000)), (Decimal("0.002"), Decimal(28000))}
    refused = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.0119999"), wait=20)
    assert "no open legs can give 0.0000001 up" in str(refused.error)
    for exchange in desk.exchanges:
        exchange.market("SELL", "28000", "0.03")
    await desk.until_status(order_id, FILLED)
    state = await a_whole(desk, order_id)
    assert (state.filled_quantity, state.remaining_quantity) == (Decimal("0.012"), Decimal(0))
    await ends_of_workflows(desk, order_id)
    told = [entry for entry in await desk.journal(order_id) if entry.name == "order_modified"]
    assert [entry.state.quantity for entry in told][-1] == Decimal("0.012")


async def test_more_becomes_new_legs_and_those_at_rest_keep_their_place(desk: Desk) -> None:
    order_id, legs = await three_at_rest(desk)
    before = {leg.exchange_order_id for leg in legs}

    result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.045"), wait=20)

    assert result.error is None
    state = await a_whole(desk, order_id)
    assert state.quantity == Decimal("0.045")
    legs = await legs_of(desk, order_id)
    assert sum(leg.quantity for leg in legs) == Decimal("0.045")
    await until(lambda: all_are(desk, order_id, ACCEPTED))
    found = {leg.exchange_order_id for leg in await legs_of(desk, order_id)}
    assert before < found
    # 0.0001 is too little for a leg of its own: one takes it.
    count = len(legs)
    result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.0451"), wait=20)
    assert result.error is None
    state = await a_whole(desk, order_id)
    assert state.quantity == Decimal("0.0451")
    assert len(await legs_of(desk, order_id)) == count
    # Nobody can pay for this, and nothing has changed.
    result = await desk.oms.modify_order(order_id, new_quantity=Decimal(900), wait=20)
    assert not result.success
    assert await a_whole(desk, order_id) == state
    assert (await desk.cancel(order_id)).success
    await ends_of_workflows(desk, order_id)


async def test_while_trading_is_halted_the_denial_says_so(desk: Desk) -> None:
    await desk.store.set_trading_state("all", TradingState.HALTED, by="the test")

    denied = await desk.submit()

    assert (denied.status, denied.reason_code) == (REJECTED, ReasonCode.TRADING_HALTED)


async def test_a_leg_that_refuses_its_part_is_named_and_the_sum_is_what_the_legs_have(
    desk: Desk,
) -> None:
    order_id, legs = await three_at_rest(desk)
    scope = f"account:{legs[1].exchange}/{legs[1].account}"
    await desk.store.set_trading_state(scope, TradingState.HALTED, by="the test")

    result = await desk.oms.modify_order(
        order_id, new_quantity=Decimal("0.028"), new_price=Decimal(28001), wait=20
    )

    assert not result.success
    assert result.error == f"{legs[1].client_order_id}: trading is halted"
    state = await a_whole(desk, order_id)
    assert (state.quantity, state.price, state.pending) == (
        Decimal("0.028"), Decimal(28000), Pending.NONE
    )  # fmt: skip
    found = [(str(leg.quantity), str(leg.price)) for leg in await legs_of(desk, order_id)]
    assert found == [("0.01", "28001"), ("0.01", "28000"), ("0.008", "28001")]
    await desk.cancel(order_id)
    await ends_of_workflows(desk, order_id)
    await a_whole(desk, order_id)


async def test_a_leg_that_is_filled_before_it_could_be_ended_is_told(desk: Desk) -> None:
    """The exchange reports late, so we ask for an end of what has traded already."""
    order_id, legs = await three_at_rest(desk)
    last = next(one for one in desk.exchanges if one.name == legs[2].exchange)
    last.fault("stream_delay_ms", ms=1500, event="executionReport")
    for _ in range(2):  # More than all that rests there.
        last.market("SELL", "28000", "0.02")

    result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.02"), wait=20)

    assert not result.success
    assert f"{legs[2].client_order_id}: " in str(result.error)
    state = await a_whole(desk, order_id)
    assert state.quantity == Decimal("0.03")
    await desk.cancel(order_id)
    await ends_of_workflows(desk, order_id)
    await a_whole(desk, order_id)


async def test_a_change_whose_workflow_was_terminated_leaves_the_whole_sum(desk: Desk) -> None:
    order_id, _ = await three_at_rest(desk)
    for exchange in desk.exchanges:
        exchange.fault("reply_delayed_ms", ms=700, endpoint="DELETE order")
    change = asyncio.create_task(
        desk.oms.modify_order(order_id, new_quantity=Decimal("0.005"), wait=1)
    )
    await desk.until(order_id, lambda state: state.pending is Pending.MODIFY)
    await desk.handle(order_id).terminate("an operator's mistake")
    await asyncio.gather(change, return_exceptions=True)

    answer = await desk.cancel(order_id)

    assert answer.outcome is CancelOutcome.CANCELLED
    await ends_of_workflows(desk, order_id)
    state = await a_whole(desk, order_id)
    assert state.pending is Pending.NONE
    assert not resting(desk)


async def test_a_fill_that_comes_late_is_in_the_sum(desk: Desk) -> None:
    """A leg is reopened; the parent's workflow has ended and need not run."""
    first, _ = desk.exchanges
    order_id, legs = await two_at_rest(desk)
    await desk.until(order_id, filled("0.008"))
    leg = legs[0].client_order_id
    first.fault("stream_delay_ms", ms=2500)
    first.market("SELL", "30000", "0.005")
    await desk.cancel(order_id)
    await desk.until(order_id, filled("0.013"))
    await ends_of_workflows(desk, order_id)
    state = await a_whole(desk, order_id)
    assert state.status is CANCELLED
    assert (await desk.state(leg)).filled_quantity == Decimal("0.011")


async def test_a_parent_that_was_terminated_finds_its_legs_again(desk: Desk) -> None:
    order_id, legs = await two_at_rest(desk)
    await desk.until(order_id, filled("0.008"))
    await desk.handle(order_id).terminate("an operator's mistake")

    answer = await desk.cancel(order_id)

    assert answer.outcome is CancelOutcome.CANCELLED
    await ends_of_workflows(desk, order_id)
    assert len(await legs_of(desk, order_id)) == len(legs)
    await a_whole(desk, order_id)


async def test_show_lists_the_legs(desk: Desk) -> None:
    order_id, legs = await two_at_rest(desk)
    await desk.until(order_id, filled("0.008"))
    url = desk.settings.store_url.get_secret_value()

    async def shown(*options: str) -> str:
        command = [sys.executable, "-c", "from trading.oms.cli import main; main()", "show"]
        process = await asyncio.create_subprocess_exec(
            *command,
            order_id,
            *options,
            env={**os.environ, "OMS_STORE_URL": url},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    told, text = await asyncio.gather(shown("--json"), shown())
    found = [leg["client_order_id"] for leg in json.loads(told)["legs"]]
    assert found == [leg.client_order_id for leg in legs]
    assert "several exchanges" in text
    assert "Legs" in text
    assert (await desk.cancel(order_id)).success


async def test_an_order_that_lost_its_workflow_is_taken_up_by_reconciliation(desk: Desk) -> None:
    order_id, legs = await two_at_rest(desk)
    await desk.until(order_id, filled("0.008"))
    await desk.handle(order_id).terminate("an operator's mistake")

    await desk.oms.sync_orders(desk.exchanges[0].name)

    shown = await desk.handle(order_id).describe()
    assert shown.status is WorkflowExecutionStatus.RUNNING
    desk.exchanges[0].market("SELL", "30000", "0.012")
    await desk.until_status(order_id, FILLED)
    await ends_of_workflows(desk, order_id)
    assert len(await legs_of(desk, order_id)) == len(legs)


async def has_legs(desk: Desk, order_id: str, count: int) -> bool:
    return len(await legs_of(desk, order_id)) == count


def filled(quantity: str) -> Callable[[OrderState], bool]:
    return lambda state: state.filled_quantity == Decimal(quantity)
