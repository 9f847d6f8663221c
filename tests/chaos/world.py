"""A world to break: sandbox exchanges, one store, a Temporal server, and workers that may die.

Each world has names of its own (exchanges, task queue, order ids), so that worlds share a Temporal
server. The fence is short: proof that nothing was placed comes within a second.
"""

import asyncio
import itertools
import json
import os
import secrets
import signal
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from activities.store import Store
from activities.store.types import ClaimKey
from tests.chaos.doomed_worker import VARIABLE, Plan
from trading.oms.commands import OrderInput
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.models import Order
from workers.child_process import ChildProcess
from workers.temporal_server import TemporalServer

ROOT = Path(__file__).parents[2]
OPEN_MARKET = ROOT / "tests" / "open_market.toml"
FENCE = {
    "RECV_WINDOW_MS": "500",
    "PROCESSING_BOUND_MS": "100",
    "CLOCK_SKEW_MS": "50",
    "DATA_LAG_MS": "50",
    "TIMEOUT_MS": "1000",
}
BID, ASK = "29000", "41000"
SYMBOLS = ("BTCUSDT",)
_NO_LIMITS = (
    *("--order-limit-10s", "1000000", "--weight-limit", "10000000"),
    *("--kraken-calls", "1000000", "--kraken-orders", "1000000"),
)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Shape:
    """What a world is made of, where a test does not take the usual one.

    `market` and `sandbox` are for the sandbox exchanges' command line; with the market "none"
    there is one wide quote, made by hand. `fence` are the connectors' settings. `store_url` is a
    database that is there; the usual store is a SQLite file in the world's folder. `kinds` are the
    exchanges' protocols where they are not all Binance's, and `fences` what differs by protocol.
    """

    exchanges: int = 1
    kinds: tuple[str, ...] = ()
    fences: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    market: str = "none"
    sandbox: tuple[str, ...] = ()
    fence: Mapping[str, str] = field(default_factory=lambda: FENCE)
    store_url: str = ""


class WorkerProcess(Protocol):
    """A worker that can be killed and stopped, and its log."""

    log_path: Path

    @property
    def pid(self) -> int: ...

    @property
    def exit_code(self) -> int | None: ...

    def send_signal(self, number: signal.Signals) -> None: ...

    def kill(self) -> None: ...

    def log_tail(self) -> str: ...


_Worker = TypeVar("_Worker", bound=WorkerProcess)


@dataclass(frozen=True)
class Venue:
    """A sandbox exchange, and our account there."""

    name: str
    url: str
    key: str
    secret: str = field(repr=False)
    kind: str = "binance"


@dataclass
class World:
    """What runs, and what can be asked of it. Its own name is that of its first exchange."""

    name: str
    folder: Path
    temporal: TemporalServer
    client: Client
    environment: dict[str, str]
    store: Store
    session: aiohttp.ClientSession
    venues: dict[str, Venue] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)
    claims: dict[str, ClaimKey] = field(default_factory=dict)
    terminated: set[str] = field(default_factory=set)
    """The runs of workflows that were ended from outside: they return nothing."""

    @property
    def task_queue(self) -> str:
        """Where the order workflows run."""
        return self.environment["OMS_TASK_QUEUE"]

    @property
    def exchange_url(self) -> str:
        """The first exchange."""
        return self.venues[self.name].url

    # Workers.

    def worker(self, plan: Plan | None = None, **variables: str) -> ChildProcess:
        """Begin a worker process; with a plan it is a doomed one."""
        module = "workers" if plan is None else "tests.chaos.doomed_worker"
        environment = self.environment_with(plan, **variables)
        worker = ChildProcess([sys.executable, "-m", module], self.next_log(), environment)
        self.workers.append(worker)
        return worker

    def environment_with(self, plan: Plan | None, **variables: str) -> dict[str, str]:
        """What a worker of this world is told."""
        told = {} if plan is None else {VARIABLE: plan.as_json()}
        return {**self.environment, **variables, **told}

    def next_log(self) -> Path:
        """Where the next worker writes to."""
        return self.folder / f"worker-{len(self.workers) + 1}.log"

    async def working(self, worker: _Worker) -> _Worker:
        """Wait until the worker takes orders."""

        def says_so() -> bool:
            assert worker.exit_code is None, worker.log_tail()
            return "working on" in worker.log_path.read_text(errors="replace")

        await until(says_so, "the worker takes orders", seconds=60)
        return worker

    def plan(self, *steps: str, **fields: Any) -> Plan:
        """A plan whose log is in this world's folder."""
        log = self.folder / f"deeds-{next(_numbers)}.jsonl"
        return Plan(log=str(log), steps=steps, **fields)

    # Orders.

    def order(self, suffix: str = "", **fields: Any) -> Order:
        """A limit buy of 0.01 BTC that rests at 30000, with what the test changes."""
        values: dict[str, Any] = {
            "symbol": "BTC/USDT",
            "side": OrderSide.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": Decimal("0.01"),
            "price": Decimal(30000),
            "time_in_force": TimeInForce.GTC,
            "client_order_id": f"{self.name}-{next(_numbers)}{suffix}",
        }
        return Order(**{**values, **fields})

    async def start(self, order: Order, task_timeout_s: float = 5.0) -> WorkflowHandle[Any, Any]:
        """Start the order's workflow."""
        return await self.client.start_workflow(
            "Order",
            OrderInput(order=order),
            id=f"order-{order.client_order_id}",
            task_queue=self.task_queue,
            task_timeout=timedelta(seconds=task_timeout_s),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )

    async def start_all(self, orders: Iterable[Order], task_timeout_s: float = 5.0) -> None:
        """Start many at once."""
        await asyncio.gather(*(self.start(order, task_timeout_s) for order in orders))

    def handle(self, order: Order) -> WorkflowHandle[Any, Any]:
        """The order's workflow."""
        return self.client.get_workflow_handle(f"order-{order.client_order_id}")

    async def is_running(self, order: Order) -> bool:
        """Whether the order's workflow is open."""
        described = await self.handle(order).describe()
        return described.status is WorkflowExecutionStatus.RUNNING

    # The exchanges.

    async def control(self, what: str, at: str | None = None, **wish: Any) -> Any:
        """A hand in the market, or a fault: see `workers.sandbox.control`."""
        url = f"{self.venues[at or self.name].url}/control/{what}"
        async with self.session.post(url, json=wish) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json(content_type=None)

    async def ledger(self, at: str | None = None) -> dict[str, Any]:
        """Every order and trade as the exchange has them."""
        async with self.session.get(f"{self.venues[at or self.name].url}/control/ledger") as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            return found


async def until(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]],
    what: str,
    *,
    seconds: float = 30,
    pause_s: float = 0.05,
) -> float:
    """Wait until something holds, at most so long; how long it took."""
    begun = time.monotonic()
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - begun
        waited = time.monotonic() - begun
        assert waited < seconds, f"after {waited:.1f} s it is still not so that {what}"
        await asyncio.sleep(pause_s)


def deeds(plan: Plan) -> list[dict[str, Any]]:
    """What a doomed worker has noted, as far as its lines are whole."""
    path = Path(plan.log)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line]


def _surroundings() -> dict[str, str]:
    """This process's environment without what others have set for themselves.

    Coverage stays behind: it takes a third of a process, and other tests cover the same code.
    """
    not_ours = ("OMS_", "TEMPORAL_", "COVERAGE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}


@asynccontextmanager
async def a_world(
    temporal: TemporalServer, folder: Path, shape: Shape | None = None
) -> AsyncIterator[World]:
    """Everything but workers; all of it ends with the block."""
    shape = shape or Shape()
    names = [f"x{secrets.token_hex(4)}" for _ in range(shape.exchanges)]
    environment = {
        **_surroundings(),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": temporal.namespace,
        "TEMPORAL_CONFIG_FILE": os.devnull,
        "PYTHONPATH": str(ROOT),
        "OMS_STORE_URL": shape.store_url or f"sqlite:///{folder / 'store.sqlite3'}",
        "OMS_TASK_QUEUE": names[0],
        "OMS_DEPLOYMENT": names[0],
        "OMS_EXCHANGES": ",".join(names),
    }
    if shape.market == "none":
        environment["OMS_RISK_FILE"] = str(OPEN_MARKET)
    async with AsyncExitStack() as parts:
        store = await Store.open(environment["OMS_STORE_URL"], create=True)
        parts.push_async_callback(store.close)
        session = await parts.enter_async_context(aiohttp.ClientSession())
        client = await temporal.connect(data_converter=pydantic_data_converter)
        world = World(names[0], folder, temporal, client, environment, store, session)
        for name, kind in zip(names, shape.kinds or ["binance"] * len(names), strict=True):
            await _add_venue(world, name, kind, shape, parts)
        parts.push_async_callback(_end, world)
        yield world


async def _add_venue(
    world: World, name: str, kind: str, shape: Shape, parts: AsyncExitStack
) -> None:
    """Start an exchange and give the workers an account there."""
    key, secret = secrets.token_hex(8), b64encode(secrets.token_bytes(18)).decode()
    command = [sys.executable, "-m", "workers.sandbox", "--name", name, "--market", shape.market]
    command += ["--protocol", kind, *_NO_LIMITS, *shape.sandbox]
    account = f"{key}:{secret}:BTC=5000,USDT=900000000"
    environment = {**_surroundings(), "OMS_SANDBOX_ACCOUNTS": account, "PYTHONPATH": str(ROOT)}
    exchange = ChildProcess(command, world.folder / f"exchange-{name}.log", environment)
    parts.push_async_callback(exchange.stop, 3)
    world.venues[name] = Venue(name, await _ready(exchange), key, secret, kind)
    settings = {
        "KIND": kind,
        "URL": world.venues[name].url,
        "API_KEY": key,
        "API_SECRET": secret,
        **shape.fence,
        **shape.fences.get(kind, {}),
    }
    world.environment |= {f"OMS_{name.upper()}_{what}": value for what, value in settings.items()}
    for symbol in SYMBOLS:
        await world.control(
            "symbol", name, symbol=symbol, max_num_orders=100000, max_num_algo_orders=100000
        )
        if shape.market == "none":
            quote = {"bid": BID, "bid_quantity": "2000", "ask": ASK, "ask_quantity": "2000"}
            await world.control("quote", name, symbol=symbol, **quote)


async def _ready(exchange: ChildProcess) -> str:
    found: list[str] = []

    def says_where() -> bool:
        assert exchange.exit_code is None, exchange.log_tail()
        lines = exchange.log_path.read_text(errors="replace").splitlines()
        found.extend(line for line in lines if line.startswith("{") and line.endswith("}"))
        return bool(found)

    await until(says_where, "the exchange trades")
    return str(json.loads(found[0])["url"])


async def _end(world: World) -> None:
    """No worker, no feed and no order is left on a server that serves other tests."""
    for worker in world.workers:
        worker.kill()
    for name in world.venues:
        with suppress(RPCError):
            await world.client.get_schedule_handle(f"reconcile-{name}-main").delete()
        with suppress(RPCError):
            feed = world.client.get_workflow_handle(f"feed-{name}-main")
            await feed.terminate("the world has ended")
    for order in await world.store.orders(limit=None):
        with suppress(RPCError):
            handle = world.client.get_workflow_handle(f"order-{order.client_order_id}")
            await handle.terminate("the world has ended")
