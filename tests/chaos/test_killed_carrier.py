"""SIGKILL after the commit that makes an older send the order's, and before anybody is told."""

from typing import Any

from tests.chaos.truth import at_exchange
from tests.chaos.world import World, deeds, until
from trading.oms.commands import CancelRequest
from trading.oms.enums import CancelOutcome
from trading.oms.order_client import OrderClient


async def test_a_worker_killed_after_it_has_switched_the_carrier_leaves_one_send_alive(
    world: World,
) -> None:
    arm = world.folder / "armed"
    plan = world.plan("book_reports", deed="kill", armed_by=str(arm))
    order = world.order("-at-last")
    order_id = order.client_order_id
    doomed = await world.working(world.worker(plan))
    late: dict[str, Any] = {
        "fault": "accept_delayed_ms",
        "ms": 3000,
        "ignore_fence": True,
        "count": 1,
    }
    await world.control("faults", None, **late, endpoint="POST /api/v3/order")
    await world.start(order, task_timeout_s=2)
    await until(lambda: sends_alive(world, order_id, 1), "the second send lives")
    (second,) = (await at_exchange(world))[order_id].live
    arm.touch()
    await until(lambda: bool(deeds(plan)), "the worker is killed")
    await until(lambda: doomed.exit_code is not None, "the worker is dead")
    state = await world.store.order(order_id)
    assert state is not None
    assert state.exchange_client_id != second["clientOrderId"]
    assert len((await at_exchange(world))[order_id].live) == 2

    world.worker()
    await until(lambda: sends_alive(world, order_id, 1), "the newer send is cancelled")

    (older,) = (await at_exchange(world))[order_id].live
    assert older["clientOrderId"] == state.exchange_client_id
    answer = await OrderClient(world.client, world.task_queue).cancel(
        order_id, CancelRequest(wait_s=30)
    )
    assert answer.outcome is CancelOutcome.CANCELLED
    assert not (await at_exchange(world))[order_id].live


async def sends_alive(world: World, order_id: str, number: int) -> bool:
    """Whether so many exchange orders of this order can trade."""
    return len((await at_exchange(world))[order_id].live) == number
