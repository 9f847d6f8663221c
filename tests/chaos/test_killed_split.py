"""A worker dies in the middle of splits: no leg is doubled, and the parent is still their sum."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from activities.store import OrderFilter
from tests.chaos.doomed_worker import Plan
from tests.chaos.world import Shape, World, a_world, deeds, until
from trading.oms.commands import ModifyRequest
from trading.oms.enums import OrderStatus
from trading.oms.identity import exchange_client_id
from trading.oms.models import Order, OrderState
from trading.oms.order_client import OrderClient
from trading.oms.split import summed
from workers.temporal_server import TemporalServer

STEPS = ("place_order", "prepare_order", "load_legs", "send_order")
POINTS = 40
LEG_POINTS = 28
"""More than the paths have: the walk fails where no order and no leg came to its end."""
MOST = Decimal("0.006")


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.chaos_long)])
async def test_a_worker_killed_at_any_await_of_a_split_leaves_the_whole_sum(
    temporal_server: TemporalServer, tmp_path: Path, step: int
) -> None:
    """Each order stands at another await, in its own steps or in a leg's, when the process dies."""
    async with a_world(temporal_server, tmp_path, Shape(exchanges=2)) as world:
        world.environment["OMS_ROUTING"] = "split"
        first, second = world.venues
        # The first exchange takes no more than this, so every order needs both.
        await world.control("symbol", first, symbol="BTCUSDT", max_quantity=str(MOST))
        plan = world.plan(*STEPS)
        doomed = await world.working(world.worker(plan))
        orders = [world.order(f"-at-{point}") for point in [*range(0, POINTS, step), "last"]]
        orders += [world.order(f"-legs-{point}") for point in range(0, LEG_POINTS, step)]
        await world.start_all(orders, task_timeout_s=8)
        await until(
            lambda: stand_or_are_through(world, plan, orders), "all orders stand", seconds=60
        )
        doomed.kill()
        parked = {deed["order"] for deed in deeds(plan)}
        assert sum("-at-" in one for one in parked) * step > 12, parked
        assert sum(".leg" in one for one in parked) * step > 24, parked
        assert len({one.partition(".leg")[0] for one in parked}) < len(orders)

        await world.working(world.worker())
        await until(lambda: all_rest(world, orders), "every leg rests", seconds=60)
        for name, quantity in ((first, MOST), (second, Decimal("0.01") - MOST)):
            await exactly_one_each(world, name, orders, quantity)
            total = str(quantity * len(orders))
            await world.control(
                "market_order", name, symbol="BTCUSDT", side="SELL", price="30000", quantity=total
            )
        await until(lambda: all_are(world, orders, OrderStatus.FILLED), "every order is filled")
        for order in orders:
            state, legs = await family(world, order)
            assert summed(state, legs) == state
            assert state.filled_quantity == order.quantity == sum(leg.quantity for leg in legs)
            names = [entry.name for entry in await world.store.events_of(order.client_order_id)]
            assert names.count("order_split") == 1
            assert names[-1] == "order_filled"

        async def closed() -> bool:
            return not any([await world.is_running(order) for order in orders])

        await until(closed, "every parent has ended")


CHANGE = ("plan_split_change", "split_order", "record_events", "load_legs", "reduce_at_exchange")
CHANGE_POINTS = 26
LESS, MORE = Decimal("0.003"), Decimal("0.014")


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.chaos_long)])
async def test_a_worker_killed_at_any_await_of_a_change_leaves_the_new_total(
    temporal_server: TemporalServer, tmp_path: Path, step: int
) -> None:
    """Less ends the second leg and takes from the first; more is a leg of its own."""
    async with a_world(temporal_server, tmp_path, Shape(exchanges=2)) as world:
        world.environment["OMS_ROUTING"] = "split"
        await world.control("symbol", world.name, symbol="BTCUSDT", max_quantity=str(MOST))
        arm = tmp_path / "armed"
        plan = world.plan(*CHANGE, armed_by=str(arm))
        doomed = await world.working(world.worker(plan))
        points = range(0, CHANGE_POINTS, step)
        orders = [world.order(f"-{what}-at-{n}") for n in points for what in ("less", "more")]
        orders += [world.order(f"-{what}-legs-{n}") for n in points for what in ("less", "more")]
        orders += [world.order("-less-at-last"), world.order("-more-at-last")]
        await world.start_all(orders, task_timeout_s=8)
        await until(lambda: all_rest(world, orders), "every leg rests", seconds=60)
        arm.touch()
        client = OrderClient(world.client, world.task_queue)
        answers = {
            order.client_order_id: asyncio.create_task(
                client.modify(
                    order.client_order_id, ModifyRequest(new_quantity=wanted(order), wait_s=60)
                )
            )
            for order in orders
        }

        async def stand_or_are_answered() -> bool:
            standing = {str(deed["order"]).partition(".leg")[0] for deed in deeds(plan)}
            return all(answers[one].done() for one in answers if one not in standing)

        await until(stand_or_are_answered, "all orders stand", seconds=60)
        doomed.kill()
        parked = {str(deed["order"]) for deed in deeds(plan)}
        assert len([one for one in parked if "-at-" in one]) * step > 20, parked
        assert any(".leg" in one for one in parked), parked
        assert len({one.partition(".leg")[0] for one in parked}) < len(orders)

        await world.working(world.worker())
        for order in orders:
            answer = await answers[order.client_order_id]
            assert answer.success, (order.client_order_id, answer)
        await until(lambda: all_have_the_total(world, orders), "every order has its new total")
        live = [
            Decimal(entry["origQty"])
            for name in world.venues
            for entry in (await world.ledger(name))["orders"]
            if entry["status"] == "NEW" and entry["side"] == "BUY" and "price" in entry
            and Decimal(entry["price"]) == Decimal(30000)
        ]  # fmt: skip
        assert sum(live, Decimal(0)) == sum(map(wanted, orders), Decimal(0))


def wanted(order: Order) -> Decimal:
    return LESS if "-less-" in order.client_order_id else MORE


async def all_have_the_total(world: World, orders: list[Order]) -> bool:
    for order in orders:
        state, legs = await family(world, order)
        assert summed(state, legs) == state
        alive = [leg for leg in legs if leg.is_open]
        if any(leg.status is not OrderStatus.ACCEPTED for leg in alive):
            return False
        total = sum((leg.remaining_quantity for leg in alive), Decimal(0))
        if not (state.quantity == total == wanted(order)):
            return False
    return True


async def family(world: World, order: Order) -> tuple[OrderState, list[OrderState]]:
    state = await world.store.order(order.client_order_id)
    assert state is not None
    wanted = OrderFilter(parent_order_id=order.client_order_id)
    return state, await world.store.orders(wanted, limit=None)


async def stand_or_are_through(world: World, plan: Plan, orders: list[Order]) -> bool:
    """Whether of each order it or a leg stands at its point, or both legs rest."""
    standing = {deed["order"] for deed in deeds(plan)}
    for order in orders:
        if order.client_order_id in standing:
            continue
        states = await world.store.orders(OrderFilter(parent_order_id=order.client_order_id))
        if len(states) < 2:
            return False
        for leg in states:
            if leg.status is not OrderStatus.ACCEPTED and leg.client_order_id not in standing:
                return False
    return True


async def all_rest(world: World, orders: list[Order]) -> bool:
    for order in orders:
        if await world.store.order(order.client_order_id) is None:
            return False  # The worker died before it had admitted the order.
        state, legs = await family(world, order)
        if state.status is not OrderStatus.ACCEPTED or state.in_doubt_since is not None:
            return False
        live = [leg for leg in legs if leg.status is OrderStatus.ACCEPTED]
        if len(live) != len(legs) or len(legs) != 2:
            return False
    return True


async def all_are(world: World, orders: list[Order], status: OrderStatus) -> bool:
    return all([(await family(world, order))[0].status is status for order in orders])


async def exactly_one_each(world: World, name: str, orders: list[Order], quantity: Decimal) -> None:
    """The exchange has one live order for the leg of each order, of the right size."""
    found = (await world.ledger(name))["orders"]
    live = {
        entry["clientOrderId"]: Decimal(entry["origQty"])
        for entry in found
        if entry["status"] in {"NEW", "PARTIALLY_FILLED"}
    }
    number = 1 if quantity == MOST else 2
    expected = set()
    for order in orders:
        leg = f"{order.client_order_id}.leg{number}"
        ids = {exchange_client_id(world.task_queue, leg, 1, one) for one in (1, 2, 3)}
        assert [live[one] for one in ids & set(live)] == [quantity], leg
        expected |= ids
    ours = {one for one in live if one in expected}
    assert len(ours) == len(orders)
