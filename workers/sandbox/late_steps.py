"""Requests that a fault keeps waiting before the engine."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any


class LateSteps:
    """Runs steps later; who waits for one is given up on after the processing bound."""

    def __init__(self, bound_ms: int) -> None:
        self._bound_s = bound_ms / 1000
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, step: Callable[[], Any], delay_s: float) -> Any:
        """Take the step after the delay and answer it. Raises ``TimeoutError`` if that is late."""

        async def late() -> Any:
            await asyncio.sleep(delay_s)
            return step()

        task = asyncio.ensure_future(late())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=self._bound_s)
        if not done:
            raise TimeoutError
        return task.result()

    async def close(self) -> None:
        """Drop the steps that still wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        with contextlib.suppress(Exception, asyncio.CancelledError):
            task.result()
