"""The arithmetic of the ledger that all processes share: counters, slots, queue, pauses.

The ledger of an exchange is one JSON document in the store; what stands here reads and changes it
and knows neither clock nor database. Times are seconds since the epoch in the exchange's clock.

What the exchange has counted is never more than `leased - credit + others` of a window: `leased`
are the tokens handed out; `credit` is what the exchange has provably given back; `others` is what
it has counted beyond ours.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from trading.oms.rate_card import Cost, PoolKind, RatePool
from trading.oms.rate_queue import LATE_S, Queue, moment, strategy_of

MARGIN_S = 0.1
"""How far our idea of the exchange's clock, and the way there, may shift a request. One that leaves
so near to the edge of a window counts in both."""
_GRAIN_S = 0.001
_BLOCK_SHARE, _BLOCK_MAX = 10, 100
EVERYTHING = "*"
"""The name under which a pause stops every request."""


class Want(NamedTuple):
    """A request that asks for a slot, at `latest` then. One with a `strategy` queues fairly."""

    cost: Cost
    latest: float
    strategy: str | None = None


class Granted(NamedTuple):
    """When it may leave. Where that is after `latest`, nothing is `booked`."""

    at: float
    booked: bool


class Seen(NamedTuple):
    """The exchange's count in a window, from a response.

    `settled` is how much had been answered, as the ledger knew before the request left.
    """

    window: int
    used: int
    settled: int


def windows_of(rule: RatePool, at: float) -> tuple[int, ...]:
    """The windows in which a request counts that leaves at this time."""
    if rule.kind is PoolKind.DECAYING:
        return (0,)
    first = math.floor((at - MARGIN_S) / rule.window_s)
    last = math.floor((at + MARGIN_S) / rule.window_s)
    return (first,) if first == last else tuple(range(first, last + 1))


class Windows:
    """Fixed windows: [leased, settled, credit, others] by window."""

    def __init__(self, rule: RatePool, document: dict[str, Any], now: float) -> None:
        """Forget the windows that are over."""
        self._rule = rule
        self._now = now
        kept = windows_of(rule, now)[0] - 1
        self._rows: dict[str, list[int]] = {
            window: row
            for window, row in document.get("windows", {}).items()
            if int(window) >= kept
        }
        document["windows"] = self._rows

    def _row(self, window: int) -> list[int]:
        return self._rows.setdefault(str(window), [0, 0, 0, 0])

    def used(self, window: int) -> int:
        """The most that the exchange may have counted, or will."""
        leased, _, credit, others = self._rows.get(str(window), (0, 0, 0, 0))
        return leased - credit + others

    def late(self, window: int) -> int:
        """What was handed out in the window before and may still arrive in this one.

        Nothing that has not been answered is known to have arrived. Slots in windows to come are
        given without it: it is looked at when they begin.
        """
        if not 0 <= self._now - window * self._rule.window_s <= LATE_S:
            return 0
        leased, settled, _, _ = self._rows.get(str(window - 1), (0, 0, 0, 0))
        return max(0, leased - settled)

    def room(self, window: int, *, urgent: bool = False) -> int:
        """How much may still be handed out."""
        used = self.used(window) + self.late(window)
        return max(0, _limit(self._rule, urgent=urgent) - used)

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """The first time from `at` on with room in every window that a request then touches."""
        while True:
            full = [w for w in windows_of(self._rule, at) if self.room(w, urgent=urgent) < weight]
            if not full:
                return at
            at = (max(full) + 1) * self._rule.window_s + MARGIN_S + _GRAIN_S

    def take(self, at: float, weight: int, *, urgent: bool) -> None:  # noqa: ARG002
        """Hand out in every window that a request touches at this time."""
        for window in windows_of(self._rule, at):
            self.change(window, weight, at)

    def change(self, window: int, weight: int, now: float) -> None:  # noqa: ARG002
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

    def status(self, now: float) -> dict[str, Any]:
        """Use of the window that runs, and what is booked for later ones."""
        here = math.floor(now / self._rule.window_s)
        ahead = sum(self.used(int(w)) for w in self._rows if int(w) > here)
        return {
            "kind": self._rule.kind.value,
            "limit": self._rule.limit,
            "window_s": self._rule.window_s,
            "used": self.used(here),
            "booked_ahead": ahead,
            "resets_in_s": round((here + 1) * self._rule.window_s - now, 3),
        }


class Decaying:
    """A counter that decays (Kraken), in two lanes, so that urgent requests never queue.

    A lane is the time at which it will be empty: GCRA.
    """

    def __init__(self, rule: RatePool, document: dict[str, Any], now: float) -> None:
        """Read the lanes: [common, urgent]."""
        self._rule = rule
        self._empty_at: list[float] = document.setdefault("empty_at", [now, now])

    def _share(self, lane: int) -> tuple[int, float]:
        """Limit and decay of a lane."""
        common, rule = _limit(self._rule, urgent=False), self._rule
        limit = rule.limit - common if lane else common
        return limit, rule.decay_per_s * limit / rule.limit

    def _fits_at(self, lane: int, at: float, weight: int) -> float:
        limit, decay = self._share(lane)
        return (
            math.inf if weight > limit else max(at, self._empty_at[lane] - (limit - weight) / decay)
        )

    def _lane(self, at: float, weight: int, *, urgent: bool) -> int:
        return int(urgent and self._fits_at(1, at, weight) <= self._fits_at(0, at, weight))

    def late(self, window: int) -> int:  # noqa: ARG002
        """Nothing: the counter has no windows."""
        return 0

    def room(self, window: int, *, urgent: bool = False) -> int:  # noqa: ARG002
        """Nothing is handed out in advance: what is not used at once would decay unused."""
        return 0

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """When enough of it has decayed."""
        return self._fits_at(self._lane(at, weight, urgent=urgent), at, weight)

    def take(self, at: float, weight: int, *, urgent: bool) -> None:
        """Count a request at this time."""
        lane = self._lane(at, weight, urgent=urgent)
        self._empty_at[lane] = max(at, self._empty_at[lane]) + weight / self._share(lane)[1]

    def change(self, window: int, weight: int, now: float) -> None:  # noqa: ARG002
        """Give back what was not used after all."""
        self._empty_at[0] = max(now, self._empty_at[0] + weight / self._share(0)[1])

    def settle(self, window: int, weight: int) -> None:
        """Nothing to keep: the counter has no windows."""

    def see(self, seen: Seen) -> None:
        """Nothing to take in: no exchange states a decaying counter in a header."""

    def settled(self) -> dict[int, int]:
        """Nothing is kept."""
        return {}

    def status(self, now: float) -> dict[str, Any]:
        """How much has not decayed yet; `booked_ahead` is what goes beyond the limit."""
        used = sum(max(0.0, self._empty_at[n] - now) * self._share(n)[1] for n in range(2))
        return {
            "kind": self._rule.kind.value,
            "limit": self._rule.limit,
            "decay_per_s": self._rule.decay_per_s,
            "used": round(min(used, self._rule.limit), 3),
            "booked_ahead": round(max(0.0, used - self._rule.limit), 3),
        }


class RateLedger:
    """The document of one exchange in the hands of one transaction."""

    def __init__(self, document: dict[str, Any], rules: Mapping[str, RatePool], now: float) -> None:
        """`rules` are the counters that this caller knows; those of others stay as they are."""
        self.document = document
        self._now = now
        kept = document.setdefault("pools", {})
        self.pools: dict[str, Windows | Decaying] = {}
        for key, rule in rules.items():
            own = kept.setdefault(key, {})
            own["rule"] = rule.model_dump(mode="json")
            make = Decaying if rule.kind is PoolKind.DECAYING else Windows
            self.pools[key] = make(rule, own, now)
        self._rules = rules
        self.paused: dict[str, float] = document.setdefault("paused", {})
        for name in [name for name, until in self.paused.items() if until < now]:
            del self.paused[name]
        self._queue = Queue(document.setdefault("queue", {}), now)

    def ask(self, want: Want, process: str) -> Granted:
        """The first slot that fits in every counter, booked unless it is too late.

        First come first served, but of what is booked ahead no strategy keeps more than its share
        from another that asks: that one takes over a slot, and whoever loses it asks again.
        """
        at = self.earliest(want.cost)
        if want.strategy is not None and at > self._now:
            sooner = self._queue.fair_slot(want.strategy, at)
            if sooner is not None and sooner <= want.latest:
                self._queue.take_over(sooner, process, want.strategy)
                return Granted(sooner, booked=True)
        if at > max(want.latest, self._now):
            return Granted(at, booked=False)
        for key, weight in want.cost.costs.items():
            self.pools[key].take(at, weight, urgent=want.cost.urgent)
        if want.strategy is not None and at > self._now:
            self._queue.add(at, process, want.strategy)
        return Granted(at, booked=True)

    def earliest(self, cost: Cost) -> float:
        """When such a request would fit. Raises `ValueError` for one that never fits."""
        pauses = [self.paused.get(name, 0.0) for name in (EVERYTHING, *cost.costs)]
        at = max(self._now, *pauses)
        for key, weight in cost.costs.items():
            _must_fit(key, weight, _limit(self._rules[key], urgent=cost.urgent))
        while True:
            times = [
                self.pools[key].earliest(at, weight, urgent=cost.urgent)
                for key, weight in cost.costs.items()
            ]
            latest = max(times, default=at)
            if latest <= at:
                return at
            at = latest

    def block(self, key: str) -> dict[int, int]:
        """Hand out a small block of a counter for now, by window: less where little is left."""
        if any(self.paused.get(name, 0.0) > self._now for name in (EVERYTHING, key)):
            return {}
        rule, pool = self._rules[key], self.pools[key]
        size = block_size(rule)
        found = {}
        for window in windows_of(rule, self._now):
            count = min(size, pool.room(window))
            if count:
                pool.change(window, count, self._now)
                found[window] = count
        return found

    def pause(self, name: str, until: float) -> None:
        """Let nothing leave before then: `EVERYTHING`, or what costs in a counter."""
        self.paused[name] = max(until, self.paused.get(name, 0.0))

    def redeem(self, at: float, process: str) -> dict[str, int] | None:
        """The slots of this time that are still the process's, by strategy; None: not yet.

        They begin when all that left in the window before has been answered, or `LATE_S` later.
        """
        if any(
            pool.late(window)
            for key, pool in self.pools.items()
            for window in windows_of(self._rules[key], at)
        ):
            return None
        return self._queue.redeem(at, process)


def block_size(rule: RatePool) -> int:
    """How many tokens a process leases at once."""
    return max(1, min(rule.limit // _BLOCK_SHARE, _BLOCK_MAX))


def status_of(document: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Use, queue and pauses of all processes, as plain JSON."""
    pools = {}
    for key, own in sorted(document.get("pools", {}).items()):
        rule = RatePool.model_validate(own["rule"])
        make = Decaying if rule.kind is PoolKind.DECAYING else Windows
        pools[key] = make(rule, dict(own), now).status(now)
    waiting: dict[str, int] = defaultdict(int)
    for at, slot in document.get("queue", {}).items():
        if moment(at) >= now:
            for name, count in slot.items():
                waiting[strategy_of(name)] += count
    pauses = document.get("paused", {})
    return {
        "pools": pools,
        "waiting": dict(sorted(waiting.items())),
        "paused_for_s": {n: round(t - now, 3) for n, t in sorted(pauses.items()) if t > now},
    }


def _limit(rule: RatePool, *, urgent: bool) -> int:
    kept = 0 if urgent else math.ceil(rule.limit * rule.urgent_share)
    return max(1, rule.limit - kept)


def _must_fit(key: str, weight: int, limit: int) -> None:
    if weight > limit:
        msg = f"weight is {weight}, the limit of {key} is {limit}: such a request can never leave"
        raise ValueError(msg)
