"""What an order does later: timers that put `Due` messages into its inbox."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from temporalio import workflow

from workflows.requests import Due


class Timer(NamedTuple):
    """When something is due, in seconds of the workflow's clock, and what will ring then."""

    at: float
    ring: asyncio.Task[None] | None = None


class Timers:
    """The timers of one order: at most one for each thing that was put off, by its name."""

    def __init__(self, enqueue: Callable[[Due], None]) -> None:
        """`enqueue` puts a message into the order's inbox."""
        self._enqueue = enqueue
        self._due: dict[str, Timer] = {}

    def later(self, what: str, seconds: float, attempt: int) -> None:
        """Put `Due(what)` into the inbox after some seconds; of two of a kind the earlier one."""
        at = workflow.time() + max(seconds, 0)
        known = self._due.get(what)
        if known is not None and known.at <= at:
            return
        self.no_longer(what)
        if seconds <= 0:
            self._due[what] = Timer(at)
            self._enqueue(Due(what, attempt))
        else:
            ring = asyncio.create_task(self._ring(Due(what, attempt), seconds))
            self._due[what] = Timer(at, ring)

    def no_longer(self, what: str) -> None:
        """Forget what was put off, so that no timer fires for nothing."""
        known = self._due.get(what)
        if known is not None and known.ring is not None and not known.ring.done():
            known.ring.cancel()
            del self._due[what]

    def came(self, due: Due) -> None:
        """The inbox's message is taken: what it is about may be put off again."""
        self._due.pop(due.what, None)

    def is_due(self, what: str) -> bool:
        """Whether something was put off that has not come yet."""
        return what in self._due

    async def _ring(self, due: Due, seconds: float) -> None:
        await workflow.sleep(timedelta(seconds=seconds))
        self._enqueue(due)
