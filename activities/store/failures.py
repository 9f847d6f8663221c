"""What the databases' errors mean: come back later, never, or not our error at all."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from trading.oms.errors import StoreRefused, StoreUnavailable

_PASSING_STATES = frozenset(
    {
        "25006",  # read-only
        "25P03",  # idle for too long within a transaction
        "25P04",  # a transaction that took too long
        "40001",  # serialisation
        "40003",  # nobody knows whether it was done
        "40P01",  # deadlock
        "55P03",  # a lock that somebody has
        "57014",  # a statement that took too long, or was cancelled by hand
        "57P01",  # shutdown
        "57P02",  # shutdown after a crash
        "57P03",  # start
        "57P05",  # idle for too long
        "58000",  # an error of the system below
        "58030",  # an I/O error
    }
)
"""SQLSTATEs that pass, whatever the statement was."""
_PASSING_CLASSES = ("08", "53")
"""The line, and what there is not enough of: disk, memory, connections."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the drivers' errors into `StoreUnavailable`, naming the store.

    A driver may answer a cancellation with an error of its own: it stays a cancellation, or the
    task that was told to end would try again for ever.
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        msg = f"{name} does not answer: {in_words(error)}"
        raise StoreUnavailable(msg) from error


def is_passing(error: Exception) -> bool:
    """Whether the same transaction may succeed later."""
    if not isinstance(error, sa.exc.DBAPIError):
        # A refused connection comes as the driver or the system raises it.
        state = getattr(error, "sqlstate", None)
        return isinstance(error, OSError | sa.exc.TimeoutError) or state in _PASSING_STATES
    if error.orig is not None and isinstance(error.orig.__cause__, ValueError):
        # The driver could not encode a value: an "interface error", and no fault of the line.
        return False
    state = getattr(error.orig, "sqlstate", None) or ""
    is_line = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
    return (
        error.connection_invalidated
        or is_line
        or state in _PASSING_STATES
        or state.startswith(_PASSING_CLASSES)
    )


def in_words(error: BaseException) -> str:
    """What the driver said, in one line; parameters and passwords are not in it."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text[:200]}" if text else type(cause).__name__


def for_caller(error: Exception) -> Exception:
    """`StoreRefused` for what the database will never take; other errors as they are."""
    if isinstance(error, sa.exc.SQLAlchemyError):
        msg = f"the database refused this write, and would again: {in_words(error)}"
        refused = StoreRefused(msg)
        refused.__cause__ = error
        return refused
    return error
