"""The rate limits of all exchanges, shared by all processes (specification, "IRateLimitGuard").

Orders ask before their claim (`reserve`), every request asks once more where it leaves (the gate
of its connector): what an order was told to take is waiting for it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from activities.rate_lease import RateLease
from trading.oms.errors import ExchangeUnavailable, StoreUnavailable
from trading.oms.interfaces import RateSlot, RateWish
from trading.oms.rate_card import Cost, PoolScope
from trading.oms.rate_ledger import EVERYTHING, Want, status_of
from trading.oms.request_gate import LOCAL_RATE_LIMIT, Permit, spend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from activities.store.rate_store import RateStore
    from trading.oms.rate_card import RateCard, RatePool
    from trading.oms.request_gate import Response
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
SHORT_S = 0.1
"""A wait up to this is slept through in place; a longer one is a durable timer."""
MAX_WAIT_S = 60.0
PATIENCE_S = 10.0
A_WINDOW_S = 62.0
"""By then a window of a minute has ended, which is the longest that queries are counted in."""
_LEDGER_S = 1.0
"""A request that may go uncounted waits so long for the ledger: a dead-man switch does not wait."""


class _Patience(NamedTuple):
    """How long requests may wait in place, and until when they may; monotonic seconds."""

    seconds: float
    until: float = math.inf


_NO_PATIENCE = _Patience(SHORT_S)
_patience: ContextVar[_Patience] = ContextVar("rate_patience", default=_NO_PATIENCE)
_urgency: ContextVar[bool] = ContextVar("rate_urgency", default=False)


@contextlib.contextmanager
def patient(seconds: float = PATIENCE_S, for_s: float = math.inf) -> Iterator[None]:
    """Let the requests of this block wait in place for so long: they hold up nobody else.

    After `for_s` of the block they wait no longer than any other.
    """
    token = _patience.set(_Patience(seconds, time.monotonic() + for_s))
    try:
        yield
    finally:
        _patience.reset(token)


def patience() -> float:
    """For how many seconds a request may wait in place here and now."""
    seconds, until = _patience.get()
    return seconds if time.monotonic() < until else SHORT_S


@contextlib.contextmanager
def urgent() -> Iterator[None]:
    """Let this block use what is kept for cancels: it is about one order, or part of a cancel."""
    token = _urgency.set(True)
    try:
        yield
    finally:
        _urgency.reset(token)


class RateDesk:
    """All leases of one process, by exchange."""

    def __init__(self, store: RateStore, max_wait_s: float = MAX_WAIT_S) -> None:
        """An order that would wait longer than `max_wait_s` is denied."""
        self._store = store
        self._max_wait_s = max_wait_s
        self._leases: dict[str, RateLease] = {}
        self._gates: dict[tuple[str, str], Gate] = {}

    def put_behind(self, connector: IExecutionConnector) -> None:
        """Let every request of a connector pass the ledger from now on."""
        name = connector.exchange
        lease = self._leases.get(name)
        if lease is None:
            lease = RateLease(name, self._store, lambda: connector.exchange_now().timestamp())
            self._leases[name] = lease
        gate = Gate(lease, connector.account, connector.capabilities.rate_card)
        self._gates[name, connector.account] = gate
        connector.gate = gate

    async def close(self) -> None:
        """Give back what is leased."""
        await asyncio.gather(*(lease.close() for lease in self._leases.values()))

    # What orders ask (IRateLimitGuard).

    async def reserve(self, wish: RateWish) -> RateSlot:
        """A slot for the order: now, or later and then it is the order's, or none in time.

        An order that comes back at its time names its `slot` and has it, whichever process it
        comes to, unless another strategy has taken it over. Raises `StoreUnavailable`.
        """
        gate = self._gate(wish.exchange, wish.account)
        if gate is None:
            return RateSlot()
        return await gate.slot(wish, self._within_s(wish))

    async def check_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> bool:
        """Whether a request may be sent now; takes nothing."""
        gate = self._gate(exchange, account)
        return gate is None or await gate.is_free(endpoint)

    async def acquire_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> None:
        """Wait until a request may be sent, and count it."""
        gate = self._gate(exchange, account)
        if gate is not None:
            await gate.wait(endpoint)

    def pause(self, exchange: str, seconds: float, account: str | None = None) -> None:  # noqa: ARG002
        """Let no process send anything to the exchange for so long, cancels included."""
        lease = self._leases.get(exchange)
        if lease is not None:
            lease.pause(EVERYTHING, seconds)

    def get_rate_limit_status(self, exchange: str, account: str | None = None) -> dict[str, Any]:
        """Use, queue and pauses of all processes as this one last heard of them, as plain JSON.

        While requests leave here that is at most a second ago; `fetch_rate_limit_status` asks.
        """
        lease = self._leases.get(exchange)
        if lease is None or self._gate(exchange, account) is None:
            return {"exchange": exchange, "limited": False}
        return {"exchange": exchange, "limited": True, **status_of(lease.document, lease.clock())}

    async def fetch_rate_limit_status(self, exchange: str) -> dict[str, Any]:
        """The same, asked of the store now."""
        lease = self._leases.get(exchange)
        clock = {exchange: lease.clock()} if lease is not None else {}
        found = (await self._store.status(clock)).get(exchange)
        if found is None:
            return {"exchange": exchange, "limited": False}
        return {"exchange": exchange, "limited": True, **found}

    def _within_s(self, wish: RateWish) -> float:
        return self._max_wait_s if wish.within_s is None else min(wish.within_s, self._max_wait_s)

    def _gate(self, exchange: str, account: str | None) -> Gate | None:
        if account:
            return self._gates.get((exchange, account))
        return next((gate for (name, _), gate in self._gates.items() if name == exchange), None)


class Gate:
    """What the requests of one account pass (`IRequestGate`)."""

    def __init__(self, lease: RateLease, account: str, card: RateCard) -> None:
        """`card` is the connector's; the exchange's own word on its limits replaces its pools."""
        self._lease = lease
        self._account = account
        self._card = card
        self._know()

    def stated(self, pools: Sequence[RatePool]) -> None:
        """Take the limits that the exchange itself has stated."""
        self._card = self._card.with_pools(pools)
        self._know()

    def _know(self) -> None:
        for pool in self._card.pools:
            if pool.scope is not PoolScope.SYMBOL:
                self._lease.know(pool.key(self._account), pool)

    def _cost(
        self, endpoint: str, parameters: Mapping[str, object] | None = None, symbol: str = ""
    ) -> Cost:
        cost = self._card.cost_of(endpoint, self._account, symbol=symbol, parameters=parameters)
        if symbol:
            for key in cost.costs:
                self._lease.know(key, self._card.pool_of(key))
        return cost

    async def enter(
        self,
        endpoint: str,
        parameters: Mapping[str, object] | None = None,
        *,
        symbol: str = "",
    ) -> Permit:
        """Take what the request costs; see `IRequestGate`.

        What the exchange never refuses for a limit, or does not count, goes without the ledger
        where that does not answer: a dead-man switch is held although the store is away.
        """
        cost = self._cost(endpoint, parameters, symbol)
        cost = cost._replace(urgent=cost.urgent or _urgency.get())
        spend(lambda: self._seconds_of(cost))
        is_order = endpoint == self._card.place
        permit = (self._lease.promised(cost) if is_order else None) or self._lease.take_now(cost)
        if permit is not None:
            return permit
        patience_s = patience()
        needs_ledger = cost.held and bool(cost.costs)
        try:
            async with asyncio.timeout(None if needs_ledger else patience_s + _LEDGER_S):
                return await self._asked(endpoint, cost, patience_s)
        except (StoreUnavailable, TimeoutError) as error:
            if not needs_ledger and self._lease.paused_for(cost, self._lease.clock()) <= 0:
                return Permit()
            failure = f"nothing was sent, the rate limits cannot be asked: {error}"
        raise ExchangeUnavailable(failure, code=LOCAL_RATE_LIMIT)

    async def _asked(self, endpoint: str, cost: Cost, patience_s: float) -> Permit:
        now = self._lease.clock()
        granted, permit = await self._lease.ask(Want(cost, now + patience_s))
        wait_s = granted.at - self._lease.clock()
        if not granted.booked:
            raise ExchangeUnavailable(
                f"nothing was sent: the rate limits of {self._lease.exchange} have no room for "
                f"{endpoint} for {wait_s:.1f} s",
                code=LOCAL_RATE_LIMIT,
                retry_after=max(wait_s, 0.0),
            )
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        return permit

    def is_valid(self, permit: Permit) -> bool:
        """Whether the request may still be written now."""
        return self._lease.is_valid(permit)

    def leave(self, permit: Permit, response: Response | None, *, written: bool) -> None:
        """Settle what was taken, and obey what the exchange asks for."""
        if not written:
            self._lease.give_back(permit)
            return
        if response is None:
            return
        counts = {}
        for key, pool in self._counters(permit).items():
            count = response.headers.get(pool.count_header, "")
            if count.isdecimal():
                counts[key] = int(count)
        self._lease.answered(permit, counts)
        if response.pauses:
            self._obey(permit, response)

    def _obey(self, permit: Permit, response: Response) -> None:
        """Pause what the request cost in one family; everything, where it cost nothing in it."""
        seconds = 1.0 if response.retry_after_s is None else response.retry_after_s
        pools = self._counters(permit).items()
        of_family = [key for key, pool in pools if pool.family == response.pauses_family]
        names = of_family or [EVERYTHING]
        _log.warning(
            "%s asks for a pause of %g s (%s)", self._lease.exchange, seconds, ", ".join(names)
        )
        for name in names:
            self._lease.pause(name, seconds)

    def _seconds_of(self, cost: Cost) -> float:
        """In how many seconds its slowest counter allows as much again."""
        costs = cost.costs.items()
        return max((self._card.pool_of(key).seconds_of(w) for key, w in costs), default=0.0)

    def _counters(self, permit: Permit) -> dict[str, RatePool]:
        """The counters of a permit that there are still; the exchange may have stated others."""
        pools = {pool.name: pool for pool in self._card.pools}
        keys = dict.fromkeys(key for key, _ in permit.tokens)
        return {key: pools[name] for key in keys if (name := key.partition(":")[0]) in pools}

    # For orders.

    async def slot(self, wish: RateWish, within_s: float) -> RateSlot:
        """See `RateDesk.reserve`."""
        cost = self._cost(wish.endpoint, symbol=wish.symbol)
        if wish.slot is None and (permit := self._lease.take_now(cost)) is not None:
            return self._go(cost, permit)
        want = Want(cost, self._lease.clock() + within_s, wish.strategy_id or "", wish.slot)
        while True:
            granted, permit = await self._lease.ask(want)
            wait_s = granted.at - self._lease.clock()
            if not granted.booked:
                return RateSlot(max(wait_s, 0.0), granted=False)
            if granted.slot is None:
                return self._go(cost, permit)
            if wait_s > SHORT_S:
                return RateSlot(wait_s, slot=granted.slot)
            await asyncio.sleep(max(0.0, wait_s))
            want = want._replace(slot=granted.slot)

    def _go(self, cost: Cost, permit: Permit) -> RateSlot:
        self._lease.promise(cost, permit)
        return RateSlot(give_back=lambda: self._lease.withdraw(cost))

    async def is_free(self, endpoint: str) -> bool:
        """Whether a request may be sent now."""
        cost = self._cost(endpoint)
        permit = self._lease.take_now(cost)
        if permit is None:
            now = self._lease.clock()
            granted, permit = await self._lease.ask(Want(cost, now))
            if not granted.booked:
                return False
        self._lease.give_back(permit)
        return True

    async def wait(self, endpoint: str) -> None:
        """Take a request's cost, however long it takes."""
        cost = self._cost(endpoint)
        permit = self._lease.take_now(cost) or await self._asked(endpoint, cost, math.inf)
        self._lease.answered(permit, {})  # Nobody tells us when it is.
