"""Whole tables for an audit, page by page in an order that nothing changes.

Each page is one short statement that begins where the last one ended, so an export of any length
holds neither the table in memory nor a transaction open. What is written meanwhile is in it or
not; what was there before is.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from activities.store.columns import Exact, Json, UtcTime
from activities.store.rows import STATE_COLUMNS
from activities.store.schema import fills, order_events, orders

PAGE = 2000

_Rows = list[dict[str, Any]]
Read = Callable[[Callable[[sa.Connection], _Rows]], Awaitable[_Rows]]


class ExportKind(StrEnum):
    """What can be exported."""

    ORDERS = "orders"
    FILLS = "fills"
    EVENTS = "events"


class ExportFilter(NamedTuple):
    """Which rows; an empty field does not restrict.

    The time is the order's creation, the fill's at the exchange, the event's commit: from `since`
    on, and before `until`. Symbol and strategy are the order's.
    """

    since: datetime | None = None
    until: datetime | None = None
    exchange: str | None = None
    symbol: str | None = None
    strategy_id: str | None = None


class _Source(NamedTuple):
    columns: Sequence[sa.Column[Any]]
    key: Sequence[sa.Column[Any]]
    """What the rows are sorted by: it is unique and never changes."""
    at: sa.Column[Any]
    tables: sa.FromClause


_SOURCES = {
    ExportKind.ORDERS: _Source(
        (*STATE_COLUMNS, orders.c.external),
        (orders.c.created_at, orders.c.client_order_id),
        orders.c.created_at,
        orders,
    ),
    ExportKind.FILLS: _Source(
        (*fills.c, orders.c.strategy_id),
        (fills.c.timestamp, fills.c.fill_id),
        fills.c.timestamp,
        fills.join(orders, fills.c.order_id == orders.c.client_order_id),
    ),
    ExportKind.EVENTS: _Source(
        (
            *(column for column in order_events.c if column.name != "fingerprint"),
            orders.c.exchange,
            orders.c.symbol,
            orders.c.strategy_id,
        ),
        (order_events.c.sequence,),
        order_events.c.committed_at,
        order_events.join(orders, order_events.c.order_id == orders.c.client_order_id),
    ),
}


class Exports:
    """The store's tables for those who take all of them."""

    def __init__(self, read: Read) -> None:
        """`read` runs a query on a connection that reads."""
        self._read = read

    async def pages(self, kind: ExportKind, wanted: ExportFilter) -> AsyncGenerator[_Rows]:
        """The rows, oldest first: decimals as `Decimal`, times aware, JSON as values or text.

        Raises `StoreUnavailable`.
        """
        source = _SOURCES[kind]
        query = _query(source, wanted)
        last: tuple[Any, ...] | None = None
        while True:
            page = query if last is None else query.where(_after(source, last))
            rows = await self._read(partial(_rows, page))
            if rows:
                yield rows
            if len(rows) < PAGE:
                return
            last = tuple(rows[-1][column.name] for column in source.key)


def export_columns(kind: ExportKind) -> dict[str, type]:
    """The columns of an export in their order, with the Python type of their values."""
    return {column.name: _python_type(column.type) for column in _SOURCES[kind].columns}


def _python_type(kind: sa.types.TypeEngine[Any]) -> type:
    ours = {Exact: Decimal, UtcTime: datetime, Json: dict}
    return next((python for sql, python in ours.items() if isinstance(kind, sql)), kind.python_type)


def _rows(page: sa.Select[Any], connection: sa.Connection) -> _Rows:
    return [dict(row) for row in connection.execute(page).mappings()]


def _query(source: _Source, wanted: ExportFilter) -> sa.Select[Any]:
    query = sa.select(*source.columns).select_from(source.tables)
    for name in ("exchange", "symbol", "strategy_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(orders.c[name] == value)
    if wanted.since is not None:
        query = query.where(source.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(source.at < wanted.until)
    return query.order_by(*source.key).limit(PAGE)


def _after(source: _Source, last: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    values = [
        sa.bindparam(None, value, column.type)
        for value, column in zip(last, source.key, strict=True)
    ]
    return sa.tuple_(*source.key) > sa.tuple_(*values)
