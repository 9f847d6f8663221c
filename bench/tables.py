"""What the tables for people have in common, on the terminal and in the page."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WRITES = {
    "commits": "transactions that wrote",
    "transactions": "transactions, reads too",
    "rows": "rows written",
    "wal_bytes": "bytes of log (WAL)",
}
"""The columns of what an order writes to its database, by the names of `bench.database`."""
_HUNDRED = 100


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rate_text(rates: Sequence[float]) -> str:
    """Orders per second: the median of the rounds, and the least and the most where there are."""
    middle = f"{statistics.median(rates):.0f}"
    return middle if len(rates) == 1 else f"{middle} ({min(rates):.0f}-{max(rates):.0f})"


def written_row(written: Mapping[str, float]) -> list[str]:
    """One contender's cells under `WRITES`, per order; a dash where nothing is counted."""
    return [short(written[name]) if name in written else "-" for name in WRITES]


def short(value: float) -> str:
    """As many digits as these measurements tell apart: "5.3", "1240"."""
    return f"{value:.1f}" if value < _HUNDRED else f"{value:.0f}"
