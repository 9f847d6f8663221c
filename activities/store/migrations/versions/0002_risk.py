"""Reservations, balances, positions and their audit."""

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact, UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables of the risk checks."""
    op.create_table(
        "risk_accounts",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("as_of", UtcTime()),
        sa.Column("as_of_latest", UtcTime()),
        sa.Column("fetched_at", UtcTime()),
    )
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.String(64), primary_key=True),
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("strategy_id", sa.String(64)),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("quote_amount", Exact(60), nullable=False),
        sa.Column("base_amount", Exact(60), nullable=False),
        sa.Column("open_quantity", Exact(60), nullable=False),
        sa.Column("notional", Exact(60), nullable=False),
        sa.Column("price", Exact(60), nullable=False),
        sa.Column("fee_rate", Exact(), nullable=False),
        sa.Column("wanted_quantity", Exact(60)),
        sa.Column("wanted_price", Exact()),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("reserved_at", UtcTime(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
    )
    op.create_index(
        "idx_reservations_open",
        "reservations",
        ["exchange", "account"],
        postgresql_where=sa.text("is_open"),
        sqlite_where=sa.text("is_open"),
    )
    op.create_index("idx_reservations_rate", "reservations", ["exchange", "account", "reserved_at"])
    op.create_table(
        "balances",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("asset", sa.String(16), primary_key=True),
        sa.Column("total", Exact(60), nullable=False),
        sa.Column("free", Exact(60), nullable=False),
        sa.Column("foreign_locked", Exact(60), nullable=False),
        sa.Column("filled_since", Exact(60), nullable=False),
    )
    op.create_table(
        "positions",
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
    op.create_table(
        "position_adjustments",
        sa.Column("id", Serial, primary_key=True, autoincrement=True),
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
    op.create_index("idx_fills_account_time", "fills", ["exchange", "account", "timestamp"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("idx_fills_account_time", "fills")
    for name in (
        "position_adjustments",
        "positions",
        "balances",
        "reservations",
        "risk_accounts",
    ):
        op.drop_table(name)
