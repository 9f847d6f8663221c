"""What every caller of Temporal's client has to mend: hidden cancellations, unread errors."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, Protocol


class StartOperation(Protocol):
    """temporalio's `WithStartWorkflowOperation`, as far as it is used here."""

    def workflow_handle(self) -> Awaitable[Any]:
        """The handle of the workflow; raises what the start raised."""
        ...


def give_back_cancellation() -> None:
    """Raise `CancelledError` where the running task was cancelled.

    To be called for each `WorkflowUpdateRPCTimeoutOrCancelledError`: the client turns the
    cancellation of a task (by its owner, by `asyncio.timeout`) into that error, and a caller that
    tries again would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def look_at(operation: StartOperation) -> None:
    """Take the error out of a failed update-with-start, or asyncio prints it as never retrieved."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(0):
            await operation.workflow_handle()
