"""Queries that only read, each on a connection of the caller's."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from activities.store.claims import stored_claim
from activities.store.journal import entry_of
from activities.store.prepared import Prepared
from activities.store.rows import STATE_COLUMNS, fill_of, state_of
from activities.store.schema import (
    cursors,
    journal_head,
    meta,
    order_events,
    orders,
    send_claims,
)
from activities.store.statements import FILLS_OF_ORDER, KNOWN_FILLS, TRADING_STATES, beside
from activities.store.types import (
    ClaimKey,
    JournalEntry,
    Listing,
    OrderFilter,
    Standing,
    StoredClaim,
)
from trading.oms.enums import OPEN_STATUSES, TradingState
from trading.oms.errors import UnreadableOrder
from trading.oms.models import Fill, Order, OrderState

_log = logging.getLogger(__name__)
_STATE = Prepared(
    sa.select(*STATE_COLUMNS).where(orders.c.client_order_id == sa.bindparam("order_id"))
)
_STATE_AND_WHOSE = Prepared(
    sa.select(*STATE_COLUMNS, orders.c.order_json.is_not(None).label("is_ours")).where(
        orders.c.client_order_id == sa.bindparam("order_id")
    )
)
_SENDING = Prepared(
    sa.select(send_claims.c.leg, send_claims.c.generation).where(
        send_claims.c.order_id == sa.bindparam("order_id"), send_claims.c.outcome.is_(None)
    )
)
_TRADER_ORDER = sa.select(orders.c.order_json).where(
    orders.c.client_order_id == sa.bindparam("order_id")
)
_CLAIMS = Prepared(
    sa.select(send_claims)
    .where(send_claims.c.order_id == sa.bindparam("order_id"))
    .order_by(send_claims.c.leg, send_claims.c.generation)
)
_ENTRIES = (
    sa.select(order_events)
    .where(order_events.c.sequence > sa.bindparam("after"))
    .order_by(order_events.c.sequence)
    .limit(sa.bindparam("count"))
)
_ENTRIES_OF_ORDER = (
    sa.select(order_events)
    .where(
        order_events.c.order_id == sa.bindparam("order_id"),
        order_events.c.order_sequence > sa.bindparam("after"),
    )
    .order_by(order_events.c.order_sequence)
    .limit(sa.bindparam("count"))
)
_STATES_AT_ONCE = 500
_HEAD = sa.select(journal_head.c.sequence)
_EPOCH = sa.select(meta.c.value).where(meta.c.name == "epoch")
_CURSOR = Prepared(sa.select(cursors.c.value).where(cursors.c.name == sa.bindparam("name")))


def order(connection: sa.Connection, order_id: str) -> OrderState | None:
    """One order's state."""
    rows = _STATE.read(connection, {"order_id": order_id})
    return state_of(rows[0]._asdict()) if rows else None


def standing(connection: sa.Connection, order_id: str, fill_ids: Sequence[str]) -> Standing:
    """An order beside reports of it; the sends first, so that the state knows how they ended."""
    names = {"order_id": order_id}
    sends = frozenset(ClaimKey(order_id, *row) for row in _SENDING.read(connection, names))
    rows = _STATE_AND_WHOSE.read(connection, names)
    known = frozenset(fills_known(connection, fill_ids) if fill_ids else ())
    if not rows:
        return Standing(None, False, sends, known)
    return Standing(state_of(rows[0]._asdict()), rows[0].is_ours, sends, known)


def trader_order(connection: sa.Connection, order_id: str) -> Order | None:
    """One order as the trader gave it."""
    text = connection.scalar(_TRADER_ORDER, {"order_id": order_id})
    return None if text is None else Order.model_validate_json(text)


def order_rows(
    connection: sa.Connection, wanted: OrderFilter, limit: int | None
) -> list[sa.Row[Any]]:
    """The rows of the orders that pass a filter, newest first."""
    return list(connection.execute(_orders_query(wanted, limit)))


async def states_of(rows: Sequence[sa.Row[Any]]) -> Listing:
    """The states in the rows; of tens of thousands it takes seconds, and others go on meanwhile."""
    found = Listing([], [])
    for number, row in enumerate(rows):
        if number % _STATES_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            found.orders.append(state_of(row._asdict()))
        except UnreadableOrder as error:
            found.unreadable.append(error)
            _log.warning("%s; it is left out of the list", error)
    return found


def _orders_query(wanted: OrderFilter, limit: int | None) -> sa.Select[Any]:
    columns = orders.c
    query = sa.select(*STATE_COLUMNS)
    statuses = wanted.statuses or (OPEN_STATUSES if wanted.in_doubt_only else frozenset())
    # Few are open, and of all the newest are found by their time.
    names = ("symbol", "strategy_id", "parent_order_id")
    is_wide = limit is not None and all(getattr(wanted, name) is None for name in names)
    few = (statuses and statuses <= OPEN_STATUSES) or is_wide
    for name in ("exchange", "account", *names):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where((beside(columns[name]) if few else columns[name]) == value)
    if wanted.external is not None:
        query = query.where(columns.external == wanted.external)
    if statuses:
        query = query.where(columns.status.in_(sorted(s.value for s in statuses)))
    if wanted.in_doubt_only:
        query = query.where(columns.in_doubt_since.is_not(None))
    if wanted.created_before is not None:
        query = query.where(columns.created_at < wanted.created_before)
    query = query.order_by(columns.created_at.desc(), columns.client_order_id)
    return query if limit is None else query.limit(limit)


def fills_of_order(connection: sa.Connection, order_id: str) -> list[Fill]:
    """An order's fills, oldest first."""
    rows = FILLS_OF_ORDER.read(connection, {"order_id": order_id})
    return [fill_of(row._asdict()) for row in rows]


def fills_known(connection: sa.Connection, fill_ids: Sequence[str]) -> set[str]:
    """Those of the fills that are booked."""
    return {row.fill_id for row in KNOWN_FILLS.read(connection, {"keys": fill_ids})}


def claims_of_order(connection: sa.Connection, order_id: str) -> list[StoredClaim]:
    """An order's send claims."""
    rows = _CLAIMS.read(connection, {"order_id": order_id})
    return [stored_claim(row) for row in rows]


def claim_by(
    connection: sa.Connection, exchange: str, account: str, exchange_client_id: str
) -> ClaimKey | None:
    """The claim with a client id at an exchange."""
    columns = send_claims.c
    query = sa.select(columns.order_id, columns.leg, columns.generation).where(
        columns.exchange == exchange,
        columns.account == account,
        columns.exchange_client_id == exchange_client_id,
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else ClaimKey(*row)


def order_id_by_exchange_id(
    connection: sa.Connection, where: tuple[str, str, str], exchange_order_id: str
) -> str | None:
    """The order that carries (or carried, by its claims) an exchange's order id.

    `where` is exchange, account and symbol: an exchange may count its order ids per symbol.
    """
    exchange, account, symbol = where
    claims = send_claims.c
    claimed = (
        sa.select(claims.order_id)
        .where(
            claims.exchange == exchange,
            claims.account == account,
            claims.symbol.in_([symbol, ""]),
            claims.exchange_order_id == exchange_order_id,
        )
        .order_by(claims.symbol.desc(), claims.claimed_at.desc())
        .limit(1)
    )
    carried = (
        sa.select(orders.c.client_order_id)
        .where(
            orders.c.exchange == exchange,
            orders.c.account == account,
            orders.c.symbol == symbol,
            orders.c.exchange_order_id == exchange_order_id,
        )
        .limit(1)
    )
    found: str | None = connection.scalar(claimed) or connection.scalar(carried)
    return found


def entries(
    connection: sa.Connection, after: int, limit: int, names: Collection[str] | None = None
) -> list[JournalEntry]:
    """The journal after a sequence; of it, where `names` are given, the events of these names."""
    query = _ENTRIES if names is None else _ENTRIES.where(order_events.c.name.in_(sorted(names)))
    rows = connection.execute(query, {"after": after, "count": limit})
    return [entry_of(row) for row in rows]


def entries_of_order(
    connection: sa.Connection, order_id: str, after: int, limit: int
) -> list[JournalEntry]:
    """One order's journal after a number of its own."""
    values = {"order_id": order_id, "after": after, "count": limit}
    return [entry_of(row) for row in connection.execute(_ENTRIES_OF_ORDER, values)]


def trading_states(connection: sa.Connection) -> dict[str, TradingState]:
    """Every scope that was ever set."""
    return {row.scope: TradingState(row.state) for row in TRADING_STATES.read(connection)}


def head(connection: sa.Connection) -> int:
    """The sequence of the newest entry."""
    return int(connection.scalar(_HEAD) or 0)


def newest_until(connection: sa.Connection, at: datetime) -> int:
    """The newest entry that was committed until then; 0: none was."""
    query = (
        sa.select(order_events.c.sequence)
        .where(order_events.c.committed_at <= at)
        .order_by(order_events.c.sequence.desc())
        .limit(1)
    )
    return int(connection.scalar(query) or 0)


def epoch(connection: sa.Connection) -> str:
    """The store's own id."""
    return str(connection.scalar(_EPOCH))


def cursor(connection: sa.Connection, name: str) -> str | None:
    """Where a cursor stands."""
    rows = _CURSOR.read(connection, {"name": name})
    return rows[0].value if rows else None
