"""What a contender writes to its database: commits, rows and bytes, read before and after a cell.

The sums are the whole server's or the whole file's, whoever writes; only one contender runs at a
time. What PostgreSQL does for itself meanwhile (checkpoints, vacuum) is in them.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOLD_S = 10.5
"""An idle connection of PostgreSQL tells its counters after ten seconds at the latest."""
_NOW = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS commits,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes
"""
_LATER = """
SELECT xact_commit AS transactions, tup_inserted + tup_updated + tup_deleted AS rows
FROM pg_stat_database WHERE datname = current_database()
"""
_COMMITS_AT = slice(8, 12)


class Counters(Protocol):
    """Sums that only grow, by their names: `bench.tables.WRITES` says what they are."""

    async def now(self) -> dict[str, int]:
        """Those that are exact at once."""
        ...

    async def later(self) -> dict[str, int]:
        """Those that the database tells late; waits until all of it is told."""
        ...


class SqliteCounters:
    """The number of write transactions, which the index of SQLite's log counts.

    It is the field `iChange`, four bytes of the machine's order in the file `-shm` beside the
    database (https://sqlite.org/walformat.html, "the WAL-index header"). The bytes written are no
    figure here: the log is written over again after each checkpoint.
    """

    def __init__(self, file: Path) -> None:
        """`file` is the database; somebody has it open while this counts."""
        self._index = Path(f"{file}-shm")

    async def now(self) -> dict[str, int]:
        """Commits."""
        header = self._index.read_bytes()
        return {"commits": int.from_bytes(header[_COMMITS_AT], sys.byteorder)}

    async def later(self) -> dict[str, int]:
        """Nothing."""
        return {}


class PostgresCounters:
    """Transaction ids given out and bytes of the log; all transactions and rows of one database."""

    def __init__(self, uri: str) -> None:
        """`uri` is postgresql://…, of the database whose rows are counted."""
        self._uri = uri

    async def now(self) -> dict[str, int]:
        """Commits (a transaction gets an id when it first writes) and bytes of the log (WAL)."""
        return await self._ask(_NOW)

    async def later(self) -> dict[str, int]:
        """Transactions, those that only read too, and rows inserted, updated or deleted."""
        await asyncio.sleep(_TOLD_S)
        return await self._ask(_LATER)

    async def _ask(self, query: str) -> dict[str, int]:
        connection = await asyncpg.connect(self._uri)
        try:
            return dict(await connection.fetchrow(query))
        finally:
            await connection.close()


def per_order(before: Mapping[str, int], after: Mapping[str, int], orders: int) -> dict[str, float]:
    """The difference of two readings, divided by the orders between them."""
    return {name: (after[name] - value) / orders for name, value in before.items()}
