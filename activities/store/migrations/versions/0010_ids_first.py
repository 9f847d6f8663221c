"""The indexes by an exchange's ids begin with the id; orders are found by their last change.

All of an account's rows share the exchange and the account. While PostgreSQL has no statistics, two
indexes that begin with those look alike to it, and it may read the whole account by the wrong one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ACCOUNT = ["exchange", "account"]
_RATE, _RATED = "idx_reservations_rate", [*_ACCOUNT, "reserved_at"]
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
    # Two indexes of reservations began alike as well: SQLite took this one for what is open.
    ours = sa.text("NOT external")
    op.drop_index(_RATE, "reservations")
    op.create_index(_RATE, "reservations", _RATED, sqlite_where=ours, postgresql_where=ours)


def downgrade() -> None:
    """Make them anew, the account first."""
    op.drop_index(_RATE, "reservations")
    op.create_index(_RATE, "reservations", _RATED)
    op.drop_index("idx_orders_last_updated_at", "orders")
    for name, table, column, unique in _INDEXES:
        op.drop_index(name, table)
        op.create_index(name, table, [*_ACCOUNT, column], unique=unique)
