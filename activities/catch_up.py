"""Asking the exchange for what the stream may have missed: fills, and orders that have ended."""

from __future__ import annotations

import logging
from bisect import bisect_left
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from activities.asked_until import AskedUntil, cursor_name
from activities.connectors.classify import LOCAL_UNREADABLE
from trading.oms.enums import OrderStatus
from trading.oms.errors import ExchangeUnavailable
from trading.oms.models import utc_now
from trading.oms.venue import ExecutionReport, OrderRef, ReportSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from activities.store import Store
    from trading.oms.models import Fill, OrderState
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
_RESTING = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
_OVERLAP = timedelta(minutes=1)
_LISTED_LATE = timedelta(minutes=10)
"""The sweep of reconciliation looks back further; it is made less often."""
_SETTLING = timedelta(seconds=2)


class CatchUp:
    """One account's catch-up. It only writes to the inbox; the orders decide what is new."""

    def __init__(self, store: Store, connector: IExecutionConnector) -> None:
        """Take the store and the account's connector."""
        self._store = store
        self._connector = connector
        self._asked_until = AskedUntil(store, connector, "fills_at")
        self._first = ""

    async def run(self) -> bool:
        """Look once; True where anything was put into the inbox. Raises `ExchangeError`.

        A symbol whose fills cannot be read keeps nobody else waiting: its error is raised last.
        """
        started = utc_now()
        orders = await self._store.open_orders(
            exchange=self._connector.exchange, account=self._connector.account
        )
        oldest_by: dict[str, datetime] = {}
        for order in orders:
            known = oldest_by.get(order.symbol, order.created_at)
            oldest_by[order.symbol] = min(known, order.created_at)
        found: list[ExecutionReport] = []
        unread: ExchangeUnavailable | None = None
        symbols = self._in_turn(oldest_by)
        for number, symbol in enumerate(symbols):
            try:
                found += await self._missed_fills(symbol, oldest_by[symbol] - _OVERLAP)
            except ExchangeUnavailable as error:
                if error.code == LOCAL_UNREADABLE:
                    unread = error
                elif not await self._is_delisted(symbol, error):
                    # One that is refused each time keeps the others waiting once.
                    self._first = symbols[number or (1 % len(symbols))]
                    raise
                _log.warning("the fills of %s cannot be asked for: %s", symbol, error)
        found += await self._missed_ends(orders, started - _SETTLING)
        if unread is not None:
            raise unread
        return bool(found)

    def _in_turn(self, symbols: Iterable[str]) -> list[str]:
        """From the one on where the last look was refused: each has its turn."""
        names = sorted(symbols)
        first = bisect_left(names, self._first)
        return names[first:] + names[:first]

    async def _missed_fills(self, symbol: str, since: datetime) -> list[ExecutionReport]:
        """The fills from the cursor on; cursor and time move only after they are in the inbox."""
        name = cursor_name("fills", self._connector, symbol)
        cursor = await self._store.cursor(name)
        asked_at = self._connector.exchange_now()
        asked = await self._asked_until.but(_LISTED_LATE, symbol)
        # Behind a cursor may be fills of orders that have ended: older than those that are open.
        start = asked if cursor is not None else max(since, asked or since)
        fills = await self._connector.fills_after(symbol, trade_id=cursor, since=start)
        known = await self._store.fills_known([fill.fill_id for fill in fills])
        reports = [_report_of(fill) for fill in fills if fill.fill_id not in known]
        if reports:
            await self._store.inbox_add(reports)
        ids = [fill.trade_id or "" for fill in fills]
        trade_ids = [int(trade_id) for trade_id in ids if trade_id.isdecimal()]
        if trade_ids:
            await self._store.advance_cursor(name, cursor, str(max(trade_ids)))
        await self._asked_until.move(symbol, asked_at)
        return reports

    async def _missed_ends(
        self, orders: Sequence[OrderState], before: datetime
    ) -> list[ExecutionReport]:
        """Orders that rest by our book and not by the exchange's: each is asked after.

        What is found of one is kept at once: the question for the next may fail.
        """
        resting = [
            order for order in orders if order.status in _RESTING and order.last_updated_at < before
        ]
        if not resting:
            return []
        there = {report.exchange_client_id for report in await self._connector.open_orders()}
        reports = []
        for order in resting:
            if order.exchange_client_id is None or order.exchange_client_id in there:
                continue
            report = await self._asked_after(order, order.exchange_client_id)
            if report is not None:
                await self._store.inbox_add([report])
                reports.append(report)
        return reports

    async def _asked_after(self, order: OrderState, client_id: str) -> ExecutionReport | None:
        """The exchange's word on one order; what cannot be read waits for the next look."""
        ref = OrderRef(
            symbol=order.symbol,
            exchange_client_id=client_id,
            exchange_order_id=order.exchange_order_id,
        )
        try:
            return await self._connector.find_order(ref)
        except ExchangeUnavailable as error:
            delisted = await self._is_delisted(order.symbol, error)
            if error.code != LOCAL_UNREADABLE and not delisted:
                raise
            _log.warning("order %s cannot be read: %s", order.client_order_id, error)
            return None

    async def _is_delisted(self, symbol: str, refusal: ExchangeUnavailable) -> bool:
        """Whether the exchange refuses because it lists the symbol no more; others go on."""
        if refusal.status != HTTPStatus.BAD_REQUEST and refusal.code != "local_symbol":
            return False
        if self._connector.instrument(symbol) is not None:
            await self._connector.load_instruments()
        return self._connector.instrument(symbol) is None


def _report_of(fill: Fill) -> ExecutionReport:
    """A fill alone, as a report: it says nothing of the order's status."""
    return ExecutionReport(
        exchange=fill.exchange,
        account=fill.account,
        symbol=fill.symbol,
        exchange_order_id=fill.exchange_order_id,
        side=fill.side,
        fills=(fill,),
        at=fill.timestamp,
        received_at=utc_now(),
        source=ReportSource.QUERY,
    )
