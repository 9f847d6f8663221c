"""Claims and reports name their symbol: an exchange may count its order ids per symbol.

It rewrites all claims, which takes some 10 to 20 s a million.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_INBOX = sa.table(
    "execution_inbox",
    sa.column("id", sa.BigInteger()),
    sa.column("symbol", sa.String(32)),
    sa.column("report", sa.Text()),
    sa.column("delivered_at"),
)
_OF_CLAIMS = (
    "UPDATE send_claims SET symbol = "
    "COALESCE((SELECT symbol FROM orders WHERE client_order_id = send_claims.order_id), '')"
)


def upgrade() -> None:
    """Add the columns, and fill them: of reports where one waits."""
    claimed = sa.Column("symbol", sa.String(32), nullable=False, server_default="")
    op.add_column("send_claims", claimed)
    op.execute(_OF_CLAIMS)
    op.add_column("execution_inbox", sa.Column("symbol", sa.String(32)))
    connection, inbox = op.get_bind(), _INBOX.c
    waiting = sa.select(inbox.id, inbox.report).where(inbox.delivered_at.is_(None))
    for row in connection.execute(waiting).all():
        change = sa.update(_INBOX).where(inbox.id == row.id)
        connection.execute(change.values(symbol=_symbol_in(row.report)))


def _symbol_in(text: str) -> str | None:
    """None where it cannot be read: such a report is set aside anyway."""
    try:
        report: Any = json.loads(text)
        return str(report["symbol"])
    except (ValueError, TypeError, KeyError):
        return None


def downgrade() -> None:
    """Drop them."""
    op.drop_column("execution_inbox", "symbol")
    op.drop_column("send_claims", "symbol")
