"""Temporal's dev server as a child process that tests can kill and bring back.

It keeps its data in one SQLite file or in memory: it is not for production.
"""

import asyncio
import random
import socket
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from trading.oms.errors import StartUpError
from workers.child_process import ChildProcess
from workers.temporal_program import TemporalProgram

SEARCH_ATTRIBUTES = ("OrderStatus", "Exchange", "Symbol", "Strategy", "Side")
"""All of type Keyword. SQL visibility has about ten such columns per namespace."""

DYNAMIC_CONFIG = {
    # The default lets each task that is not eager wait for up to 50 ms on a server of one shard.
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
    # A timer fires a second after it was set at the earliest, however short it is: a margin for
    # clocks of several hosts that take over each other's shards. Here there is one process.
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.shardIOConcurrency": "8",
    # A few workers poll faster when there is one partition to look at.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # Throttling would show as clients that back off for a second and more.
    "frontend.rps": "100000",
    "frontend.namespaceRPS": "100000",
    "frontend.namespaceRPS.visibility": "10000",
    "history.rps": "100000",
    "matching.rps": "100000",
    "system.forceSearchAttributesCacheRefreshOnRead": "false",
    "history.enableHostLevelEventsCache": "true",
    # The default of 10 drops the running task of an order that gets an eleventh update at once.
    "history.maxInFlightUpdates": "1000",
}

NAMESPACE = "default"
_HOST = "127.0.0.1"
_READY_S = 60.0


class TemporalUnavailable(StartUpError):
    """The Temporal server did not start, or the one that TEMPORAL_ADDRESS names does not answer."""


@dataclass(frozen=True)
class Ports:
    """The four ports of a dev server, all on loopback."""

    frontend: int
    ui: int
    http: int
    metrics: int

    @classmethod
    def free(cls) -> "Ports":
        """Four ports that nobody uses.

        They lie below the range from which systems take the ports of outgoing connections
        (from 32768), so that a server that is restarted finds its own ports free.
        """
        numbers: list[int] = []
        while len(numbers) < 4:  # noqa: PLR2004 - one for each field.
            number = random.randint(20000, 32000)  # noqa: S311 - no secret.
            if number not in numbers and _is_free(number):
                numbers.append(number)
        return cls(*numbers)


class DevServer:
    """A dev server of our own. After `kill` or `stop`, `start` brings it back on the same ports.

    What it knew survives a restart only with a `db_filename`.
    """

    def __init__(
        self,
        program: TemporalProgram,
        ports: Ports,
        log_path: Path,
        *,
        db_filename: Path | None = None,
        ui: bool = True,
    ) -> None:
        """Nothing runs before `start`."""
        self.namespace = NAMESPACE
        self.address = f"{_HOST}:{ports.frontend}"
        self.ui_url = f"http://{_HOST}:{ports.ui}" if ui else None
        self.metrics_url = f"http://{_HOST}:{ports.metrics}/metrics"
        self.log_path = log_path
        self._ports = ports
        self._command = _command(program.path, ports, db_filename, ui=ui)
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process and process.exit_code is None else None

    async def connect(self, **options: Any) -> Client:
        """A new client."""
        return await Client.connect(self.address, **{"namespace": self.namespace, **options})

    async def start(self) -> None:
        """Start it and wait until it answers. Raises TemporalUnavailable with its log's end."""
        # Another server there would answer in the place of ours.
        if taken := [port for port in astuple(self._ports) if not _is_free(port)]:
            raise TemporalUnavailable(f"The Temporal server's ports are taken: {taken}")
        self._process = ChildProcess(self._command, self.log_path)
        try:
            await self._until_ready(self._process)
        except BaseException:
            self._process.kill()
            raise

    async def stop(self) -> None:
        """End it in good order; this takes about a second."""
        if self._process:
            await self._process.stop(patience_s=5)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process:
            self._process.kill()

    async def restart(self) -> None:
        """Kill it and bring it back on the same ports."""
        self.kill()
        await self.start()

    async def _until_ready(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            if process.exit_code is not None:
                raise TemporalUnavailable(
                    f"The Temporal server ended with {process.exit_code}:\n{process.log_tail()}"
                )
            if await _answers(self) and process.exit_code is None:
                return
            await asyncio.sleep(0.05)
        raise TemporalUnavailable(
            f"The Temporal server did not answer within {_READY_S:.0f} s:\n{process.log_tail()}"
        )


def _command(program: Path, ports: Ports, db_filename: Path | None, *, ui: bool) -> list[str]:
    command = [str(program), "server", "start-dev", "--ip", _HOST, "--log-level", "warn"]
    command += ["--port", str(ports.frontend), "--http-port", str(ports.http)]
    command += ["--metrics-port", str(ports.metrics)]
    command += ["--ui-port", str(ports.ui)] if ui else ["--headless"]
    for name in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", f"{name}=Keyword"]
    for key, value in DYNAMIC_CONFIG.items():
        command += ["--dynamic-config-value", f"{key}={value}"]
    if db_filename:
        command += ["--db-filename", str(db_filename)]
        # With synchronous=NORMAL a power cut can take orders that were acknowledged.
        command += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=2"]
    return command


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself does: connections of a server that was killed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


async def _answers(server: DevServer) -> bool:
    host, port = server.address.split(":")
    try:
        async with asyncio.timeout(5):
            # A bare connection first: the client would wait long between its own tries.
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            client = await server.connect()
            request = DescribeNamespaceRequest(namespace=server.namespace)
            await client.workflow_service.describe_namespace(request)
    except (OSError, RuntimeError, RPCError):  # TimeoutError is an OSError.
        return False
    return True
