"""The indexes by an exchange's ids begin with the id, so that none serves for the other.

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


def downgrade() -> None:
    """Make them anew, the account first."""
    for name, table, column, unique in _INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, [*_ACCOUNT, column], unique=unique)
