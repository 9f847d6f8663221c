"""One process's share of one exchange's rate limits: leased from the ledger in the store.

Small blocks of tokens are leased for a second, so that an order costs a few dictionary look-ups
and neither a lock nor a trip to the store. A lease ends with its window; a process that has not
spoken with the ledger for a second spends nothing, so a pause or a halt of requests by any process
reaches all within that second. What is not used goes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from activities.store.rate_store import RateNews
from trading.oms.rate_card import PoolKind
from trading.oms.rate_ledger import EVERYTHING, Want, block_size
from trading.oms.rate_pools import Seen, windows_of
from trading.oms.request_gate import Permit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.store.rate_store import RateStore, RateWord, Tokens
    from trading.oms.rate_card import Cost, RatePool
    from trading.oms.rate_ledger import Granted

_log = logging.getLogger(__name__)
LEASE_S = 1.0
"""A process that has heard nothing of the ledger for so long spends nothing."""
_RENEW_S = 0.4
_PROMISE_S = 10.0
"""An order that was told to go and has not come by then does not come."""
_ASKED_MAX = 200
"""The most slots that are asked for in one transaction."""


class _Asked(NamedTuple):
    want: Want
    answer: asyncio.Future[Granted]


class RateLease:
    """The tokens of one exchange in this process; all accounts."""

    def __init__(self, exchange: str, store: RateStore, clock: Callable[[], float]) -> None:
        """`clock` is the exchange's, in seconds since the epoch."""
        self.exchange = exchange
        self.clock = clock
        self._store = store
        self._rules: dict[str, RatePool] = {}
        self._tokens: Tokens = {}
        self._promised: dict[tuple[str, ...], deque[Permit]] = defaultdict(deque)
        self._paused: dict[str, float] = {}
        self.document: Mapping[str, Any] = {}
        """The ledger as it was last heard of, for the status."""
        self._settled: Tokens = {}
        self._fresh_until = 0.0
        self._asked: list[_Asked] = []
        self._used: set[str] = set()
        self._returned: Counter[tuple[str, int]] = Counter()
        self._answered: Counter[tuple[str, int]] = Counter()
        self._seen: dict[str, Seen] = {}
        self._new_pauses: dict[str, float] = {}
        self._telling: asyncio.Task[None] | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._is_closed = False

    def know(self, key: str, rule: RatePool) -> None:
        """The counter's limits, as the exchange states them now; others void what was leased."""
        if self._rules.get(key, rule) != rule:
            for where in [where for where in self._tokens if where[0] == key]:
                self._returned[where] += self._tokens.pop(where)
        self._rules[key] = rule

    # Spending.

    def take_now(self, cost: Cost) -> Permit | None:
        """Take what a request costs out of the lease; None: the ledger has to be asked."""
        if time.monotonic() > self._fresh_until:
            return None
        now = self.clock()
        if self._paused and self.paused_for(cost, now) > 0:
            return None
        tokens: Tokens = {}
        for key, weight in cost.costs.items():
            self._used.add(key)
            for window in windows_of(self._rules[key], now):
                if self._tokens.get((key, window), 0) < weight:
                    return None
                tokens[key, window] = weight
        for where, weight in tokens.items():
            self._tokens[where] -= weight
        return Permit(tokens, now, self._settled)

    async def ask(self, want: Want) -> tuple[Granted, Permit]:
        """Ask the ledger for a slot; the permit holds for the slot's time.

        Raises `StoreUnavailable`, or `ValueError` for a request that never fits.
        """
        answer: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        if not want.cost.urgent:
            self._used.update(want.cost.costs)
        self._asked.append(_Asked(want, answer))
        self._tell()
        granted = await answer
        return granted, self._permit_at(granted.at, want.cost)

    def _permit_at(self, at: float, cost: Cost) -> Permit:
        tokens = {
            (key, window): weight
            for key, weight in cost.costs.items()
            for window in windows_of(self._rules[key], at)
        }
        return Permit(tokens, at, self._settled)

    def paused_for(self, cost: Cost, now: float) -> float:
        """For how many seconds such a request may not leave."""
        names = (EVERYTHING, *cost.costs)
        return max(self._paused.get(name, 0.0) for name in names) - now

    def is_valid(self, permit: Permit) -> bool:
        """Whether its windows are those of now, and no pause holds."""
        now = self.clock()
        if self._paused.get(EVERYTHING, 0.0) > now:
            return False
        for key, _ in permit.tokens:
            if self._paused.get(key, 0.0) > now:
                return False
            rule = self._rules[key]
            if rule.kind is PoolKind.FIXED_WINDOW and any(
                (key, window) not in permit.tokens for window in windows_of(rule, now)
            ):
                return False
        return True

    # What an order has been promised.

    def promise(self, cost: Cost, permit: Permit) -> None:
        """Keep a permit for the next order that is written and costs the same, if anything."""
        if cost.costs:
            self._promised[tuple(cost.costs)].append(permit)

    def withdraw(self, cost: Cost) -> None:
        """An order that was told to go does not: one of the permits for its like is too many."""
        if waiting := self._promised[tuple(cost.costs)]:
            self.give_back(waiting.pop())

    def promised(self, cost: Cost) -> Permit | None:
        """The permit of an order that was told to go; old ones give back what they hold."""
        waiting = self._promised[tuple(cost.costs)]
        while waiting:
            permit = waiting.popleft()
            if self.is_valid(permit) and self.clock() - permit.taken_at < _PROMISE_S:
                return permit
            self.give_back(permit)
        return None

    # What came of it.

    def give_back(self, permit: Permit) -> None:
        """Nothing was written under this permit."""
        for where, weight in permit.tokens.items():
            self._returned[where] += weight
        self._renew_later()

    def answered(self, permit: Permit, counts: Mapping[str, int]) -> None:
        """The exchange has answered; `counts` are its own by counter."""
        for where, weight in permit.tokens.items():
            self._answered[where] += weight
        windows = dict(permit.tokens.keys())
        now = self.clock()
        for key, count in counts.items():
            window = windows.get(key)
            if window is None or key not in self._rules:
                continue
            if windows_of(self._rules[key], now) == (window,) and self._is_whole(permit, key):
                self._seen[key] = Seen(window, count, permit.settled.get((key, window), 0))
        self._renew_later()

    @staticmethod
    def _is_whole(permit: Permit, key: str) -> bool:
        """Whether the request left well inside of one window."""
        return sum(1 for name, _ in permit.tokens if name == key) == 1

    def pause(self, name: str, seconds: float) -> None:
        """Nothing leaves for so long: here at once, elsewhere with the next word of the ledger."""
        until = self.clock() + seconds
        self._paused[name] = max(until, self._paused.get(name, 0.0))
        self._new_pauses[name] = self._paused[name]
        self._tokens.clear()
        self._tell()

    # Speaking with the ledger.

    def _tell(self) -> None:
        if self._telling is None and not self._is_closed:
            self._telling = asyncio.create_task(self._speak(), name=f"rates of {self.exchange}")

    async def _speak(self) -> None:
        try:
            await asyncio.sleep(0)  # Who asks in the same turn of the loop comes along.
            while await self._once() and (self._asked or self._new_pauses):
                pass
        finally:
            self._telling = None
            self._renew_later()

    async def _once(self) -> bool:
        """Tell and hear the ledger once; whether it has answered."""
        asked, self._asked = self._asked[:_ASKED_MAX], self._asked[_ASKED_MAX:]
        news = self._news(asked)
        try:
            word = await self._store.tell(news)
        except Exception as error:  # noqa: BLE001 - each of the callers hears of it
            for one in asked:
                if not one.answer.done():
                    one.answer.set_exception(error)
            self._new_pauses = {**news.pauses, **self._new_pauses}
            return bool(self._asked)
        self._take(news, word)
        for one, granted in zip(asked, word.answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(granted)
            elif granted.booked and granted.slot is None:  # Nobody listens any more.
                self.give_back(self._permit_at(granted.at, one.want.cost))
        return True

    def _news(self, asked: list[_Asked]) -> RateNews:
        """Everything that is to be told. What is left of a lease goes back when it is renewed."""
        now = self.clock()
        is_renewal = time.monotonic() > self._fresh_until - LEASE_S + _RENEW_S
        if is_renewal:
            for where, count in self._tokens.items():
                self._returned[where] += count
            self._tokens = {}
        used, self._used = self._used, set()
        returned, self._returned = self._returned, Counter()
        answered, self._answered = self._answered, Counter()
        seen, self._seen = self._seen, {}
        pauses, self._new_pauses = self._new_pauses, {}
        return RateNews(
            exchange=self.exchange,
            now=now,
            rules=dict(self._rules),
            wants=[one.want for one in asked],
            blocks=sorted(key for key in used if self._is_low(key, now)),
            returned={where: count for where, count in returned.items() if count},
            settled=dict(answered),
            seen=seen,
            pauses=pauses,
        )

    def _is_low(self, key: str, now: float) -> bool:
        rule = self._rules[key]
        enough = block_size(rule) / 2
        return any(self._tokens.get((key, w), 0) < enough for w in windows_of(rule, now))

    def _take(self, news: RateNews, word: RateWord) -> None:
        now = self.clock()
        self._fresh_until = time.monotonic() + LEASE_S
        self._settled = word.settled
        self.document = word.document
        for name, until in word.paused.items():
            if until > max(now, self._paused.get(name, 0.0)):
                self._tokens.clear()  # Void, and not given back: the exchange knows better.
        self._paused = {**word.paused, **self._new_pauses}
        for where, count in word.blocks.items():
            self._tokens[where] = self._tokens.get(where, 0) + count
        self._forget_the_past(news.now)

    def _forget_the_past(self, now: float) -> None:
        first = {key: windows_of(rule, now)[0] for key, rule in self._rules.items()}
        for where in [w for w in self._tokens if w[1] < first[w[0]]]:
            self._returned[where] += self._tokens.pop(where)

    def _renew_later(self) -> None:
        if self._renewal is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._renewal = loop.call_later(_RENEW_S, self._renew)

    def _renew(self) -> None:
        """While requests leave the lease goes on; when none do, what is left goes back."""
        self._renewal = None
        left = any(self._tokens.values()) or self._new_pauses
        if self._used or self._returned or self._answered or left:
            self._tell()

    async def close(self) -> None:
        """Give back what is left; a ledger that does not answer forgets it with the window."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        for where, count in self._tokens.items():
            self._returned[where] += count
        self._tokens = {}
        self._used.clear()
        if self._returned or self._answered:
            self._tell()
        self._is_closed = True
        if self._telling is not None:
            with contextlib.suppress(Exception):
                await self._telling
