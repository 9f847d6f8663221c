"""A webhook to send alerts to: a real HTTP server that answers as it is told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

TOKEN = "token-in-the-address"
HANG = 0
"""Instead of a status: no answer."""


class Receiver:
    """It takes everything when `answers` are used up, and keeps what it has got."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.url = ""
        self.closing = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append((dict(request.headers), body))
        status = self.answers.pop(0) if self.answers else 204
        if status == HANG:
            await self.closing.wait()
        elif status < 300:
            self.taken.append(json.loads(body))
        return web.Response(status=status or 204, headers={"Location": self.url})

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many different alerts have come."""
        async with asyncio.timeout(15):
            while len({alert["id"] for alert in self.taken}) < count:  # noqa: ASYNC110 - brief
                await asyncio.sleep(0.01)
        return self.taken


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    one = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", one.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{TOKEN}"
    try:
        yield one
    finally:
        one.closing.set()
        await runner.cleanup()
