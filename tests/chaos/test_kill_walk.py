"""SIGKILL at every await of the submission path: exactly one order at the exchange each time."""

from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from tests.chaos.doomed_worker import Plan
from tests.chaos.truth import at_exchange, until_equal
from tests.chaos.world import World, deeds, until
from trading.oms.enums import OrderStatus, OrderType, ReasonCode, TimeInForce
from trading.oms.models import Order
from workers.child_process import ChildProcess

SUBMISSION = ("prepare_order", "send_order", "place_order")
KINDS: dict[str, dict[str, Any]] = {
    "resting": {"price": Decimal(30000)},
    "marketable": {"price": Decimal(41000)},
    "ioc": {"price": Decimal(41000), "time_in_force": TimeInForce.IOC},
    "market": {"order_type": OrderType.MARKET, "price": None},
}
SENT_AGAIN = frozenset({"resting", "marketable"})
POINTS_MAX = 20
"""More than the path has: the walk fails where no order came to its end."""
POINTS_MIN = 5
"""Fewer would mean that the walk has missed something; new connections make it longer."""


class Walker(NamedTuple):
    """An order, and the point at which the worker dies for it."""

    order: Order
    kind: str
    point: str


async def test_a_worker_killed_at_any_await_of_the_submission_leaves_one_order(
    world: World,
) -> None:
    """Each order stands at another await when the process dies: one death for all points."""
    plan = world.plan(*SUBMISSION)
    doomed = await world.working(world.worker(plan))
    walkers = [
        Walker(world.order(f"-{kind}-at-{point}", **fields), kind, point)
        for kind, fields in KINDS.items()
        for point in [*map(str, range(POINTS_MAX)), "last"]
    ]
    orders = [walker.order for walker in walkers]
    await world.start_all(orders, task_timeout_s=12)
    await until(lambda: stand_or_are_through(world, plan, orders), "all orders stand")
    doomed.kill()
    places = {deed["order"]: deed for deed in deeds(plan)}
    walked_to_the_end(walkers, set(places))

    world.worker()
    await until_equal(world, orders)

    there = await at_exchange(world)
    for order, kind, _ in walkers:
        where = (kind, places.get(order.client_order_id))
        count = len(there[order.client_order_id].orders)
        if kind in SENT_AGAIN:
            assert count == 1, where
        else:
            await one_or_rightly_none(world, order, count, where)


async def stand_or_are_through(world: World, plan: Plan, orders: list[Order]) -> bool:
    """Whether every order stands at its point, or has its answer."""
    standing = {deed["order"] for deed in deeds(plan)}
    answered = {
        state.client_order_id
        for state in await world.store.orders(limit=None)
        if state.status not in {OrderStatus.CREATED, OrderStatus.SUBMITTED}
    }
    return all(order.client_order_id in standing | answered for order in orders)


def walked_to_the_end(walkers: list[Walker], parked: set[str]) -> None:
    """The points are all that there are: of each kind some orders came through."""
    for kind in KINDS:
        points = {
            walker.point
            for walker in walkers
            if walker.kind == kind and walker.order.client_order_id in parked
        }
        assert points >= {*map(str, range(POINTS_MIN)), "last"}, f"{kind} has only {points}"
        assert len(points) < POINTS_MAX, f"{kind} has more than {len(points)} points"


async def one_or_rightly_none(world: World, order: Order, count: int, where: object) -> None:
    """A market or IOC order that was not placed in time ends, and says so."""
    state = await world.store.order(order.client_order_id)
    assert state is not None
    if count == 0:
        assert state.status is OrderStatus.REJECTED, where
        assert state.reason_code is ReasonCode.NOT_PLACED, where
    else:
        assert count == 1, where
        assert state.status is OrderStatus.FILLED, where


@pytest.mark.chaos_long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_killed_by_a_real_signal_at_each_point_in_turn(
    world: World, kind: str
) -> None:
    """One process for each point: each finishes the order over which the one before it died."""
    orders: list[Order] = []
    for point in range(4 * POINTS_MAX):
        order = world.order(f"-at-{point}", **KINDS[kind])
        orders.append(order)
        plan = world.plan(*SUBMISSION, deed="kill", victim=order.client_order_id)
        doomed = await world.working(world.worker(plan))
        await world.start(order, task_timeout_s=1)
        if not await dies(world, doomed, order):
            break
    else:
        pytest.fail("the walk has no end")
    assert len(orders) > POINTS_MIN
    await until_equal(world, orders)
    there = await at_exchange(world)
    for order in orders:
        count = len(there[order.client_order_id].orders)
        if kind in SENT_AGAIN:
            assert count == 1, order.client_order_id
        else:
            await one_or_rightly_none(world, order, count, order.client_order_id)


async def dies(world: World, worker: ChildProcess, order: Order) -> bool:
    """Whether the worker dies before the order has its answer."""

    async def is_decided() -> bool:
        state = await world.store.order(order.client_order_id)
        waits = state is None or state.status in {OrderStatus.CREATED, OrderStatus.SUBMITTED}
        return worker.exit_code is not None or not waits

    await until(is_decided, "the worker died or the order is through")
    # The last points lie between the commit of the answer and the end of the activity.
    await worker.wait(0.5)
    return worker.exit_code is not None
