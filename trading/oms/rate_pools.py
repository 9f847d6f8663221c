"""The counters of an exchange as the ledger keeps them: fixed windows, and counters that decay.

A pool counts what was handed out, provably given back, and used by others. What orders wait for is
`book`ed beside it, from the queue, in each transaction anew. Times are seconds since the epoch in
the exchange's clock.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from trading.oms.rate_card import PoolKind, RatePool

MARGIN_S = 0.1
"""How far our idea of the exchange's clock, and the way there, may shift a request. One that leaves
so near to the edge of a window counts in both."""
LATE_S = 3.0
"""For how long what left in the window before, and has not been answered, may still arrive."""
NOT_YET_S = 0.25
"""When what left in the window before has not been answered, or a window is about to end."""
_ANSWER_S = 15
"""By then a request that is not answered has been counted at a counter that decays."""
_GRAIN_S = 0.001


class Seen(NamedTuple):
    """The exchange's count in a window, from a response.

    `settled` is how much had been answered, as the ledger knew before the request left.
    """

    window: int
    used: int
    settled: int


class Pool(Protocol):
    """One counter. `at` is when a request leaves, `window` what it was handed out in."""

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """The first time from `at` on at which it fits beside all that is booked."""
        ...

    def ready(self, at: float, weight: int, ahead: int) -> float:
        """When what was booked may leave: `at`, or later; `ahead` is what was booked before it."""
        ...

    def take(self, at: float, weight: int) -> None:
        """Hand out."""
        ...

    def book(self, at: float, weight: int) -> None:
        """Somebody waits for so much at this time; nobody any more where it is negative."""
        ...

    def room(self, window: int) -> int:
        """How much may be handed out in advance."""
        ...

    def change(self, window: int, weight: int) -> None:
        """Hand out in one window, or take back."""
        ...

    def settle(self, window: int, weight: int) -> None:
        """So much has been answered."""
        ...

    def see(self, seen: Seen) -> None:
        """Take in the exchange's own count."""
        ...

    def settled(self) -> dict[int, int]:
        """How much has been answered, by window."""
        ...

    def status(self) -> dict[str, Any]:
        """Limit and use now, as plain JSON."""
        ...


def windows_of(rule: RatePool, at: float) -> tuple[int, ...]:
    """The windows in which a request counts that leaves at this time.

    A counter that decays has none; there it is the second in which it leaves.
    """
    if rule.kind is PoolKind.DECAYING:
        return (math.floor(at),)
    first = math.floor((at - MARGIN_S) / rule.window_s)
    last = math.floor((at + MARGIN_S) / rule.window_s)
    return (first,) if first == last else tuple(range(first, last + 1))


def off_edges(rules: Iterable[RatePool], at: float) -> float:
    """The same time, or where that is on the edge of a window the first one after it."""
    for rule in rules:
        windows = windows_of(rule, at)
        if len(windows) > 1:
            at = windows[-1] * rule.window_s + MARGIN_S + _GRAIN_S
    return at


def limit_of(rule: RatePool, *, urgent: bool) -> int:
    """The limit for urgent requests, and for all others."""
    kept = 0 if urgent else math.ceil(rule.limit * rule.urgent_share)
    return max(1, rule.limit - kept)


class Windows:
    """Fixed windows: [handed out, answered, given back, used by others] by window.

    What the exchange has counted in a window is never more than the first less the third and with
    the fourth.
    """

    def __init__(self, rule: RatePool, document: dict[str, Any], now: float) -> None:
        """Forget the windows that are over."""
        self._rule = rule
        self._now = now
        self._booked: Counter[int] = Counter()
        kept = windows_of(rule, now)[0] - 1
        self._rows: dict[str, list[int]] = {
            window: row
            for window, row in document.get("windows", {}).items()
            if int(window) >= kept
        }
        document["windows"] = self._rows

    def _row(self, window: int) -> list[int]:
        return self._rows.setdefault(str(window), [0, 0, 0, 0])

    def _used(self, window: int) -> int:
        """The most that the exchange may have counted, or will, of what was handed out."""
        leased, _, credit, others = self._rows.get(str(window), (0, 0, 0, 0))
        return leased - credit + others

    def _late(self, window: int) -> int:
        """What was handed out in the window before and may still arrive in this one.

        Nothing that has not been answered is known to have arrived. Slots in windows to come are
        given without it: it is looked at when they begin.
        """
        if not 0 <= self._now - window * self._rule.window_s <= LATE_S:
            return 0
        leased, settled, _, _ = self._rows.get(str(window - 1), (0, 0, 0, 0))
        return max(0, leased - settled)

    def _left(self, window: int, *, urgent: bool) -> int:
        """What neither anybody has nor waits for."""
        used = self._used(window) + self._late(window) + self._booked[window]
        return max(0, limit_of(self._rule, urgent=urgent) - used)

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """The first time from `at` on with room in every window that a request then touches."""
        while True:
            full = [w for w in windows_of(self._rule, at) if self._left(w, urgent=urgent) < weight]
            if not full:
                return at
            at = (max(full) + 1) * self._rule.window_s + MARGIN_S + _GRAIN_S

    def ready(self, at: float, weight: int, ahead: int) -> float:  # noqa: ARG002
        """What has left in the window before and is not answered yet comes first."""
        limit = limit_of(self._rule, urgent=False)
        windows = windows_of(self._rule, at)
        is_ready = all(self._used(w) + self._late(w) + weight <= limit for w in windows)
        return at if is_ready else at + NOT_YET_S

    def take(self, at: float, weight: int) -> None:
        """Hand out in every window that a request touches at this time."""
        for window in windows_of(self._rule, at):
            self.change(window, weight)

    def book(self, at: float, weight: int) -> None:
        """Keep it in every window that a request touches at this time."""
        for window in windows_of(self._rule, at):
            self._booked[window] += weight

    def room(self, window: int) -> int:
        """What nobody waits for."""
        return self._left(window, urgent=False)

    def change(self, window: int, weight: int) -> None:
        """Hand out in one window, or take back."""
        row = self._row(window)
        row[0] = max(0, row[0] + weight)

    def settle(self, window: int, weight: int) -> None:
        """So much has been answered."""
        self._row(window)[1] += weight

    def see(self, seen: Seen) -> None:
        """Take in the exchange's count.

        What had been answered before the request left is in the count, so a lower count proves
        that the difference was given back. What it counts above all that was handed out is not
        ours.
        """
        row = self._row(seen.window)
        row[2] = max(0, min(seen.settled - seen.used, row[0]))
        row[3] = max(row[3], seen.used - row[0])

    def settled(self) -> dict[int, int]:
        """How much has been answered, by window."""
        return {int(window): row[1] for window, row in self._rows.items()}

    def status(self) -> dict[str, Any]:
        """Use of the window that runs, and what is booked for later ones."""
        here = math.floor(self._now / self._rule.window_s)
        known = {int(window) for window in self._rows} | set(self._booked)
        ahead = sum(self._used(w) + self._booked[w] for w in known if w > here)
        return {
            "kind": self._rule.kind.value,
            "limit": self._rule.limit,
            "window_s": self._rule.window_s,
            "used": self._used(here) + self._booked[here],
            "booked_ahead": ahead,
            "resets_in_s": round((here + 1) * self._rule.window_s - self._now, 3),
        }


class Decaying:
    """A counter that decays (Kraken).

    A request is `pending` until it is answered, and begins to decay only then: the exchange has
    counted it no later. So the count here is never below the exchange's. One that is never answered
    decays from 15 seconds after it was handed out.
    """

    def __init__(self, rule: RatePool, document: dict[str, Any], now: float) -> None:
        """Let decay what has been answered."""
        self._rule = rule
        self._now = now
        self._booked = 0
        self._document = document
        passed = max(0.0, now - document.get("at", now))
        document["count"] = max(0.0, document.get("count", 0.0) - passed * rule.decay_per_s)
        document["at"] = max(now, document.get("at", now))
        self._pending: dict[str, int] = document.setdefault("pending", {})
        for second in [s for s in self._pending if int(s) + _ANSWER_S < now]:
            document["count"] += self._pending.pop(second)

    def _used(self) -> float:
        counted: float = self._document["count"]
        return counted + sum(self._pending.values())

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """When enough of it has decayed; an urgent request is not behind those that wait."""
        ahead = 0 if urgent else self._booked
        over = self._used() + ahead + weight - limit_of(self._rule, urgent=urgent)
        return max(at, self._now + over / self._rule.decay_per_s)

    def ready(self, at: float, weight: int, ahead: int) -> float:
        """A cancel may have come between, and cost more than has decayed."""
        limit = limit_of(self._rule, urgent=False) + _GRAIN_S
        if self._used() + weight <= limit:
            return at
        over = self._used() + ahead + weight - limit
        return at + max(NOT_YET_S, over / self._rule.decay_per_s)

    def take(self, at: float, weight: int) -> None:
        """Count a request at this time."""
        self.change(math.floor(at), weight)

    def book(self, at: float, weight: int) -> None:  # noqa: ARG002
        """Who asks later comes behind it."""
        self._booked += weight

    def room(self, window: int) -> int:  # noqa: ARG002
        """Nothing: what is not used at once would decay unused."""
        return 0

    def change(self, window: int, weight: int) -> None:
        """Count, or give back what was not used after all."""
        left = self._pending.get(str(window), 0) + weight
        if left > 0:
            self._pending[str(window)] = left
        else:
            self._pending.pop(str(window), None)
            self._document["count"] = max(0.0, self._document["count"] + left)

    def settle(self, window: int, weight: int) -> None:
        """The exchange has counted it, just now at the latest."""
        known = min(weight, self._pending.get(str(window), 0))
        self.change(window, -known)
        self._document["count"] += known

    def see(self, seen: Seen) -> None:
        """Nothing to take in: no exchange states a decaying counter in a header."""

    def settled(self) -> dict[int, int]:
        """Nothing is kept."""
        return {}

    def status(self) -> dict[str, Any]:
        """How much has not decayed yet, and what orders that wait will add."""
        return {
            "kind": self._rule.kind.value,
            "limit": self._rule.limit,
            "decay_per_s": self._rule.decay_per_s,
            "used": round(self._used(), 3),
            "booked_ahead": self._booked,
        }


def pool_of(rule: RatePool, document: dict[str, Any], now: float) -> Pool:
    """The counter that a rule describes, over its part of the ledger's document."""
    make = Decaying if rule.kind is PoolKind.DECAYING else Windows
    return make(rule, document, now)
