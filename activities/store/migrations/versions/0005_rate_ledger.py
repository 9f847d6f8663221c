"""What all processes together have used of the exchanges' rate limits."""

import sqlalchemy as sa
from alembic import op

from activities.store.columns import UtcTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the ledger of the rate limits."""
    op.create_table(
        "rate_ledger",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("changed_at", UtcTime(), nullable=False),
    )


def downgrade() -> None:
    """Drop it: leases live for a second."""
    op.drop_table("rate_ledger")
