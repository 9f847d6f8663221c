"""The same tests without the safeguards: they must find what the safeguards prevent."""

from decimal import Decimal

from tests.chaos.truth import Kind, at_exchange, differences, until_equal
from tests.chaos.world import World, until
from trading.oms.enums import OrderStatus, TimeInForce

CLAIMS_ARE_WON, DEAF, NO_CATCH_UP = "every claim is won", "deaf", "without catch-up"


async def test_without_the_send_claim_the_comparison_finds_doubled_orders(world: World) -> None:
    """The exchange has the orders and its answers reach nobody: they are sent a second time.

    They trade at once, and the exchange knows the client ids of open orders only. There is no feed
    here: its report of the first order would come before the second.
    """
    plan = world.plan(sabotage=(CLAIMS_ARE_WON,), orders_only=True)
    patient = {f"OMS_{world.name.upper()}_TIMEOUT_MS": "60000"}
    doomed = await world.working(world.worker(plan, **patient))
    ioc = TimeInForce.IOC
    orders = [world.order(price=Decimal(41000), time_in_force=ioc) for _ in range(4)]
    await world.control("faults", fault="reply_delayed_ms", ms=60000, count=len(orders))
    await world.start_all(orders, task_timeout_s=1)

    async def are_there(times: int) -> bool:
        there = await at_exchange(world)
        return all(len(there[order.client_order_id].orders) >= times for order in orders)

    await until(lambda: are_there(1), "the exchange has the orders")
    doomed.kill()
    world.worker(plan)
    await until(lambda: are_there(2), "the exchange has them twice")

    found = await differences(world, orders)
    kinds = {order_id: {fault.kind for fault in faults} for order_id, faults in found.items()}
    assert all(Kind.DOUBLED in kinds[order.client_order_id] for order in orders), found


async def test_without_stream_and_catch_up_the_comparison_finds_missing_fills(
    world: World,
) -> None:
    deaf = await world.working(world.worker(world.plan(sabotage=(DEAF, NO_CATCH_UP))))
    orders = [world.order(price=Decimal(30000 + number)) for number in range(3)]
    await world.start_all(orders)
    await until_equal(world, orders)
    await world.control(
        "market_order", symbol="BTCUSDT", side="SELL", price="30000", quantity="0.03"
    )

    async def all_are_filled_there() -> bool:
        there = await at_exchange(world)
        return all(there[o.client_order_id].orders[0]["status"] == "FILLED" for o in orders)

    await until(all_are_filled_there, "the exchange has filled them")
    found = await differences(world, orders)
    kinds = {order_id: {fault.kind for fault in faults} for order_id, faults in found.items()}
    assert all(Kind.FILLS_MISSING in kinds[order.client_order_id] for order in orders), found

    # The safeguard mends it: a worker that catches up, although its stream says nothing either.
    deaf.kill()
    world.worker(world.plan(sabotage=(DEAF,)))
    await until_equal(world, orders)
    state = await world.store.order(orders[0].client_order_id)
    assert state is not None
    assert state.status is OrderStatus.FILLED
