"""The group-commit writer: commands wait for a future, one task commits what has come together.

A batch is whatever was queued when the last transaction ended; nobody waits for company. What
fails for one command (no such order, a value that the database refuses) fails that command alone.
What fails for all (the database is away) is tried again until the caller's time is up: every
command is idempotent, so it does not matter whether a lost transaction was committed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard, cast

import sqlalchemy as sa

from activities.store.batch import Batch, OrderCommand
from activities.store.failures import for_caller, in_words, is_passing
from activities.store.inbox import SetTradingState
from activities.store.transactions import Transactions
from activities.store.types import JournalEntry, StoreSettings
from trading.oms.enums import TradingState
from trading.oms.errors import OmsError, StoreUnavailable

_log = logging.getLogger(__name__)
_RETRY_S = 0.05


class _JournalWentBackError(Exception):
    """The journal gives out numbers that this process has seen committed: a restored database."""


class StatementCommand(Protocol):
    """A write that is no order's: it runs its own statements in the batch's transaction."""

    rank: int
    """Commands of one batch run in this order, so that two processes lock alike."""

    def run(self, connection: sa.Connection) -> Any:
        """Run the statements; what is returned is the caller's answer."""
        ...


Command = OrderCommand | StatementCommand


class _Waiting:
    """A command and the future of its caller."""

    __slots__ = ("answer", "command", "error", "future")

    def __init__(self, command: Command, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.future = future
        self.answer: Any = None
        self.error: Exception | None = None

    def settle(self) -> None:
        """Hand the outcome to the caller, if he still waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)


class Writer:
    """All writes of one process to one store."""

    def __init__(
        self,
        writes: Transactions,
        settings: StoreSettings,
        on_commit: Callable[[list[JournalEntry]], None],
    ) -> None:
        """Write through `writes`; `on_commit` gets the entries of each commit, in order."""
        self._writes = writes
        self._settings = settings
        self._on_commit = on_commit
        self._queue: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._trouble: str | None = None
        self._newest = 0
        self.commits = 0

    async def do(self, command: Command) -> Any:
        """Commit a command and answer. Raises `StoreUnavailable`, `StoreRefused`, `OmsError`s."""
        if self._closed:
            msg = "the store is closed"
            raise StoreUnavailable(msg)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(command, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="store-writer")
        try:
            async with asyncio.timeout(self._settings.answer_within_s):
                return await future
        except TimeoutError:
            seconds = self._settings.answer_within_s
            msg = (
                f"the store has not confirmed a write within {seconds:g} s "
                f"({self._trouble or 'it is slow'}); the write is whole or not there at all, "
                "and safe to repeat"
            )
            raise StoreUnavailable(msg) from None

    async def close(self) -> None:
        """Take no more, and commit what is queued."""
        self._closed = True
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, self._settings.answer_within_s)

    async def _drain(self) -> None:
        try:
            # Callers of the same turn of the loop come along.
            await asyncio.sleep(0)
            while self._queue:
                size = self._settings.batch_max
                batch, self._queue = self._queue[:size], self._queue[size:]
                await self._commit(batch)
        finally:
            self._task = None

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Commit a batch; whatever happens, each of its callers hears of it or has left."""
        raced = False
        while batch := [waiting for waiting in batch if not waiting.future.done()]:
            error = await self._attempt(batch)
            if error is None:
                return
            if isinstance(error, _JournalWentBackError):
                self._newest = 0
                batch = [_halt(str(error)), *batch]
            elif is_passing(error):
                self._trouble = in_words(error)
                await asyncio.sleep(_RETRY_S)
            elif isinstance(error, sa.exc.IntegrityError) and not raced:
                # Another process has inserted the same key: this time it is seen.
                raced = True
            elif len(batch) > 1:
                for waiting in batch:
                    await self._commit([waiting])
                return
            else:
                batch[0].error = for_caller(error)
                batch[0].settle()

    async def _attempt(self, batch: list[_Waiting]) -> Exception | None:
        try:
            entries = await self._writes.run(lambda connection: self._run(connection, batch))
        except Exception as error:  # noqa: BLE001 - the writer outlives every error
            return error
        self._trouble = None
        self.commits += 1
        if entries:
            self._newest = entries[-1].sequence
            self._on_commit(entries)
        for waiting in batch:
            waiting.settle()
        return None

    def _run(self, connection: sa.Connection, batch: Sequence[_Waiting]) -> list[JournalEntry]:
        """Commit nothing on a database that was restored under this process, but the halt."""
        entries = _work(connection, batch)
        if entries and entries[0].sequence <= self._newest:
            msg = (
                f"the journal was at {self._newest} and has given out {entries[0].sequence}: "
                "the store was restored, and nothing is sent until `oms resume`"
            )
            raise _JournalWentBackError(msg)
        return entries


def _halt(reason: str) -> _Waiting:
    """A command of the writer's own: no claim of its batch, or of a later one, is granted."""
    _log.error("%s", reason)
    halt = SetTradingState("all", TradingState.HALTED, reason, "oms")
    return _Waiting(halt, asyncio.get_running_loop().create_future())


def _work(connection: sa.Connection, waiting: Sequence[_Waiting]) -> list[JournalEntry]:
    """Everything between BEGIN and COMMIT."""
    orders: list[tuple[_Waiting, OrderCommand]] = []
    statements: list[tuple[_Waiting, StatementCommand]] = []
    for one in waiting:
        one.error = None
        if _runs_statements(one.command):
            statements.append((one, one.command))
        else:
            orders.append((one, cast("OrderCommand", one.command)))
    for one, statement in sorted(statements, key=lambda pair: pair[1].rank):
        try:
            one.answer = statement.run(connection)
        except OmsError as error:
            one.error = error
    if not orders:
        return []
    batch = Batch(connection)
    batch.load([command for _, command in orders])
    at_once = [pair for pair in orders if not pair[1].waits]
    waiting_for_accounts = [pair for pair in orders if pair[1].waits]
    _plan(batch, at_once)
    batch.settle_accounts([command for _, command in waiting_for_accounts])
    _plan(batch, waiting_for_accounts)
    batch.sum_legs()
    batch.write()
    for one, command in orders:
        if one.error is None:
            one.answer = command.answer(batch)
    return batch.entries


def _runs_statements(command: Command) -> TypeGuard[StatementCommand]:
    """`isinstance` with a protocol takes longer than to run most commands."""
    return hasattr(command, "rank")


def _plan(batch: Batch, commands: Sequence[tuple[_Waiting, OrderCommand]]) -> None:
    """Let each decide; one that raises fails alone."""
    for one, command in commands:
        try:
            command.plan(batch)
        except Exception as error:  # noqa: BLE001 - it fails alone
            one.error = error
