"""Which deployment owns an account."""

import sqlalchemy as sa
from alembic import op

from activities.store.columns import UtcTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "account_leases",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("deployment", sa.String(64), nullable=False),
        sa.Column("taken_at", UtcTime(), nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("account_leases")
