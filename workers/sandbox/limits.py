"""Request weight per address and unfilled orders per account.

Sources: "LIMITS" in the Public Rest API (429, then 418 for who does not back off) and "Spot
Unfilled Order Count Rules". Intervals are aligned to the clock: a 10-second one starts at 0, 10, …
"""

import time
from dataclasses import dataclass, field
from typing import Any

from workers.sandbox import errors
from workers.sandbox.config import RateLimit, SandboxConfig
from workers.sandbox.model import Account

REQUEST_WEIGHT = "REQUEST_WEIGHT"
RAW_REQUESTS = "RAW_REQUESTS"
ORDERS = "ORDERS"


class Counter:
    """How much of one limit was used in the interval that is running."""

    __slots__ = ("_started", "limit", "used")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.used = 0
        self._started = 0

    def current(self, now_s: float) -> int:
        started = int(now_s) // self.limit.seconds
        if started != self._started:
            self._started = started
            self.used = 0
        return self.used

    def add(self, amount: int, now_s: float) -> None:
        self.used = max(0, self.current(now_s) + amount)

    def resets_ms(self, now_s: float) -> int:
        """When the running interval ends, in milliseconds since 1970."""
        return (int(now_s) // self.limit.seconds + 1) * self.limit.seconds * 1000

    def describe(self, now_s: float) -> dict[str, Any]:
        limit = self.limit
        return {
            "rateLimitType": limit.kind,
            "interval": limit.interval,
            "intervalNum": limit.number,
            "limit": limit.limit,
            "count": self.current(now_s),
        }


@dataclass(slots=True)
class Address:
    """What one IP address has used, and whether it is banned."""

    weights: list[Counter]
    requests: list[Counter]
    violations: int = 0
    bans: int = 0
    banned_until_ms: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Limits:
    """All counters. Waiting times follow the machine's clock, not the exchange's skewed one."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._addresses: dict[str, Address] = {}
        self._orders: dict[Account, list[Counter]] = {}
        self.refused = 0
        """Requests refused with 429 or 418 because a limit was passed."""

    def enter(self, ip: str, weight: int) -> None:
        """Charge a request. Raises -1003 with 429 when over the limit, with 418 when banned."""
        now = time.time()
        address = self.address(ip)
        if address.banned_until_ms > now * 1000:
            self.refused += 1
            raise errors.banned(address.banned_until_ms)
        for counters, amount in ((address.weights, weight), (address.requests, 1)):
            for counter in counters:
                if counter.current(now) + amount > counter.limit.limit:
                    self._violated(address, counter, now)
                counter.add(amount, now)
        address.violations = 0

    def refund(self, ip: str, weight: int) -> None:
        """Give back the weight of an order request that succeeded (CHANGELOG, 2 April 2026)."""
        now = time.time()
        for counter in self.address(ip).weights:
            counter.add(-weight, now)

    def ban(self, ip: str, seconds: float) -> None:
        self.address(ip).banned_until_ms = int((time.time() + seconds) * 1000)

    def lift_bans(self) -> None:
        for address in self._addresses.values():
            address.banned_until_ms = address.violations = address.bans = 0

    def address(self, ip: str) -> Address:
        address = self._addresses.get(ip)
        if address is None:
            address = self._addresses[ip] = Address(
                self._counters(REQUEST_WEIGHT), self._counters(RAW_REQUESTS)
            )
        return address

    def check_order(self, account: Account) -> None:
        """Raises -1015 with 429 when the account has too many unfilled orders."""
        now = time.time()
        for counter in self.orders(account):
            if counter.current(now) >= counter.limit.limit:
                limit = counter.limit
                self.refused += 1
                raise errors.too_many_orders(
                    limit.limit, f"{limit.number} {limit.interval}", counter.resets_ms(now)
                )

    def count_order(self, account: Account) -> None:
        now = time.time()
        for counter in self.orders(account):
            counter.add(1, now)

    def discount_order(self, account: Account) -> None:
        """The order was refused after all."""
        now = time.time()
        for counter in self.orders(account):
            counter.add(-1, now)

    def first_fill(self, account: Account, *, is_maker: bool) -> None:
        """An order's first fill gives back: 1 as taker, more as maker; never below zero."""
        if account.unlimited:
            return
        config = self._config
        credit = config.unfilled_maker_credit if is_maker else config.unfilled_taker_credit
        now = time.time()
        for counter in self.orders(account):
            counter.add(-credit, now)

    def orders(self, account: Account) -> list[Counter]:
        counters = self._orders.get(account)
        if counters is None:
            counters = self._orders[account] = self._counters(ORDERS)
        return counters

    def weight_headers(self, ip: str) -> dict[str, str]:
        """``X-MBX-USED-WEIGHT-1M`` and the like."""
        now = time.time()
        headers = {}
        for counter in self.address(ip).weights:
            used = str(counter.current(now))
            headers["X-MBX-USED-WEIGHT"] = used
            headers[f"X-MBX-USED-WEIGHT-{counter.limit.letters}"] = used
        return headers

    def order_headers(self, account: Account) -> dict[str, str]:
        """``X-MBX-ORDER-COUNT-10S`` and the like."""
        now = time.time()
        return {
            f"X-MBX-ORDER-COUNT-{counter.limit.letters}": str(counter.current(now))
            for counter in self.orders(account)
        }

    def describe(self, ip: str, account: Account | None) -> list[dict[str, Any]]:
        """``rateLimits`` of a WebSocket API answer."""
        now = time.time()
        counters = [*(self.orders(account) if account else ()), *self.address(ip).weights]
        return [counter.describe(now) for counter in counters]

    def _violated(self, address: Address, counter: Counter, now: float) -> None:
        address.violations += 1
        self.refused += 1
        if address.violations > self._config.ban_after_429:
            address.violations = 0
            seconds = self._config.ban_seconds * 2**address.bans
            address.bans += 1
            address.banned_until_ms = int((now + seconds) * 1000)
            raise errors.banned(address.banned_until_ms)
        limit = counter.limit
        interval = f"{limit.number} {limit.interval}"
        raise errors.too_much_weight(limit.limit, interval, counter.resets_ms(now))

    def _counters(self, kind: str) -> list[Counter]:
        return [Counter(limit) for limit in self._config.rate_limits if limit.kind == kind]
