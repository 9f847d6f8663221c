"""How work at the database runs: on PostgreSQL on the event loop, on SQLite in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


class Transactions(Protocol):
    """Where a process writes, one transaction after the other, or where it reads."""

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, a write between BEGIN and COMMIT; it must not be tied to a thread."""
        ...

    async def dispose(self) -> None:
        """Close every connection."""
        ...


class PostgresTransactions:
    """Transactions of an asynchronous engine; one that hangs is given up."""

    def __init__(self, engine: AsyncEngine, patience_s: float) -> None:
        """Give a transaction up after `patience_s` seconds."""
        self._engine = engine
        self._patience_s = patience_s

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run it in one greenlet, in which each statement awaits the database."""
        async with asyncio.timeout(self._patience_s):
            return await greenlet_spawn(_transaction, self._engine.sync_engine, work)

    async def dispose(self) -> None:
        """Close the pool."""
        await self._engine.dispose()


class SqliteTransactions:
    """Transactions in threads, with the synchronous driver.

    An asynchronous driver goes to its thread and back for each statement, some 25 times in a
    transaction, which takes longer than the statements; this goes there once. A transaction that
    waits for another process's is ended by SQLite's own busy timeout.
    """

    def __init__(self, engine: sa.Engine, threads: int) -> None:
        """Use the engine in as many threads, which start when they are needed."""
        self._engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._is_disposed = False

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run it in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _transaction, self._engine, work)

    async def dispose(self) -> None:
        """Close the connections and end the threads."""
        if self._is_disposed:
            return
        self._is_disposed = True
        await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.dispose)
        self._threads.shutdown(wait=False)


def _transaction(engine: sa.Engine, work: Callable[[sa.Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)
