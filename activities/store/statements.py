"""The statements of the writer, built once. A list of keys is one parameter, whatever its length.

A statement's text therefore never depends on the size of a batch, and both databases prepare it
once.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement

from activities.store.columns import Keys
from activities.store.prepared import Prepared
from activities.store.rows import CHANGING, STATE_COLUMNS
from activities.store.schema import (
    fills,
    journal_head,
    order_events,
    orders,
    send_claims,
    trading_states,
)

CHANNEL = "oms_journal"
_TRADING_LOCK = 0x6F6D_7302


class Among(ColumnElement[bool]):
    """`column` is one of the keys in the bound list `name`."""

    inherit_cache = True
    type = sa.Boolean()
    _traverse_internals = [  # noqa: RUF012 - SQLAlchemy's own declaration of a cache key
        ("column", sa.sql.visitors.InternalTraversal.dp_clauseelement),
        ("listed", sa.sql.visitors.InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, column: ColumnElement[Any], name: str = "keys") -> None:
        """Compare `column` with a list of texts."""
        self.column = column
        self.listed = sa.bindparam(name, type_=Keys())

    def self_group(self, against: Any = None) -> "Among":  # noqa: ARG002 - SQLAlchemy's own
        """Stay as it is: compared with 1, as SQLite would get it, no index serves it."""
        return self


@compiles(Among)
def _in_array(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.column, **options)
    return f"{column} = ANY ({compiler.process(element.listed, **options)})"


@compiles(Among, "sqlite")
def _in_json(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.column, **options)
    keys = compiler.process(element.listed, **options)
    return f"{column} IN (SELECT value FROM json_each({keys}))"  # noqa: S608 - compiled parts


def beside(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column where another condition finds few rows and this one would find most.

    No index serves it so. SQLite, which knows nothing of how many rows a value has, would else
    take the exchange for the better key than the status, and read all orders ever made there.
    """
    return sa.func.coalesce(column, sa.literal_column("''"))


IS_SENT = sa.or_(orders.c.submitted_at.is_not(None), orders.c.external.is_(sa.true()))
"""The exchange may know the order: we have claimed a send of it, or somebody else has placed it."""
LOCK_TRADING_SHARED = Prepared(sa.text(f"SELECT pg_advisory_xact_lock_shared({_TRADING_LOCK})"))
LOCK_TRADING = Prepared(sa.text(f"SELECT pg_advisory_xact_lock({_TRADING_LOCK})"))
TRADING_STATES = Prepared(sa.select(trading_states.c.scope, trading_states.c.state))

LOCK_ORDERS = Prepared(
    sa.select(*STATE_COLUMNS)
    .where(Among(orders.c.client_order_id))
    .order_by(orders.c.client_order_id)
    .with_for_update(key_share=True)
)
LEGS = Prepared(sa.select(*STATE_COLUMNS).where(Among(orders.c.parent_order_id)))
ORDER_JSON = Prepared(
    sa.select(orders.c.client_order_id, orders.c.content_hash, orders.c.order_json).where(
        Among(orders.c.client_order_id)
    )
)
KNOWN_FILLS = Prepared(sa.select(fills.c.fill_id).where(Among(fills.c.fill_id)))
CLAIMS_OF_ORDERS = Prepared(sa.select(send_claims).where(Among(send_claims.c.order_id)))
KNOWN_FINGERPRINTS = Prepared(
    sa.select(order_events.c.order_id, order_events.c.name, order_events.c.fingerprint).where(
        Among(order_events.c.order_id), order_events.c.fingerprint.is_not(None)
    )
)

INSERT_ORDER = Prepared(sa.insert(orders), orders.c.keys())
UPDATE_ORDER = Prepared(
    sa.update(orders)
    .where(orders.c.client_order_id == sa.bindparam("key"))
    .values({name: sa.bindparam(name) for name in CHANGING})
)
FILLS_OF_ORDER = Prepared(
    sa.select(fills)
    .where(fills.c.order_id == sa.bindparam("order_id"))
    .order_by(fills.c.timestamp, fills.c.fill_id)
)
INSERT_FILL = Prepared(sa.insert(fills), fills.c.keys())

CLAIM_CHANGING = (
    "exchange_client_id",
    "exchange_order_id",
    "request",
    "stamp",
    "claimant",
    "ticket",
    "claimed_at",
    "outcome",
    "answer",
    "settled_at",
)
INSERT_CLAIM = Prepared(sa.insert(send_claims), send_claims.c.keys())
UPDATE_CLAIM = Prepared(
    sa.update(send_claims)
    .where(
        send_claims.c.order_id == sa.bindparam("k_order"),
        send_claims.c.leg == sa.bindparam("k_leg"),
        send_claims.c.generation == sa.bindparam("k_gen"),
    )
    .values({name: sa.bindparam(name) for name in CLAIM_CHANGING})
)

_TAKE = (
    sa.update(journal_head)
    .values(sequence=journal_head.c.sequence + sa.bindparam("count", type_=sa.BigInteger()))
    .returning(journal_head.c.sequence)
)
_taken = _TAKE.cte("taken")
_and_notify = sa.func.pg_notify(
    sa.literal_column(f"'{CHANNEL}'"), sa.cast(_taken.c.sequence, sa.Text())
)
TAKE_SEQUENCES = {
    "postgresql": Prepared(sa.select(_taken.c.sequence, _and_notify)),
    "sqlite": Prepared(_TAKE),
}
INSERT_ENTRY = Prepared(sa.insert(order_events), order_events.c.keys())
