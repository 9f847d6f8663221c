"""The order management system as a contender, by its embedded and by its remote door."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from activities.store import Store
from bench.database import Counters, PostgresCounters, SqliteCounters
from bench.market import LOT, PRICE
from bench.measures import Life, OrderTimes
from bench.processes import tree_cpu_s
from bench.rig import until_said
from trading.oms.enums import OrderSide, OrderType
from trading.oms.events import OrderEvent
from trading.oms.identity import exchange_client_id
from trading.oms.models import Order
from trading.oms.order_manager import OrderManager
from trading.oms.order_workflow import workflow_id
from workers.child_process import ChildProcess
from workers.connection import connect
from workers.settings import Settings
from workers.stack_exchange import fast_python

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from temporalio.client import Client

    from bench.rig import Rig

_DEPLOYMENT = "bench"
_LIMITS = Path(__file__).parent / "limits.toml"
_FILL_S = 60.0
_DRAIN_S = 15.0
WORKER = "worker"
"""The name of the workers' own CPU clock, where they are processes of their own."""


class Ours:
    """One `OrderManager` and, on the embedded door, its worker in this process."""

    def __init__(self, rig: Rig, name: str, title: str, store: str = "sqlite") -> None:
        """`name` is that of the account and of the store, which is "sqlite" or "postgres"."""
        self.name = name
        self.title = title
        self._rig = rig
        self._store = store
        self.store_url = rig.store_url(name, store)
        # Its own: a schedule that outlives its turn must not run on the next one's worker.
        self._task_queue = f"bench-{name}"
        self._manager: OrderManager | None = None
        self._filled: dict[str, asyncio.Future[float]] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Ready for orders while the block lasts; the feed's workflow ends with it."""
        await (await Store.open(self.store_url, create=True)).close()
        client = await connect(target_host=self._rig.temporal_address)
        async with contextlib.AsyncExitStack() as parts:
            self._manager = await parts.enter_async_context(await self._door(parts, client))
            await self._manager.event_bus.subscribe("order_filled", self._order_filled)
            yield client
        feed = client.get_workflow_handle(f"feed-{self.name}-main")
        await feed.terminate("the turn of this contender is over")

    async def _door(self, parts: contextlib.AsyncExitStack, client: Client) -> OrderManager:  # noqa: ARG002 - the remote door's own
        settings = Settings(
            store_url=SecretStr(self.store_url),
            deployment=_DEPLOYMENT,
            task_queue=self._task_queue,
            risk_file=str(_LIMITS),
            exchanges=(self._rig.exchange.settings(self.name),),
        )
        return OrderManager(settings=settings, client=client)

    async def live(self, life: Life) -> OrderTimes:
        """One whole life, until a subscriber has heard of the fill."""
        assert self._manager is not None  # noqa: S101 - `running` has made it
        order = self._order(life)
        filled = asyncio.get_running_loop().create_future()
        self._filled[order.client_order_id] = filled
        submitted = time.monotonic_ns()
        result = await self._manager.submit_order(order)
        answered = time.monotonic_ns()
        if not result.success or result.in_doubt:
            msg = f"an order was not accepted: {result}"
            raise RuntimeError(msg)
        if life is Life.RESTING:
            self._rig.fill_one()
        async with asyncio.timeout(_FILL_S):
            event_ms = await filled
        del self._filled[order.client_order_id]
        return OrderTimes(
            workflow_id(order.client_order_id),
            submitted,
            answered,
            event_ms=event_ms,
            exchange_client_id=exchange_client_id(_DEPLOYMENT, order.client_order_id, 1, 1),
        )

    async def settle(self, orders: list[OrderTimes]) -> None:
        """Ask the exchange when it had each order."""
        received = await self._rig.exchange.received(4 * len(orders))
        for order in orders:
            order.wire_ns = received.get(order.exchange_client_id, 0)

    def counters(self) -> Counters:
        """Of its store."""
        if self._store == "postgres":
            return PostgresCounters(self.store_url)
        return SqliteCounters(self._rig.store_file(self.name))

    async def _order_filled(self, event: OrderEvent) -> None:
        """The fill's time is the exchange's, in whole milliseconds."""
        waiting = self._filled.get(event.order_id)
        if waiting is not None and event.fill is not None and not waiting.done():
            waiting.set_result((time.time() - event.fill.timestamp.timestamp()) * 1000)

    def _order(self, life: Life) -> Order:
        rests = life is Life.RESTING
        return Order(
            symbol="BTC/USDT" if rests else "ETH/USDT",
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            quantity=LOT if rests else 10 * LOT,
            price=PRICE if rests else PRICE / 20,
            strategy_id="bench",
        )


class OursRemote(Ours):
    """The remote door: only a Temporal client here, each worker is a process of its own."""

    workers = 1
    """How many share the store and the task queue."""

    async def _door(self, parts: contextlib.AsyncExitStack, client: Client) -> OrderManager:
        workers = [self._worker(number) for number in range(1, self.workers + 1)]
        for worker in workers:
            parts.push_async_callback(self._stop, worker)
        for worker in workers:
            await until_said(worker, "working on")
        self._rig.cpu[WORKER] = lambda: sum(tree_cpu_s(worker.pid) for worker in workers)
        parts.callback(self._rig.cpu.pop, WORKER)
        return OrderManager.remote(
            client=client, task_queue=self._task_queue, store_url=self.store_url
        )

    def _worker(self, number: int) -> ChildProcess:
        command, log = [sys.executable, "-m", "workers"], f"worker-{number}.log"
        return ChildProcess(command, self._rig.folder / log, self._environment())

    async def _stop(self, worker: ChildProcess) -> None:
        await worker.stop(_DRAIN_S)
        worker.log_path.unlink()

    def _environment(self) -> dict[str, str]:
        exchange, prefix = self._rig.exchange, f"OMS_{self.name.upper()}_"
        kept = {n: v for n, v in fast_python(os.environ).items() if not n.startswith("OMS_")}
        return {
            **kept,
            "TEMPORAL_ADDRESS": self._rig.temporal_address,
            "OMS_STORE_URL": self.store_url,
            "OMS_DEPLOYMENT": _DEPLOYMENT,
            "OMS_TASK_QUEUE": self._task_queue,
            "OMS_RISK_FILE": str(_LIMITS),
            "OMS_EXCHANGES": self.name,
            f"{prefix}URL": exchange.url,
            f"{prefix}API_KEY": exchange.keys[self.name],
            f"{prefix}API_SECRET": exchange.keys[self.name],
        }
