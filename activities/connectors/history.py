"""Paging through Binance's orders and trades. Source: rest-api.md, "Account endpoints".

One page has at most 1,000 rows, one question by time covers at most 24 hours.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from activities.connectors.classify import Operation, malformed_answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError, number_of, object_of, objects_of
from activities.connectors.order_rows import read_orders
from activities.connectors.reports import BinanceReader
from trading.oms.models import Fill
from trading.oms.venue import OrderList

PAGE = 1000
DAY_MS = 24 * 3600 * 1000
Query = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class BinanceHistory:
    """Whole lists, page by page; a failing page fails the list, because a part proves nothing.

    A row that cannot be read fails a list of fills, because its reader's cursor goes past it; a
    list of orders names it.
    """

    def __init__(self, query: Query, clock: ExchangeClock, reader: BinanceReader) -> None:
        self._query = query
        self._clock = clock
        self._reader = reader

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order since then, oldest first, whatever its status."""
        rows = await self._since("allOrders", symbol, since, id_name="orderId", page_by="orderId")
        return read_orders(self._reader.queried, rows)

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
    ) -> list[Any]:
        start, now = int(since.timestamp() * 1000), self._clock.now_ms()
        nameless: list[Any] = []
        while True:
            end = start + DAY_MS - 1
            window = {"symbol": symbol, "startTime": start, "endTime": end, "limit": PAGE}
            rows = await self._page(path, window, id_name)
            if end >= now and len(rows) < PAGE:
                return nameless + rows
            nameless += [row for row in rows if _id_of(row, id_name) is None]
            if ids := [one for row in rows if (one := _id_of(row, id_name)) is not None]:
                # By id from the first row on: no row can fall between two windows or pages.
                named = {"symbol": symbol}
                found = await self._pages(path, named, ids[0], id_name=id_name, page_by=page_by)
                return nameless + found
            start = end + 1

    async def _pages(
        self,
        path: str,
        named: Mapping[str, Any],
        from_id: int | None,
        *,
        id_name: str,
        page_by: str,
    ) -> list[Any]:
        found: list[Any] = []
        while True:
            start = {} if from_id is None else {page_by: from_id}
            rows = await self._page(path, {**named, **start, "limit": PAGE}, id_name)
            found += rows
            if len(rows) < PAGE:
                return found
            newest = _id_of(rows[-1], id_name)
            if newest is None:
                raise malformed_answer(f"no row of a page has its {id_name}", Operation.QUERY)
            from_id = newest + 1

    async def _page(self, path: str, parameters: Mapping[str, Any], id_name: str) -> list[Any]:
        """The rows by id; those whose id cannot be read come first."""
        raw = await self._query(path, parameters)
        try:
            rows = objects_of(raw)
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        else:
            return sorted(rows, key=lambda row: _id_of(row, id_name) or 0)
        raise failure

    def _read(self, read: Callable[[Any], Any], rows: Sequence[Any]) -> list[Any]:
        try:
            return [read(row) for row in rows]
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        raise failure


def _id_of(row: Any, name: str) -> int | None:
    try:
        return number_of(object_of(row), name)
    except MalformedError:
        return None
