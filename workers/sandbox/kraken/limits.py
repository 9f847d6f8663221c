"""Decaying counters: REST calls per account, orders per account and pair.

Source: "Spot Rate Limits" and "Spot Trading Limits". Choices where they are silent: a cancel is
counted and never refused; the counter may pass its threshold by a cancel's penalty.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.sandbox.config import KrakenLimits
from workers.sandbox.kraken.errors import (
    CALLS_EXCEEDED,
    LOCKED_OUT,
    ORDERS_EXCEEDED,
    KrakenError,
)
from workers.sandbox.model import Account, Order

# (younger than so many seconds, points): the first that fits; older ones cost nothing more.
CANCEL = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))
AMEND = ((5, 3), (10, 2), (15, 1))
EDIT = ((5, 6), (10, 5), (15, 4), (45, 2), (90, 1))
Penalties = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Counter:
    """A count that falls by ``decay`` each second."""

    decay: float
    _count: float = 0.0
    _at: float = 0.0

    def now(self) -> float:
        at = time.monotonic()
        self._count = max(0.0, self._count - (at - self._at) * self.decay)
        self._at = at
        return self._count

    def add(self, points: float) -> None:
        self._count = self.now() + points


class TradingLimits:
    """All counters of an exchange."""

    def __init__(self, limits: KrakenLimits, now_ms: Callable[[], int]) -> None:
        self.limits = limits
        self._now_ms = now_ms
        self._calls: dict[Account, Counter] = {}
        self._trading: dict[tuple[Account, str], Counter] = {}
        self._locked_until: dict[Account, float] = {}
        self.refused = 0
        """Requests refused because a limit was passed."""

    def call(self, account: Account, points: int) -> None:
        """Charge a REST call. Errors: EAPI:Rate limit exceeded, EGeneral:Temporary lockout."""
        if self._locked_until.get(account, 0.0) > time.monotonic():
            self.refused += 1
            raise KrakenError(LOCKED_OUT)
        counter = self._calls.setdefault(account, Counter(self.limits.calls_decay))
        if counter.now() + points > self.limits.calls:
            self.refused += 1
            raise KrakenError(CALLS_EXCEEDED)
        counter.add(points)

    def lock_out(self, account: Account, duration_s: float) -> None:
        self._locked_until[account] = time.monotonic() + duration_s

    def lift_lockouts(self) -> None:
        self._locked_until.clear()

    def trade(self, account: Account, symbol: str) -> None:
        """Charge a new order or a change. Errors: EOrder:Rate limit exceeded."""
        counter = self.counter(account, symbol)
        if counter.now() + 1 > self.limits.trading:
            self.refused += 1
            raise KrakenError(ORDERS_EXCEEDED)
        counter.add(1)

    def penalize(self, order: Order, penalties: Penalties) -> None:
        """Charge for the order's youth."""
        age_s = (self._now_ms() - order.created_ms) / 1000
        points = next((points for young_s, points in penalties if age_s < young_s), 0)
        self.counter(order.account, order.symbol).add(points)

    def counter(self, account: Account, symbol: str) -> Counter:
        return self._trading.setdefault((account, symbol), Counter(self.limits.trading_decay))
