"""Feeds the state tracker and the event bus from the journal, in its order, without a gap."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from trading.oms.errors import JournalWentBack, StoreUnavailable
from trading.oms.event_bus import EventBus
from trading.oms.events import event_from
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from activities.store import Store
    from trading.oms.events import OrderEvent
    from trading.oms.interfaces import IEventBus
    from trading.oms.models import OrderState
    from trading.oms.state_tracker import StateTracker

_log = logging.getLogger(__name__)
_LOOK_S = 1.0
_AGAIN_S = 0.5
_AGAIN_S_MAX = 5.0


class JournalReader:
    """One reader of the journal for one process."""

    def __init__(
        self,
        store: Store,
        tracker: StateTracker,
        bus: IEventBus,
        on_state: Callable[[OrderState], None],
    ) -> None:
        """`on_state` is told each state too, for callers that wait for one."""
        self._store = store
        self._tracker = tracker
        self._bus = bus
        self._on_state = on_state
        self._done = 0
        """The sequence of the newest event that is published."""
        self._is_loaded = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the open orders, then follow the journal until the block ends."""
        self._done = await self._load()
        if isinstance(self._bus, EventBus):  # One of the user's own has no use for the past.
            if self._bus.newest > self._done:  # It was used before the store was restored.
                self._bus.go_back(self._done)
            self._bus.newest = self._done
            self._bus.read_journal = self._read
        tasks = [
            asyncio.create_task(self._follow(), name="journal-reader"),
            asyncio.create_task(self._look_at_the_head(), name="journal-head"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self) -> int:
        """Take a whole picture of the open orders; the journal's head before it."""
        head = await self._store.head()
        self._tracker.load(await self._store.open_orders(), sequence=head, at=utc_now())
        self._is_loaded = True
        return head

    async def _follow(self) -> None:
        """For ever: what cannot be read or published is tried again before all after it."""
        pause_s = _AGAIN_S
        while True:
            done = self._done
            try:
                await self._go_on()
            except JournalWentBack as error:
                self._go_back(error)
            except Exception:  # noqa: BLE001 - the reader outlives a bus of the user's own
                _log.exception("the journal stands still after %d, trying again", self._done)
            if self._done != done:
                pause_s = _AGAIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_S_MAX)

    def _go_back(self, error: JournalWentBack) -> None:
        """The store was restored: the orders are read anew, and its events from where it parted."""
        _log.warning("%s; its events are told again after %d", error, error.shared)
        self._done = error.shared
        self._is_loaded = False
        if isinstance(self._bus, EventBus):
            self._bus.go_back(error.shared)

    async def _go_on(self) -> None:
        if not self._is_loaded:
            await self._load()
        async for entries in self._store.follow(self._done):
            newest: dict[str, OrderState] = {}
            for entry in entries:
                self._tracker.apply(entry)
                newest[entry.order_id] = entry.state
            # Who waits for an order gets its state after the commit, not one from within it.
            for state in newest.values():
                self._on_state(state)
            for entry in entries:
                await self._bus.publish(event_from(entry))
                self._done = entry.sequence
            self._tracker.mark(head=entries[-1].sequence, at=utc_now())

    async def _look_at_the_head(self) -> None:
        """Let the tracker know how far the journal is: in a quiet hour it is fresh, not old."""
        while True:
            await asyncio.sleep(_LOOK_S)
            asked_at = utc_now()
            try:
                head = await self._store.head()
            except StoreUnavailable:
                continue  # The picture grows older, and says so.
            self._tracker.mark(head=head, at=asked_at)

    async def _read(self, after: int, limit: int) -> list[OrderEvent]:
        return [event_from(entry) for entry in await self._store.events_after(after, limit)]
