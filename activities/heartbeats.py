"""Heartbeats of the activities that take long: a stopped or lost worker is noticed by silence."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from temporalio import activity

HEARTBEAT_S = 1.0


async def heartbeats() -> None:
    """Send them for ever."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(HEARTBEAT_S)


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Send them while the block runs."""
    task = asyncio.create_task(heartbeats())
    try:
        yield
    finally:
        task.cancel()
