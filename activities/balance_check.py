"""The balances of an account against what they should be: opening balances, and every fill since.

What no fill explains is a deposit or a withdrawal, somebody trading by hand, or a fill that we do
not know of. Beyond the account's limit `max_balance_drift` it is alarmed, and the account may only
reduce from then on. Either way it is expected afterwards, so that each drift is told once.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from activities.account_pictures import SETTLING
from activities.rate_desk import patient
from activities.reconcile_messages import Finding, Outcome
from activities.store import TradingState
from activities.store.expected import Drift, Seen
from trading.oms.exact import EXACT
from trading.oms.reading import number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from decimal import Decimal

    from activities.order_steps import Parts
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
_CLOCK_ERROR = timedelta(milliseconds=100)
"""How far our estimate of the exchange's clock may be off."""


class BalanceCheck:
    """One account's balances in one pass. `totals` are what the exchange said last."""

    def __init__(self, parts: Parts, connector: IExecutionConnector) -> None:
        """Nothing is asked yet."""
        self._store = parts.store
        self._connector = connector
        self._limits = parts.risk.account_limits(connector.exchange, connector.account)
        self.totals: dict[str, Decimal] = {}

    async def findings(
        self, sweep: Callable[[], Awaitable[bool]], *, dry_run: bool
    ) -> list[Finding]:
        """What differs; alarmed and taken over where this is no `dry_run`.

        What differs counts where it still does once all fills of that moment have arrived, and in
        another look as well: of many orders some fills are always on their way. `sweep` looks for
        missing fills, and says whether it has seen them all. Raises `ExchangeError`.
        """
        seen = await self._look()
        if await self._store.risk.is_reckoned(seen.exchange, seen.account) and (
            not await self._store.risk.reckon(seen)
        ):
            return []
        drifts = await self._settled(seen, sweep)
        if not drifts:
            return []
        drifts = _lasting(drifts, await self._settled(await self._look(), sweep))
        alarming = [one for one in drifts if self._is_too_much(one)]
        if drifts and not dry_run:
            await self._act(drifts, alarming)
        return [self._finding(one, alarmed=one in alarming, dry_run=dry_run) for one in drifts]

    async def _look(self) -> Seen:
        connector = self._connector
        lag = timedelta(milliseconds=connector.capabilities.data_lag_ms)
        step = timedelta(milliseconds=connector.capabilities.clock_step_ms)
        as_of = connector.exchange_now() - lag - _CLOCK_ERROR
        with patient():  # Of the fills while it waits nobody knows whether they are in it.
            balances = await connector.balances()
        latest = connector.exchange_now() + _CLOCK_ERROR + step
        self.totals = {name: EXACT.add(one.free, one.locked) for name, one in balances.items()}
        return Seen(connector.exchange, connector.account, self.totals, as_of, latest)

    async def _settled(self, seen: Seen, sweep: Callable[[], Awaitable[bool]]) -> list[Drift]:
        """Compare when every fill of before the look is booked, or has been swept up."""
        lag = timedelta(milliseconds=self._connector.capabilities.data_lag_ms)
        await asyncio.sleep((SETTLING + lag).total_seconds() + 1)
        return await self._store.risk.reckon(seen) if await sweep() else []

    def _is_too_much(self, drift: Drift) -> bool:
        most = self._limits.max_balance_drift
        whole = max(drift.expected.copy_abs(), drift.actual.copy_abs())
        return most is not None and drift.more.copy_abs() > EXACT.multiply(whole, most)

    async def _act(self, drifts: Sequence[Drift], alarming: Sequence[Drift]) -> None:
        exchange, account = self._connector.exchange, self._connector.account
        if alarming:
            text = "; ".join(_words(one) for one in alarming)
            _log.error("%s / %s: %s", exchange, account, text)
            scope = f"account:{exchange}/{account}"
            known = (await self._store.trading_states()).get(scope, TradingState.ACTIVE)
            if known is TradingState.ACTIVE:
                reason = f"{text}; `oms resume --account {exchange}/{account}` ends this"
                await self._store.set_trading_state(
                    scope, TradingState.REDUCING, reason=reason, by="oms"
                )
        await self._store.risk.take_over(exchange, account, drifts, by="oms")

    def _finding(self, drift: Drift, *, alarmed: bool, dry_run: bool) -> Finding:
        outcome = Outcome.ALARMED if alarmed else Outcome.RECORDED
        return Finding(
            kind="balance_drift",
            symbol=drift.asset,
            message=_words(drift),
            outcome=Outcome.LEFT if dry_run else outcome,
            numbers={"ours": drift.expected, "theirs": drift.actual, "missing_here": drift.more},
        )


def _lasting(before: Sequence[Drift], after: Sequence[Drift]) -> list[Drift]:
    """What both looks have seen, in the same direction: the smaller of the two."""
    first = {one.asset: one.more for one in before}
    found = []
    for one in after:
        known = first.get(one.asset)
        if known is None or (known > 0) is not (one.more > 0):
            continue
        more = min(known, one.more, key=abs)
        found.append(one._replace(more=more, expected=EXACT.subtract(one.actual, more)))
    return found


def _words(drift: Drift) -> str:
    return (
        f"balance drift: the exchange has {number(drift.actual)} {drift.asset}, and by the opening "
        f"balance and the fills since it should be {number(drift.expected)}"
    )
