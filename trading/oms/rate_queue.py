"""Who waits for which slot of an exchange's rate limits."""

from collections import defaultdict

LATE_S = 3.0
"""For how long what left in the window before, and has not been answered, may still arrive."""


class Queue:
    """Who waits for which slot: {time: {process and strategy: how many}}."""

    def __init__(self, document: dict[str, dict[str, int]], now: float) -> None:
        """Forget the slots that are long past."""
        self._slots = document
        self._now = now
        for at in [at for at in document if moment(at) < now - 2 * LATE_S]:
            del document[at]

    def add(self, at: float, process: str, strategy: str) -> None:
        """One more waits for this slot."""
        slot = self._slots.setdefault(_time(at), {})
        name = _name(process, strategy)
        slot[name] = slot.get(name, 0) + 1

    def fair_slot(self, strategy: str, before: float) -> float | None:
        """The first slot at which another strategy would have two more behind it than this one."""
        counts: dict[str, int] = defaultdict(int)
        for at in sorted(self._slots, key=moment):
            if moment(at) >= before:
                return None
            for name, count in self._slots[at].items():
                counts[strategy_of(name)] += count
            most = self._most(at, strategy)
            if moment(at) > self._now and most and counts[strategy_of(most)] > counts[strategy] + 1:
                return moment(at)
        return None

    def _most(self, at: str, strategy: str) -> str | None:
        """Who of the other strategies has most of a slot."""
        slot = {n: count for n, count in self._slots[at].items() if strategy_of(n) != strategy}
        return max(slot, key=lambda name: slot[name], default=None)

    def take_over(self, at: float, process: str, strategy: str) -> None:
        """Of the strategy that has most of this slot one has to ask again."""
        slot = self._slots[_time(at)]
        loser = self._most(_time(at), strategy)
        if loser is not None:
            slot[loser] -= 1
            if not slot[loser]:
                del slot[loser]
        self.add(at, process, strategy)

    def redeem(self, at: float, process: str) -> dict[str, int]:
        """Take a process's places out of a slot, by strategy."""
        slot = self._slots.get(_time(at), {})
        mine = [name for name in slot if name.startswith(f"{process}|")]
        found = {strategy_of(name): slot.pop(name) for name in mine}
        if not slot:
            self._slots.pop(_time(at), None)
        return found


def _time(at: float) -> str:
    return f"{at:.3f}"


def _name(process: str, strategy: str) -> str:
    return f"{process}|{strategy}"


def strategy_of(name: str) -> str:
    """Whose place it is."""
    return name.partition("|")[2]


def moment(at_s: str) -> float:
    """The time that a slot is written under."""
    return float(at_s)
