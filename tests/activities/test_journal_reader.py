"""What a process knows of the orders: from the store at its start, then by the journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from activities.store import Store
from activities.store.journal import entry_of
from activities.store.types import JournalEntry
from tests.activities.store_builders import (
    QUICK,
    accepted,
    fill_event,
    new_order,
    opened,
    restore,
)
from trading.oms import journal_reader
from trading.oms.errors import StateUnavailable, StoreUnavailable
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


class OwnBus(EventBus):
    """One that somebody else has written: it refuses an event once, and keeps the others."""

    def __init__(self, refused: str | None = None) -> None:
        super().__init__()
        self.refused = refused
        self.published: list[OrderEvent] = []

    async def publish(self, event: OrderEvent) -> None:
        if event.name == self.refused:
            self.refused = None
            raise ConnectionResetError("the broker is away")
        self.published.append(event)


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


async def test_an_order_that_had_ended_before_it_began_is_not_called_none(store_url: str) -> None:
    async with opened(store_url) as store:
        async with reading(store) as tracker:
            assert tracker.get_order("nobody-knows-it") is None  # The store was empty.
            order = await accepted(store, new_order())
            await store.record(order.client_order_id, [fill_event(order, "t", "10")])
        async with reading(store) as tracker:
            for order_id in (order.client_order_id, "nobody-knows-it"):
                with pytest.raises(StateUnavailable, match="fetch_order"):
                    tracker.get_order(order_id)


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


async def test_a_bus_that_fails_once_misses_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "_AGAIN_S", 0.01)
    bus = OwnBus("order_filled")
    async with opened(store_url) as store, reading(store, bus) as tracker:
        order = await accepted(store, new_order())
        # Of two events of one commit the second fails: the first is not published again.
        fills = [fill_event(order, "t1", "4"), fill_event(order, "t2", "6")]
        await store.record(order.client_order_id, fills)
        head = await store.head()
        await until(lambda: bus.published and bus.published[-1].sequence == head)
        assert bus.refused is None
        assert [event.sequence for event in bus.published] == list(range(1, head + 1))
        assert tracker.get_open_orders() == []


async def test_a_row_that_cannot_be_read_once_is_not_left_out(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_reader, "_AGAIN_S", 0.01)
    wrong = ["order_accepted"]

    def read(row: sa.Row[Any]) -> JournalEntry:
        if row.name in wrong:
            wrong.clear()
            msg = "no JSON"
            raise ValueError(msg)
        return entry_of(row)

    monkeypatch.setattr("activities.store.reads.entry_of", read)
    bus = OwnBus()
    async with opened(store_url) as store, opened(store_url) as other:
        async with reading(store, bus) as tracker:
            order = await accepted(other, new_order())
            await other.record(order.client_order_id, [fill_event(order, "t", "4")])
            head = await other.head()
            await until(lambda: bus.published and bus.published[-1].sequence == head)
        assert wrong == []
        assert [event.sequence for event in bus.published] == list(range(1, head + 1))
        [state] = tracker.get_open_orders()
        assert state.filled_quantity == 4
    assert "the journal stands still after" in caplog.text


async def test_after_a_restoration_it_shows_what_the_store_has_and_goes_on(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_reader, "_AGAIN_S", 0.01)
    monkeypatch.setattr(journal_reader, "_LOOK_S", 0.01)
    async with opened(store_url, QUICK) as store, opened(store_url, QUICK) as other:
        kept = [await admitted(other) for _ in range(3)]
        bus = EventBus()
        live: list[OrderEvent] = []
        durable: list[OrderEvent] = []
        await bus.subscribe("*", live.append)
        subscription = await bus.subscribe("*", durable.append, after=0)
        async with reading(store, bus) as tracker:
            lost = [await admitted(other) for _ in range(20)]
            await until(lambda: len(live) == 20 and len(durable) == 23)

            await restore(other, 3)
            new = [await admitted(other) for _ in range(2)]
            await until(lambda: live[-1].order_id == durable[-1].order_id == new[-1])
            new.append(await admitted(other))
            await until(lambda: live[-1].order_id == durable[-1].order_id == new[-1])

            here = {state.client_order_id for state in tracker.get_open_orders()}
            assert here == {*kept, *new}
            with pytest.raises(StateUnavailable, match="not known here"):
                tracker.get_order(lost[0])
            await until(lambda: tracker.freshness[:2] == (6, 0))
            for told in (live, durable):
                since = [event.order_id for event in told[-len(new) :]]
                assert since == new
            assert subscription.handled_through == bus.newest == 6
        await bus.close()


async def test_a_subscriber_that_comes_back_after_a_restoration_is_not_deaf(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(store_url) as store:
        for _ in range(3):
            await admitted(store)
        got: list[OrderEvent] = []
        bus = EventBus()
        await bus.subscribe("*", got.append, after=23)
        async with reading(store, bus):
            await until(lambda: "has handled event 23, and the journal ends with 3" in caplog.text)
            new = await admitted(store)
            await until(lambda: got and got[-1].order_id == new)
        await bus.close()
    assert [event.sequence for event in got] == [4]


async def test_a_bus_that_was_used_before_the_restoration_tells_what_is_new(store_url: str) -> None:
    async with opened(store_url) as store:
        for _ in range(3):
            await admitted(store)
        got: list[OrderEvent] = []
        bus = EventBus()
        bus.newest = 1000
        await bus.subscribe("*", got.append)
        async with reading(store, bus):
            for _ in range(2):
                await admitted(store)
            await until(lambda: len(got) == 2)
            assert bus.newest == 5
        await bus.close()
    assert [event.sequence for event in got] == [4, 5]


async def test_a_journal_that_cannot_be_read_is_asked_less_and_less_often(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_reader, "_AGAIN_S", 0.1)

    class Broken(OwnBus):
        async def publish(self, event: OrderEvent) -> None:
            msg = f"the broker is away for {event.sequence}"
            raise ConnectionResetError(msg)

    async with opened(store_url) as store, reading(store, Broken()):
        await admitted(store)
        await asyncio.sleep(1)
    assert 2 <= caplog.text.count("the journal stands still after 0") <= 4


async def admitted(store: Store) -> str:
    return (await store.admit(new_order())).state.client_order_id
