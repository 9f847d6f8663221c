"""Exit codes, and how every failure becomes one line on stderr and one of them."""

import asyncio
import contextlib
import os
import signal
import traceback
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, TypeVar

import click

_Result = TypeVar("_Result")


class Exit(IntEnum):
    """What a program that calls `oms` can tell from its exit code."""

    OK = 0
    REFUSED = 1
    BAD_INPUT = 2
    PENDING = 3
    UNREACHABLE = 4
    BUG = 70
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "done",
    Exit.REFUSED: "refused by our checks or by the exchange; too late; a failed check of `doctor`",
    Exit.BAD_INPUT: "bad input: usage, a wrong value, an unknown order",
    Exit.PENDING: "not decided yet: in doubt or pending; the OMS goes on with it",
    Exit.UNREACHABLE: "Temporal, the store or an exchange cannot be reached or is not set up",
    Exit.BUG: "a bug of ours; OMS_LOG_LEVEL=DEBUG shows the traceback",
    Exit.INTERRUPTED: "stopped by Ctrl-C or SIGTERM",
}


class Failed(click.ClickException):
    """A failure in one line, with its exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        """The message becomes one line, whatever it was."""
        super().__init__(" ".join(message.split()))
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What `oms` leaves with."""
        return int(self.code)

    def show(self, file: Any = None) -> None:
        """Print "error: ..." on stderr."""
        click.echo(f"error: {self.format_message()}", file=file, err=True)


def leave(code: Exit) -> None:
    """End the command with this exit code."""
    click.get_current_context().exit(int(code))


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a command's work to its end; Ctrl-C and SIGTERM cancel it, and it cleans up first."""
    try:
        return asyncio.run(_interruptible(work))
    except (click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        raise failure(error) from error


async def _interruptible(work: Coroutine[Any, Any, _Result]) -> _Result:
    task = asyncio.ensure_future(work)
    told: list[int] = []

    def stop() -> None:
        # A second Ctrl-C must not break off the cleaning up, which takes seconds at most.
        if not told:
            told.append(1)
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        raise Failed("stopped", Exit.INTERRUPTED) from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(number)


def failure(error: Exception) -> click.ClickException:
    """What an exception means to the user."""
    from pydantic import ValidationError
    from temporalio.service import RPCError

    from trading.oms import errors
    from trading.oms.commands import problem

    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, ValidationError):
        return Failed(problem(error), Exit.BAD_INPUT)
    if isinstance(error, UnicodeEncodeError):  # Bytes of an argument that are no UTF-8.
        error = errors.InvalidOrder(f"{ascii(error.object)[:80]} is not valid text")
    if isinstance(error, errors.InvalidOrder | errors.OrderNotFound):
        return Failed(str(error), Exit.BAD_INPUT)
    if isinstance(error, errors.ExchangeRejected | errors.OrderExists):
        return Failed(str(error), Exit.REFUSED)
    if isinstance(error, errors.OmsError | RPCError | OSError):
        return Failed(str(error) or type(error).__name__, Exit.UNREACHABLE)
    if os.environ.get("OMS_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    return Failed(f"unexpected {type(error).__name__}: {error}", Exit.BUG)
