"""The indexes by an exchange's ids begin with the id; orders are found by their last change.

All of an account's rows share the exchange and the account. While PostgreSQL has no statistics, two
indexes that begin with those look alike to it, and it may read the whole account by the wrong one.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ACCOUNT = ["exchange", "account"]
_INDEXES = [
    ("idx_orders_exchange_order", "orders", "exchange_order_id", False),
    ("idx_send_claims_client_id", "send_claims", "exchange_client_id", True),
    ("idx_send_claims_exchange_order", "send_claims", "exchange_order_id", False),
]


def upgrade() -> None:
    """Make them anew, the id first."""
    for name, table, column, unique in _INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, [column, *_ACCOUNT], unique=unique)
    op.create_index("idx_orders_last_updated_at", "orders", ["last_updated_at"])


def downgrade() -> None:
    """Make them anew, the account first."""
    op.drop_index("idx_orders_last_updated_at", "orders")
    for name, table, column, unique in _INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, [*_ACCOUNT, column], unique=unique)
