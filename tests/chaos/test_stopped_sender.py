"""SIGSTOP in the middle of a send, for longer than the fence, then SIGCONT: one order, no more."""

import signal
from decimal import Decimal
from typing import Any

import pytest

from tests.chaos.truth import at_exchange, differences, until_equal
from tests.chaos.world import World, deeds, until
from trading.oms.enums import OrderStatus, OrderType, ReasonCode, TimeInForce
from trading.oms.models import Order
from workers.child_process import ChildProcess

SENT_AGAIN: dict[str, dict[str, Any]] = {
    "resting": {},
    "marketable": {"price": Decimal(41000)},
}
NEVER_LATE: dict[str, dict[str, Any]] = {
    "ioc": {"price": Decimal(41000), "time_in_force": TimeInForce.IOC},
    "market": {"order_type": OrderType.MARKET, "price": None},
}
BEFORE_CHECK, AFTER_CHECK = "stop before the last check", "stop after the last check"


@pytest.mark.parametrize(
    "place", [pytest.param(BEFORE_CHECK, marks=pytest.mark.chaos_long), AFTER_CHECK]
)
async def test_a_sender_stopped_between_claim_and_write_places_no_second_order(
    world: World, place: str
) -> None:
    """Its own check refuses the late write, or the exchange does. Others have gone on meanwhile."""
    again = {kind: world.order(f"-{kind}", **fields) for kind, fields in SENT_AGAIN.items()}
    never = {kind: world.order(f"-{kind}", **fields) for kind, fields in NEVER_LATE.items()}
    orders = [*again.values(), *never.values()]
    plan = world.plan(sabotage=(place,), orders_only=True, together=len(orders))
    sleeper = await world.working(world.worker(plan))
    await world.start_all(orders, task_timeout_s=1)
    await until(lambda: bool(deeds(plan)), "the senders stand still")
    await world.working(world.worker())
    await until_equal(world, orders)

    sleeper.send_signal(signal.SIGCONT)
    if place == AFTER_CHECK:
        await until(lambda: all_written(world, orders), "the late writes have reached the exchange")
    await drained(sleeper)

    assert not await differences(world, orders)
    there = await at_exchange(world)
    for order in again.values():
        assert len(there[order.client_order_id].orders) == 1
        claims = await world.store.claims_of(order.client_order_id)
        assert [claim.outcome for claim in claims] == ["not_placed", "accepted"]
    for order in never.values():
        assert not there[order.client_order_id].orders
        state = await world.store.order(order.client_order_id)
        assert state is not None
        assert (state.status, state.reason_code) == (OrderStatus.REJECTED, ReasonCode.NOT_PLACED)


async def all_written(world: World, orders: list[Order]) -> bool:
    """Whether the exchange was sent the first request of every order, however late."""
    async with world.session.get(f"{world.exchange_url}/control/requests") as answer:
        requests = (await answer.json(content_type=None))["requests"]
    placed = "".join(item["raw"] for item in requests if "POST" in item["endpoint"])
    first = [(await world.store.claims_of(order.client_order_id))[0] for order in orders]
    return all(claim.request.exchange_client_id in placed for claim in first)


async def test_a_sender_stopped_before_it_reads_the_answer_disturbs_nothing(world: World) -> None:
    """The exchange has the orders; while their sender stands still, others look them up."""
    kinds = {**SENT_AGAIN, **NEVER_LATE}
    orders = [world.order(f"-{kind}", **fields) for kind, fields in kinds.items()]
    await world.control("faults", fault="reply_delayed_ms", ms=900, count=len(orders))
    sleeper = await world.working(world.worker(world.plan(orders_only=True)))
    await world.start_all(orders, task_timeout_s=1)

    async def are_there() -> bool:
        return len((await at_exchange(world)).keys()) == len(orders)

    await until(are_there, "the exchange has the orders", pause_s=0.01)
    sleeper.send_signal(signal.SIGSTOP)
    await world.working(world.worker())
    await until_equal(world, orders)
    head = await world.store.head()

    sleeper.send_signal(signal.SIGCONT)
    await drained(sleeper)

    assert not await differences(world, orders)
    late = [entry.name for entry in await world.store.events_after(head)]
    assert not late, "the late answers have changed something"
    there = await at_exchange(world)
    assert [len(there[order.client_order_id].orders) for order in orders] == [1, 1, 1, 1]


async def drained(sleeper: ChildProcess) -> None:
    """The sleeper has ended all that it had begun."""
    assert await sleeper.stop(30) == 0, sleeper.log_tail()
