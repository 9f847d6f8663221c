"""Events in their classes, and the bus that gives them to subscribers."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from activities.store.journal import EVENT_NAMES
from tests.oms.builders import NOW, fill, state
from trading.oms import event_bus
from trading.oms.enums import OrderStatus
from trading.oms.event_bus import EventBus
from trading.oms.events import (
    EVENT_TYPES,
    OrderEvent,
    OrderFilledEvent,
    event_from,
    event_of,
)


def published(sequence: int, order_id: str = "a", name: str = "order_accepted") -> OrderEvent:
    return event_of(
        name,
        sequence=sequence,
        order_id=order_id,
        order_sequence=sequence,
        state=state(client_order_id=order_id),
    )


class Taker:
    """A handler that keeps what it is given and fails as often as it is told to."""

    def __init__(self, **failures: int) -> None:
        self.failures = failures
        self.taken: list[tuple[str, int]] = []

    async def __call__(self, event: OrderEvent) -> None:
        if self.failures.get(event.order_id, 0) > 0:
            self.failures[event.order_id] -= 1
            message = "not today"
            raise ValueError(message)
        self.taken.append((event.order_id, event.sequence))

    @property
    def sequences(self) -> list[int]:
        return [sequence for _, sequence in self.taken]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_bus, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(event_bus, "LONGEST_PAUSE_S", 0.004)


def test_every_event_name_of_the_journal_has_its_class() -> None:
    assert set(EVENT_TYPES) == EVENT_NAMES


def test_an_event_says_what_the_order_is_after_it() -> None:
    entry = SimpleNamespace(
        sequence=7,
        order_id="order-1",
        order_sequence=3,
        name="order_filled",
        state=state(
            status=OrderStatus.FILLED, filled_quantity=10, average_fill_price=99, strategy_id="s"
        ),
        fill=fill(),
        alarm=None,
        details=None,
        exchange_at=NOW,
        received_at=NOW,
        committed_at=NOW,
    )
    event = event_from(entry)
    assert type(event) is OrderFilledEvent
    assert (event.order_id, event.sequence, event.order_sequence) == ("order-1", 7, 3)
    assert (event.filled_quantity, event.average_fill_price) == (Decimal(10), Decimal(99))
    assert (event.status, event.symbol, event.strategy_id) == (
        OrderStatus.FILLED,
        "BTC/USDT",
        "s",
    )
    assert event.details == {}


def test_an_event_cannot_be_changed_and_survives_its_json() -> None:
    event = published(1)
    with pytest.raises(ValidationError, match="frozen"):
        event.sequence = 2  # type: ignore[misc]
    assert type(event).model_validate_json(event.model_dump_json()) == event


def test_an_event_of_a_newer_release_is_passed_on_in_the_base_class() -> None:
    assert type(published(1, name="order_teleported")) is OrderEvent


def test_a_fill_event_without_a_fill_is_refused() -> None:
    with pytest.raises(ValidationError, match="fill"):
        event_of("order_fill", sequence=1, order_id="a", order_sequence=1, state=state())


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [("order_filled", [2]), ("order_*", [1, 2]), ("*", [1, 2]), ("order_f*", [2]), ("fill", [])],
)
async def test_a_subscriber_gets_what_its_name_or_wildcard_matches(
    pattern: str, taken: list[int]
) -> None:
    bus, taker = EventBus(), Taker()
    await bus.subscribe(pattern, taker)
    await bus.publish(published(1))
    await bus.publish(published(2, name="order_filled"))
    await bus.close()
    assert taker.sequences == taken


async def test_a_plain_function_can_subscribe() -> None:
    bus = EventBus()
    taken: list[OrderEvent] = []
    await bus.subscribe("*", taken.append)
    await bus.publish(published(1))
    await bus.close()
    assert [event.sequence for event in taken] == [1]


async def test_a_repeated_event_is_left_out_and_an_unnumbered_one_passes() -> None:
    bus, taker = EventBus(), Taker()
    await bus.subscribe("*", taker)
    for sequence in (1, 1, 2, 1, 0, 0):
        await bus.publish(published(sequence))
    await bus.close()
    assert taker.sequences == [1, 2, 0, 0]


async def test_a_slow_handler_holds_neither_the_publisher_nor_the_others() -> None:
    bus, taker, gate = EventBus(), Taker(), asyncio.Event()

    async def slow(event: OrderEvent) -> None:
        await gate.wait()

    waiting = await bus.subscribe("*", slow)
    quick = await bus.subscribe("*", taker)
    for sequence in range(1, 101):
        await bus.publish(published(sequence))
    await quick.drain()
    assert taker.sequences == list(range(1, 101))
    assert (waiting.waiting, waiting.handled_through) == (100, 0)
    gate.set()
    await bus.drain()
    assert (waiting.waiting, waiting.handled_through) == (0, 100)
    await bus.close()


async def test_a_failing_event_is_tried_again_while_other_orders_go_on() -> None:
    bus, taker = EventBus(), Taker(a=3)
    subscription = await bus.subscribe("*", taker)
    for sequence, order_id in enumerate("abab", start=1):
        await bus.publish(published(sequence, order_id))
    await bus.close()
    assert taker.taken == [("b", 2), ("b", 4), ("a", 1), ("a", 3)]
    assert (subscription.failures, subscription.handled) == (3, 4)
    assert bus.dead_letters_total == 0


async def test_an_event_that_always_fails_becomes_a_dead_letter_and_the_order_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus, taker = EventBus(tries_max=3), Taker(a=3)
    await bus.subscribe("order_*", taker)
    await bus.publish(published(1))
    await bus.publish(published(2))
    await bus.close()
    assert taker.sequences == [2]
    (letter,) = bus.dead_letters
    assert (letter.pattern, letter.event.sequence, letter.tries) == ("order_*", 1, 3)
    assert "not today" in letter.error
    assert "failed 3 times with event 1 of order a" in caplog.text


async def test_a_handler_that_waits_for_something_cancelled_has_failed() -> None:
    bus, taken = EventBus(tries_max=2), []

    async def cancelled(event: OrderEvent) -> None:
        taken.append(event.sequence)
        if event.sequence == 1:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

    subscription = await bus.subscribe("*", cancelled)
    await bus.publish(published(1))
    await bus.publish(published(2))
    await asyncio.wait_for(bus.drain(), 5)
    assert taken == [1, 1, 2]
    assert (subscription.failures, bus.dead_letters_total) == (2, 1)
    await bus.close()


async def test_who_must_not_miss_one_is_asked_until_he_takes_it() -> None:
    bus, taker = EventBus(tries_max=2), Taker(a=4)
    subscription = await bus.subscribe("order_*", taker, for_ever=True)
    await bus.publish(published(1))
    await bus.publish(published(2))
    await bus.drain()
    assert taker.sequences == [1, 2]
    assert (subscription.failures, bus.dead_letters_total) == (4, 0)
    await bus.close()


def journal(length: int) -> tuple[list[OrderEvent], event_bus.ReadJournal]:
    entries = [published(sequence, "abc"[sequence % 3]) for sequence in range(1, length + 1)]

    async def read(after: int, limit: int) -> Sequence[OrderEvent]:
        await asyncio.sleep(0)
        return [entry for entry in entries if entry.sequence > after][:limit]

    return entries, read


async def test_a_subscription_resumes_after_the_last_event_it_handled() -> None:
    entries, read = journal(1200)
    bus, taker = EventBus(read), Taker(b=2)
    for entry in entries[:600]:
        await bus.publish(entry)
    await bus.subscribe("*", taker, after=5)
    for entry in entries[600:]:
        await bus.publish(entry)
        if entry.sequence % 100 == 0:
            await asyncio.sleep(0)
    await bus.close()
    assert sorted(taker.sequences) == list(range(6, 1201))
    for order_id in "abc":
        own = [sequence for owner, sequence in taker.taken if owner == order_id]
        assert own == sorted(own)


async def test_who_resumes_beyond_the_journal_is_told_so_and_gets_what_is_new(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a restored store, or with another one's sequence."""
    entries, read = journal(20)
    bus, taker = EventBus(read), Taker()
    bus.newest = 18
    subscription = await bus.subscribe("*", taker, after=1000)
    await subscription.drain()
    assert "has handled event 1000, and the journal ends with 18" in caplog.text
    for entry in entries:
        await bus.publish(entry)
    await bus.close()
    assert taker.sequences == [19, 20]


async def test_who_is_ahead_of_what_was_published_waits_for_what_is_new(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another process has handled the journal's newest, and here it was not published yet."""
    entries, read = journal(20)
    bus, taker = EventBus(read), Taker()
    bus.newest = 18
    subscription = await bus.subscribe("*", taker, after=20)
    await subscription.drain()
    entries.append(published(21))
    for entry in entries:
        await bus.publish(entry)
    await bus.close()
    assert (taker.sequences, caplog.text) == ([21], "")


@pytest.mark.parametrize("meanwhile", ["it handles a page", "a page is read"])
async def test_who_is_behind_where_the_journal_went_back_gets_nothing_of_the_lost(
    meanwhile: str,
) -> None:
    """It stands before the place where the restored journal parts, with the lost page in hand."""
    entries, read = journal(500)
    taker = Taker()

    def restore() -> None:
        entries[300:] = [published(sequence, "new") for sequence in range(301, 321)]
        bus.go_back(300)

    async def read_and_lose(after: int, limit: int) -> Sequence[OrderEvent]:
        page = await read(after, limit)
        if meanwhile == "a page is read" and bus.newest == 500:
            restore()
        return page

    async def take(event: OrderEvent) -> None:
        await taker(event)
        if meanwhile == "it handles a page" and event.sequence == 150 and bus.newest == 500:
            restore()

    bus = EventBus(read_and_lose)
    bus.newest = 500
    await bus.subscribe("*", take, after=0)
    await asyncio.wait_for(bus.drain(), 5)
    await bus.close()
    assert list(dict.fromkeys(taker.sequences)) == list(range(1, 321))
    assert {owner for owner, sequence in taker.taken if sequence > 300} == {"new"}


@pytest.mark.parametrize("after", ["7", 1.5, True, -1])
async def test_a_sequence_that_is_none_is_refused(after: Any) -> None:
    bus = EventBus()
    with pytest.raises(ValueError, match="must be the sequence of an event"):
        await bus.subscribe("*", print, after=after)
    assert bus.subscriptions == ()


async def test_the_past_is_read_as_soon_as_there_is_a_journal() -> None:
    entries, read = journal(20)
    bus, taker, present = EventBus(), Taker(), Taker()
    await bus.subscribe("*", taker, after=5)
    await bus.subscribe("*", present)
    bus.newest = 18
    bus.read_journal = read
    for entry in entries:
        await bus.publish(entry)
    await bus.close()
    assert taker.sequences == list(range(6, 21))
    assert present.sequences == [19, 20]


async def test_an_event_answers_the_usual_questions_itself() -> None:
    event = published(1)
    assert (event.exchange, event.side, event.remaining_quantity) == (
        "sandbox",
        event.state.side,
        Decimal(10),
    )
    assert (event.exchange_order_id, event.reason, event.reason_code) == (None, None, None)


async def test_a_publisher_that_waits_is_set_free_when_the_subscriber_leaves() -> None:
    bus = EventBus(queue_max=1)

    async def stuck(event: OrderEvent) -> None:
        await asyncio.Event().wait()

    subscription = await bus.subscribe("*", stuck)
    await bus.publish(published(1))
    publishing = asyncio.create_task(bus.publish(published(2)))
    await asyncio.sleep(0)
    await bus.unsubscribe(subscription)
    await publishing


async def test_who_falls_behind_the_bound_reads_the_journal_and_misses_nothing() -> None:
    entries, read = journal(300)
    bus, taker = EventBus(read, queue_max=10), Taker()
    subscription = await bus.subscribe("*", taker)
    for entry in entries:
        await bus.publish(entry)
    assert subscription.waiting == 10
    await bus.close()
    assert taker.sequences == list(range(1, 301))


async def test_a_bus_without_a_journal_makes_the_publisher_wait_at_the_bound() -> None:
    bus, gate, taken = EventBus(queue_max=2), asyncio.Event(), []

    async def slow(event: OrderEvent) -> None:
        await gate.wait()
        taken.append(event.sequence)

    await bus.subscribe("*", slow)

    async def publish() -> None:
        for sequence in range(1, 6):
            await bus.publish(published(sequence))

    publishing = asyncio.create_task(publish())
    await asyncio.sleep(0.01)
    assert not publishing.done()
    gate.set()
    await publishing
    await bus.close()
    assert taken == [1, 2, 3, 4, 5]


async def test_a_journal_that_cannot_be_read_is_asked_again() -> None:
    entries, read = journal(3)
    failures = 2

    async def flaky(after: int, limit: int) -> Sequence[OrderEvent]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError
        return await read(after, limit)

    bus, taker = EventBus(flaky), Taker()
    await bus.subscribe("*", taker, after=0)
    await bus.drain()
    assert taker.sequences == [entry.sequence for entry in entries]
    await bus.close()


async def test_closing_does_not_wait_for_ever_and_says_what_is_unhandled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = EventBus()

    async def stuck(event: OrderEvent) -> None:
        await asyncio.Event().wait()

    subscription = await bus.subscribe("*", stuck)
    await bus.publish(published(1))
    await bus.close(drain_s=0.01)
    assert "events unhandled" in caplog.text
    assert subscription.handled_through == 0
    assert bus.subscriptions == ()


async def test_who_has_unsubscribed_is_not_called_any_more() -> None:
    bus, taker = EventBus(), Taker()
    subscription = await bus.subscribe("*", taker)
    await bus.unsubscribe(subscription)
    await bus.publish(published(1))
    await bus.close()
    assert taker.taken == []


@pytest.mark.parametrize("after", [None, 0], ids=["live", "from the journal"])
@pytest.mark.parametrize("failures", [0, 1])
async def test_a_handler_may_end_its_own_subscription(after: int | None, failures: int) -> None:
    """`handled_through` then says where to go on, also where the handler had failed before."""
    entries, read = journal(9)
    bus, taker = EventBus(read), Taker(b=failures)

    async def until_the_fifth(event: OrderEvent) -> None:
        await taker(event)
        if len(taker.taken) == 5:
            await bus.unsubscribe(subscription)

    subscription = await bus.subscribe("*", until_the_fifth, after=after)
    for entry in entries:
        await bus.publish(entry)
    await asyncio.wait_for(subscription._task, 5)
    assert len(taker.taken) == 5
    assert (bus.subscriptions, subscription.failures) == ((), failures)
    assert set(range(1, subscription.handled_through + 1)) <= set(taker.sequences)


async def test_a_handler_may_drain_and_close_the_bus() -> None:
    bus, taker, done = EventBus(), Taker(), asyncio.Event()

    async def last(event: OrderEvent) -> None:
        await bus.drain()
        await bus.close()
        done.set()

    await bus.subscribe("*", last)
    await bus.subscribe("*", taker)
    await bus.publish(published(1))
    async with asyncio.timeout(2):  # Less than the bus would wait for what is unhandled.
        await done.wait()
    assert (taker.sequences, bus.subscriptions) == ([1], ())


async def test_draining_ends_where_one_subscription_ends_itself_meanwhile() -> None:
    bus = EventBus()

    async def once(event: OrderEvent) -> None:
        await asyncio.sleep(0.01)
        await bus.unsubscribe(leaving)

    async def slow(event: OrderEvent) -> None:
        await asyncio.sleep(0.05)

    await bus.subscribe("*", slow)
    leaving = await bus.subscribe("*", once)
    await bus.publish(published(1))
    await asyncio.wait_for(bus.drain(), 5)
    assert leaving not in bus.subscriptions
    await bus.close()
