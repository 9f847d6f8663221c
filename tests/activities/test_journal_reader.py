"""What a process knows of the orders: from the store at its start, then by the journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from activities.store import Store
from tests.activities.store_builders import accepted, fill_event, new_order, opened
from trading.oms import journal_reader
from trading.oms.errors import StoreUnavailable
from trading.oms.event_bus import EventBus
from trading.oms.events import OrderEvent
from trading.oms.journal_reader import JournalReader
from trading.oms.models import utc_now
from trading.oms.state_tracker import StateTracker


@contextlib.asynccontextmanager
async def reading(store: Store, bus: EventBus | None = None) -> AsyncIterator[StateTracker]:
    tracker = StateTracker()
    async with JournalReader(store, tracker, bus or EventBus(), lambda _: None).running():
        yield tracker


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_it_is_rebuilt_from_the_store_and_follows_other_processes(store_url: str) -> None:
    async with opened(store_url) as store, opened(store_url) as other:
        known = await accepted(store, new_order(strategy_id="a"))
        async with reading(store) as tracker:
            [state] = tracker.get_open_orders("sandbox", known.symbol, "a")
            assert state.client_order_id == known.client_order_id
            assert tracker.freshness.lag == 0
            order = await accepted(other, new_order(strategy_id="b"))
            await until(lambda: tracker.get_open_orders(strategy_id="b"))
            await other.record(order.client_order_id, [fill_event(order, "t", "10")])
            await until(lambda: not tracker.get_open_orders(strategy_id="b"))
            head = await store.head()
            assert tracker.freshness[:2] == (head, 0)


async def test_a_handler_goes_on_after_a_restart_where_it_was(store_url: str) -> None:
    async with opened(store_url) as store:
        got: list[OrderEvent] = []
        bus = EventBus()
        subscription = await bus.subscribe("order_*", got.append, after=0)
        async with reading(store, bus):
            await accepted(store, new_order())
            await until(lambda: got and got[-1].name == "order_accepted")
            after = subscription.handled_through
        await bus.close()
        meanwhile = await accepted(store, new_order())
        bus = EventBus()
        await bus.subscribe("order_*", got.append, after=after)
        async with reading(store, bus):
            await until(lambda: got and got[-1].order_id == meanwhile.client_order_id)
            await bus.drain()
        await bus.close()
        head = await store.head()
    assert [event.sequence for event in got] == list(range(1, head + 1))


async def test_in_a_quiet_hour_it_is_fresh_and_without_the_store_it_grows_old(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "_LOOK_S", 0.01)
    async with opened(store_url) as store, reading(store) as tracker:
        begun = utc_now()
        await until(lambda: tracker.fresh_as_of and tracker.fresh_as_of > begun)

        async def away() -> int:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(store, "head", away)
        await asyncio.sleep(0.05)
        last = tracker.fresh_as_of
        await asyncio.sleep(0.05)
        assert tracker.fresh_as_of == last

        async def ahead() -> int:
            return 7

        monkeypatch.setattr(store, "head", ahead)
        await until(lambda: tracker.lag == 7)
        assert tracker.fresh_as_of == last
