"""Paging through Kraken's orders and trades: 50 rows a page, the newest first, by offset.

New rows push older ones to the next page while we read, so a row may come twice and none is
missed. A failing page fails the list, because a part proves nothing.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from activities.connectors.fields import MalformedError, decimal_of, number_of, object_of
from activities.connectors.kraken_reports import KrakenReader
from activities.connectors.order_rows import read_orders
from trading.oms.models import Fill
from trading.oms.venue import OrderList

IDS_MAX = 20
ONE_BY_ONE = {"consolidate_taker": "false"}
"""Kraken merges a taker's trades unless told not to: under other ids than its stream has."""
Query = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
Rows = dict[str, Mapping[str, Any]]


class KrakenHistory:
    """Whole lists. Raises `MalformedError` and what the queries raise."""

    def __init__(self, query: Query, reader: KrakenReader) -> None:
        self._query = query
        self._reader = reader

    async def orders(self, asked: Mapping[str, str]) -> Rows:
        """The open orders, then the closed ones: an order that closes in between is seen twice."""
        asked = {**asked, **ONE_BY_ONE}
        raw = object_of(await self._query("OpenOrders", asked))
        rows: Rows = dict(object_of(raw.get("open")))
        return rows | await self._pages("ClosedOrders", "closed", asked)

    async def by_client_id(self, client_id: str) -> tuple[str, Mapping[str, Any]] | None:
        """The newest order with our client id and its identifier."""
        asked = {"cl_ord_id": client_id, "trades": "true", **ONE_BY_ONE}
        for path, name in (("OpenOrders", "open"), ("ClosedOrders", "closed")):
            rows = object_of(object_of(await self._query(path, asked)).get(name))
            # The filter is looked after: without it these are the account's other orders.
            ours = [
                (order_id, row)
                for order_id, row in rows.items()
                if object_of(row).get("cl_ord_id") == client_id
            ]
            if ours:
                return max(ours, key=lambda entry: decimal_of(entry[1], "opentm"))
        return None

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order of the pair since then, oldest first, whatever its status."""
        rows = await self.orders({"start": str(int(since.timestamp()) - 1)})
        found = read_orders(lambda row: self._reader.queried(*row), rows.items())
        ours = [report for report in found if report.symbol == symbol]
        return OrderList(tuple(sorted(ours, key=lambda report: report.at)), found.unreadable)

    async def fills(
        self, symbol: str, since: datetime | None, *, trade_id: int | None
    ) -> Sequence[Fill]:
        """The pair's fills since then and from a trade id of the pair on; oldest first.

        Without a time every page is read where the account has no trade as old as the id.
        """
        asked = dict(ONE_BY_ONE)
        if since is not None:
            asked["start"] = str(int(since.timestamp()) - 1)

        def reached(rows: Rows) -> bool:
            ids = [int(fill.trade_id or 0) for fill in self._fills_in(symbol, rows)]
            return trade_id is not None and bool(ids) and min(ids) <= trade_id

        rows = await self._pages("TradesHistory", "trades", asked, reached)
        found = self._fills_in(symbol, rows)
        if trade_id is not None:
            found = [fill for fill in found if int(fill.trade_id or 0) >= trade_id]
        return sorted(found, key=lambda fill: int(fill.trade_id or 0))

    async def fills_of(self, trade_txids: Sequence[str]) -> Sequence[Fill]:
        """The trades with these identifiers, 20 at a time; oldest first."""
        found: list[Fill] = []
        for start in range(0, len(trade_txids), IDS_MAX):
            asked = {"txid": ",".join(trade_txids[start : start + IDS_MAX])}
            found += self._fills(object_of(await self._query("QueryTrades", asked)))
        return sorted(found, key=lambda fill: int(fill.trade_id or 0))

    def _fills_in(self, symbol: str, rows: Rows) -> list[Fill]:
        """A row of another pair is not read: Kraken may list that pair no more."""
        wanted = {id_: row for id_, row in rows.items() if self._reader.may_be_of(row, symbol)}
        return [fill for fill in self._fills(wanted) if fill.symbol == symbol]

    def _fills(self, rows: Mapping[str, Any]) -> list[Fill]:
        return [self._reader.traded(row) for row in rows.values()]

    async def _pages(
        self,
        path: str,
        name: str,
        asked: Mapping[str, str],
        reached: Callable[[Rows], bool] = lambda _rows: False,
    ) -> Rows:
        found: Rows = {}
        offset = 0
        while True:
            answer = object_of(await self._query(path, {**asked, "ofs": str(offset)}))
            page = object_of(answer.get(name))
            found |= page
            offset += len(page)
            if not page or offset >= number_of(answer, "count") or reached(dict(page)):
                return found


def trade_txids(row: Mapping[str, Any]) -> Sequence[str]:
    """The identifiers of an order's trades, as `trades=true` lists them."""
    listed = row.get("trades") or []
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise MalformedError("trades is no list of identifiers")
    return listed
