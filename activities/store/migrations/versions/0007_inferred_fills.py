"""Fills that the exchange's totals demanded and its list of trades did not have."""

from decimal import Decimal

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the marks; what is there was not inferred."""
    no: sa.Column[bool] = sa.Column(
        "inferred", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("fills", no)
    none: sa.Column[Decimal] = sa.Column(
        "inferred_quantity", Exact(60), nullable=False, server_default="0"
    )
    op.add_column("orders", none)


def downgrade() -> None:
    """Drop them."""
    op.drop_column("orders", "inferred_quantity")
    op.drop_column("fills", "inferred")
