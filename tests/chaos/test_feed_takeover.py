"""The execution feed moves to another worker when its own dies; nothing in between is missed."""

import signal
import time
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.chaos.truth import differences, until_equal
from tests.chaos.world import World, until
from trading.oms.models import Order
from workers.child_process import ChildProcess

TAKEOVER_S = 10.0
"""Heartbeat timeout 5 s and half a second until the next try; the rest is for a loaded machine."""


async def test_another_worker_takes_the_feed_over_and_books_what_happened_in_between(
    world: World, say: Callable[[str], None]
) -> None:
    first, second = await with_the_feed(world), world.worker()
    orders = [world.order(price=Decimal(30000 + number)) for number in range(6)]
    await world.start_all(orders)
    await until_equal(world, orders)
    await world.working(second)

    first.kill()
    died = time.monotonic()
    await sell(world, "0.025")
    await until_equal(world, orders, seconds=TAKEOVER_S + 2)
    say(f"the feed was taken over after {time.monotonic() - died:.1f} s")
    assert time.monotonic() - died < TAKEOVER_S

    # And once more: with the default policy each takeover would take longer than the one before.
    third = await world.working(world.worker())
    second.kill()
    died = time.monotonic()
    await sell(world, "0.035")
    await until_equal(world, orders, seconds=TAKEOVER_S + 2)
    say(f"and again after {time.monotonic() - died:.1f} s")
    assert time.monotonic() - died < TAKEOVER_S
    assert third.exit_code is None


@pytest.mark.chaos_long
async def test_a_feed_that_was_stopped_and_wakes_beside_its_successor_books_nothing_twice(
    world: World,
) -> None:
    first, second = await with_the_feed(world), world.worker()
    orders = [world.order(price=Decimal(30000 + number)) for number in range(4)]
    await world.start_all(orders, task_timeout_s=1)
    await until_equal(world, orders)
    await world.working(second)

    first.send_signal(signal.SIGSTOP)
    await sell(world, "0.015")
    await until_equal(world, orders)
    first.send_signal(signal.SIGCONT)
    await sell(world, "0.025")
    await until_equal(world, orders)

    assert await first.stop(30) == 0, first.log_tail()
    assert not await differences(world, orders)


@pytest.mark.chaos_long
@pytest.mark.parametrize("step", ["kept, not delivered", "delivered, not marked"])
async def test_a_feed_killed_between_inbox_and_order_delivers_once_more(
    world: World, step: str
) -> None:
    plan = world.plan(sabotage=(f"die when {step}",), armed_by=str(world.folder / "armed"))
    doomed = await world.working(world.worker(plan))
    orders = [world.order(price=Decimal(30000 + number)) for number in range(4)]
    await world.start_all(orders)
    await until_equal(world, orders)
    (world.folder / "armed").touch()

    await sell(world, "0.035")
    await until(lambda: doomed.exit_code is not None, "the feed dies")
    world.worker()
    await until_equal(world, orders)


async def test_a_worker_that_is_told_to_stop_leaves_nothing_in_doubt(
    world: World, say: Callable[[str], None]
) -> None:
    """SIGTERM in the middle of sends: all that was begun is finished, another goes on at once."""
    first = await with_the_feed(world)
    second = await world.working(world.worker())
    await world.control("faults", fault="reply_delayed_ms", ms=600, count=20)
    orders = [world.order() for _ in range(20)]
    await world.start_all(orders)

    async def some_are_sent() -> bool:
        return len((await world.ledger())["orders"]) > 5

    await until(some_are_sent, "some orders are on their way", pause_s=0.01)
    told = time.monotonic()
    first.send_signal(signal.SIGTERM)
    more = [world.order() for _ in range(10)]
    await world.start_all(more)
    await until_equal(world, [*orders, *more])

    assert await first.wait(20) == 0, first.log_tail()
    say(f"the worker was drained after {time.monotonic() - told:.1f} s at most")
    names = {entry.name for entry in await world.store.events_after(0, 10_000)}
    assert "order_in_doubt" not in names
    assert second.exit_code is None
    moved = await fed_after(world, [*orders, *more])
    say(f"a fill after the drain was booked within {moved:.1f} s")


async def fed_after(world: World, orders: list[Order]) -> float:
    """How long a fill takes from now on."""
    await sell(world, "0.05")
    return await until_equal(world, orders, seconds=15)


async def with_the_feed(world: World) -> ChildProcess:
    """A worker that has the feed, because no other was there when it began."""
    worker = await world.working(world.worker())
    order = world.order(price=Decimal(29500))
    await world.start(order)
    await until_equal(world, [order])
    await world.control(
        "market_order", symbol="BTCUSDT", side="SELL", price="29500", quantity="0.01"
    )
    await until_equal(world, [order])
    return worker


async def sell(world: World, quantity: str) -> None:
    """The market sells to whoever bids most."""
    await world.control(
        "market_order", symbol="BTCUSDT", side="SELL", price="30000", quantity=quantity
    )
