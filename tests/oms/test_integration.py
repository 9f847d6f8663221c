"""One order's whole life through every part: door, risk, store, exchange, events, portfolio.

All of it is real: a Temporal server, a worker, a store, and the sandbox exchange as a server of its
own. At the end the three books are compared: what the store says, what the events said, and what
the exchange's ledger has.
"""

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from temporalio.client import Client

from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.enums import CancelOutcome, OrderSide, OrderStatus
from trading.oms.event_bus import EventBus
from trading.oms.events import OrderEvent
from trading.oms.order_manager import OrderManager

pytestmark = pytest.mark.temporal
D = Decimal


@pytest.fixture
async def no_task_left_behind() -> None:
    """The worker and the exchange outlive the test by a moment."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def desk(request: pytest.FixtureRequest, temporal_client: Client) -> AsyncIterator[Desk]:
    """A desk whose worker is the order manager's own."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with a_desk(temporal_client, url, work=False) as desk:
        yield desk


async def test_an_order_from_its_submission_to_the_ledger(desk: Desk) -> None:
    seen: list[OrderEvent] = []
    bus = EventBus()
    await bus.subscribe("order_*", seen.append)
    async with OrderManager(bus, settings=desk.settings, client=desk.client) as oms:
        # It rests, and the account holds its cost.
        result = await oms.submit_order(
            an_order(quantity="0.02", price="30000", strategy_id="whole-life")
        )
        order_id = result.order_id
        assert (result.success, result.status) == (True, OrderStatus.ACCEPTED)
        assert await reserved(desk) == D(600)

        # Parts of it are filled: each is booked once, and moves from what is reserved.
        for quantity in ("0.005", "0.003"):
            desk.exchange.market("SELL", "30000", quantity)
        state = await desk.until(order_id, lambda state: state.filled_quantity == D("0.008"))
        assert (state.status, state.remaining_quantity) == (
            OrderStatus.PARTIALLY_FILLED, D("0.012")
        )  # fmt: skip
        assert await reserved(desk) == D(360)

        # It is changed twice: in place, and by another exchange order.
        less = await oms.modify_order(order_id, new_quantity=D("0.015"))
        assert (less.success, await reserved(desk)) == (True, D(210))
        dearer = await oms.modify_order(order_id, new_price=D(30100))
        assert (dearer.success, dearer.error) == (True, None)
        assert dearer.state is not None
        assert (dearer.state.leg, dearer.state.price) == (2, D(30100))
        desk.exchange.market("SELL", "30100", "0.002")
        await desk.until(order_id, lambda state: state.filled_quantity == D("0.01"))

        # It is cancelled, and nothing of the account is held any more.
        cancel = await oms.cancel_order(order_id, desk.exchange.name, "BTC/USDT")
        assert (cancel.outcome, cancel.filled_quantity) == (CancelOutcome.CANCELLED, D("0.01"))
        assert await reserved(desk) == 0
        assert oms.get_open_orders(strategy_id="whole-life") == []
        closed = await desk.until_closed(order_id)
        state = await desk.state(order_id)
        assert closed.state == oms.get_order(order_id) == state
        journal = await desk.names(order_id)
        await until(lambda: as_many(seen, journal))

    await the_events_are_the_journal(desk, order_id, seen)
    await the_ledger_says_the_same(desk, order_id)


async def reserved(desk: Desk) -> Decimal:
    return (await desk.store.risk.book(desk.exchange.name, "main")).reserved("USDT")


async def as_many(seen: list[OrderEvent], journal: list[str]) -> bool:
    return len(seen) >= len(journal)


async def the_events_are_the_journal(desk: Desk, order_id: str, seen: list[OrderEvent]) -> None:
    """Each once, in its order, the last with the state that the store has."""
    entries = await desk.journal(order_id)
    assert [event.name for event in seen] == [entry.name for entry in entries]
    assert [event.order_sequence for event in seen] == list(range(1, len(entries) + 1))
    wanted = [
        "order_created", "order_submitted", "order_accepted", "order_partially_filled",
        "order_modified", "order_leg_started", "order_cancelled",
    ]  # fmt: skip
    names = iter(event.name for event in seen)
    assert all(name in names for name in wanted), [event.name for event in seen]
    assert entries[-1].state == await desk.state(order_id)


async def the_ledger_says_the_same(desk: Desk, order_id: str) -> None:
    """Quantity, worth, fees and position, trade by trade."""
    state = await desk.state(order_id)
    fills = await desk.store.fills(order_id)
    orders = desk.exchange.orders()
    trades = [trade for order in orders for trade in desk.exchange.trades_of(order["orderId"])]
    ours = {fill.trade_id: (fill.quantity, fill.price) for fill in fills}
    theirs = {str(trade["id"]): (D(trade["quantity"]), D(trade["price"])) for trade in trades}
    assert ours == theirs
    assert [order["status"] for order in orders] == ["CANCELED", "CANCELED"]
    assert sum(D(order["executedQty"]) for order in orders) == state.filled_quantity == D("0.01")
    worth = D("0.008") * 30000 + D("0.002") * 30100
    assert state.average_fill_price == worth / D("0.01")
    book = await desk.store.risk.book(desk.exchange.name, "main")
    assert {fill.side for fill in fills} == {OrderSide.BUY}
    paid = sum((fill.fee for fill in fills), D(0))
    assert state.fees_by_currency == {"BTC": paid}
    assert book.position("BTC/USDT", "whole-life") == D("0.01") - paid
