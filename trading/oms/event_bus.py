"""The event bus inside one process: subscriptions by name, each at its own pace.

    await event_bus.subscribe("order_filled", handler)
    await event_bus.subscribe("order_*", handler, after=last_sequence_handled)

Each subscriber has its own queue and its own task, so a slow or failing handler holds nobody
else. A handler sees the events of one order in their order and at least once. One that raises is
called again with the same event after a pause; meanwhile only the events of that order wait. After
`TRIES_MAX` tries, some seconds in all, the event is logged, counted and kept in `dead_letters`, and
the order goes on; who must not miss one subscribes `for_ever`.

Backpressure: a subscriber may have `queue_max` events waiting. One that falls further behind is
taken off the live stream and reads the journal until it has caught up. A bus without a journal
(`EventBus()` before an order manager has given it one) makes `publish` wait instead.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from trading.oms.events import OrderEvent

TRIES_MAX = 8
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
QUEUE_MAX = 10_000
DEAD_LETTERS_MAX = 1_000
JOURNAL_PAGE = 500
_JOURNAL_PAUSE_S = 0.05

Handler = Callable[[Any], Awaitable[None] | None]
"""Takes one event; a coroutine function or a plain one."""
ReadJournal = Callable[[int, int], Awaitable[Sequence[OrderEvent]]]
"""(after this sequence, at most so many): the journal's next events, oldest first."""

_log = logging.getLogger(__name__)


class DeadLetter(NamedTuple):
    """An event that a handler has refused `tries` times."""

    pattern: str
    handler: str
    event: OrderEvent
    error: str
    tries: int


class _Parked:
    """The waiting events of one order whose first one has failed."""

    def __init__(self, event: OrderEvent) -> None:
        self.events = deque([event])
        self.tries = 1
        self.due = 0.0


class Subscription:
    """One handler with its queue; made by `EventBus.subscribe`."""

    def __init__(
        self,
        bus: "EventBus",
        pattern: str,
        handler: Handler,
        after: int | None,
        *,
        for_ever: bool = False,
    ) -> None:
        """`after` is the sequence of the last event that needs no handling any more."""
        self.pattern = pattern
        self.handler = handler
        self.handler_name = getattr(handler, "__qualname__", repr(handler))
        self.handled = 0
        self.failures = 0
        self._for_ever = for_ever
        self._bus = bus
        self._cursor = bus.newest if after is None else after
        self._wants_the_past = after is not None
        self._live = not (self._wants_the_past and bus.read_journal)
        self._queue: deque[OrderEvent] = deque()
        self._parked: dict[str, _Parked] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._closed = False
        self._returns = 0
        self._task = asyncio.create_task(self._run(), name=f"events {pattern}")

    @property
    def waiting(self) -> int:
        """How many events wait in memory, those of failing orders included."""
        return len(self._queue) + sum(len(parked.events) for parked in self._parked.values())

    @property
    def handled_through(self) -> int:
        """The sequence up to which nothing waits: what to give as `after` the next time."""
        waiting = [parked.events[0].sequence for parked in self._parked.values()]
        if self._queue:
            waiting.append(self._queue[0].sequence)
        return max(0, min([self._cursor, *(sequence - 1 for sequence in waiting)]))

    async def offer(self, event: OrderEvent) -> None:
        """Queue a live event; waits only where the queue is full and there is no journal."""
        if not self._live:
            self._wake.set()
            return
        if 0 < event.sequence <= self._cursor:
            return
        while self.waiting >= self._bus.queue_max:
            if self._bus.read_journal is not None:
                self._live = False
                return
            self._room.clear()
            await self._room.wait()
            if self._task.done():
                return
        self._cursor = max(self._cursor, event.sequence)
        if fnmatchcase(event.name, self.pattern):
            self._idle.clear()
            self._queue.append(event)
            self._wake.set()

    def journal_is_there(self) -> None:
        """Read the past that was asked for before there was a journal to read."""
        if self._wants_the_past:
            self._live = False
            self._wake.set()

    def go_back(self, sequence: int) -> None:
        """Read the journal from there, where what was handled after it is not in it any more."""
        self._returns += 1
        self._cursor = min(self._cursor, sequence)
        self._live = False
        self._wake.set()

    async def drain(self) -> None:
        """Wait until every event so far is handled or a dead letter; not for its own handler."""
        if self._closed or self._task is asyncio.current_task():
            return
        self._wake.set()
        self._idle.clear()
        await self._idle.wait()

    async def close(self) -> None:
        """Stop at once; what waits is not handled, see `handled_through`.

        From within its own handler: when that returns.
        """
        self._closed = True
        if self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._idle.set()
        self._room.set()

    async def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            await self._retry_what_is_due()
            await self._go_on()

    async def _go_on(self) -> None:
        """Take one event of the queue, else a page of the journal, else wait for either."""
        if self._closed:  # By the handler, when it was tried again.
            return
        if self._queue and not self._is_too_full():
            await self._take(self._queue[0])
            self._queue.popleft()
            self._room.set()
        elif not self._live and not self._queue and not self._is_too_full():
            await self._catch_up()
        else:
            await self._wait()

    def _is_too_full(self) -> bool:
        """Whether failing orders alone fill the bound: then they are tried before all else."""
        parked = sum(len(order.events) for order in self._parked.values())
        return parked >= self._bus.queue_max

    async def _wait(self) -> None:
        if not self._queue and not self._parked:
            self._idle.set()
        due = min((order.due for order in self._parked.values()), default=None)
        loop = asyncio.get_running_loop()
        pause = None if due is None else max(0.0, due - loop.time())
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _catch_up(self) -> None:
        """Read one page of the journal; live again when it holds nothing newer."""
        read_journal = self._bus.read_journal
        place, returns = self._cursor, self._returns
        try:
            page = await read_journal(place, JOURNAL_PAGE) if read_journal else ()
            if not page and read_journal and place > self._bus.newest:
                self._go_back_to_what_is_there(await read_journal(place - 1, 1))
        except Exception:  # noqa: BLE001 - the store's failure must not end the subscription
            _log.exception("cannot read the journal for the subscriber %s", self.handler_name)
            await asyncio.sleep(LONGEST_PAUSE_S)
            return
        for event in page:
            if self._closed or self._returns != returns:
                return
            if fnmatchcase(event.name, self.pattern):
                await self._take(event)
            if self._returns != returns:
                return  # The journal went back meanwhile: the rest of the page is not in it.
            self._cursor = event.sequence
        if not page and self._returns == returns:
            self._live = self._cursor >= self._bus.newest
            if not self._live:  # The journal that we read lags behind what was published.
                await asyncio.sleep(_JOURNAL_PAUSE_S)

    def _go_back_to_what_is_there(self, last: Sequence[OrderEvent]) -> None:
        """`last` is the event that was handled last; nothing: the store was restored since then."""
        if last or self._cursor <= self._bus.newest:
            return
        _log.warning(
            "the subscriber %s has handled event %d, and the journal ends with %d: the store was "
            "restored, and what was handled since that backup may come again",
            self.handler_name,
            self._cursor,
            self._bus.newest,
        )
        self.go_back(self._bus.newest)

    async def _take(self, event: OrderEvent) -> None:
        parked = self._parked.get(event.order_id)
        if parked is not None:
            parked.events.append(event)
            return
        error = await self._handle(event)
        if error is not None:
            parked = self._parked[event.order_id] = _Parked(event)
            self._park_or_bury(parked, error)

    async def _retry_what_is_due(self) -> None:
        now = asyncio.get_running_loop().time()
        for order_id in [key for key, order in self._parked.items() if order.due <= now]:
            if self._closed:
                return
            parked = self._parked[order_id]
            error = await self._handle(parked.events[0])
            if error is not None:
                parked.tries += 1
                self._park_or_bury(parked, error)
            else:
                self._forget_first(parked)

    def _park_or_bury(self, parked: _Parked, error: BaseException) -> None:
        event = parked.events[0]
        if parked.tries >= self._bus.tries_max and not self._for_ever:
            self._bus.bury(
                DeadLetter(self.pattern, self.handler_name, event, repr(error), parked.tries)
            )
            self._forget_first(parked)
            return
        pause = min(FIRST_PAUSE_S * 2 ** (parked.tries - 1), LONGEST_PAUSE_S)
        parked.due = asyncio.get_running_loop().time() + pause

    def _forget_first(self, parked: _Parked) -> None:
        event = parked.events.popleft()
        parked.tries, parked.due = 0, 0.0
        if not parked.events:
            del self._parked[event.order_id]
        self._room.set()

    async def _handle(self, event: OrderEvent) -> BaseException | None:
        try:
            answer = self.handler(event)
            if inspect.isawaitable(answer):
                await answer
            else:
                await asyncio.sleep(0)  # A plain handler with a long queue lets others run.
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self._task.cancelling():
                raise  # It is we who are told to end.
            self.failures += 1
            return error
        self.handled += 1
        return None


class EventBus:
    """Gives each published event to every subscriber whose name or wildcard matches.

    Publish in the journal's order: an event whose sequence is not above the newest one published
    counts as repeated and is left out (0 means unnumbered and always passes).
    """

    def __init__(
        self,
        read_journal: ReadJournal | None = None,
        *,
        queue_max: int = QUEUE_MAX,
        tries_max: int = TRIES_MAX,
    ) -> None:
        """`read_journal` can also be set later."""
        self._read_journal = read_journal
        self.queue_max = queue_max
        self.tries_max = tries_max
        self.newest = 0
        self.dead_letters: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS_MAX)
        self.dead_letters_total = 0
        self._subscriptions: list[Subscription] = []

    @property
    def read_journal(self) -> ReadJournal | None:
        """Where the past is read from; None: there is only what is published from now on."""
        return self._read_journal

    @read_journal.setter
    def read_journal(self, read_journal: ReadJournal | None) -> None:
        self._read_journal = read_journal
        if read_journal is not None:
            for subscription in self._subscriptions:
                subscription.journal_is_there()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscribers, with how much waits and how often each has failed."""
        return tuple(self._subscriptions)

    async def subscribe(
        self, name: str, handler: Handler, *, after: int | None = None, for_ever: bool = False
    ) -> Subscription:
        """Call `handler` with each event whose name matches: "order_filled", "order_*" or "*".

        With `after`, the journal's events after that sequence come first and none is left out in
        between. Without it, only what is published from now on. `for_ever` tries an event again
        until the handler takes it; meanwhile the order's other events wait, and in the end all.
        """
        if after is not None and (type(after) is not int or after < 0):
            msg = f"after is {after!r}; must be the sequence of an event, or 0 for all"
            raise ValueError(msg)
        subscription = Subscription(self, name, handler, after, for_ever=for_ever)
        self._subscriptions.append(subscription)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop calling the handler; what waits for it is not handled."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        await subscription.close()

    async def publish(self, event: OrderEvent) -> None:
        """Queue the event for everyone; returns without waiting for any handler."""
        if 0 < event.sequence <= self.newest:
            return
        self.newest = max(self.newest, event.sequence)
        for subscription in self.subscriptions:
            await subscription.offer(event)

    def go_back(self, sequence: int) -> None:
        """Go on from there: the journal, a restored one, has lost what was published after it."""
        self.newest = min(self.newest, sequence)
        for subscription in self.subscriptions:
            subscription.go_back(sequence)

    def bury(self, letter: DeadLetter) -> None:
        """Keep an event that a handler will not take."""
        self.dead_letters.append(letter)
        self.dead_letters_total += 1
        _log.error(
            "the subscriber %s of %s has failed %d times with event %d of order %s: %s",
            letter.handler,
            letter.pattern,
            letter.tries,
            letter.event.sequence,
            letter.event.order_id,
            letter.error,
        )

    async def drain(self) -> None:
        """Wait until every event published so far is handled or a dead letter."""
        for subscription in self.subscriptions:
            await subscription.drain()

    async def close(self, drain_s: float = 5.0) -> None:
        """Give the handlers up to `drain_s` seconds for what waits, then stop them."""
        try:
            async with asyncio.timeout(drain_s):
                await self.drain()
        except TimeoutError:
            waiting = {s.handler_name: s.waiting for s in self.subscriptions if s.waiting}
            _log.warning("closed the event bus with events unhandled: %s", waiting)
        for subscription in self.subscriptions:
            await self.unsubscribe(subscription)
