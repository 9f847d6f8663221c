"""A store with a past: old, closed orders, copied from one real order by SQL.

Each copy has every row that the real order has left (order, journal, fill, claim, reservation,
inbox) under names of its own. The journal stays dense and its head moves along. What no order owns,
as positions and balances, stays as it is; all copies are of one moment a month ago.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from activities.store import Store, StoreSettings
from activities.store.engine import Engines, make_engines, store_url
from activities.store.schema import (
    execution_inbox,
    fills,
    journal_head,
    order_events,
    orders,
    reservations,
    send_claims,
)
from trading.oms.enums import OrderStatus

_AGE = timedelta(days=30)
_CHUNK = 1000
"""Copies in one transaction, so that what belongs together lies together on the disk."""
_WITHIN_S = 600.0
_FIRST, _DIGITS = 10**9, 10
"""The number of a copy ends each of its names."""
_NAME_CHARS_MIN = 20
"""A shorter name (as the exchange's number of an order) may occur in a text by chance."""
Row = dict[str, Any]
_Found = TypeVar("_Found")


class Books(NamedTuple):
    """A store, and the exchange whose account it is of."""

    exchange: str
    url: str


@dataclass(frozen=True)
class RealOrder:
    """The rows of one closed order: first those of `orders`, at last those of the journal."""

    rows: list[tuple[sa.Table, Row]]
    names: frozenset[str]
    """What every copy needs one of its own of: ids of the order, its fill, its reports."""

    @property
    def entries(self) -> int:
        """How many rows the journal has of it."""
        return sum(table is order_events for table, _ in self.rows)


async def fill(source: Books, target: Books, journal_rows: int) -> int:
    """Fill a new store with copies of an order of another one; how many orders it has then.

    Neither is running. The journal gets `journal_rows` rows, less what would be part of an order.
    """
    real = await _run(source.url, _filled_order)
    old = _aged(real, {source.exchange: target.exchange})
    copies = journal_rows // old.entries
    await (await Store.open(target.url, create=True)).close()
    for first in range(0, copies, _CHUNK):
        last = min(first + _CHUNK, copies) - 1
        await _run(target.url, partial(_copy, real=old, first=first, last=last))
    await _vacuum(target.url)
    return copies


@contextlib.asynccontextmanager
async def _engines(url: str) -> AsyncIterator[Engines]:
    engines = make_engines(store_url(url), StoreSettings(), _WITHIN_S)
    try:
        yield engines
    finally:
        await engines.dispose()


async def _run(url: str, work: Callable[[sa.Connection], _Found]) -> _Found:
    async with _engines(url) as engines:
        return await engines.writes.run(work)


async def _vacuum(url: str) -> None:
    """As PostgreSQL would by itself, which would else come in the middle of a measurement."""
    async with _engines(url) as engines:
        if engines.listener is not None:  # SQLite has none, and needs no vacuum.
            async with engines.listener.connect() as connection:
                await connection.exec_driver_sql("VACUUM ANALYZE")


def _filled_order(connection: sa.Connection) -> RealOrder:
    query = sa.select(orders).where(orders.c.status == OrderStatus.FILLED.value).limit(1)
    order = dict(connection.execute(query).mappings().one())
    own = order["client_order_id"]
    found = [(orders, order)]
    for table in (fills, send_claims, reservations, order_events):
        found += _rows(connection, table, table.c.order_id == own)
    reports = execution_inbox.c
    found[1:1] = _rows(
        connection,
        execution_inbox,
        reports.exchange_order_id == order["exchange_order_id"],
        reports.delivered_at.is_not(None),
    )
    names = {own, order["exchange_client_id"], order["exchange_order_id"]}
    names |= {row[key] for _, row in found for key in ("fill_id", "key") if key in row}
    return RealOrder(found, frozenset(names))


def _rows(
    connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]
) -> list[tuple[sa.Table, Row]]:
    query = sa.select(table).where(*where).order_by(*table.primary_key.columns)
    return [(table, dict(row)) for row in connection.execute(query).mappings()]


def _aged(real: RealOrder, accounts: dict[str, str]) -> RealOrder:
    """The order of long ago, at another exchange: `accounts` has its new name by the old one."""

    def aged(value: Any) -> Any:
        if isinstance(value, datetime):
            return value - _AGE
        if isinstance(value, str):
            for old, new in accounts.items():
                value = new if value == old else value.replace(f'"{old}"', f'"{new}"')
        return value

    rows = [(table, {name: aged(v) for name, v in row.items()}) for table, row in real.rows]
    return RealOrder(rows, real.names)


def _copy(connection: sa.Connection, real: RealOrder, first: int, last: int) -> None:
    """Insert the copies with these numbers, and move the journal's head."""
    head: int = connection.execute(sa.select(journal_head.c.sequence)).scalar_one()
    numbers = sa.select(sa.literal(first).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.number + 1).where(numbers.c.number < last))
    number, place = numbers.c.number, 0
    for table, row in real.rows:
        values = {name: _of_copy(table.c[name], v, real.names, number) for name, v in row.items()}
        if table is order_events:
            place += 1
            values["sequence"] = head + place + (number - first) * real.entries
        if table is execution_inbox:
            del values["id"]  # The database numbers them.
        connection.execute(sa.insert(table).from_select(list(values), sa.select(*values.values())))
    moved = head + (last - first + 1) * real.entries
    connection.execute(sa.update(journal_head).values(sequence=moved))


def _of_copy(
    column: sa.Column[Any], value: Any, names: frozenset[str], number: sa.ColumnElement[int]
) -> sa.ColumnElement[Any]:
    """What a copy has in this column: the same, with its own number at the end of each name."""
    if value is None:
        return sa.null()
    if not isinstance(value, str):
        return sa.literal(value, column.type)
    ending = sa.cast(number + _FIRST, sa.Text)
    if value in names:
        is_long = len(value) >= _NAME_CHARS_MIN
        return sa.literal(value[:-_DIGITS] if is_long else f"{value}-") + ending
    text: sa.ColumnElement[Any] = sa.literal(value)
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _NAME_CHARS_MIN and name in value:
            text = sa.func.replace(text, name, sa.literal(name[:-_DIGITS]) + ending)
    return text
