"""The journal: names, numbers without gaps, followers, on both databases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from activities.store import JournalEntry, Store
from activities.store.failures import translated
from activities.store.journal import EVENT_NAMES, names_of
from tests.activities.store_builders import QUICK, accepted, fill_event, new_order, opened
from tests.oms.builders import NOW, event, fill, state
from trading.oms.enums import OrderStatus
from trading.oms.lifecycle import EventKind, LifecycleEvent, apply
from trading.oms.models import OrderState

ACCEPTED = state(status=OrderStatus.ACCEPTED, exchange_order_id="x-1")
PART = state(status=OrderStatus.PARTIALLY_FILLED, filled_quantity=Decimal(4))
WHOLE = state(status=OrderStatus.FILLED, filled_quantity=Decimal(10))
DOUBTED = state(status=OrderStatus.SUBMITTED, in_doubt_since=NOW)
CANCELLED = state(status=OrderStatus.CANCELLED, ended_as=OrderStatus.CANCELLED)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url, QUICK) as store:
        yield store


def some_fill(quantity: str) -> LifecycleEvent:
    return event(EventKind.FILL, fill=fill("f", quantity))


@pytest.mark.parametrize(
    ("before", "happened", "names"),
    [
        (state(), event(EventKind.SUBMITTING), ["order_pending"]),
        (state(), event(EventKind.SUBMITTED), ["order_submitted"]),
        (ACCEPTED, event(EventKind.SUBMITTED), ["order_submitted"]),
        (state(), event(EventKind.ACCEPTED), ["order_accepted"]),
        (PART, event(EventKind.ACCEPTED, exchange_order_id="x-1"), ["order_accepted"]),
        (DOUBTED, event(EventKind.ACCEPTED), ["order_accepted", "order_doubt_ended"]),
        (DOUBTED, event(EventKind.DOUBT_ENDED), ["order_doubt_ended"]),
        (DOUBTED, event(EventKind.NOT_PLACED), ["order_rejected", "order_doubt_ended"]),
        (ACCEPTED, some_fill("4"), ["order_fill", "order_partially_filled"]),
        (ACCEPTED, some_fill("10"), ["order_fill", "order_filled"]),
        (PART, some_fill("6"), ["order_fill", "order_filled"]),
        (CANCELLED, some_fill("4"), ["order_fill", "order_partially_filled"]),
        (CANCELLED, some_fill("10"), ["order_fill", "order_filled"]),
        (WHOLE, some_fill("1"), ["order_fill"]),
        (PART, event(EventKind.MODIFIED, revision=1, quantity=20), ["order_modified"]),
        (
            PART,
            event(EventKind.MODIFIED, revision=1, quantity=4),
            ["order_modified", "order_filled"],
        ),
        (ACCEPTED, event(EventKind.CANCELLED), ["order_cancelled"]),
        (WHOLE, event(EventKind.CANCELLED), ["order_updated"]),
        (ACCEPTED, event(EventKind.EXPIRED), ["order_expired"]),
        (state(), event(EventKind.REJECTED), ["order_rejected"]),
        (state(), event(EventKind.DENIED), ["order_rejected"]),
        (state(), event(EventKind.DECLARED_DEAD), ["order_error"]),
        (state(), event(EventKind.ROUTED, exchange="other"), ["order_routed"]),
        (state(), event(EventKind.IN_DOUBT), ["order_in_doubt"]),
        (state(), event(EventKind.RESENT, exchange_client_id="c"), ["order_resent"]),
        (state(), event(EventKind.CANCEL_REQUESTED), ["order_cancel_requested"]),
        (state(), event(EventKind.MODIFY_REQUESTED), ["order_modify_requested"]),
        (state(), event(EventKind.REPLACE_STARTED), ["order_replace_started"]),
        (state(), event(EventKind.LEG_STARTED, exchange_client_id="c"), ["order_leg_started"]),
        (state(), event(EventKind.REQUEST_ENDED), ["order_request_ended"]),
        (state(), event(EventKind.MESSAGE_REFUSED), ["order_message_refused"]),
        (state(), event(EventKind.ALARM), ["order_alarm"]),
    ],
)
def test_an_event_is_published_under_what_became_of_the_order(
    before: OrderState, happened: LifecycleEvent, names: list[str]
) -> None:
    assert names_of(before, happened, apply(before, happened).state) == names
    assert set(names) <= EVENT_NAMES


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_has_a_name(kind: EventKind) -> None:
    happened = some_fill("1") if kind is EventKind.FILL else event(kind)
    assert names_of(state(), happened, apply(state(), happened).state)


async def test_an_entry_holds_the_state_after_it_and_all_times(store: Store) -> None:
    order = await accepted(store, new_order())
    left = await store.record(order.client_order_id, [fill_event(order, "t1", "10")])
    entries = await store.events_after(0)
    assert [entry.name for entry in entries] == [
        "order_created",
        "order_leg_started",
        "order_submitted",
        "order_accepted",
        "order_fill",
        "order_filled",
    ]
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.order_sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.state.sequence for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[-1].state == left
    assert entries[-1].fill is not None
    assert entries[-1].exchange_at == NOW
    assert NOW < entries[-1].received_at <= entries[-1].committed_at
    assert await store.events_after(4, limit=1) == entries[4:5]
    assert await store.events_of(order.client_order_id, after=4) == entries[4:]
    assert await store.head() == 6


async def test_what_changes_nothing_is_not_published(store: Store) -> None:
    order = await accepted(store, new_order())
    head = await store.head()
    late = event(EventKind.ACCEPTED, at=9, exchange_order_id="x-1")
    again = await store.record(order.client_order_id, [late])
    assert await store.head() == head
    assert (await store.order(order.client_order_id)) == again
    assert again.last_updated_at > NOW


async def test_a_refused_message_that_a_repeated_task_notes_later_is_published_once(
    store: Store,
) -> None:
    order = await accepted(store, new_order())
    which = {"message": 1, "run": "r"}
    for at, details in ((1, which), (9, which), (9, {**which, "message": 2})):
        refused = event(EventKind.MESSAGE_REFUSED, at=at, reason="no", details=details)
        await store.record(order.client_order_id, [refused])
    names = [entry.name for entry in await store.events_of(order.client_order_id)]
    assert names.count("order_message_refused") == 2


async def test_alarms_and_refused_messages_are_published_once_each(store: Store) -> None:
    order = await accepted(store, new_order())
    events = [
        event(EventKind.ALARM, reason="two generations are alive", details={"leg": "1"}),
        event(EventKind.MESSAGE_REFUSED, reason="quantity is -1"),
        event(EventKind.REJECTED),
    ]
    await store.record(order.client_order_id, [*events, *events])
    await store.record(order.client_order_id, events)
    entries = (await store.events_of(order.client_order_id))[4:]
    assert [(entry.name, entry.alarm is not None) for entry in entries] == [
        ("order_alarm", True),
        ("order_message_refused", False),
        ("order_updated", False),
        ("order_alarm", True),
    ]
    assert entries[0].alarm == "two generations are alive"
    assert entries[0].details == {"leg": "1", "reason": "two generations are alive"}
    await store.record(order.client_order_id, [event(EventKind.ALARM, at=1, reason="again")])
    assert (await store.events_of(order.client_order_id))[-1].alarm == "again"


async def test_a_subscriber_hears_of_each_commit_before_the_caller(store: Store) -> None:
    heard: list[JournalEntry] = []

    def fails(_: Sequence[JournalEntry]) -> None:
        msg = "a bug of the subscriber"
        raise RuntimeError(msg)

    troubles: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: troubles.append(context["message"])
    )
    store.subscribe(fails)
    stop = store.subscribe(heard.extend)
    await store.admit(new_order())
    assert [entry.name for entry in heard] == ["order_created"]
    assert heard == await store.events_after(0)
    stop()
    await store.admit(new_order())
    assert len(heard) == 1
    assert troubles == ["a subscriber of the journal has failed"] * 2
    asyncio.get_running_loop().set_exception_handler(None)


async def followed(store: Store, after: int, until: int) -> list[int]:
    sequences: list[int] = []
    followers = store.follow(after)
    try:
        async with asyncio.timeout(20):
            async for entries in followers:
                sequences += [entry.sequence for entry in entries]
                if sequences[-1] >= until:
                    return sequences
    finally:
        await followers.aclose()
    return sequences


async def test_a_follower_gets_everything_from_its_sequence_on(
    store: Store, store_url: str
) -> None:
    for _ in range(3):
        await store.admit(new_order())
    assert await followed(store, 1, 3) == [2, 3]
    task = asyncio.create_task(followed(store, 3, 7))
    await asyncio.sleep(0.05)
    async with opened(store_url, QUICK) as other:
        await other.admit(new_order())
        await store.admit(new_order())
        await other.admit(new_order())
        await other.admit(new_order())
        assert await task == [4, 5, 6, 7]


async def test_a_follower_ends_when_the_store_is_closed(store_url: str) -> None:
    async with opened(store_url) as store:
        task = asyncio.create_task(followed(store, 0, 1))
        await asyncio.sleep(0.05)
    assert await task == []


async def test_a_follower_that_is_woken_and_cancelled_at_once_ends(store_url: str) -> None:
    async with opened(store_url) as store:
        for _ in range(5):
            follower = asyncio.create_task(followed(store, 0, 1))
            await asyncio.sleep(0.02)
            store._followers._wake()
            follower.cancel()
            done, _ = await asyncio.wait([follower], timeout=5)
            assert done
            assert follower.cancelled()


async def test_a_cancellation_stays_one_whatever_the_driver_makes_of_it() -> None:
    async def query() -> None:
        with translated("the store"):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ConnectionResetError from None

    task = asyncio.create_task(query())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_process_is_heard_without_waiting_for_the_poll(store_url: str) -> None:
    slow = QUICK.__class__(fallback_poll_s=30, poll_interval_s=0.01)
    async with opened(store_url, slow) as reader, opened(store_url, slow) as writer:
        task = asyncio.create_task(followed(reader, 0, 1))
        await asyncio.sleep(0.1)
        await writer.admit(new_order())
        async with asyncio.timeout(5):
            assert await task == [1]


@pytest.mark.postgres
async def test_a_reader_never_skips_what_two_processes_commit_at_once(postgres_url: str) -> None:
    """Sequences become visible in order: whatever a reader sees has nothing missing before it."""
    orders_each = 150
    async with (
        opened(postgres_url) as one,
        opened(postgres_url) as two,
        opened(postgres_url) as reader,
    ):
        total = 2 * orders_each * 6
        following = asyncio.create_task(followed(reader, 0, total))
        gaps: list[tuple[int, int]] = []
        done = asyncio.Event()

        async def polling() -> None:
            last = 0
            while not done.is_set():
                for entry in await reader.events_after(last, 10_000):
                    if entry.sequence != last + 1:
                        gaps.append((last, entry.sequence))
                    last = entry.sequence

        async def life(store: Store) -> None:
            order = await accepted(store, new_order())
            await store.record(order.client_order_id, [fill_event(order, "t", "10")])

        polled = asyncio.create_task(polling())
        await asyncio.gather(*(life(store) for _ in range(orders_each) for store in (one, two)))
        done.set()
        await polled
        assert gaps == []
        assert await following == list(range(1, total + 1))
        per_order: dict[str, int] = {}
        for entry in await reader.events_after(0, total):
            assert entry.order_sequence == per_order.get(entry.order_id, 0) + 1
            per_order[entry.order_id] = entry.order_sequence
        assert set(per_order.values()) == {6}


@pytest.mark.postgres
async def test_two_writers_that_commit_in_reverse_order_lose_nothing(postgres_url: str) -> None:
    """The first to begin commits last: its entry comes after, and no reader has skipped it."""
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        early = await accepted(one, new_order())
        late = await accepted(two, new_order())
        head = await one.head()
        reading = asyncio.create_task(followed(two, head, head + 4))
        # A third party holds the first writer's order, after its transaction has begun.
        third = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        held = third.transaction()
        await held.start()
        await third.execute(
            "SELECT 1 FROM orders WHERE client_order_id = $1 FOR UPDATE", early.client_order_id
        )
        first = asyncio.create_task(
            one.record(early.client_order_id, [fill_event(early, "t", "10")])
        )
        await _until_somebody_waits(third)
        await two.record(late.client_order_id, [fill_event(late, "t", "10")])
        seen = await two.events_after(head)
        assert [entry.order_id for entry in seen] == [late.client_order_id] * 2
        assert not first.done()
        await held.rollback()
        await first
        entries = await two.events_after(head)
        assert [entry.sequence for entry in entries] == list(range(head + 1, head + 5))
        assert {entry.order_id for entry in entries[2:]} == {early.client_order_id}
        assert await reading == list(range(head + 1, head + 5))
        await third.close()


@pytest.mark.postgres
async def test_nobody_commits_past_an_entry_that_is_not_committed_yet(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        order = await accepted(store, new_order())
        head = await store.head()
        # Another writer has taken its sequence and has not committed.
        third = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        held = third.transaction()
        await held.start()
        await third.execute("UPDATE journal_head SET sequence = sequence + 1")
        recording = asyncio.create_task(
            store.record(order.client_order_id, [fill_event(order, "t", "10")])
        )
        await _until_somebody_waits(third)
        assert await store.events_after(head) == []
        await held.rollback()
        await recording
        entries = await store.events_after(head)
        assert [entry.sequence for entry in entries] == [head + 1, head + 2]
        await third.close()


async def _until_somebody_waits(connection: Any) -> None:
    """A transaction of another connection waits for a lock."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()"""
    async with asyncio.timeout(5):
        while not await connection.fetchval(query):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_a_repeated_event_that_changes_the_order_again_is_published_again(
    store: Store,
) -> None:
    order = await accepted(store, new_order())
    events = [
        event(EventKind.RESENT, exchange_client_id="c-1"),
        event(EventKind.LEG_STARTED, exchange_client_id="c-2"),
        event(EventKind.RESENT, exchange_client_id="c-1"),
    ]
    kept = await store.record(order.client_order_id, events)
    [*_, last] = await store.events_of(order.client_order_id)
    assert last.state == kept
