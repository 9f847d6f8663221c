"""One WebSocket connection with an ordered queue of what goes out."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

QUEUE_MAX = 100_000
PING_S = 20.0  # "The WebSocket server will send a ping frame every 20 seconds."


class Session:
    """Sends in the order of ``send``. A client that does not read is cut off."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self._socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=1 << 20)
        self._queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MAX)
        self._request: web.BaseRequest | None = None
        self.closed = False

    def send(self, text: str) -> None:
        if self.closed:
            return
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            self.abort()

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        self.closed = True
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def run(
        self, request: web.BaseRequest, on_text: Callable[[str], Awaitable[None]]
    ) -> web.WebSocketResponse:
        """Serve the connection until it closes. Messages are taken one after the other."""
        self._request = request
        await self._socket.prepare(request)
        writer = asyncio.create_task(self._write())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await on_text(message.data)
        finally:
            self.closed = True
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
        return self._socket

    async def close(self) -> None:
        """Say goodbye (1001, going away)."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                await asyncio.wait_for(self._socket.close(code=1001), 0.5)

    async def _write(self) -> None:
        while True:
            text = await self._queue.get()
            try:
                await self._socket.send_str(text)
            except (ConnectionError, RuntimeError):
                self.closed = True
                return
