"""The orders as the journal tells them, in memory, for synchronous questions.

Fed by one reader of the journal. Open orders are indexed by every combination of exchange, symbol
and strategy, so a question costs as much as its answer is long. Ended orders are kept up to a
bound and then forgotten, oldest end first. Of those, and of what had ended before the tracker was
loaded, it cannot know: it says so instead of None.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import product
from typing import NamedTuple

from trading.oms.errors import StateUnavailable
from trading.oms.events import IJournalEntry
from trading.oms.models import OrderState

ENDED_MAX = 10_000

_Key = tuple[str | None, str | None, str | None]


class Freshness(NamedTuple):
    """How far behind the journal the tracker is.

    `sequence` is the newest entry that it has seen, `lag` how many entries are known to exist
    after it, `as_of` the time at which it had read everything that was committed.
    """

    sequence: int
    lag: int
    as_of: datetime | None

    def age(self, now: datetime) -> timedelta | None:
        """How old the picture may be; None: it has never been complete."""
        return None if self.as_of is None else now - self.as_of


class StateTracker:
    """Every open order and the newest ended ones; see the module."""

    def __init__(self, ended_max: int = ENDED_MAX) -> None:
        """Keep `ended_max` ended orders."""
        self.sequence = 0
        self.fresh_as_of: datetime | None = None
        self.forgotten = 0
        self._has_seen_all = True
        self._ended_max = ended_max
        self._head = 0
        self._states: dict[str, OrderState] = {}
        self._versions: dict[str, int] = {}
        self._open: dict[_Key, dict[str, None]] = {}
        self._ended: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._states)

    @property
    def lag(self) -> int:
        """How many journal entries are known to exist and not yet applied."""
        return max(0, self._head - self.sequence)

    @property
    def freshness(self) -> Freshness:
        """How far behind the journal this picture is."""
        return Freshness(self.sequence, self.lag, self.fresh_as_of)

    def apply(self, entry: IJournalEntry) -> bool:
        """Take one journal entry; False where it is older than what is known of the order."""
        seen = 0 < entry.sequence <= self.sequence
        self.sequence = max(self.sequence, entry.sequence)
        if seen and entry.order_id not in self._states:
            return False  # A repeated entry of an order that was forgotten.
        return self._put(entry.state, entry.order_sequence)

    def put(self, state: OrderState) -> bool:
        """Take a state that a command has answered, ahead of the journal's reader."""
        return self._put(state, state.sequence)

    def load(self, states: Iterable[OrderState], *, sequence: int, at: datetime) -> None:
        """Take the open orders, as read from the store when its journal stood at `sequence`.

        What was known before is forgotten: a store that was restored may know less. Of what had
        ended by then nothing is known, unless that is nothing.
        """
        for known in (self._states, self._versions, self._open, self._ended):
            known.clear()
        self._has_seen_all = sequence == 0
        for state in states:
            self.put(state)
        self.sequence = self._head = sequence
        self.mark(head=sequence, at=at)

    def mark(self, *, head: int, at: datetime) -> None:
        """Note that at this time the journal ended with `head`."""
        self._head = max(self._head, head)
        if self.sequence >= self._head:
            self.fresh_as_of = at if self.fresh_as_of is None else max(self.fresh_as_of, at)

    def get_order(self, order_id: str) -> OrderState | None:
        """The newest known state; None: there is no such order, as far as `freshness` says.

        Raises `StateUnavailable` where there may be one that has ended and is not known here.
        """
        state = self._states.get(order_id)
        if state is None and not self._has_seen_all:
            msg = (
                f"an order {order_id!r} is not known here: it may have ended before this process "
                f"started, or before the newest {self._ended_max} that have ended; "
                f"ask with `await fetch_order({order_id!r})`"
            )
            raise StateUnavailable(msg)
        return state

    def get_open_orders(
        self,
        exchange: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
    ) -> list[OrderState]:
        """The open orders that match, in the order in which they became known."""
        found = self._open.get((exchange, symbol, strategy_id), ())
        return [self._states[order_id] for order_id in found]

    def count_open_orders(
        self,
        exchange: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
    ) -> int:
        """How many `get_open_orders` would give, without making the list."""
        return len(self._open.get((exchange, symbol, strategy_id), ()))

    def _put(self, state: OrderState, version: int) -> bool:
        order_id = state.client_order_id
        known = self._states.get(order_id)
        if known is not None and version <= self._versions[order_id]:
            return False
        if known is None or _place(known) != _place(state):
            self._move(known, state)
        self._states[order_id] = state
        self._versions[order_id] = version
        self._forget_the_oldest()
        return True

    def _move(self, known: OrderState | None, state: OrderState) -> None:
        order_id = state.client_order_id
        if known is not None and known.is_open:
            for key in _keys(known):
                orders = self._open[key]
                del orders[order_id]
                if not orders:
                    del self._open[key]
        self._ended.pop(order_id, None)
        if not state.is_open:
            self._ended[order_id] = None
            return
        for key in _keys(state):
            self._open.setdefault(key, {})[order_id] = None

    def _forget_the_oldest(self) -> None:
        while len(self._ended) > self._ended_max:
            order_id = next(iter(self._ended))
            del self._ended[order_id], self._states[order_id], self._versions[order_id]
            self.forgotten += 1
            self._has_seen_all = False


def _place(state: OrderState) -> tuple[bool, str, str, str | None]:
    return (state.is_open, state.exchange, state.symbol, state.strategy_id)


def _keys(state: OrderState) -> Iterator[_Key]:
    """Every question that this order is an answer to."""
    return product(
        dict.fromkeys((None, state.exchange)),
        dict.fromkeys((None, state.symbol)),
        dict.fromkeys((None, state.strategy_id)),
    )
