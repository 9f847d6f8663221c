"""The ledger of rate limits that all processes share: counters, slots, queue, pauses.

The ledger of an exchange is one JSON document in the store; what stands here reads and changes it
and knows neither clock nor database. Times are seconds since the epoch in the exchange's clock.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

from trading.oms.rate_card import Cost, RatePool
from trading.oms.rate_pools import NOT_YET_S, Pool, limit_of, off_edges, pool_of, windows_of
from trading.oms.rate_queue import FORGOTTEN_S, Place, Queue

_BLOCK_SHARE, _BLOCK_MAX = 10, 100
EVERYTHING = "*"
"""The name under which a pause stops every request."""


class Want(NamedTuple):
    """A request that asks for a slot, at `latest` then.

    One with a `strategy` queues fairly, with those whose requests cost in the same counters. One
    that has waited names the `slot` that it was given.
    """

    cost: Cost
    latest: float
    strategy: str | None = None
    slot: float | None = None


class Granted(NamedTuple):
    """When it may leave: now; or when it is to ask again, naming its `slot`.

    Where that is after `latest`, nothing is `booked`.
    """

    at: float
    booked: bool
    slot: float | None = None


class RateLedger:
    """The document of one exchange in the hands of one transaction."""

    def __init__(self, document: dict[str, Any], rules: Mapping[str, RatePool], now: float) -> None:
        """`rules` are the counters that this caller knows; those of others stay as they are."""
        self.document = document
        self._now = now
        kept = document.setdefault("pools", {})
        self.pools: dict[str, Pool] = {}
        for key, rule in rules.items():
            own = kept.setdefault(key, {})
            own["rule"] = rule.model_dump(mode="json")
            self.pools[key] = pool_of(rule, own, now)
        self._rules = rules
        self.paused: dict[str, float] = document.setdefault("paused", {})
        for name in [name for name, until in self.paused.items() if until < now]:
            del self.paused[name]
        self._queue = Queue(document.setdefault("waiting", {}), now)
        _book_all(self._queue, self.pools)

    def ask(self, want: Want) -> Granted:
        """The first slot that fits in every counter, kept for the asker unless it is too late.

        First come first served, but of what is kept no strategy has more than its share from
        another that asks: that one takes over a place, and whoever loses it asks again. Who has
        waited has what was kept, whichever process he comes from; who comes too late for it takes
        what others have not come for.
        """
        if want.strategy is None:
            return self._first(want)
        place = Place(_lane(want.cost), want.slot or 0.0, want.strategy)
        return self._kept(want, place) or self._unclaimed(want, place) or self._queued(want, place)

    def _first(self, want: Want) -> Granted:
        at = self.earliest(want.cost)
        if at > max(want.latest, self._now):
            return Granted(at, booked=False)
        for key, weight in want.cost.costs.items():
            self.pools[key].take(at, weight)
        return Granted(at, booked=True)

    def _kept(self, want: Want, place: Place) -> Granted | None:
        """The place of one who has waited, where it still is his and not yet of the past."""
        cost, is_due = want.cost, place.at <= self._now
        if want.slot is None or not self._queue.has(place):
            return None
        is_paused = self._pause_ends(cost) > self._now
        if is_due and (is_paused or not (self._is_edge(cost) or self._runs(cost, place.at))):
            self._give_up(place, cost)
            return None
        until = self._ready(cost, self._queue.ahead_of(place)) if is_due else place.at
        if until > self._now:
            return Granted(until, booked=True, slot=place.at)
        return self._now_for(place, cost)

    def _unclaimed(self, want: Want, place: Place) -> Granted | None:
        """Now: there is room, or in the running windows somebody has not come for his place."""
        cost = want.cost
        if self.earliest(cost) <= self._now:
            return self._first(want)
        if self._pause_ends(cost) > self._now or self._ready(cost, 0) > self._now:
            return None
        runs = partial(self._runs, cost)
        if want.slot is None:
            found = self._queue.overdue(place.lane, FORGOTTEN_S, runs)
        else:
            found = self._queue.due(place.lane, place.strategy, runs)
        return None if found is None else self._now_for(found, cost)

    def _queued(self, want: Want, place: Place) -> Granted:
        """A place in the queue; of what is kept for others only what is more than their share."""
        costs = want.cost.costs
        rules = [self._rules[key] for key in want.cost.costs]
        at = math.ceil(off_edges(rules, self.earliest(want.cost)) * 1000) / 1000
        fair = self._queue.fair_place(place.lane, place.strategy, at)
        if fair is not None and fair.at <= want.latest:
            self._queue.remove(fair)
            self._queue.add(fair._replace(strategy=place.strategy), costs)
            return Granted(fair.at, booked=True, slot=fair.at)
        if at > want.latest:
            return Granted(at, booked=False)
        self._queue.add(place._replace(at=at), costs)
        self._book(want.cost, at, 1)
        return Granted(at, booked=True, slot=at)

    def _ready(self, cost: Cost, ahead: int) -> float:
        """When what was kept may leave: not on the edge of a window, nor before what is late."""
        at = self._now + NOT_YET_S if self._is_edge(cost) else self._now
        return max(
            self.pools[key].ready(at, weight, ahead * weight) for key, weight in cost.costs.items()
        )

    def _now_for(self, place: Place, cost: Cost) -> Granted:
        self._give_up(place, cost)
        for key, weight in cost.costs.items():
            self.pools[key].take(self._now, weight)
        return Granted(self._now, booked=True)

    def _give_up(self, place: Place, cost: Cost) -> None:
        self._queue.remove(place)
        self._book(cost, place.at, -1)

    def _book(self, cost: Cost, at: float, count: int) -> None:
        for key, weight in cost.costs.items():
            self.pools[key].book(at, weight * count)

    def _runs(self, cost: Cost, at: float) -> bool:
        """Whether what was kept for a time is kept in the windows of now."""
        return all(
            rule.window_s == 0 or windows_of(rule, self._now) == windows_of(rule, at)
            for rule in (self._rules[key] for key in cost.costs)
        )

    def _is_edge(self, cost: Cost) -> bool:
        return any(len(windows_of(self._rules[key], self._now)) > 1 for key in cost.costs)

    def _pause_ends(self, cost: Cost) -> float:
        return max(self.paused.get(name, 0.0) for name in (EVERYTHING, *cost.costs))

    def earliest(self, cost: Cost) -> float:
        """When such a request would fit. Raises `ValueError` for one that never fits."""
        at = max(self._now, self._pause_ends(cost))
        if not cost.held:
            return at
        for key, weight in cost.costs.items():
            _must_fit(key, weight, limit_of(self._rules[key], urgent=cost.urgent))
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
                pool.change(window, count)
                found[window] = count
        return found

    def pause(self, name: str, until: float) -> None:
        """Let nothing leave before then: `EVERYTHING`, or what costs in a counter."""
        self.paused[name] = max(until, self.paused.get(name, 0.0))


def block_size(rule: RatePool) -> int:
    """How many tokens a process leases at once."""
    return max(1, min(rule.limit // _BLOCK_SHARE, _BLOCK_MAX))


def status_of(document: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Use, queue and pauses of all processes, as plain JSON."""
    copy = deepcopy(dict(document))
    pools = {
        key: pool_of(RatePool.model_validate(own["rule"]), own, now)
        for key, own in sorted(copy.get("pools", {}).items())
    }
    queue = Queue(copy.get("waiting", {}), now)
    _book_all(queue, pools)
    pauses = copy.get("paused", {})
    return {
        "pools": {key: pool.status() for key, pool in pools.items()},
        "waiting": queue.waiting(),
        "paused_for_s": {n: round(t - now, 3) for n, t in sorted(pauses.items()) if t > now},
    }


def _book_all(queue: Queue, pools: Mapping[str, Pool]) -> None:
    for costs, at, count in queue.booked():
        for key, weight in costs.items():
            if key in pools:
                pools[key].book(at, weight * count)


def _lane(cost: Cost) -> str:
    return "|".join(sorted(cost.costs))


def _must_fit(key: str, weight: int, limit: int) -> None:
    if weight > limit:
        msg = f"weight is {weight}, the limit of {key} is {limit}: such a request can never leave"
        raise ValueError(msg)
