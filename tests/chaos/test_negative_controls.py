"""The same tests without the safeguards: they must find what the safeguards prevent."""

from decimal import Decimal

from tests.chaos.truth import at_exchange, differences, until_equal
from tests.chaos.world import World, deeds, until
from trading.oms.enums import OrderStatus, TimeInForce

CLAIMS_ARE_WON, DEAF, NO_CATCH_UP = "every claim is won", "deaf", "without catch-up"


async def test_without_the_send_claim_the_walk_finds_doubled_orders(world: World) -> None:
    """An order that trades at once is taken a second time: the exchange dedupes open ones only."""
    plan = world.plan("send_order", sabotage=(CLAIMS_ARE_WON,))
    doomed = await world.working(world.worker(plan))
    fields = {"price": Decimal(41000), "time_in_force": TimeInForce.IOC}
    order = world.order("-at-last", **fields)
    await world.start(order, task_timeout_s=5)
    await until(lambda: bool(deeds(plan)), "the sender has its answer")
    doomed.kill()

    world.worker(world.plan(sabotage=(CLAIMS_ARE_WON,)))

    async def is_doubled() -> bool:
        return len((await at_exchange(world))[order.client_order_id].orders) == 2

    await until(is_doubled, "the exchange has the order twice")


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
    assert (await differences(world, orders)).keys() == {o.client_order_id for o in orders}

    # The safeguard mends it: a worker that catches up, although its stream says nothing either.
    deaf.kill()
    world.worker(world.plan(sabotage=(DEAF,)))
    await until_equal(world, orders)
    state = await world.store.order(orders[0].client_order_id)
    assert state is not None
    assert state.status is OrderStatus.FILLED
