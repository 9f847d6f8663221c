"""Running sums of what open reservations hold, filled from those that are there."""

from collections import defaultdict
from decimal import Decimal

import sqlalchemy as sa
from alembic import op

from activities.store.columns import Exact
from trading.oms.exact import EXACT

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEYS = ("exchange", "account", "symbol", "side", "strategy_id")
_AMOUNTS = ("quote_amount", "base_amount", "open_quantity", "notional")


def upgrade() -> None:
    """Create the table and add up, in Python: SQLite has no exact sums."""
    sums = op.create_table(
        "reserved_sums",
        sa.Column("exchange", sa.String(32), primary_key=True),
        sa.Column("account", sa.String(32), primary_key=True),
        sa.Column("symbol", sa.String(32), primary_key=True),
        sa.Column("side", sa.String(4), primary_key=True),
        sa.Column("strategy_id", sa.String(64), primary_key=True),
        sa.Column("quote_amount", Exact(60), nullable=False),
        sa.Column("base_amount", Exact(60), nullable=False),
        sa.Column("open_quantity", Exact(60), nullable=False),
        sa.Column("notional", Exact(60), nullable=False),
        sa.Column("orders", sa.BigInteger(), nullable=False),
    )
    open_ones = sa.table(
        "reservations",
        *(sa.column(name, sa.String()) for name in _KEYS),
        *(sa.column(name, Exact(60)) for name in _AMOUNTS),
        sa.column("is_open", sa.Boolean()),
    )
    found: dict[tuple[str, ...], list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 5)
    for row in op.get_bind().execute(sa.select(open_ones).where(open_ones.c.is_open)):
        known = found[(row.exchange, row.account, row.symbol, row.side, row.strategy_id or "")]
        for place, name in enumerate(_AMOUNTS):
            known[place] = EXACT.add(known[place], getattr(row, name))
        known[-1] += 1
    rows = [
        {**dict(zip(_KEYS, key, strict=True)), **dict(zip(_AMOUNTS, amounts, strict=True))}
        | {"orders": int(count)}
        for key, (*amounts, count) in sorted(found.items())
    ]
    op.bulk_insert(sums, rows)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("reserved_sums")
