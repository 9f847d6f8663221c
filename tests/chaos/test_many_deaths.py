"""Workers die at random while orders trade; the Temporal server dies in the middle."""

import asyncio
import os
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from tests.chaos.truth import at_exchange, until_equal
from tests.chaos.world import World, a_world, until
from trading.oms.commands import CancelRequest, ModifyRequest
from trading.oms.enums import TimeInForce
from trading.oms.models import Order
from trading.oms.order_client import OrderClient
from workers.temporal_server import running_dev_server

LONG = "CHAOS_LONG" in os.environ
ORDERS, DEATHS = (1000, 25) if LONG else (100, 2)
PATIENCE_S = 600 if LONG else 90


async def test_two_workers_die_in_turn_while_orders_trade_and_nothing_is_lost(
    world: World, say: Callable[[str], None]
) -> None:
    """At the end ledger, store and workflows are equal, order by order and fill by fill."""
    dice = random.Random(os.environ.get("CHAOS_SEED", "1"))  # noqa: S311 - repeatable on purpose
    workers = [world.worker(), world.worker()]
    await asyncio.gather(*(world.working(worker) for worker in workers))
    orders = [of_chance(world, dice) for _ in range(ORDERS)]
    asked: list[asyncio.Task[object]] = []
    async with asyncio.TaskGroup() as tasks:
        trading = tasks.create_task(trade(world, random.Random(2)))  # noqa: S311 - as above
        for death in range(DEATHS):
            wave = orders[death * ORDERS // DEATHS : (death + 1) * ORDERS // DEATHS]
            await world.start_all(wave, task_timeout_s=2)
            asked += [tasks.create_task(change(world, order, dice)) for order in wave[::3]]
            victim = dice.randrange(2)
            workers[victim].kill()
            workers[victim] = world.worker()
            await world.working(workers[victim])
        await asyncio.wait(asked)
        trading.cancel()
    took = await until_equal(world, orders, seconds=PATIENCE_S)
    there = await at_exchange(world)
    traded = sum(len(there[order.client_order_id].trade_ids) for order in orders)
    say(f"{ORDERS} orders, {DEATHS} deaths, {traded} fills: equal after {took:.1f} s")
    assert traded > ORDERS // 4
    for order in orders:
        assert there[order.client_order_id].executed <= order.quantity


def of_chance(world: World, dice: random.Random) -> Order:
    """An order that rests near the market, or meets it."""
    price = dice.choice([Decimal(41000), Decimal(30000), Decimal(30000 + dice.randrange(100))])
    kind = dice.choice([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC])
    return world.order(price=price, time_in_force=kind)


async def trade(world: World, dice: random.Random) -> None:
    """The market sells small amounts to our bids until it is told to stop."""
    while True:
        quantity = str(Decimal(dice.randrange(2, 12)) / 1000)
        await world.control(
            "market_order", symbol="BTCUSDT", side="SELL", price="30000", quantity=quantity
        )
        await asyncio.sleep(0.05)  # The pace of the market; nothing waits for it.


async def change(world: World, order: Order, dice: random.Random) -> object:
    """Cancel or move an order while all this happens; whatever the answer is."""
    client = OrderClient(world.client, world.task_queue)
    if dice.random() < 0.5:
        return await client.cancel(order.client_order_id, CancelRequest())
    wish = ModifyRequest(new_price=Decimal(30200 + dice.randrange(100)))
    return await client.modify(order.client_order_id, wish)


async def test_orders_go_on_when_the_temporal_server_is_killed_and_comes_back(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    async with (
        running_dev_server(say, tmp_path / "temporal.sqlite3", ui=False) as server,
        a_world(server, tmp_path) as world,
    ):
        await world.working(world.worker())
        before = [world.order(price=Decimal(30000 + number)) for number in range(10)]
        await world.start_all(before, task_timeout_s=2)
        await until_equal(world, before)
        during = [world.order(price=Decimal(30100 + number)) for number in range(20)]
        starts = asyncio.create_task(world.start_all(during, task_timeout_s=2))

        async def some_are_sent() -> bool:
            return len((await world.ledger())["orders"]) > len(before) + 3

        await until(some_are_sent, "some orders are on their way", pause_s=0.01)
        server.kill()
        await world.control(
            "market_order", symbol="BTCUSDT", side="SELL", price="30000", quantity="0.055"
        )
        await server.start()
        await starts
        after = [world.order() for _ in range(5)]
        await world.start_all(after, task_timeout_s=2)
        took = await until_equal(world, [*before, *during, *after], seconds=90)
        say(f"after the server came back all was equal within {took:.1f} s")
