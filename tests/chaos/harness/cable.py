"""A cable between two processes that can be cut and frozen: a proxy of bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_CHUNK = 65536


@dataclass
class Cable:
    """Takes connections at one end and makes one to the other end for each.

    An end is a `host:port` or the path of a Unix socket. `address` is where to connect to.
    """

    name: str
    far_end: str | Path
    address: str = ""
    _whole: asyncio.Event = field(default_factory=asyncio.Event)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _lines: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """End every connection without a word, and take no new one."""
        self._whole.clear()
        for line in list(self._lines):
            line.transport.abort()

    def freeze(self) -> None:
        """Let nothing pass; connections stay, and what was sent arrives later."""
        self._flows.clear()

    def mend(self) -> None:
        """Let everything pass again."""
        self._whole.set()
        self._flows.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        self._lines.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if not self._whole.is_set():
                return
            far_reader, far = await self._reach()
            self._lines.add(far)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far))
                both.create_task(self._carry(far_reader, writer))
        except* OSError:
            pass
        finally:
            for line in (writer, far):
                if line is not None:
                    self._lines.discard(line)
                    line.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.far_end, Path):
            return await asyncio.open_unix_connection(self.far_end)
        parts = urlsplit(f"//{self.far_end}")
        return await asyncio.open_connection(parts.hostname, parts.port)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            await self._flows.wait()
            target.write(data)
            await target.drain()
        with suppress(OSError, RuntimeError):
            target.write_eof()


@asynccontextmanager
async def a_cable(
    name: str, far_end: str | Path, near_end: Path | None = None
) -> AsyncIterator[Cable]:
    """A whole cable; with `near_end` it is a Unix socket there, else a free port of loopback."""
    cable = Cable(name, far_end)
    cable.mend()
    if near_end is not None:
        server = await asyncio.start_unix_server(cable.connected, near_end)
        cable.address = str(near_end)
    else:
        server = await asyncio.start_server(cable.connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        cable.address = f"{host}:{port}"
    try:
        yield cable
    finally:
        server.close()
        cable.mend()
        cable.cut()
