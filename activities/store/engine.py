"""Engines for the two databases, and the checks that a store keeps what it has confirmed."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from activities.store.columns import ExactSum, exact_add, to_json
from activities.store.schema import SCHEMA_VERSION
from activities.store.transactions import (
    PostgresTransactions,
    SqliteTransactions,
    Transactions,
)
from activities.store.types import StoreSettings
from trading.oms.errors import StartUpError

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_COMMON: dict[str, Any] = {
    "json_serializer": to_json,
    "json_deserializer": pydantic_core.from_json,
    "hide_parameters": True,
}
_DURABLE = frozenset({"on", "remote_apply"})


class Engines(NamedTuple):
    """Where to write, where to read, and who tells of others' commits (SQLite: nobody)."""

    writes: Transactions
    reads: Transactions
    leases: Transactions
    """For the rate ledger: its row is never locked for as long as a batch of orders takes."""
    listener: AsyncEngine | None = None
    backends: Collection[int] = ()
    """The server's processes that write for this one, whose notifications tell it nothing new."""

    async def dispose(self) -> None:
        """Close every connection."""
        await self.writes.dispose()
        await self.reads.dispose()
        await self.leases.dispose()


def store_url(text: str) -> URL:
    """The URL with its driver. Raises `StartUpError`, never with the password."""
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername]
    except (sa.exc.ArgumentError, KeyError, ValueError):
        scheme = text.partition(":")[0][:30]
        msg = (
            f"the store's URL begins with {scheme!r}; it must be sqlite:///path/to/file or "
            "postgresql://user:password@host/database"
        )
        raise StartUpError(msg) from None
    if driver.startswith("sqlite") and not _is_file(url):
        msg = "the store is SQLite in memory, which forgets every order; give sqlite:///path"
        raise StartUpError(msg)
    return url.set(drivername=driver)


def masked(url: URL) -> str:
    """The URL without its password."""
    hidden = {name: "***" if "pass" in name.lower() else value for name, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True)


def _is_file(url: URL) -> bool:
    return bool(url.database) and url.database != ":memory:" and "memory" not in url.query


def make_engines(url: URL, settings: StoreSettings, transaction_s: float | None = None) -> Engines:
    """Engines for the store; nothing is connected yet.

    PostgreSQL may take `transaction_s` seconds for a transaction, without it as long as for any
    answer. SQLite's own work has no such bound, only its waiting for another process.
    """
    if url.drivername.startswith("sqlite"):
        writer = SqliteTransactions(_sqlite_engine(url, settings, writes=True), 1)
        reader = _sqlite_engine(url, settings, writes=False)
        return Engines(writer, SqliteTransactions(reader, settings.readers), leases=writer)
    # Reads are single statements: no BEGIN, no ROLLBACK. They have a pool of their own, so that
    # a crowd of readers never stands before a claim. One more is for LISTEN.
    patience_s = transaction_s or settings.answer_within_s
    one = _postgres_engine(url, settings, 1)
    writes = PostgresTransactions(one, patience_s)
    leases = PostgresTransactions(_postgres_engine(url, settings, 1), patience_s)
    readers = _postgres_engine(url, settings, settings.readers + 1)
    readers = readers.execution_options(isolation_level="AUTOCOMMIT")
    reads = PostgresTransactions(readers, patience_s)
    return Engines(writes, reads, leases, readers, _backends_of(one))


def _postgres_engine(url: URL, settings: StoreSettings, connections: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.answer_within_s,
        connect_args={
            "timeout": settings.answer_within_s,
            "prepared_statement_cache_size": 500,
            "server_settings": {"application_name": "oms-store", "jit": "off"},
        },
        **_COMMON,
    )


def _backends_of(engine: AsyncEngine) -> set[int]:
    """The process ids of the server's ends of the engine's connections, kept up to date."""
    known: set[int] = set()

    def connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        known.add(connection.driver_connection.get_server_pid())

    def left(connection: Any, *_: object) -> None:
        known.discard(connection.driver_connection.get_server_pid())

    sa.event.listen(engine.sync_engine, "connect", connected)
    for ended in ("close", "invalidate"):
        sa.event.listen(engine.sync_engine, ended, left)
    return known


def _sqlite_engine(url: URL, settings: StoreSettings, *, writes: bool) -> sa.Engine:
    """As many connections as threads. Reads are single statements, for which nothing begins."""
    engine = sa.create_engine(
        url,
        pool_size=1 if writes else settings.readers,
        max_overflow=0,
        connect_args={"timeout": settings.answer_within_s},
        **_COMMON,
    )
    sa.event.listen(engine, "connect", _sqlite_pragmas(writes=writes))
    if writes:
        sa.event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _sqlite_pragmas(*, writes: bool) -> Callable[[Any, ConnectionPoolEntry], None]:
    def connected(connection: Any, _entry: ConnectionPoolEntry) -> None:
        # No BEGIN by the driver, which comes late and deferred; the writer begins for itself.
        connection.isolation_level = None
        connection.create_function("exact_add", 2, exact_add, deterministic=True)
        connection.create_aggregate("exact_sum", 1, ExactSum)
        cursor = connection.cursor()
        if writes:
            cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit that has returned survives a power cut.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if not writes:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return connected


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite store."""
    if url.drivername.startswith("sqlite") and url.database:
        return Path(url.database)
    return None


def schema_version(connection: sa.Connection) -> str | None:
    """The version that the database is at; None where there is no store yet."""
    names = sa.inspect(connection).get_table_names()
    if "alembic_version" not in names:
        return None
    version: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return version


def complaints(connection: sa.Connection, name: str) -> list[str]:
    """What is wrong with the store, in sentences that say what to do; nothing when all is well."""
    version = schema_version(connection)
    found = [] if version == SCHEMA_VERSION else [about_version(version, name)]
    if connection.dialect.name == "postgresql":
        return found + _about_postgres(connection)
    return found + _about_sqlite(connection)


def about_version(version: str | None, name: str) -> str:
    """Why this program cannot work with a store of another schema version, and what to do."""
    if version is None:
        return f"{name} has no order store yet; migrate it first (schema {SCHEMA_VERSION})"
    if version < SCHEMA_VERSION:
        return f"{name} has schema {version}, this program needs {SCHEMA_VERSION}; migrate it"
    return (
        f"{name} has schema {version}, which is newer than this program's {SCHEMA_VERSION}; "
        "run a newer program"
    )


def _about_postgres(connection: sa.Connection) -> list[str]:
    value = connection.scalar(sa.text("SHOW synchronous_commit"))
    if value in _DURABLE:
        return []
    return [f"PostgreSQL's synchronous_commit is {value}; it must be on, or a crash forgets orders"]


def _about_sqlite(connection: sa.Connection) -> list[str]:
    mode = connection.scalar(sa.text("PRAGMA journal_mode"))
    level = connection.scalar(sa.text("PRAGMA synchronous"))
    found = []
    if mode != "wal":
        found.append(f"SQLite's journal_mode is {mode}; it must be wal")
    if level != 2:  # noqa: PLR2004 - SQLite's number for FULL
        found.append(f"SQLite's synchronous is {level}; it must be 2 (FULL)")
    return found
