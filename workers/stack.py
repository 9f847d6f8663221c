"""The local stack: Temporal, two sandbox exchanges, the store and a worker, each a process.

`oms up` leaves it running, `oms demo` trades on it, tests drive it from the outside. It ends with
its block, whatever ends it: everything that was started is stopped.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from activities.store import Store
from trading.oms.errors import StartUpError
from workers.child_process import ChildProcess
from workers.schedules import schedule_id
from workers.stack_exchange import Keys, SandboxExchange, fast_python
from workers.temporal_server import TemporalServer, running_temporal

Say = Callable[[str], None]
"""Takes one line for the person who waits."""

EXCHANGES = ("alpha", "beta")
_WORKER_READY_S = 90.0
_DRAIN_S = 15.0
_RISK_LIMITS = """\
# The risk limits of the local stack. The worker reads this file again when it has changed.
[limits]
max_open_orders = 500
max_price_deviation = 0.05
"""


@dataclass
class LocalStack:
    """What runs. `environment` is all that a worker or an `oms` command needs to take part."""

    folder: Path
    temporal: TemporalServer
    exchanges: dict[str, SandboxExchange]
    environment: dict[str, str]
    worker: ChildProcess | None = None
    _workers_started: int = field(default=0, repr=False)

    @property
    def ui_url(self) -> str | None:
        """The Temporal web UI, where its address is known."""
        return self.temporal.ui_url

    @property
    def store_url(self) -> str:
        """The database of the orders; it may hold a password."""
        return self.environment["OMS_STORE_URL"]

    @property
    def processes(self) -> dict[str, ChildProcess]:
        """Our own child processes by name; the Temporal server looks after its own."""
        named = {name: exchange.process for name, exchange in self.exchanges.items()}
        return {**named, "worker": self.worker} if self.worker else named

    async def connect(self) -> Client:
        """A client of the stack's Temporal server."""
        return await self.temporal.connect(data_converter=pydantic_data_converter)

    async def start_worker(self) -> ChildProcess:
        """Start a worker and wait until it works. Raises `StartUpError` with its log."""
        worker = self.begin_worker()
        await self.until_working(worker)
        return worker

    def begin_worker(self) -> ChildProcess:
        """Start a worker process; it needs some seconds until it works."""
        self._workers_started += 1
        log = self.folder / f"worker-{self._workers_started}.log"
        log.unlink(missing_ok=True)
        self.worker = ChildProcess([sys.executable, "-m", "workers"], log, self.environment)
        return self.worker

    async def until_working(self, worker: ChildProcess) -> None:
        """Wait until the worker says that it takes orders. Raises `StartUpError` with its log."""
        deadline = time.monotonic() + _WORKER_READY_S
        while time.monotonic() < deadline and worker.exit_code is None:
            if "working on" in worker.log_path.read_text(errors="replace"):
                return
            await asyncio.sleep(0.05)
        msg = f"the worker has not started:\n{worker.log_tail()}"
        raise StartUpError(msg)

    def kill_worker(self) -> None:
        """End the worker at once (SIGKILL), as the machine's own end would."""
        if self.worker is not None:
            self.worker.send_signal(signal.SIGKILL)


@contextlib.asynccontextmanager
async def local_stack(
    say: Say,
    folder: Path | None = None,
    *,
    exchanges: tuple[str, ...] = EXCHANGES,
    market: str = "replay",
    keeps_history: bool = False,
    given: Mapping[str, str] | None = None,
) -> AsyncIterator[LocalStack]:
    """Start everything; all of it ends with the block.

    Logs, and the store where OMS_STORE_URL names no other, are in `folder`; without one they are
    in a temporary folder that goes with the block. `keeps_history` lets Temporal write there too.
    `given` are the user's variables, without it this process's. Raises `StartUpError` that says
    what is wrong; a store with the orders of a former run is, because the exchanges begin anew.
    """
    given = os.environ if given is None else given
    async with contextlib.AsyncExitStack() as parts:
        if folder is None:
            folder = Path(parts.enter_context(_temporary_folder()))
        folder.mkdir(parents=True, exist_ok=True)
        store_url = given.get("OMS_STORE_URL") or f"sqlite:///{folder / 'oms.sqlite3'}"
        await _make_store(store_url, say)
        sandboxes = {}
        for name in exchanges:
            exchange = SandboxExchange(name, Keys.of(name, given), folder, market=market)
            parts.push_async_callback(exchange.process.stop, 3)
            sandboxes[name] = exchange
        history = folder / "temporal.sqlite3" if keeps_history else None
        temporal = await parts.enter_async_context(running_temporal(say, history))
        for exchange in sandboxes.values():
            await exchange.until_ready()
            say(f"Sandbox exchange {exchange.name} trades at {exchange.url}")
        environment = {
            "OMS_STORE_URL": store_url,
            **_environment(folder, temporal, sandboxes, given),
        }
        stack = LocalStack(folder, temporal, sandboxes, environment)
        parts.push_async_callback(_stop, stack)
        worker = await stack.start_worker()
        say(f"A worker takes orders (process {worker.pid})")
        yield stack


async def _make_store(url: str, say: Say) -> None:
    """Make the store's tables, and refuse orders that the new exchanges know nothing of."""
    store = await Store.open(url, create=True)
    try:
        if await store.orders(limit=1):
            msg = (
                f"{store!r} has the orders of a former run, and the sandbox exchanges have "
                "forgotten them: they begin anew with each run. Take another --folder, or remove "
                "this one"
            )
            raise StartUpError(msg)
    finally:
        await store.close()
    say(f"The store is ready: {store!r}")


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="oms-", ignore_cleanup_errors=True) as name:
        yield name


def _environment(
    folder: Path,
    temporal: TemporalServer,
    exchanges: dict[str, SandboxExchange],
    given: Mapping[str, str],
) -> dict[str, str]:
    """The variables of a worker: our own, and of the user's only what means no other exchange."""
    values = fast_python(given)
    values = {name: value for name, value in values.items() if not name.startswith("OMS_")}
    if not given.get("TEMPORAL_ADDRESS"):
        # Keys and certificates of another server would be shown to ours.
        values = {n: value for n, value in values.items() if not n.startswith("TEMPORAL_")}
        values["TEMPORAL_CONFIG_FILE"] = os.devnull
    values |= {
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": temporal.namespace,
        "OMS_DEPLOYMENT": "local",
        "OMS_RISK_FILE": given.get("OMS_RISK_FILE") or str(_risk_file(folder)),
        "OMS_EXCHANGES": ",".join(exchanges),
        "OMS_ROUTING": given.get("OMS_ROUTING", ""),
        "OMS_LOG_LEVEL": given.get("OMS_LOG_LEVEL") or "INFO",
        "OMS_UI_URL": temporal.ui_url or given.get("OMS_UI_URL", ""),
    }
    for exchange in exchanges.values():
        values |= exchange.environment
    return values


def _risk_file(folder: Path) -> Path:
    """The limits of the local stack; the file can be changed while it runs."""
    path = folder / "risk.toml"
    if not path.exists():
        path.write_text(_RISK_LIMITS)
    return path


async def _stop(stack: LocalStack) -> None:
    """Drain the worker; on somebody else's server also end what would go on without it."""
    if stack.worker is not None:
        await stack.worker.stop(_DRAIN_S)
    if os.environ.get("TEMPORAL_ADDRESS"):
        client = await stack.connect()
        for name in stack.exchanges:
            schedule = schedule_id(name, "main")
            with contextlib.suppress(RPCError):
                await client.get_schedule_handle(schedule).delete()
            pass_now = f"TemporalScheduledById = '{schedule}' AND ExecutionStatus = 'Running'"
            ids = [f"feed-{name}-main"]
            with contextlib.suppress(RPCError):
                ids += [found.id async for found in client.list_workflows(pass_now)]
            for workflow_id in ids:
                with contextlib.suppress(RPCError):
                    handle = client.get_workflow_handle(workflow_id)
                    await handle.terminate("the local stack has ended")
