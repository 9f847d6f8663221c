"""Followers of the journal: woken by this process's commits, by PostgreSQL's NOTIFY or by a poll.

Waking is a hint and the sequence is the truth: a follower reads on from the last sequence it has
yielded, so a lost hint costs time and never an entry. What this process has committed itself is at
hand, and read by nobody. What is read is read with the entry before it: where that is gone, or is
another, the store was restored.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import reads
from activities.store.engine import Engines
from activities.store.failures import translated
from activities.store.statements import CHANNEL
from activities.store.types import JournalEntry, StoreSettings
from trading.oms.errors import JournalWentBack, StoreUnavailable

_RECENT_MAX = 100
"""Batches of this process that are kept for its followers; older ones are read again."""
_READ_MAX = 500
_RECONNECT_S = 0.5
_CLOCKS = timedelta(minutes=1)
"""By how much the clocks of two processes may differ."""

Read = Callable[[int, int], Awaitable[list[JournalEntry]]]


@dataclass(slots=True)
class _Place:
    """Where a follower stands: a sequence, and the entry that has it, once that was seen."""

    sequence: int
    entry: JournalEntry | None = None

    def is_at(self, found: list[JournalEntry]) -> bool:
        """Whether what was read begins with the entry that it stands at."""
        if not found or found[0].sequence != self.sequence:
            return False
        self.entry = self.entry or found[0]
        return _mark(self.entry) == _mark(found[0])


class Followers:
    """Everyone in this process who follows the journal."""

    def __init__(self, engines: Engines, settings: StoreSettings, read: Read) -> None:
        """`read(after, limit)` reads entries from the database."""
        self._engines = engines
        self._settings = settings
        self._read = read
        self._recent: deque[list[JournalEntry]] = deque(maxlen=_RECENT_MAX)
        self._callbacks: list[Callable[[list[JournalEntry]], None]] = []
        self._events: set[asyncio.Event] = set()
        self._told = 0
        """How often others were heard to have committed something."""
        self._restorations = 0
        """How often this process has committed what cannot come after what it had committed."""
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    def subscribe(self, callback: Callable[[list[JournalEntry]], None]) -> Callable[[], None]:
        """Call back with each commit of this process, in order; returns how to stop."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def committed(self, entries: list[JournalEntry]) -> None:
        """Tell everyone about a commit of this process."""
        if self._recent and self._recent[-1][-1].sequence + 1 != entries[0].sequence:
            if entries[0].sequence <= self._newest:
                self._restorations += 1
            self._recent.clear()
        self._recent.append(entries)
        self._wake()
        loop = asyncio.get_running_loop()
        for callback in list(self._callbacks):
            try:
                callback(entries)
            except Exception as error:  # noqa: BLE001 - a subscriber's bug is not the writer's
                loop.call_exception_handler(
                    {"message": "a subscriber of the journal has failed", "exception": error}
                )

    async def follow(self, after: int) -> AsyncGenerator[list[JournalEntry]]:
        """Yield batches of entries with sequences `after + 1`, `after + 2` and so on, for ever.

        Raises `JournalWentBack` where the store was restored from a backup.
        """
        place = _Place(after)
        woken = asyncio.Event()
        self._events.add(woken)
        if self._watch is None:
            self._watch = asyncio.create_task(self._watching(), name="store-watch")
        told = -1  # What was heard of others when the database last had no more.
        restorations = self._restorations
        try:
            while not self._closed:
                woken.clear()
                is_restored = restorations != self._restorations
                entries = [] if is_restored else self._at_hand(place.sequence)
                is_more = told != self._told or self._newest > place.sequence
                if not entries and (is_more or is_restored):
                    heard, known = self._told, self._restorations
                    with contextlib.suppress(StoreUnavailable):  # The fallback poll comes back.
                        entries = await self._read_on(place)
                        restorations = known
                        told = heard if len(entries) < _READ_MAX - 1 else told
                if entries:
                    place = _Place(entries[-1].sequence, entries[-1])
                    yield entries
                    continue
                # Not `wait_for`: of a wake-up and a cancellation at once it forgets the latter.
                try:
                    async with asyncio.timeout(self._settings.fallback_poll_s):
                        await woken.wait()
                except TimeoutError:
                    told = -1
        finally:
            self._events.discard(woken)
            if not self._events:
                await self._stop_watching()

    async def close(self) -> None:
        """End every follower's iteration."""
        self._closed = True
        self._wake()
        await self._stop_watching()

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def _at_hand(self, after: int) -> list[JournalEntry]:
        """The next entries without a look at the database, where this process has written them."""
        for batch in reversed(self._recent):
            if batch[0].sequence <= after + 1:
                return batch[after + 1 - batch[0].sequence :]
        return []

    @property
    def _newest(self) -> int:
        """The newest entry of this process."""
        return self._recent[-1][-1].sequence if self._recent else 0

    async def _read_on(self, place: _Place) -> list[JournalEntry]:
        found = await self._read(max(0, place.sequence - 1), _READ_MAX)
        if place.sequence <= 0:
            return found
        if not place.is_at(found):
            raise await self._went_back(place)
        return found[1:]

    async def _went_back(self, place: _Place) -> JournalWentBack:
        """What was written since the restoration is younger than the newest entry before it."""
        self._recent.clear()
        known = place.entry
        with translated("the store"):
            shared = await self._engines.reads.run(
                lambda c: (
                    reads.newest_until(c, known.committed_at - _CLOCKS) if known else reads.head(c)
                )
            )
        msg = f"the journal does not hold the entry {place.sequence} that was read: it was restored"
        if known is None:  # Somebody has named it, and nobody here has seen it.
            msg = f"the journal has no entry {place.sequence}; it ends with {shared}"
        return JournalWentBack(msg, shared=min(shared, place.sequence))

    def _tell(self) -> None:
        """Somebody else has committed something, or may have."""
        self._told += 1
        self._wake()

    def _wake(self) -> None:
        for event in self._events:
            event.set()

    async def _watching(self) -> None:
        """Wake the followers when another process commits."""
        listener = self._engines.listener
        while True:
            # Whatever ends the watch, the fallback poll goes on and the watch begins again.
            with contextlib.suppress(Exception):
                if listener is None:
                    await self._poll()
                else:
                    async with listener.connect() as connection:
                        await self._listen(connection)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return  # The driver has made an error of it.
            await asyncio.sleep(_RECONNECT_S)

    async def _listen(self, connection: AsyncConnection) -> None:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        lost = asyncio.Event()

        def notified(_connection: Any, backend: int, *_: object) -> None:
            if backend not in self._engines.backends:
                self._tell()

        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, notified)
        self._tell()
        try:
            await lost.wait()
        finally:
            # Not to be handed to anyone else with a listener on it.
            await connection.invalidate()

    async def _poll(self) -> None:
        known = None
        while True:
            head = await self._engines.reads.run(reads.head)
            if known is None or head < known or (head != known and head > self._newest):
                self._tell()
            known = head
            await asyncio.sleep(self._settings.poll_interval_s)


def _mark(entry: JournalEntry) -> tuple[object, ...]:
    """What no other entry of the same sequence has."""
    return entry.order_id, entry.order_sequence, entry.committed_at
