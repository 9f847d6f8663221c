"""Queries that only read, each on a connection of the caller's."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store.claims import stored_claim
from activities.store.journal import entry_of
from activities.store.rows import STATE_COLUMNS, fill_of, state_of
from activities.store.schema import fills, order_events, orders, send_claims
from activities.store.types import ClaimKey, JournalEntry, OrderFilter, StoredClaim
from trading.oms.models import Fill, OrderState

_STATE = sa.select(*STATE_COLUMNS).where(orders.c.client_order_id == sa.bindparam("order_id"))
_FILLS = (
    sa.select(fills)
    .where(fills.c.order_id == sa.bindparam("order_id"))
    .order_by(fills.c.timestamp, fills.c.fill_id)
)
_CLAIMS = (
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


async def order(connection: AsyncConnection, order_id: str) -> OrderState | None:
    """One order's state."""
    row = (await connection.execute(_STATE, {"order_id": order_id})).one_or_none()
    return None if row is None else state_of(row)


async def orders_list(
    connection: AsyncConnection, wanted: OrderFilter, limit: int | None
) -> list[OrderState]:
    """The orders that pass a filter, newest first."""
    return [state_of(row) for row in await connection.execute(_orders_query(wanted, limit))]


def _orders_query(wanted: OrderFilter, limit: int | None) -> sa.Select[Any]:
    columns = orders.c
    query = sa.select(*STATE_COLUMNS)
    for name in ("exchange", "account", "symbol", "strategy_id", "parent_order_id", "external"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(columns[name] == value)
    if wanted.statuses:
        query = query.where(columns.status.in_(sorted(s.value for s in wanted.statuses)))
    if wanted.in_doubt_only:
        query = query.where(columns.in_doubt_since.is_not(None))
    if wanted.created_before is not None:
        query = query.where(columns.created_at < wanted.created_before)
    query = query.order_by(columns.created_at.desc(), columns.client_order_id)
    return query if limit is None else query.limit(limit)


async def fills_of_order(connection: AsyncConnection, order_id: str) -> list[Fill]:
    """An order's fills, oldest first."""
    return [fill_of(row) for row in await connection.execute(_FILLS, {"order_id": order_id})]


async def claims_of_order(connection: AsyncConnection, order_id: str) -> list[StoredClaim]:
    """An order's send claims."""
    rows = await connection.execute(_CLAIMS, {"order_id": order_id})
    return [stored_claim(row) for row in rows]


async def claim_by(
    connection: AsyncConnection, exchange: str, account: str, **ids: str
) -> ClaimKey | None:
    """The newest claim with an id at an exchange."""
    columns = send_claims.c
    query = (
        sa.select(columns.order_id, columns.leg, columns.generation)
        .where(columns.exchange == exchange, columns.account == account)
        .where(*(columns[name] == value for name, value in ids.items()))
        .order_by(columns.claimed_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else ClaimKey(*row)


async def order_id_by_exchange_id(
    connection: AsyncConnection, exchange: str, account: str, exchange_order_id: str
) -> str | None:
    """The order that carries (or carried, by its claims) an exchange's order id."""
    claim = await claim_by(connection, exchange, account, exchange_order_id=exchange_order_id)
    if claim is not None:
        return claim.order_id
    columns = orders.c
    found: str | None = await connection.scalar(
        sa.select(columns.client_order_id)
        .where(
            columns.exchange == exchange,
            columns.account == account,
            columns.exchange_order_id == exchange_order_id,
        )
        .limit(1)
    )
    return found


async def entries(connection: AsyncConnection, after: int, limit: int) -> list[JournalEntry]:
    """The journal after a sequence."""
    rows = await connection.execute(_ENTRIES, {"after": after, "count": limit})
    return [entry_of(row) for row in rows]


async def entries_of_order(
    connection: AsyncConnection, order_id: str, after: int, limit: int
) -> list[JournalEntry]:
    """One order's journal after a number of its own."""
    values = {"order_id": order_id, "after": after, "count": limit}
    return [entry_of(row) for row in await connection.execute(_ENTRIES_OF_ORDER, values)]
