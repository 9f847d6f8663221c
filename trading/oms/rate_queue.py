"""Who waits for which slot of an exchange's rate limits.

A place is kept for a strategy and not for an order or a process: an order whose worker has gone
finds it from any other, and one that comes late takes a younger one of its strategy.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from trading.oms.rate_pools import LATE_S

FORGOTTEN_S = 6.0
"""Who has not come for his place by then will hardly come: somebody new may have it."""
KEPT_S = 60.0
"""For so long an order that comes late finds its place, where its counter decays."""


class Place(NamedTuple):
    """One order may leave from `at` on."""

    lane: str
    at: float
    strategy: str


class Queue:
    """{lane: {"costs": …, "slots": {time: {strategy: how many}}}}.

    What costs in the same counters is one lane: the orders of one account, where the exchange
    counts so of one symbol.
    """

    def __init__(self, document: dict[str, dict[str, Any]], now: float) -> None:
        """Forget what is long past."""
        self._lanes = document
        self._now = now
        for name, lane in list(document.items()):
            slots = lane["slots"]
            for at in [at for at in slots if _moment(at) < now - KEPT_S]:
                del slots[at]
            if not slots:
                del document[name]

    def booked(self) -> Iterator[tuple[Mapping[str, int], float, int]]:
        """What is waited for: (costs by counter, time, how many)."""
        for lane in self._lanes.values():
            for at, slot in lane["slots"].items():
                yield lane["costs"], _moment(at), sum(slot.values())

    def add(self, place: Place, costs: Mapping[str, int]) -> None:
        """One more waits for this slot."""
        lane = self._lanes.setdefault(place.lane, {"costs": dict(costs), "slots": {}})
        slot = lane["slots"].setdefault(_time(place.at), {})
        slot[place.strategy] = slot.get(place.strategy, 0) + 1

    def has(self, place: Place) -> bool:
        """Whether it is still the strategy's."""
        return bool(self._slots(place.lane).get(_time(place.at), {}).get(place.strategy))

    def remove(self, place: Place) -> None:
        """Nobody waits for it any more."""
        slots = self._slots(place.lane)
        slot = slots[_time(place.at)]
        slot[place.strategy] -= 1
        if not slot[place.strategy]:
            del slot[place.strategy]
        if not slot:
            del slots[_time(place.at)]

    def ahead_of(self, place: Place) -> int:
        """How many places of the lane are older."""
        slots = self._slots(place.lane)
        return sum(sum(slot.values()) for at, slot in slots.items() if _moment(at) < place.at)

    def due(self, lane: str, strategy: str, runs: Callable[[float], bool]) -> Place | None:
        """A place that somebody else has not come for: the youngest of the strategy's own.

        Else one of any strategy that is `LATE_S` overdue. `runs` says of a time whether what was
        kept for it may be used now.
        """
        found = None
        for at, slot in self._slots(lane).items():
            moment = _moment(at)
            if moment > self._now or not runs(moment):
                continue
            if strategy in slot and (found is None or moment > found.at):
                found = Place(lane, moment, strategy)
        return found or self.overdue(lane, LATE_S, runs)

    def overdue(self, lane: str, since_s: float, runs: Callable[[float], bool]) -> Place | None:
        """A place of any strategy for which nobody has come in so many seconds."""
        for at, slot in self._slots(lane).items():
            if _moment(at) < self._now - since_s and runs(_moment(at)):
                return Place(lane, _moment(at), max(slot, key=lambda name: slot[name]))
        return None

    def fair_place(self, lane: str, strategy: str, before: float) -> Place | None:
        """The first place of a strategy that would have two more behind it than this one."""
        counts: Counter[str] = Counter()
        slots = self._slots(lane)
        for at in sorted(slots, key=_moment):
            if _moment(at) >= before:
                return None
            counts.update(slots[at])
            others = {n: count for n, count in slots[at].items() if n != strategy}
            most = max(others, key=lambda name: others[name], default=None)
            if _moment(at) > self._now and most is not None and counts[most] > counts[strategy] + 1:
                return Place(lane, _moment(at), most)
        return None

    def waiting(self) -> dict[str, int]:
        """How many wait, by strategy."""
        counts: Counter[str] = Counter()
        for lane in self._lanes.values():
            for at, slot in lane["slots"].items():
                if _moment(at) >= self._now:
                    counts.update(slot)
        return dict(sorted(counts.items()))

    def _slots(self, lane: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self._lanes.get(lane, {}).get("slots", {})
        return found


def _moment(at_s: str) -> float:
    """The time that a slot is written under."""
    return float(at_s)


def _time(at: float) -> str:
    return f"{at:.3f}"
