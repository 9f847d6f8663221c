"""The arithmetic of rate limits, without clocks or waiting.

A rule answers at what time a request of some weight fits, and books it there: now, or a slot in
the future that then belongs to the asker, first come first served. Times are seconds since the
epoch, in the exchange's clock where its windows are aligned to it.

Urgent requests (cancels) do not queue behind what is booked for later: a share of every limit is
kept for them.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

URGENT_SHARE = 0.1
_WINDOWS_MAX = 1_000


class RateRule(Protocol):
    """One limit of an exchange."""

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """The first time from `at` on at which the weight fits. Books nothing.

        Raises `ValueError` for a weight that never fits.
        """
        ...

    def book(self, at: float, weight: int, *, urgent: bool) -> None:
        """Count the weight at a time that `earliest` has given."""
        ...

    def sync(self, at: float, used: int) -> None:
        """Take the exchange's own count of what is used, where it is higher than ours."""
        ...

    def status(self, at: float) -> dict[str, Any]:
        """Limit and use at this time, as plain JSON."""
        ...


class FixedWindow:
    """So much weight per window; windows begin at multiples of their length (Binance)."""

    def __init__(self, limit: int, window_s: float, urgent_share: float = URGENT_SHARE) -> None:
        """`urgent_share` of the limit is out of reach for requests that are not urgent."""
        self.limit = limit
        self.window_s = window_s
        self._limit_of = {True: limit, False: max(1, limit - math.ceil(limit * urgent_share))}
        self._used: dict[int, int] = {}

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """`at` itself, or the start of the first window with room."""
        limit = self._limit_of[urgent]
        _must_fit(weight, limit)
        window = first = math.floor(at / self.window_s)
        while self._used.get(window, 0) + weight > limit:
            window += 1
        return at if window == first else window * self.window_s

    def book(self, at: float, weight: int, *, urgent: bool) -> None:  # noqa: ARG002
        """Count the weight in the window of `at`."""
        window = math.floor(at / self.window_s)
        self._used[window] = self._used.get(window, 0) + weight
        if len(self._used) > _WINDOWS_MAX:
            del self._used[next(iter(self._used))]

    def sync(self, at: float, used: int) -> None:
        """The exchange's count of the window of `at`; also forgets the windows before it."""
        now = math.floor(at / self.window_s)
        self._used = {window: count for window, count in self._used.items() if window >= now}
        self._used[now] = max(self._used.get(now, 0), used)

    def status(self, at: float) -> dict[str, Any]:
        """Limit, window and what is used in it; `booked_ahead` is the weight of later windows."""
        now = math.floor(at / self.window_s)
        return {
            "kind": "fixed_window",
            "limit": self.limit,
            "window_s": self.window_s,
            "used": self._used.get(now, 0),
            "booked_ahead": sum(used for window, used in self._used.items() if window > now),
            "resets_in_s": round((now + 1) * self.window_s - at, 3),
        }


class TokenBucket:
    """A burst, refilled at a rate (GCRA); the mirror of a decaying counter (Kraken).

    In any stretch of `t` seconds at most `burst + rate_per_s * t` is let through. Urgent requests
    have a lane of their own with their share of both, so that they never queue.
    """

    def __init__(self, burst: int, rate_per_s: float, urgent_share: float = URGENT_SHARE) -> None:
        """Where the burst is 1 there is nothing to share and urgent requests queue too."""
        self.burst = burst
        self.rate_per_s = rate_per_s
        own = math.ceil(burst * urgent_share) if burst > 1 else 0
        share = own / burst
        self._lanes = {False: _Lane(burst - own, rate_per_s * (1 - share))}
        if own:
            self._lanes[True] = _Lane(own, rate_per_s * share)

    @classmethod
    def within(cls, limit: int, period_s: float) -> "TokenBucket":
        """A bucket that never exceeds `limit` in any period, wherever the exchange's begins."""
        burst = max(1, limit // 2)
        return cls(burst, max(limit - burst, 0.5) / period_s)

    def earliest(self, at: float, weight: int, *, urgent: bool) -> float:
        """`at` itself, or the time by which enough has been refilled."""
        return self._lane(at, weight, urgent=urgent).earliest(at, weight)

    def book(self, at: float, weight: int, *, urgent: bool) -> None:
        """Take the weight from the lane that `earliest` has looked at."""
        self._lane(at, weight, urgent=urgent).book(at, weight)

    def sync(self, at: float, used: int) -> None:
        """The exchange's count: the common lane is at least that empty."""
        self._lanes[False].sync(at, used)

    def status(self, at: float) -> dict[str, Any]:
        """Burst, rate and what is used of the burst; `booked_ahead` is the weight beyond it."""
        used = sum(lane.used(at) for lane in self._lanes.values())
        return {
            "kind": "token_bucket",
            "limit": self.burst,
            "rate_per_s": self.rate_per_s,
            "used": round(min(used, self.burst), 3),
            "booked_ahead": round(max(0.0, used - self.burst), 3),
        }

    def _lane(self, at: float, weight: int, *, urgent: bool) -> "_Lane":
        """The common lane, or for urgent requests the one that is free sooner."""
        common, own = self._lanes[False], self._lanes.get(True)
        if not urgent or own is None or weight > own.burst:
            _must_fit(weight, common.burst)
            return common
        if weight > common.burst or own.earliest(at, weight) <= common.earliest(at, weight):
            return own
        return common


class _Lane:
    """GCRA: `full_at` is the time at which the bucket will be full again."""

    def __init__(self, burst: int, rate_per_s: float) -> None:
        self.burst = burst
        self.rate_per_s = rate_per_s
        self.full_at = -math.inf

    def earliest(self, at: float, weight: int) -> float:
        return max(at, self.full_at - (self.burst - weight) / self.rate_per_s)

    def book(self, at: float, weight: int) -> None:
        self.full_at = max(at, self.full_at) + weight / self.rate_per_s

    def sync(self, at: float, used: int) -> None:
        self.full_at = max(self.full_at, at + min(used, self.burst) / self.rate_per_s)

    def used(self, at: float) -> float:
        return max(0.0, self.full_at - at) * self.rate_per_s


class Slot(NamedTuple):
    """When a request may leave, and what it costs by rule."""

    at: float
    costs: Mapping[str, int]


class RateBook:
    """Several rules that a request has to satisfy all at once.

    `costs` says for each endpoint what it weighs in which rule. An endpoint that is not listed
    weighs 1 in every rule: too careful rather than too quick.
    """

    def __init__(
        self,
        rules: Mapping[str, RateRule],
        costs: Mapping[str, Mapping[str, int]] | None = None,
        urgent: frozenset[str] = frozenset({"cancel_order"}),
    ) -> None:
        """Raises `ValueError` for a cost in a rule that does not exist."""
        self.rules = dict(rules)
        self.costs = {endpoint: dict(cost) for endpoint, cost in (costs or {}).items()}
        self.urgent = urgent
        self.paused_until = -math.inf
        for endpoint, cost in self.costs.items():
            unknown = sorted(set(cost) - set(self.rules))
            if unknown:
                known = ", ".join(sorted(self.rules))
                msg = f"{endpoint} has costs in {', '.join(unknown)}; the rules are {known}"
                raise ValueError(msg)

    def look(self, endpoint: str, now: float) -> Slot:
        """When a request would fit in all rules, a pause included. Books nothing."""
        costs = self.costs.get(endpoint, dict.fromkeys(self.rules, 1))
        urgent = endpoint in self.urgent
        at = max(now, self.paused_until)
        while True:
            times = [self.rules[name].earliest(at, w, urgent=urgent) for name, w in costs.items()]
            latest = max(times, default=at)
            if latest <= at:
                return Slot(at, costs)
            at = latest

    def take(self, endpoint: str, now: float) -> Slot:
        """The first slot that fits, booked in every rule."""
        slot = self.look(endpoint, now)
        for name, weight in slot.costs.items():
            self.rules[name].book(slot.at, weight, urgent=endpoint in self.urgent)
        return slot

    def pause(self, until: float) -> None:
        """Let nothing leave before `until`, cancels included (429, 418): never shortened."""
        self.paused_until = max(self.paused_until, until)

    def sync(self, used: Mapping[str, int], now: float) -> None:
        """Take the exchange's own counts from its response headers; unknown names are ignored."""
        for name, count in used.items():
            if name in self.rules:
                self.rules[name].sync(now, count)

    def status(self, now: float) -> dict[str, Any]:
        """Every rule's use, and for how long nothing may leave."""
        return {
            "paused_for_s": round(max(0.0, self.paused_until - now), 3),
            "rules": {name: rule.status(now) for name, rule in self.rules.items()},
        }


def _must_fit(weight: int, limit: int) -> None:
    if weight > limit:
        msg = f"weight is {weight}, the limit is {limit}: such a request can never leave"
        raise ValueError(msg)
