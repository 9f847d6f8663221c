"""Paging through Binance's orders and trades. Source: rest-api.md, "Account endpoints".

One page has at most 1,000 rows, one question by time covers at most 24 hours.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from activities.connectors.classify import Operation, malformed_answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError, number_of, objects_of
from activities.connectors.reports import BinanceReader
from trading.oms.models import Fill
from trading.oms.venue import ExecutionReport

PAGE = 1000
DAY_MS = 24 * 3600 * 1000
Query = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class BinanceHistory:
    """Whole lists, page by page; a failing page fails the list, because a part proves nothing."""

    def __init__(self, query: Query, clock: ExchangeClock, reader: BinanceReader) -> None:
        self._query = query
        self._clock = clock
        self._reader = reader

    async def orders_since(self, symbol: str, since: datetime) -> Sequence[ExecutionReport]:
        """Every order since then, oldest first, whatever its status."""
        rows = await self._since("allOrders", symbol, since, id_name="orderId", page_by="orderId")
        return self._read(self._reader.queried, rows)

    async def fills_since(self, symbol: str, since: datetime) -> Sequence[Fill]:
        """Every fill since then, oldest first."""
        rows = await self._since("myTrades", symbol, since, id_name="id", page_by="fromId")
        return self._read(self._reader.traded, rows)

    async def fills(self, named: Mapping[str, Any], *, from_id: int | None) -> Sequence[Fill]:
        """The fills that `named` names (a symbol, or an order of it) from a trade id on."""
        rows = await self._pages("myTrades", named, from_id, id_name="id", page_by="fromId")
        return self._read(self._reader.traded, rows)

    async def _since(
        self, path: str, symbol: str, since: datetime, *, id_name: str, page_by: str
    ) -> list[Mapping[str, Any]]:
        start, now = int(since.timestamp() * 1000), self._clock.now_ms()
        while True:
            end = start + DAY_MS - 1
            window = {"symbol": symbol, "startTime": start, "endTime": end, "limit": PAGE}
            rows = await self._page(path, window, id_name)
            if end >= now and len(rows) < PAGE:
                return rows
            if rows:
                # By id from the first row on: no row can fall between two windows or pages.
                named, first = {"symbol": symbol}, number_of(rows[0], id_name)
                return await self._pages(path, named, first, id_name=id_name, page_by=page_by)
            start = end + 1

    async def _pages(
        self,
        path: str,
        named: Mapping[str, Any],
        from_id: int | None,
        *,
        id_name: str,
        page_by: str,
    ) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        while True:
            start = {} if from_id is None else {page_by: from_id}
            rows = await self._page(path, {**named, **start, "limit": PAGE}, id_name)
            found += rows
            if len(rows) < PAGE:
                return found
            from_id = number_of(rows[-1], id_name) + 1

    async def _page(
        self, path: str, parameters: Mapping[str, Any], id_name: str
    ) -> list[Mapping[str, Any]]:
        raw = await self._query(path, parameters)
        try:
            return sorted(objects_of(raw), key=lambda row: number_of(row, id_name))
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        raise failure

    def _read(self, read: Callable[[Any], Any], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        try:
            return [read(row) for row in rows]
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        raise failure
