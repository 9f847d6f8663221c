"""What each balance should be, by the opening balance and our fills."""

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "expected_balances",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("asset", sa.String(16), primary_key=True),
        sa.Column("total", Exact(60), nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("expected_balances")
