"""SIGKILL at every await of a cancel, of a modification and of booking fills."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from tests.chaos.doomed_worker import Plan
from tests.chaos.truth import at_exchange, until_equal
from tests.chaos.world import World, deeds, until
from trading.oms.commands import CancelRequest, ModifyRequest
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.models import Order
from trading.oms.order_client import OrderClient
from workers.child_process import ChildProcess

CHANGE = (
    "check_risk",
    "record_events",
    "amend_at_exchange",
    "cancel_at_exchange",
    "collect_fills",
    "send_order",
)
POINTS_MAX = 56
PART, NEW_PRICE = Decimal("0.004"), Decimal(30500)


@pytest.mark.chaos_long
async def test_a_worker_killed_at_any_await_of_a_cancel_leaves_nothing_alive(world: World) -> None:
    walk = await resting(world, ("cancel_at_exchange", "record_events"), 20)
    answers = walk.ask("cancel", CancelRequest(wait_s=30))
    await walk.die(walk.is_answered)

    world.worker()
    await until_equal(world, walk.orders)

    assert {answer.outcome for answer in await answers} == {CancelOutcome.CANCELLED}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("untouched", marks=pytest.mark.chaos_long),
        pytest.param("filled in part", marks=pytest.mark.chaos_long),
        "filled while the worker is dead",
    ],
)
async def test_a_worker_killed_at_any_await_of_a_replacement_leaves_one_leg(
    world: World, case: str
) -> None:
    """In one request, or after a fill by a cancel and a new order.

    A new leg that was claimed and not written was not placed, and is sent again.
    """
    part = PART if case == "filled in part" else None
    walk = await resting(world, CHANGE, POINTS_MAX, part)
    answers = walk.ask("modify", ModifyRequest(new_price=NEW_PRICE, wait_s=30))
    await walk.die(walk.is_answered)

    if case == "filled while the worker is dead":
        await world.control("market_order", **sell("30000", "0.254"))
    world.worker()
    await until_equal(world, walk.orders)

    there = await at_exchange(world)
    for order, answer in zip(walk.orders, await answers, strict=True):
        mine = there[order.client_order_id]
        where = (order.client_order_id, answer, mine)
        left = sum(
            (Decimal(entry["origQty"]) - Decimal(entry["executedQty"]) for entry in mine.live),
            Decimal(0),
        )
        assert len(mine.orders) <= 2, where
        assert left + mine.executed == order.quantity, where
        if mine.live:
            assert Decimal(mine.live[0]["price"]) == NEW_PRICE, where
            assert answer.success, where


@pytest.mark.chaos_long
async def test_a_worker_killed_at_any_await_of_a_reduction_leaves_the_new_total(
    world: World,
) -> None:
    walk = await resting(world, CHANGE, 26)
    answers = walk.ask("modify", ModifyRequest(new_quantity=Decimal("0.006"), wait_s=30))
    await walk.die(walk.is_answered)

    world.worker()
    await until_equal(world, walk.orders)

    there = await at_exchange(world)
    for order, answer in zip(walk.orders, await answers, strict=True):
        mine = there[order.client_order_id]
        assert [Decimal(entry["origQty"]) for entry in mine.orders] == [Decimal("0.006")]
        assert answer.success, (order.client_order_id, answer)
        assert answer.state is not None
        assert answer.state.quantity == Decimal("0.006")


async def test_a_worker_killed_at_any_await_of_booking_books_each_fill_once(world: World) -> None:
    walk = await resting(world, ("book_reports", "collect_fills"), 14)
    await world.control("market_order", **sell("30000", "1"))
    await walk.die(walk.is_filled)

    world.worker()
    await until_equal(world, walk.orders)

    for order in walk.orders:
        state = await world.store.order(order.client_order_id)
        assert state is not None
        assert state.status is OrderStatus.FILLED


def sell(price: str, quantity: str) -> dict[str, str]:
    """A sale by the market, for `World.control`."""
    return {"symbol": "BTCUSDT", "side": "SELL", "price": price, "quantity": quantity}


@dataclass
class Walk:
    """Orders that rest, and a worker that dies when each of them stands at its point."""

    world: World
    orders: list[Order]
    doomed: ChildProcess
    plan: Plan
    answers: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    def ask(self, what: str, wish: Any) -> asyncio.Future[list[Any]]:
        """Ask every order for a change; the answers come when another worker goes on."""
        client = OrderClient(self.world.client, self.world.task_queue)
        for order in self.orders:
            call = getattr(client, what)(order.client_order_id, wish)
            self.answers[order.client_order_id] = asyncio.create_task(call)
        return asyncio.gather(*self.answers.values())

    async def is_answered(self, order_id: str) -> bool:
        """Whether the caller has the answer."""
        return self.answers[order_id].done()

    async def is_filled(self, order_id: str) -> bool:
        """Whether the store has the whole fill."""
        state = await self.world.store.order(order_id)
        return state is not None and state.status is OrderStatus.FILLED

    async def die(self, is_through: Callable[[str], Awaitable[bool]]) -> None:
        """Kill the worker as soon as each order stands at its point, or is through."""

        async def all_stand() -> bool:
            standing = {deed["order"] for deed in deeds(self.plan)}
            moving = {order.client_order_id for order in self.orders} - standing
            return all([await is_through(order_id) for order_id in moving])

        await until(all_stand, "all orders stand")
        self.doomed.kill()
        parked = {deed["order"] for deed in deeds(self.plan)}
        assert 0 < len(parked) < len(self.orders), "the walk has no end"


async def resting(
    world: World, steps: tuple[str, ...], points: int, part: Decimal | None = None
) -> Walk:
    """Orders at the exchange, each a little dearer than the one before, filled in part if so."""
    arm = world.folder / "armed"
    plan = world.plan(*steps, armed_by=str(arm))
    doomed = await world.working(world.worker(plan))
    orders = []
    for number, point in enumerate([*range(points), "last"]):
        order = world.order(f"-at-{point}", price=Decimal(30000 + number))
        orders.append(order)
        await world.start(order, task_timeout_s=12)
        if part is not None:
            await until_equal(world, [order])
            await world.control("market_order", **sell(str(order.price), str(part)))
    await until_equal(world, orders)
    arm.touch()
    return Walk(world, orders, doomed, plan)
