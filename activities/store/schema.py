"""The tables, once for both databases. `migrations/versions` brings a database to this schema.

`orders` and `fills` have the specification's columns and indexes under its names, with wider
decimals and aware times; what stands below "Beyond the specification" is ours.
"""

from typing import Any

import sqlalchemy as sa

from activities.store.columns import Exact, Json, UtcTime

SCHEMA_VERSION = "0011"
"""The newest migration; a store with another version is refused when it is opened."""

metadata = sa.MetaData()
_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

orders = sa.Table(
    "orders",
    metadata,
    sa.Column("client_order_id", sa.String(64), primary_key=True),
    sa.Column("exchange_order_id", sa.String(64)),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("side", sa.String(4), nullable=False),
    sa.Column("order_type", sa.String(16), nullable=False),
    sa.Column("quantity", Exact(), nullable=False),
    sa.Column("price", Exact()),
    sa.Column("stop_price", Exact()),
    sa.Column("time_in_force", sa.String(8), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("filled_quantity", Exact(60), nullable=False),
    sa.Column("average_fill_price", Exact()),
    sa.Column("created_at", UtcTime(), nullable=False),
    sa.Column("submitted_at", UtcTime()),
    sa.Column("last_updated_at", UtcTime(), nullable=False),
    sa.Column("strategy_id", sa.String(64)),
    sa.Column("fees", Exact(60), nullable=False),
    sa.Column("rejection_reason", sa.Text()),
    sa.Column("metadata", Json(), nullable=False),
    # Beyond the specification.
    sa.Column("parent_order_id", sa.String(64)),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("exchange_client_id", sa.String(64)),
    sa.Column("expire_at", UtcTime()),
    sa.Column("post_only", sa.Boolean(), nullable=False),
    sa.Column("reduce_only", sa.Boolean(), nullable=False),
    sa.Column("pending", sa.String(8), nullable=False),
    sa.Column("in_doubt_since", UtcTime()),
    sa.Column("ended_as", sa.String(32)),
    sa.Column("leg", sa.Integer(), nullable=False),
    sa.Column("replacing", sa.Boolean(), nullable=False),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("sequence", sa.Integer(), nullable=False),
    sa.Column("remaining_quantity", Exact(60), nullable=False),
    sa.Column("filled_notional", Exact(60), nullable=False),
    sa.Column("inferred_quantity", Exact(60), nullable=False),
    sa.Column("rerouted_quantity", Exact(60), nullable=False),
    sa.Column("fees_by_currency", Json(), nullable=False),
    sa.Column("rejected_by", sa.String(16)),
    sa.Column("reason_code", sa.String(64)),
    sa.Column("content_hash", sa.String(64)),
    sa.Column("order_json", sa.Text()),
    sa.Column("external", sa.Boolean(), nullable=False),
    sa.Index("idx_orders_status", "status"),
    sa.Index("idx_orders_exchange_symbol", "exchange", "symbol"),
    sa.Index("idx_orders_strategy", "strategy_id"),
    sa.Index("idx_orders_created_at", "created_at"),
    sa.Index("idx_orders_last_updated_at", "last_updated_at"),
    sa.Index("idx_orders_exchange_order", "exchange_order_id", "exchange", "account"),
    sa.Index("idx_orders_parent", "parent_order_id"),
)

fills = sa.Table(
    "fills",
    metadata,
    sa.Column("fill_id", sa.String(64), primary_key=True),
    sa.Column("order_id", sa.String(64), sa.ForeignKey("orders.client_order_id"), nullable=False),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("side", sa.String(4), nullable=False),
    sa.Column("quantity", Exact(), nullable=False),
    sa.Column("price", Exact(), nullable=False),
    sa.Column("fee", Exact(), nullable=False),
    sa.Column("fee_currency", sa.String(16), nullable=False),
    sa.Column("timestamp", UtcTime(), nullable=False),
    sa.Column("trade_id", sa.String(64)),
    sa.Column("is_maker", sa.Boolean()),
    # Beyond the specification.
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("exchange_order_id", sa.String(64)),
    sa.Column("inferred", sa.Boolean(), nullable=False),
    sa.Column("received_at", UtcTime(), nullable=False),
    sa.Column("booked_at", UtcTime(), nullable=False),
    sa.Index("idx_fills_order_id", "order_id"),
    sa.Index("idx_fills_timestamp", "timestamp"),
    sa.Index("idx_fills_account_time", "exchange", "account", "timestamp"),
)

order_events = sa.Table(
    "order_events",
    metadata,
    # Given out under the lock of `journal_head`, so a reader never skips an uncommitted one.
    sa.Column("sequence", _Serial, primary_key=True, autoincrement=False),
    # No foreign key: each entry is written under the lock of its order's row anyway.
    sa.Column("order_id", sa.String(64), nullable=False),
    sa.Column("order_sequence", sa.Integer(), nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("state", sa.Text(), nullable=False),
    sa.Column("fill", sa.Text()),
    sa.Column("alarm", sa.Text()),
    sa.Column("details", sa.Text()),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("exchange_at", UtcTime(), nullable=False),
    sa.Column("received_at", UtcTime(), nullable=False),
    sa.Column("committed_at", UtcTime(), nullable=False),
    sa.Index("idx_order_events_order", "order_id", "order_sequence", unique=True),
)

journal_head = sa.Table(
    "journal_head",
    metadata,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger(), nullable=False),
)

send_claims = sa.Table(
    "send_claims",
    metadata,
    sa.Column("order_id", sa.String(64), sa.ForeignKey("orders.client_order_id"), primary_key=True),
    sa.Column("leg", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("generation", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("exchange_client_id", sa.String(64), nullable=False),
    sa.Column("exchange_order_id", sa.String(64)),
    sa.Column("request", sa.Text(), nullable=False),
    sa.Column("stamp", sa.Integer(), nullable=False),
    sa.Column("claimant", sa.String(128), nullable=False),
    # Tells a command that is repeated after a lost connection that the claim is its own.
    sa.Column("ticket", sa.String(32), nullable=False),
    sa.Column("claimed_at", UtcTime(), nullable=False),
    sa.Column("outcome", sa.String(16)),
    sa.Column("answer", sa.Text()),
    sa.Column("settled_at", UtcTime()),
    sa.Index("idx_send_claims_client_id", "exchange_client_id", "exchange", "account", unique=True),
    sa.Index("idx_send_claims_exchange_order", "exchange_order_id", "exchange", "account"),
)

trading_states = sa.Table(
    "trading_states",
    metadata,
    sa.Column("scope", sa.String(96), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text()),
    sa.Column("changed_by", sa.String(128), nullable=False),
    sa.Column("changed_at", UtcTime(), nullable=False),
)

execution_inbox = sa.Table(
    "execution_inbox",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32)),
    sa.Column("exchange_client_id", sa.String(64)),
    sa.Column("exchange_order_id", sa.String(64)),
    sa.Column("report", sa.Text(), nullable=False),
    sa.Column("added_at", UtcTime(), nullable=False),
    sa.Column("delivered_at", UtcTime()),
)
sa.Index(
    "idx_execution_inbox_undelivered",
    execution_inbox.c.exchange,
    execution_inbox.c.account,
    execution_inbox.c.id,
    postgresql_where=execution_inbox.c.delivered_at.is_(None),
    sqlite_where=execution_inbox.c.delivered_at.is_(None),
)

cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("value", sa.Text(), nullable=False),
    sa.Column("moved_at", UtcTime(), nullable=False),
)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text(), nullable=False),
)


def _held() -> list[sa.Column[Any]]:
    """What open orders hold: of the quote asset, of the base asset, in quantity, at their price."""
    names = ("quote_amount", "base_amount", "open_quantity", "notional")
    return [sa.Column(name, Exact(60), nullable=False) for name in names]


# What orders may still do to an account. The row of an account is the lock of its others.
risk_accounts = sa.Table(
    "risk_accounts",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    # The balances hold every fill up to `as_of` and none after `as_of_latest`.
    sa.Column("as_of", UtcTime()),
    sa.Column("as_of_latest", UtcTime()),
    sa.Column("fetched_at", UtcTime()),
)

reservations = sa.Table(
    "reservations",
    metadata,
    # No foreign key: each is written under the lock of its order's row.
    sa.Column("order_id", sa.String(64), primary_key=True),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("strategy_id", sa.String(64)),
    sa.Column("side", sa.String(4), nullable=False),
    *_held(),
    sa.Column("price", Exact(60), nullable=False),
    sa.Column("fee_rate", Exact(), nullable=False),
    sa.Column("wanted_quantity", Exact(60)),
    sa.Column("wanted_price", Exact()),
    sa.Column("is_open", sa.Boolean(), nullable=False),
    sa.Column("external", sa.Boolean(), nullable=False),
    sa.Column("reserved_at", UtcTime(), nullable=False),
    sa.Column("changed_at", UtcTime(), nullable=False),
)
sa.Index(
    "idx_reservations_rate",
    reservations.c.exchange,
    reservations.c.account,
    reservations.c.reserved_at,
    postgresql_where=sa.text("NOT external"),
    sqlite_where=sa.text("NOT external"),
)
sa.Index(
    "idx_reservations_open",
    reservations.c.exchange,
    reservations.c.account,
    postgresql_where=sa.text("is_open"),
    sqlite_where=sa.text("is_open"),
)

# The sums of what open reservations hold, moved in the transaction of each change, so that no
# check has to read them all. Where there is no strategy, its name is empty.
reserved_sums = sa.Table(
    "reserved_sums",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("symbol", sa.String(32), primary_key=True),
    sa.Column("side", sa.String(4), primary_key=True),
    sa.Column("strategy_id", sa.String(64), primary_key=True),
    *_held(),
    sa.Column("orders", sa.BigInteger(), nullable=False),
)

balances = sa.Table(
    "balances",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("asset", sa.String(16), primary_key=True),
    sa.Column("total", Exact(60), nullable=False),
    sa.Column("free", Exact(60), nullable=False),
    sa.Column("foreign_locked", Exact(60), nullable=False),
    # What our fills after the watermark have added and taken.
    sa.Column("filled_since", Exact(60), nullable=False),
)

positions = sa.Table(
    "positions",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("symbol", sa.String(32), primary_key=True),
    sa.Column("strategy_id", sa.String(64), primary_key=True),
    sa.Column("quantity", Exact(60), nullable=False),
    sa.Column("cost", Exact(60), nullable=False),
    sa.Column("realised", Exact(60), nullable=False),
    sa.Column("day", sa.String(10), nullable=False),
    sa.Column("realised_on_day", Exact(60), nullable=False),
    sa.Column("changed_at", UtcTime(), nullable=False),
)

position_adjustments = sa.Table(
    "position_adjustments",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("strategy_id", sa.String(64), nullable=False),
    sa.Column("before", Exact(60), nullable=False),
    sa.Column("after", Exact(60), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("changed_by", sa.String(128), nullable=False),
    sa.Column("changed_at", UtcTime(), nullable=False),
)

reconcile_reports = sa.Table(
    "reconcile_reports",
    metadata,
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("exchange", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32), nullable=False),
    sa.Column("started_at", UtcTime(), nullable=False),
    sa.Column("differed", sa.Integer(), nullable=False),
    sa.Column("report", Json(), nullable=False),
    sa.Index("idx_reconcile_reports_time", "started_at"),
)

account_leases = sa.Table(
    "account_leases",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("deployment", sa.String(64), nullable=False),
    sa.Column("taken_at", UtcTime(), nullable=False),
)

# What all processes together have used of an exchange's rate limits (`trading.oms.rate_ledger`).
rate_ledger = sa.Table(
    "rate_ledger",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("document", sa.Text(), nullable=False),
    sa.Column("changed_at", UtcTime(), nullable=False),
)

# What the balances should be, by the opening balances and every fill since.
expected_balances = sa.Table(
    "expected_balances",
    metadata,
    sa.Column("exchange", sa.String(32), primary_key=True),
    sa.Column("account", sa.String(32), primary_key=True),
    sa.Column("asset", sa.String(16), primary_key=True),
    sa.Column("total", Exact(60), nullable=False),
)
