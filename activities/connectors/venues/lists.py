"""What a venue is asked for as lists: orders, trades, one order by its names."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from activities.connectors.clock import ExchangeClock
from activities.connectors.order_rows import read_orders
from activities.connectors.venues.listing import Known, Listing, Query, Row, at
from activities.connectors.venues.listing import since as times
from activities.connectors.venues.reading import VenueReader, order_id_of
from activities.connectors.venues.record import VenueRecord
from trading.oms.errors import ExchangeUnavailable
from trading.oms.models import Fill
from trading.oms.venue import ExecutionReport, OrderList

_MARGIN = timedelta(seconds=1)


class VenueLists:
    """Whole lists. Raises `MalformedError` and what the queries raise."""

    def __init__(
        self, record: VenueRecord, query: Query, clock: ExchangeClock, reader: VenueReader
    ) -> None:
        self._record = record
        self._query = query
        self._clock = clock
        self._reader = reader

    async def rows(
        self,
        listing: Listing,
        known: Known,
        reached: Callable[[Sequence[Row]], bool] = lambda _rows: False,
    ) -> list[Row]:
        """The rows of one list."""
        return await listing.read(self._query, known, self._clock.now_ms(), reached)

    async def find(self, names: Mapping[str, str | None]) -> ExecutionReport | None:
        """One order by our client id, with its fills."""
        row = await self._row_of(names)
        if row is None:
            return None
        report = self._reader.order(row)
        if not report.cumulative_quantity:
            return report
        return report.model_copy(update={"fills": tuple(await self._fills(row, names))})

    async def orders_since(self, symbol: str | None, since: datetime) -> OrderList:
        """Every order since then, oldest first, whatever its status."""
        known = {"symbol": symbol, **times(since)}
        return await self._orders(self._record.histories, known)

    async def open_orders(self, symbol: str | None) -> OrderList:
        """The orders that rest now."""
        return await self._orders((self._record.open_orders,), {"symbol": symbol})

    async def fills_since(self, symbol: str, since: datetime | None) -> Sequence[Fill]:
        """The fills of a symbol since then, oldest first."""
        asked = times(since) if since is not None else {}
        rows = await self.rows(self._record.fills, {"symbol": symbol, **asked})
        return self._ordered(rows, symbol)

    async def fills_from(self, symbol: str, trade_id: str) -> Sequence[Fill]:
        """The fills of a symbol from this one on, oldest first; the lists have the newest first."""

        def reached(rows: Sequence[Row]) -> bool:
            return any(not _is_later(self._trade_id(row), trade_id) for row in rows)

        known = {"symbol": symbol, "trade_id": trade_id}
        found = self._ordered(await self.rows(self._record.fills, known, reached), symbol)
        ids = [fill.trade_id or "" for fill in found]
        if trade_id in ids and not trade_id.isdecimal():
            return found[ids.index(trade_id) :]
        return [
            fill
            for fill, one in zip(found, ids, strict=True)
            if one == trade_id or _is_later(one, trade_id)
        ]

    async def fills_of(self, names: Mapping[str, str | None]) -> Sequence[Fill]:
        """All fills of one order, oldest first."""
        row = await self._row_of(names)
        return await self._fills(row, names) if row is not None else []

    async def _orders(self, listings: Sequence[Listing], known: Known) -> OrderList:
        """Of an order that is in two lists the later list counts: it ended in between."""
        fields, found = self._record.orders_as, dict[str, Row]()
        nameless: list[Row] = []
        for listing in listings:
            for row in await self.rows(listing, known):
                order_id = at(row, fields.id)
                if isinstance(order_id, str | int):
                    found[str(order_id)] = row
                else:
                    nameless.append(row)
        rows = [
            row
            for row in [*found.values(), *nameless]
            if not self._reader.is_of_another(row, fields.symbol, known.get("symbol"))
        ]
        orders = read_orders(self._reader.order, rows)
        reports = tuple(sorted(orders, key=lambda report: report.at))
        return OrderList(reports, orders.unreadable)

    async def _row_of(self, names: Mapping[str, str | None]) -> Row | None:
        """The newest order with our client id. Filters are looked after: they may not have held."""
        client_id = names["client_id"]
        since = times(self._clock.now() - timedelta(days=self._record.lookup_days))

        def ours(rows: Sequence[Row]) -> list[Row]:
            return [row for row in rows if at(row, self._record.orders_as.client_id) == client_id]

        for listing in self._record.lookups:
            if listing.needs and names.get(listing.needs) is None:
                continue
            try:
                rows = await self.rows(listing, {**since, **names}, lambda rows: bool(ours(rows)))
            except ExchangeUnavailable as error:
                if (error.status, error.code) not in self._record.not_found:
                    raise
                continue
            if found := ours(rows):
                return max(found, key=self._reader.opened)
        return None

    async def _fills(self, row: Row, names: Mapping[str, str | None]) -> list[Fill]:
        fields = self._record.fills_as
        order_id = order_id_of(row, self._record.orders_as.id)
        since = times(self._reader.opened(row) - _MARGIN)
        known = {**names, **since, "order_id": order_id}
        rows = await self.rows(self._record.order_fills, known)
        return self._ordered(
            [one for one in rows if str(at(one, fields.order)) == order_id], names["symbol"]
        )

    def _ordered(self, rows: Sequence[Row], symbol: str | None) -> list[Fill]:
        path = self._record.fills_as.symbol
        wanted = [row for row in rows if not self._reader.is_of_another(row, path, symbol)]
        found = {fill.fill_id: fill for fill in (self._reader.fill(row) for row in wanted)}
        return sorted(found.values(), key=_place)

    def _trade_id(self, row: Row) -> str:
        return order_id_of(row, self._record.fills_as.id)


def _place(fill: Fill) -> Any:
    text = fill.trade_id or ""
    return fill.timestamp, int(text) if text.isdecimal() else 0, text


def _is_later(trade_id: str, than: str) -> bool:
    """Whether an id comes after another, as far as ids tell; texts that differ may."""
    if trade_id.isdecimal() and than.isdecimal():
        return int(trade_id) > int(than)
    return trade_id != than
