"""What a split order's legs were refused and other legs were made for."""

from decimal import Decimal

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the sum."""
    none: sa.Column[Decimal] = sa.Column(
        "rerouted_quantity", Exact(60), nullable=False, server_default="0"
    )
    op.add_column("orders", none)


def downgrade() -> None:
    """Drop it."""
    op.drop_column("orders", "rerouted_quantity")
