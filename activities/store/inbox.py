"""The execution inbox, cursors and trading states: writes that are no order's."""

import functools
import hashlib
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql, sqlite

from activities.store import statements as sql
from activities.store.prepared import Prepared
from activities.store.schema import cursors, execution_inbox, orders, send_claims, trading_states
from activities.store.statements import Among
from activities.store.types import ClaimKey, InboxItem, Unreadable
from trading.oms.enums import TradingState
from trading.oms.models import utc_now
from trading.oms.venue import ExecutionReport

_INBOX = execution_inbox.c
_PRUNED_AT_ONCE = 1000


def report_key(report: ExecutionReport) -> str:
    """What makes two reports the same: their fills, else order, status, total and time."""
    if report.fills:
        parts: list[Any] = ["fills", *sorted(fill.fill_id for fill in report.fills)]
        parts += [report.status]
    else:
        parts = [
            report.exchange_client_id or report.exchange_order_id,
            report.status,
            str(report.cumulative_quantity),
            str(report.quantity),
            str(report.price),
            report.at.isoformat(),
        ]
    text = json.dumps([report.exchange, report.account, report.symbol, *parts])
    return hashlib.sha256(text.encode()).hexdigest()


class InboxAdd:
    """Keep reports for delivery; one that is there already keeps its id."""

    rank = 2

    def __init__(self, reports: Sequence[ExecutionReport]) -> None:
        """Serialise outside the transaction."""
        now = utc_now()
        self._rows: list[dict[str, Any]] = [
            {
                "key": report_key(report),
                "exchange": report.exchange,
                "account": report.account,
                "symbol": report.symbol,
                "exchange_client_id": report.exchange_client_id,
                "exchange_order_id": report.exchange_order_id,
                "report": report.model_dump_json(),
                "added_at": now,
            }
            for report in reports
        ]

    def run(self, connection: sa.Connection) -> list[int]:
        """Insert the new ones, but what another feed has inserted since; the ids as given."""
        keys = [row["key"] for row in self._rows]
        known = self._ids(connection, keys)
        new = {row["key"]: row for row in self._rows if row["key"] not in known}
        if new:
            _INSERT_REPORT[connection.dialect.name].run(connection, new.values())
            known.update(self._ids(connection, sorted(new)))
        return [known[key] for key in keys]

    @staticmethod
    def _ids(connection: sa.Connection, keys: Sequence[str]) -> dict[str, int]:
        return {row.key: row.id for row in _IDS_OF_KEYS.read(connection, {"keys": keys})}


_IDS_OF_KEYS = Prepared(sa.select(_INBOX.key, _INBOX.id).where(Among(_INBOX.key)))
_GIVEN = [column.name for column in _INBOX if column.name not in {"id", "delivered_at"}]
_INSERT_REPORT = {
    name: Prepared(insert(execution_inbox).inline().on_conflict_do_nothing(), _GIVEN)
    for name, insert in (("postgresql", postgresql.insert), ("sqlite", sqlite.insert))
}


class InboxDelivered:
    """Note that reports have been booked by their orders."""

    rank = 3

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids` as `inbox_undelivered` gave them."""
        self._ids = sorted(ids)

    def run(self, connection: sa.Connection) -> None:
        """Keep the first time of delivery."""
        now = utc_now()
        _MARK_DELIVERED.run(connection, [{"item": item, "now": now} for item in self._ids])


_MARK_DELIVERED = Prepared(
    sa.update(execution_inbox)
    .where(_INBOX.id == sa.bindparam("item"), _INBOX.delivered_at.is_(None))
    .values(delivered_at=sa.bindparam("now"))
)


def oldest_query(exchange: str, account: str) -> sa.Select[Any]:
    """When the oldest waiting report was added."""
    return (
        sa.select(_INBOX.added_at)
        .where(
            _INBOX.exchange == exchange,
            _INBOX.account == account,
            _INBOX.delivered_at.is_(None),
        )
        .order_by(_INBOX.id)
        .limit(1)
    )


class Wanted(NamedTuple):
    """Which of the waiting reports: see `Store.inbox_undelivered`."""

    exchange: str
    account: str
    after: int = 0
    but: Collection[str] = ()
    foreign_before: datetime | None = None


def undelivered(
    connection: sa.Connection, wanted: Wanted, limit: int
) -> list[InboxItem | Unreadable]:
    """The waiting reports, oldest first; of claims that share an exchange's id, its symbol's."""
    query = _undelivered_query(but=bool(wanted.but), foreign=wanted.foreign_before is not None)
    values = {**wanted._asdict(), "keys": sorted(wanted.but), "limit": limit}
    found: dict[int, InboxItem | Unreadable] = {}
    for row in connection.execute(query, values):
        item = inbox_item(row)
        fits = isinstance(item, InboxItem) and row.claimed_symbol == item.report.symbol
        if fits or item.id not in found:
            found[item.id] = item
    return list(found.values())


@functools.cache
def _undelivered_query(*, but: bool, foreign: bool) -> sa.Select[Any]:
    """The waiting reports of an account, oldest first, with the order that each belongs to.

    The claim's client id decides; a report without one is matched by the exchange's order id and
    the symbol: an exchange may count its order ids per symbol. What an older worker, beside schema
    0011, has written names no symbol and matches any; `claimed_symbol` then tells which is right.
    """
    by_client, by_exchange = send_claims.alias("by_client"), send_claims.alias("by_exchange")
    same = sa.and_(
        by_client.c.exchange == _INBOX.exchange,
        by_client.c.account == _INBOX.account,
        by_client.c.exchange_client_id == _INBOX.exchange_client_id,
    )
    same_exchange = sa.and_(
        by_client.c.order_id.is_(None),
        by_exchange.c.exchange == _INBOX.exchange,
        by_exchange.c.account == _INBOX.account,
        by_exchange.c.exchange_order_id == _INBOX.exchange_order_id,
        sa.or_(by_exchange.c.symbol.in_([_INBOX.symbol, ""]), _INBOX.symbol.is_(None)),
    )
    known = _carrier()
    ordered = sa.select(orders.c.symbol).where(orders.c.client_order_id == by_exchange.c.order_id)
    claimed = sa.func.coalesce(by_client.c.order_id, by_exchange.c.order_id)
    query = (
        sa.select(
            _INBOX.id,
            _INBOX.report,
            _INBOX.added_at,
            claimed.label("order_id"),
            sa.func.coalesce(by_client.c.leg, by_exchange.c.leg).label("leg"),
            sa.func.coalesce(by_client.c.generation, by_exchange.c.generation).label("generation"),
            known.label("known_order_id"),
            ordered.scalar_subquery().label("claimed_symbol"),
        )
        .select_from(
            execution_inbox.outerjoin(by_client, same).outerjoin(by_exchange, same_exchange)
        )
        .where(
            _INBOX.exchange == sa.bindparam("exchange"),
            _INBOX.account == sa.bindparam("account"),
            _INBOX.delivered_at.is_(None),
            _INBOX.id > sa.bindparam("after"),
        )
        .order_by(_INBOX.id)
        .limit(sa.bindparam("limit"))
    )
    return _left_out(query, sa.func.coalesce(claimed, known), but=but, foreign=foreign)


def _carrier() -> sa.ScalarSelect[Any]:
    """The order that has a report's exchange order id, whether or not there is a claim."""
    return (
        sa.select(sa.func.min(orders.c.client_order_id))
        .where(
            orders.c.exchange == _INBOX.exchange,
            orders.c.account == _INBOX.account,
            orders.c.exchange_order_id == _INBOX.exchange_order_id,
            sa.or_(orders.c.symbol == _INBOX.symbol, _INBOX.symbol.is_(None)),
        )
        .scalar_subquery()
    )


def _left_out(
    query: sa.Select[Any], order: sa.ColumnElement[Any], *, but: bool, foreign: bool
) -> sa.Select[Any]:
    if foreign:
        is_old = _INBOX.added_at < sa.bindparam("foreign_before")
        query = query.where(order.is_not(None) | is_old)
    return query.where(order.is_(None) | ~Among(order)) if but else query


def inbox_item(row: sa.Row[Any]) -> InboxItem | Unreadable:
    """A row of `_undelivered_query`."""
    order_id = row.order_id or row.known_order_id
    try:
        report = ExecutionReport.model_validate_json(row.report)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        words = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        return Unreadable(row.id, order_id, row.added_at, words)
    return InboxItem(
        id=row.id,
        report=report,
        order_id=order_id,
        claim=ClaimKey(row.order_id, row.leg, row.generation) if row.order_id else None,
        added_at=row.added_at,
    )


class InboxPrune:
    """Forget reports that were delivered before a time, a thousand of the oldest at once."""

    rank = 3

    def __init__(self, delivered_before: datetime) -> None:
        """What is not delivered is never forgotten."""
        oldest = sa.select(_INBOX.id).order_by(_INBOX.id).limit(_PRUNED_AT_ONCE)
        self._statement = sa.delete(execution_inbox).where(
            _INBOX.id.in_(oldest), _INBOX.delivered_at < delivered_before
        )

    def run(self, connection: sa.Connection) -> int:
        """How many were forgotten."""
        return connection.execute(self._statement).rowcount


class AdvanceCursor:
    """Move a cursor by compare-and-set; it never goes back."""

    rank = 4

    def __init__(self, name: str, expected: str | None, new: str) -> None:
        """`expected` is the value that the caller has seen, None for none."""
        self._name = name
        self._expected = expected
        self._new = new

    def run(self, connection: sa.Connection) -> bool:
        """Whether the cursor stands at the new value now."""
        rows = _LOCK_CURSOR.read(connection, {"name": self._name})
        known = rows[0].value if rows else None
        if known == self._new:
            return True
        if known != self._expected or _goes_back(known, self._new):
            return False
        write = _MAKE_CURSOR if known is None else _MOVE_CURSOR
        row = {"name": self._name, "value": self._new, "moved_at": utc_now()}
        write.run(connection, [row])
        return True


_LOCK_CURSOR = Prepared(
    sa.select(cursors.c.value).where(cursors.c.name == sa.bindparam("name")).with_for_update()
)
_MAKE_CURSOR = Prepared(sa.insert(cursors), cursors.c.keys())
_MOVE_CURSOR = Prepared(
    sa.update(cursors)
    .where(cursors.c.name == sa.bindparam("name"))
    .values(value=sa.bindparam("value"), moved_at=sa.bindparam("moved_at"))
)


def once(connection: sa.Connection, name: str, value: str) -> str | None:
    """Note a value under a name that serves once; what was noted there before, None where nothing.

    With a name of its own a command knows itself again after a commit whose answer was lost.
    """
    for row in _LOCK_CURSOR.read(connection, {"name": name}):
        return str(row.value)
    _MAKE_CURSOR.run(connection, [{"name": name, "value": value, "moved_at": utc_now()}])
    return None


def _goes_back(known: str | None, new: str) -> bool:
    """Digits compare as numbers; other cursors have no order of their own."""
    if known is None or not (known.isdecimal() and new.isdecimal()):
        return False
    return int(new) < int(known)


class SetTradingState:
    """Halt or resume. When it is committed, no later claim overlooks it."""

    rank = 1

    def __init__(self, scope: str, state: TradingState, reason: str | None, by: str) -> None:
        """`scope` is "all", "account:EXCHANGE/ACCOUNT" or "strategy:ID"."""
        self._values = {"state": state.value, "reason": reason, "changed_by": by}
        self._scope = scope

    def run(self, connection: sa.Connection) -> None:
        """Wait for the claims that are under way, then write."""
        if connection.dialect.name == "postgresql":
            sql.LOCK_TRADING.read(connection)
        values = {**self._values, "changed_at": utc_now()}
        update = sa.update(trading_states).where(trading_states.c.scope == self._scope)
        if connection.execute(update.values(**values)).rowcount == 0:
            connection.execute(sa.insert(trading_states).values(scope=self._scope, **values))
