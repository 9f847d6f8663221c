"""Keeps what the risk checks compare with fresh: balances, instruments, limits, reservations.

Every worker runs it. What one has fetched and stored, the others need not fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from activities.rate_desk import patient
from activities.store.accounts import Fetched
from activities.store.risk_store import reserved_assets
from trading.oms.errors import ExchangeError, StoreUnavailable
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from activities.store import Store
    from trading.oms.models import Balance
    from trading.oms.risk.rules_file import RulesFile
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
BALANCES_S = 5.0
INSTRUMENTS_S = 3600.0
MEND_S = 60.0
RULES_S = 1.0
_CLOSE_S = 0.1
_CLOCK_STEP = timedelta(milliseconds=1)
"""What exchanges give their time in."""
_CASH = ("USDT", "USDC", "USD", "EUR")
"""What an account may keep its cash in: the first that it has is what its assets are valued in."""


class AccountWatch:
    """The timers of one process."""

    def __init__(
        self,
        store: Store,
        connectors: Mapping[tuple[str, str], IExecutionConnector],
        rules: RulesFile,
    ) -> None:
        """Nothing runs before `start` and `run`."""
        self._store = store
        self._connectors = connectors
        self._rules = rules
        self._closing = False
        self._timers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Fetch the balances of every account, so that the first order can be checked."""
        await asyncio.gather(*(self._tried(self._balances, one) for one in self._all))

    def run(self) -> None:
        """Begin to refresh, until `close`."""
        timers = [self._every(RULES_S, self._reload), self._every(MEND_S, self._mend)]
        for one in self._all:
            timers.append(self._repeat(BALANCES_S, self._balances, one))
            timers.append(self._repeat(INSTRUMENTS_S, self._instruments, one))
        self._timers = [asyncio.create_task(timer) for timer in timers]

    async def close(self) -> None:
        """Stop refreshing.

        A driver may turn a cancellation into an error of its own, which a timer takes for one more
        failure: therefore a timer looks whether it is to go on, and is asked more than once.
        """
        self._closing = True
        while waiting := [timer for timer in self._timers if not timer.done()]:
            for timer in waiting:
                timer.cancel()
            await asyncio.wait(waiting, timeout=_CLOSE_S)

    @property
    def _all(self) -> list[IExecutionConnector]:
        return list(self._connectors.values())

    async def _reload(self) -> None:
        self._rules.reload_if_changed()

    async def _mend(self) -> None:
        mended = await self._store.risk.mend()
        if mended:
            _log.warning("reservations that their orders contradicted were mended: %s", mended[:20])

    async def _balances(self, connector: IExecutionConnector) -> None:
        known = await self._store.risk.book(connector.exchange, connector.account)
        fetched_at = known.watermark.fetched_at
        if fetched_at and utc_now() - fetched_at < timedelta(seconds=BALANCES_S * 0.8):
            return
        await refresh_balances(self._store, connector)

    async def _instruments(self, connector: IExecutionConnector) -> None:
        await connector.load_instruments()

    async def _repeat(
        self,
        seconds: float,
        step: Callable[[IExecutionConnector], Awaitable[None]],
        connector: IExecutionConnector,
    ) -> None:
        while not self._closing:
            await asyncio.sleep(seconds)
            await self._tried(step, connector)

    async def _tried(
        self, step: Callable[[IExecutionConnector], Awaitable[None]], connector: IExecutionConnector
    ) -> None:
        try:
            with patient():
                await step(connector)
        except (ExchangeError, StoreUnavailable) as error:
            _log.warning("%s was not refreshed, it is tried again: %s", connector.exchange, error)
        except Exception:  # noqa: BLE001 - a timer outlives every error
            _log.exception("%s was not refreshed, it is tried again", connector.exchange)

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        while not self._closing:
            await asyncio.sleep(seconds)
            try:
                await step()
            except StoreUnavailable as error:
                _log.warning("the store is away, it is tried again: %s", error)
            except Exception:  # noqa: BLE001 - a timer outlives every error
                _log.exception("a timer of the risk checks has failed, it is tried again")


async def refresh_balances(store: Store, connector: IExecutionConnector) -> bool:
    """Fetch the balances and keep them; False where newer ones are known.

    The exchange looked at them at some moment between question and answer, and its data may lag
    behind its engine: fills from that span are not certain to be in them. The span is measured in
    the exchange's clock, which is asked before; the answer is off by half its round trip at most.
    """
    exchange, account = connector.exchange, connector.account
    before = await store.risk.book(exchange, account)
    reserved = {asset: before.reserved(asset) for asset in reserved_assets(before)}
    lag = timedelta(milliseconds=connector.capabilities.data_lag_ms)
    error = await _clock_error(connector)
    as_of = connector.exchange_now() - lag - error
    balances = await connector.balances()
    return await store.risk.take_balances(
        Fetched(
            exchange=exchange,
            account=account,
            balances=balances,
            as_of=as_of,
            as_of_latest=connector.exchange_now() + error,
            fetched_at=utc_now(),
            reserved_before=reserved,
            adopt=_opening(balances, connector),
        )
    )


async def _clock_error(connector: IExecutionConnector) -> timedelta:
    """Ask for the exchange's clock; how far the estimate may be off now."""
    asked = time.monotonic()
    await connector.server_time()
    step = max(_CLOCK_STEP, timedelta(milliseconds=connector.capabilities.clock_step_ms))
    return timedelta(seconds=(time.monotonic() - asked) / 2) + step


def _opening(balances: Mapping[str, Balance], connector: IExecutionConnector) -> dict[str, str]:
    """The symbol under which each asset becomes an opening position: its market in our cash."""
    held = [asset for asset in _CASH if asset in balances and balances[asset].total > 0]
    quotes = [*held, *_CASH[:1]]
    found = {}
    for asset in balances:
        if asset.isalnum() and asset.isupper() and asset not in quotes:
            symbols = (f"{asset}/{quote}" for quote in quotes)
            known = next((one for one in symbols if connector.instrument(one) is not None), None)
            if known is not None:
                found[asset] = known
    return found
