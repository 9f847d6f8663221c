"""The two doors: the same order manager with a worker of its own, or with a client alone."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from temporalio.client import Client

from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.errors import StateUnavailable
from trading.oms.event_bus import EventBus
from trading.oms.events import OrderEvent
from trading.oms.order_manager import OrderManager

pytestmark = pytest.mark.temporal
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
CANCELLED = OrderStatus.CANCELLED


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def idle(request: pytest.FixtureRequest, temporal_client: Client) -> AsyncIterator[Desk]:
    """A desk without a worker, on each of the two stores."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with a_desk(temporal_client, url, work=False) as desk:
        yield desk


async def test_the_embedded_door_does_all_in_one_process(idle: Desk) -> None:
    seen: list[OrderEvent] = []
    bus = EventBus()
    await bus.subscribe("order_*", seen.append)
    async with OrderManager(bus, settings=idle.settings, client=idle.client) as oms:
        order = an_order(strategy_id="s1")
        result = await oms.submit_order(order)
        order_id = order.client_order_id
        assert (result.success, result.status) == (True, ACCEPTED)
        assert oms.get_order(order_id) == result.state
        assert [state.client_order_id for state in oms.get_open_orders(strategy_id="s1")] == [
            order_id
        ]
        same, other = await asyncio.gather(
            oms.submit_order(order),
            oms.submit_order(order.model_copy(update={"price": Decimal(31000)})),
        )
        assert (same.status, other.success) == (ACCEPTED, False)
        assert "price is 31000, the known order has 30000" in str(other.error)

        idle.exchange.market("SELL", "30000", "0.004")
        await idle.until(order_id, lambda state: state.filled_quantity == Decimal("0.004"))
        changed = await oms.modify_order(order_id, new_price=Decimal(30100))
        assert (changed.success, oms.get_order(order_id)) == (True, changed.state)
        cancelled = await oms.cancel_order(order_id, idle.exchange.name, "BTC/USDT")
        assert (cancelled.outcome, cancelled.filled_quantity) == (
            CancelOutcome.CANCELLED, Decimal("0.004"),
        )  # fmt: skip
        assert oms.get_open_orders() == []
        state = oms.get_order(order_id)
        assert state is not None
        assert state.status is CANCELLED
        assert oms.get_order("nobody-knows-it") is None
        journal = await idle.names(order_id)
        await until(lambda: _as_many(seen, journal))

    assert [event.name for event in seen] == journal
    assert [event.order_sequence for event in seen] == list(range(1, len(journal) + 1))
    assert sorted({event.sequence for event in seen}) == [event.sequence for event in seen]


async def test_many_orders_at_once_are_answered_each_with_its_own(idle: Desk) -> None:
    idle.exchange.market("SELL", "29000", "0.1", "GTC")
    async with OrderManager(settings=idle.settings, client=idle.client) as oms:
        orders = [an_order(price=price) for price in ["29000", "28000"] * 10]
        results = await asyncio.gather(*(oms.submit_order(order) for order in orders))

        assert [result.order_id for result in results] == [o.client_order_id for o in orders]
        assert [result.status for result in results] == [FILLED, ACCEPTED] * 10
        assert len(oms.get_open_orders()) == 10
        cancels = await asyncio.gather(
            *(oms.cancel_order(state.client_order_id) for state in oms.get_open_orders())
        )
        assert {cancel.outcome for cancel in cancels} == {CancelOutcome.CANCELLED}


async def test_the_remote_door_reads_the_store_it_was_given(desk: Desk) -> None:
    order_id = (await desk.resting()).client_order_id

    state = desk.oms.get_order(order_id)

    assert state is not None
    assert state.status is ACCEPTED
    assert order_id in [one.client_order_id for one in desk.oms.get_open_orders()]


async def test_the_remote_door_without_a_store_says_that_it_cannot_know(desk: Desk) -> None:
    async with OrderManager.remote(client=desk.client, task_queue=desk.task_queue) as oms:
        result = await oms.submit_order(an_order())

        with pytest.raises(StateUnavailable, match="fetch_order"):
            oms.get_order(result.order_id)
        with pytest.raises(StateUnavailable):
            oms.get_open_orders()
        fetched = await oms.fetch_order(result.order_id)
        assert fetched is not None
        assert fetched.status is ACCEPTED
        assert await oms.fetch_order("nobody-knows-it") is None
        assert (await oms.cancel_order(result.order_id)).success


async def test_an_event_bus_at_the_remote_door_gets_every_event_in_order(desk: Desk) -> None:
    seen: list[OrderEvent] = []
    await desk.oms.event_bus.subscribe("order_*", seen.append)
    order_id = (await desk.resting()).client_order_id
    await desk.cancel(order_id)
    journal = await desk.names(order_id)

    await until(lambda: _as_many([e for e in seen if e.order_id == order_id], journal))

    assert [event.name for event in seen if event.order_id == order_id] == journal


async def _as_many(seen: list[OrderEvent], journal: list[str]) -> bool:
    return len(seen) >= len(journal)
