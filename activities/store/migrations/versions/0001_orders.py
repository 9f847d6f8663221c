"""Orders, fills, the journal, send claims, the inbox and cursors."""

import uuid

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact, Json, UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the first schema."""
    op.create_table(
        "orders",
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
        sa.Index("idx_orders_exchange_order", "exchange", "account", "exchange_order_id"),
        sa.Index("idx_orders_parent", "parent_order_id"),
    )
    op.create_table(
        "fills",
        sa.Column("fill_id", sa.String(64), primary_key=True),
        sa.Column(
            "order_id", sa.String(64), sa.ForeignKey("orders.client_order_id"), nullable=False
        ),
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
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("exchange_order_id", sa.String(64)),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("booked_at", UtcTime(), nullable=False),
        sa.Index("idx_fills_order_id", "order_id"),
        sa.Index("idx_fills_timestamp", "timestamp"),
    )
    op.create_table(
        "order_events",
        sa.Column("sequence", Serial, primary_key=True, autoincrement=False),
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
    op.create_table(
        "journal_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "send_claims",
        sa.Column(
            "order_id", sa.String(64), sa.ForeignKey("orders.client_order_id"), primary_key=True
        ),
        sa.Column("leg", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("generation", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("exchange_client_id", sa.String(64), nullable=False),
        sa.Column("exchange_order_id", sa.String(64)),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("stamp", sa.Integer(), nullable=False),
        sa.Column("claimant", sa.String(128), nullable=False),
        sa.Column("ticket", sa.String(32), nullable=False),
        sa.Column("claimed_at", UtcTime(), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("answer", sa.Text()),
        sa.Column("settled_at", UtcTime()),
        sa.Index(
            "idx_send_claims_client_id", "exchange", "account", "exchange_client_id", unique=True
        ),
        sa.Index("idx_send_claims_exchange_order", "exchange", "account", "exchange_order_id"),
    )
    op.create_table(
        "trading_states",
        sa.Column("scope", sa.String(96), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("changed_by", sa.String(128), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "execution_inbox",
        sa.Column("id", Serial, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("exchange_client_id", sa.String(64)),
        sa.Column("exchange_order_id", sa.String(64)),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("added_at", UtcTime(), nullable=False),
        sa.Column("delivered_at", UtcTime()),
    )
    op.create_index(
        "idx_execution_inbox_undelivered",
        "execution_inbox",
        ["exchange", "account", "id"],
        postgresql_where=sa.text("delivered_at IS NULL"),
        sqlite_where=sa.text("delivered_at IS NULL"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("moved_at", UtcTime(), nullable=False),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.execute("INSERT INTO journal_head (id, sequence) VALUES (1, 0)")
    # The epoch: a store that was made anew, or restored into another, is told apart by it.
    meta = sa.table("meta", sa.column("name"), sa.column("value"))
    op.bulk_insert(meta, [{"name": "epoch", "value": uuid.uuid4().hex}])
