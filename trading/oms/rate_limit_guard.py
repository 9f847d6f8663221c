"""A guard that counts in this process (specification, "IRateLimitGuard"), for one's own limiters.

The workers share one ledger in the store and put every request behind it (`activities.rate_desk`);
a guard of this kind, given to `OrderManager`, limits the orders of its process beyond that.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from trading.oms.interfaces import IRateLimiter, RateSlot, RateWish
from trading.oms.rate_limits import RateBook, RateRule
from trading.oms.rate_queue import KEPT_S

Clock = Callable[[], float]
"""Seconds since the epoch, by the exchange's clock where its windows are aligned to it."""
Sleep = Callable[[float], Awaitable[None]]


class RateLimiter:
    """The limits of one exchange account, counted in this process."""

    def __init__(
        self,
        rules: Mapping[str, RateRule],
        costs: Mapping[str, Mapping[str, int]] | None = None,
        *,
        clock: Clock = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`costs` is the weight of each endpoint in each rule, see `RateBook`."""
        self._book = RateBook(rules, costs)
        self._clock = clock
        self._sleep = sleep
        self._waiting: dict[object, tuple[str, float]] = {}

    def reserve(self, endpoint: str, within_s: float = math.inf) -> float:
        """Count a request: 0 means send it now, else the seconds until the slot that is ours.

        A slot that would come later than after `within_s` seconds is told and not counted.
        """
        now = self._clock()
        wait_s = max(0.0, self._book.look(endpoint, now).at - now)
        if wait_s <= within_s:
            self._book.take(endpoint, now)
        return wait_s

    async def acquire(self, endpoint: str) -> None:
        """Wait until a request may be sent, and count it.

        A pause that begins while it waits makes its slot void: it takes a new one.
        """
        at = self._book.take(endpoint, self._clock()).at
        ticket = object()
        try:
            while (wait_s := at - self._clock()) > 0:  # A sleep may end a little early.
                self._waiting[ticket] = (endpoint, at)
                await self._sleep(wait_s)
                if self._book.paused_until > self._clock():
                    at = self._book.take(endpoint, self._clock()).at
        finally:
            self._waiting.pop(ticket, None)

    def is_free(self, endpoint: str) -> bool:
        """Whether a request may be sent now; counts nothing."""
        now = self._clock()
        return self._book.look(endpoint, now).at <= now

    def pause(self, seconds: float) -> None:
        """Let nothing leave for so long: the exchange has answered 429 or 418."""
        self._book.pause(self._clock() + seconds)

    def sync(self, used: Mapping[str, int]) -> None:
        """Take the exchange's own counts by rule, from its response headers."""
        self._book.sync(used, self._clock())

    def status(self) -> dict[str, Any]:
        """Use of every rule, the pause, and who waits for how long, as plain JSON."""
        now = self._clock()
        waits = [
            {"endpoint": endpoint, "wait_s": round(max(0.0, at - now), 3)}
            for endpoint, at in self._waiting.values()
        ]
        return {**self._book.status(now), "waiting": waits}


class RateLimitGuard:
    """Coordinates the limits of all exchanges; an exchange without a limiter is not limited.

    `limiters` are named by exchange, or by "exchange/account" where accounts count separately.
    """

    def __init__(self, limiters: Mapping[str, IRateLimiter] | None = None) -> None:
        """More limiters can be added to `limiters` later."""
        self.limiters: dict[str, IRateLimiter] = dict(limiters or {})
        self._slots: dict[str, float] = {}
        self._clock = time.monotonic

    async def check_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> bool:
        """Whether a request may be sent now; counts nothing."""
        limiter = self._limiter(exchange, account)
        return limiter is None or limiter.is_free(endpoint)

    async def acquire_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> None:
        """Wait until a request may be sent, and count it; cancels do not queue behind orders."""
        limiter = self._limiter(exchange, account)
        if limiter is not None:
            await limiter.acquire(endpoint)

    async def reserve(self, wish: RateWish) -> RateSlot:
        """Count a request: now, or a slot in the future that an order finds when it comes back."""
        limiter = self._limiter(wish.exchange, wish.account)
        if limiter is None:
            return RateSlot()
        within_s = math.inf if wish.within_s is None else wish.within_s
        self._forget_the_abandoned()
        at = self._slots.pop(wish.order_id, None)
        if at is None:
            wait_s = limiter.reserve(wish.endpoint, within_s)
        else:
            wait_s = max(0.0, at - self._clock())
        if wait_s > within_s:
            return RateSlot(wait_s, granted=False)
        if wish.order_id and wait_s > 0:
            self._slots[wish.order_id] = self._clock() + wait_s
        return RateSlot(wait_s)

    def pause(self, exchange: str, seconds: float, account: str | None = None) -> None:
        """Let nothing leave for the exchange for so long (429, 418), cancels included."""
        limiter = self._limiter(exchange, account)
        if limiter is not None:
            limiter.pause(seconds)

    def sync(self, exchange: str, used: Mapping[str, int], account: str | None = None) -> None:
        """Take the exchange's own counts by rule, from its response headers."""
        limiter = self._limiter(exchange, account)
        if limiter is not None:
            limiter.sync(used)

    def get_rate_limit_status(self, exchange: str, account: str | None = None) -> dict[str, Any]:
        """Use of every limit, who waits, and until when requests pause, as plain JSON."""
        limiter = self._limiter(exchange, account)
        if limiter is None:
            return {"exchange": exchange, "limited": False}
        return {"exchange": exchange, "limited": True, **limiter.status()}

    def _forget_the_abandoned(self) -> None:
        """Orders that were cancelled while they waited do not come for their slots."""
        for order_id, at in list(self._slots.items()):
            if at + KEPT_S >= self._clock():
                return  # Those after it were given out later.
            del self._slots[order_id]

    def _limiter(self, exchange: str, account: str | None) -> IRateLimiter | None:
        own = self.limiters.get(f"{exchange}/{account}") if account else None
        return own or self.limiters.get(exchange)
