"""The executions of an account where REST tells them: asked again and again, told when they change.

A venue's stream only rings: whatever it says, REST is asked at once. So nothing that a stream
leaves out, merges or says twice can matter, and without one it is only later. Where requests are
counted, a look waits until a third of the limit allows it, and asks by symbol but for each 30 s.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from trading.oms.errors import ExchangeError, ExchangeUnavailable
from trading.oms.models import Fill
from trading.oms.request_gate import spending
from trading.oms.venue import ExecutionReport, OrderList, OrderRef, StreamState, VenueStatus

logger = logging.getLogger(__name__)
LOOKS_IN_SILENCE = 5
"""How often it is looked in the time for which a stream may be deaf."""
_PART = 3
"""The looks have this part of a limit: a third."""
_WHOLE_EVERY = timedelta(seconds=30)
"""How often it is asked for the open orders of all symbols, in which others may trade."""
_OVERLAP = timedelta(seconds=30)
_PATIENCE = timedelta(seconds=30)
_OPEN = frozenset({VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED})


class IAsked(Protocol):
    """What a look needs of a connector."""

    exchange: str

    def exchange_now(self) -> datetime:
        """As `IExecutionConnector` has it."""
        ...

    async def open_orders(self, symbol: str | None = None) -> OrderList:
        """As `IExecutionConnector` has it."""
        ...

    async def resting_in(self, symbols: Collection[str]) -> OrderList:
        """The orders that rest in these symbols and in those in which this process trades."""
        ...

    async def recent_orders(self, since: datetime) -> OrderList:
        """Every order since then, of all symbols."""
        ...

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        """As `IExecutionConnector` has it."""
        ...


@dataclass
class _Seen:
    """An order as it was told last; `fills` are those that were told."""

    report: ExecutionReport
    fills: dict[str, Fill] = field(default_factory=dict)

    @property
    def owed(self) -> Decimal:
        """What the order has executed and no fill has told yet."""
        told = sum((fill.quantity for fill in self.fills.values()), Decimal(0))
        return (self.report.cumulative_quantity or Decimal(0)) - told


class PolledFeed:
    """One account's executions. `bell` is rung from outside; nothing here depends on it."""

    def __init__(self, venue: IAsked, silence_s: float) -> None:
        self.bell = asyncio.Event()
        self._venue = venue
        self._silence_s = silence_s
        self._seen: dict[str, _Seen] = {}
        self._looked_at: datetime | None = None
        self._whole_at: datetime | None = None
        self._least_s = 0.0
        """For how long the last look has used up its part of the limit."""

    async def events(self) -> AsyncIterator[ExecutionReport | StreamState]:
        """`CONNECTED` after the first look, which tells nothing, then every change.

        Raises `ExchangeUnavailable` when no look has succeeded for the time of silence.
        """
        try:
            await self._look()
        except ExchangeError:
            await asyncio.sleep(self._least_s)  # Whoever asks again does so at once.
            raise
        yield StreamState.CONNECTED
        while True:
            await self._rest()
            for report in await self._look_until_seen():
                yield report

    async def _rest(self) -> None:
        await asyncio.sleep(self._least_s)
        try:
            async with asyncio.timeout(
                max(0.0, self._silence_s / LOOKS_IN_SILENCE - self._least_s)
            ):
                await self.bell.wait()
        except TimeoutError:
            return
        finally:
            self.bell.clear()

    async def _look_until_seen(self) -> list[ExecutionReport]:
        deadline = asyncio.get_running_loop().time() + self._silence_s
        while True:
            try:
                return await self._look()
            except ExchangeError as error:
                if asyncio.get_running_loop().time() > deadline:
                    text = f"{self._venue.exchange} could not be asked for {self._silence_s:g} s"
                    raise ExchangeUnavailable(f"{text}: {error}") from error
                logger.info("%s: a look at the orders failed: %s", self._venue.exchange, error)
                await asyncio.sleep(max(self._least_s, self._silence_s / LOOKS_IN_SILENCE))

    async def _look(self) -> list[ExecutionReport]:
        """What has changed since the last look; a look that fails leaves all as it was."""
        with spending() as spent:
            try:
                return await self._changes()
            finally:
                self._least_s = spent.seconds * _PART

    async def _changes(self) -> list[ExecutionReport]:
        started = self._venue.exchange_now()
        is_whole = self._whole_at is None or started - self._whole_at >= _WHOLE_EVERY
        there = await self._there(started, is_whole=is_whole)
        is_first, told = self._looked_at is None, list[ExecutionReport]()
        after = dict(self._seen)
        for order_id, report in there.items():
            seen = self._seen.get(order_id)
            if seen is not None and _same(seen.report, report) and not self._is_owed(seen, started):
                continue
            fills = () if is_first else await self._new_fills(report, seen)
            after[order_id] = _Seen(report, dict(seen.fills) if seen else {})
            after[order_id].fills |= {fill.fill_id: fill for fill in fills}
            if not is_first and (fills or seen is None or not _same(seen.report, report)):
                told.append(report.model_copy(update={"fills": tuple(fills)}))
        self._seen, self._looked_at = after, started
        self._whole_at = started if is_whole else self._whole_at
        self._forget(started)
        return told

    async def _there(self, now: datetime, *, is_whole: bool) -> dict[str, ExecutionReport]:
        """The orders that rest, those of late, and those that rested and rest no more."""
        since = (self._looked_at or now) - _OVERLAP
        rest = await (self._venue.open_orders() if is_whole else self._rest_in_known())
        reports = [*rest, *await self._venue.recent_orders(since)]
        there = {report.exchange_order_id or "": report for report in reports}
        gone = [
            seen.report
            for order_id, seen in self._seen.items()
            if order_id not in there and (seen.report.status in _OPEN or self._is_owed(seen, now))
        ]
        for report in gone:
            found = await self._venue.find_order(_ref(report)) if _has_name(report) else None
            if found is not None:
                there[found.exchange_order_id or ""] = found
        return there

    async def _rest_in_known(self) -> OrderList:
        open_ones = (seen.report for seen in self._seen.values() if seen.report.status in _OPEN)
        return await self._venue.resting_in({report.symbol for report in open_ones})

    async def _new_fills(self, report: ExecutionReport, seen: _Seen | None) -> list[Fill]:
        """Fills that were not told yet, where the order has executed more than those told."""
        before = _Seen(report, seen.fills if seen else {})
        if before.owed <= 0 or not _has_name(report):
            return []
        found = report if report.fills else await self._venue.find_order(_ref(report))
        return [fill for fill in found.fills if fill.fill_id not in before.fills] if found else []

    def _is_owed(self, seen: _Seen, now: datetime) -> bool:
        """Whether fills are still looked for; later than that it is for reconciliation.

        For two looks at least: the first may come before they are listed.
        """
        apart_s = max(self._least_s, self._silence_s / LOOKS_IN_SILENCE)
        patience = max(_PATIENCE, 2 * timedelta(seconds=apart_s))
        return seen.owed > 0 and now - seen.report.at < patience

    def _forget(self, now: datetime) -> None:
        """Orders that ended before the overlap and owe nothing: no list has them any more."""
        self._seen = {
            order_id: seen
            for order_id, seen in self._seen.items()
            if seen.report.status in _OPEN
            or now - seen.report.at < 2 * _OVERLAP
            or self._is_owed(seen, now)
        }


def _same(one: ExecutionReport, other: ExecutionReport) -> bool:
    names = ("status", "cumulative_quantity", "quantity", "price")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _has_name(report: ExecutionReport) -> bool:
    """Orders of others may have no client id; their fills come by the sweep."""
    return report.exchange_client_id is not None


def _ref(report: ExecutionReport) -> OrderRef:
    return OrderRef(
        symbol=report.symbol,
        exchange_client_id=report.exchange_client_id or "",
        exchange_order_id=report.exchange_order_id,
    )
