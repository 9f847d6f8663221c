"""The reports of reconciliation."""

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Json, UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "reconcile_reports",
        sa.Column("id", Serial, primary_key=True, autoincrement=True),
        sa.Column("exchange", sa.String(32), nullable=False),
        sa.Column("account", sa.String(32), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("differed", sa.Integer(), nullable=False),
        sa.Column("report", Json(), nullable=False),
    )
    op.create_index("idx_reconcile_reports_time", "reconcile_reports", ["started_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("reconcile_reports")
