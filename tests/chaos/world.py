"""A world to break: one sandbox exchange, one store, a Temporal server, and workers that may die.

Each world has names of its own (exchange, task queue, order ids), so that worlds share a Temporal
server. The fence is short: proof that nothing was placed comes within a second.
"""

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from activities.store import Store
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
_DRAIN_S = 15.0
_numbers = itertools.count(1)


@dataclass
class World:
    """What runs, and what can be asked of it."""

    name: str
    folder: Path
    temporal: TemporalServer
    client: Client
    exchange_url: str
    environment: dict[str, str]
    store: Store
    session: aiohttp.ClientSession
    workers: list[ChildProcess] = field(default_factory=list)

    @property
    def task_queue(self) -> str:
        """Where the order workflows run."""
        return self.environment["OMS_TASK_QUEUE"]

    # Workers.

    def worker(self, plan: Plan | None = None, **variables: str) -> ChildProcess:
        """Begin a worker process; with a plan it is a doomed one."""
        module = "workers" if plan is None else "tests.chaos.doomed_worker"
        environment = {**self.environment, **variables}
        if plan is not None:
            environment[VARIABLE] = plan.as_json()
        log = self.folder / f"worker-{len(self.workers) + 1}.log"
        worker = ChildProcess([sys.executable, "-m", module], log, environment)
        self.workers.append(worker)
        return worker

    async def working(self, worker: ChildProcess) -> ChildProcess:
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

    # The exchange.

    async def control(self, what: str, **wish: Any) -> Any:
        """A hand in the market, or a fault: see `workers.sandbox.control`."""
        url = f"{self.exchange_url}/control/{what}"
        async with self.session.post(url, json=wish) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json(content_type=None)

    async def ledger(self) -> dict[str, Any]:
        """Every order and trade as the exchange has them."""
        async with self.session.get(f"{self.exchange_url}/control/ledger") as answer:
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


@asynccontextmanager
async def a_world(temporal: TemporalServer, folder: Path) -> AsyncIterator[World]:
    """Everything but workers; all of it ends with the block."""
    name = f"x{secrets.token_hex(4)}"
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    async with AsyncExitStack() as parts:
        exchange = _exchange(name, f"{key}:{secret}:BTC=5000,USDT=900000000", folder)
        parts.push_async_callback(exchange.stop, 3)
        environment = {
            **{n: v for n, v in os.environ.items() if not n.startswith(("OMS_", "TEMPORAL_"))},
            "TEMPORAL_ADDRESS": temporal.address,
            "TEMPORAL_NAMESPACE": temporal.namespace,
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "PYTHONPATH": str(ROOT),
            "OMS_STORE_URL": f"sqlite:///{folder / 'store.sqlite3'}",
            "OMS_TASK_QUEUE": name,
            "OMS_DEPLOYMENT": name,
            "OMS_EXCHANGES": name,
            "OMS_RISK_FILE": str(OPEN_MARKET),
            f"OMS_{name.upper()}_API_KEY": key,
            f"OMS_{name.upper()}_API_SECRET": secret,
            **{f"OMS_{name.upper()}_{setting}": value for setting, value in FENCE.items()},
        }
        store = await Store.open(environment["OMS_STORE_URL"], create=True)
        parts.push_async_callback(store.close)
        session = await parts.enter_async_context(aiohttp.ClientSession())
        client = await temporal.connect(data_converter=pydantic_data_converter)
        url = await _ready(exchange)
        environment[f"OMS_{name.upper()}_URL"] = url
        world = World(name, folder, temporal, client, url, environment, store, session)
        await _open_the_market(world)
        parts.push_async_callback(_end, world)
        yield world


def _exchange(name: str, account: str, folder: Path) -> ChildProcess:
    command = [sys.executable, "-m", "workers.sandbox", "--name", name, "--market", "none"]
    command += ["--order-limit-10s", "1000000", "--weight-limit", "10000000"]
    environment = {**os.environ, "OMS_SANDBOX_ACCOUNTS": account, "PYTHONPATH": str(ROOT)}
    return ChildProcess(command, folder / "exchange.log", environment)


async def _ready(exchange: ChildProcess) -> str:
    found: list[str] = []

    def says_where() -> bool:
        assert exchange.exit_code is None, exchange.log_tail()
        lines = exchange.log_path.read_text(errors="replace").splitlines()
        found.extend(line for line in lines if line.startswith("{") and line.endswith("}"))
        return bool(found)

    await until(says_where, "the exchange trades")
    return str(json.loads(found[0])["url"])


async def _open_the_market(world: World) -> None:
    for symbol in SYMBOLS:
        await world.control("symbol", symbol=symbol, max_num_orders=100000)
        await world.control(
            "quote", symbol=symbol, bid=BID, bid_quantity="2000", ask=ASK, ask_quantity="2000"
        )


async def _end(world: World) -> None:
    """No worker, no feed and no order is left on a server that serves other tests."""
    for worker in world.workers:
        worker.kill()
    with suppress(RPCError):
        feed = world.client.get_workflow_handle(f"feed-{world.name}-main")
        await feed.terminate("the world has ended")
    for order in await world.store.orders(limit=None):
        with suppress(RPCError):
            handle = world.client.get_workflow_handle(f"order-{order.client_order_id}")
            await handle.terminate("the world has ended")
