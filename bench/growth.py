"""`python -m bench.growth`: what work costs as it grows, in one of three directions.

`[LEVEL ...]` *Open orders.* At each level so many orders rest at the exchange, each an open
workflow. Then whole lives of other orders are measured as in `python -m bench` (50 at once), with
the CPU of each part, and the memory of this process (client and worker). At the end the process's
client and worker stop and start anew: the time until a new order is accepted, and until all that
rest are known again.

`--workers N [N ...]` *Processes.* The remote door with so many workers on one store and one task
queue.

`--journal ROWS` *The past.* An empty store and one whose journal has so many rows of old, closed
orders take turns, and the latter is started anew.

`--store` says which database. The last line is JSON, progress goes to stderr;
`python -m bench.page --growth FILE` makes tables of such lines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.history import Books, fill
from bench.market import LOT, PRICE
from bench.measures import Life, measure, run_orders
from bench.ours import WORKER, Ours, OursRemote
from bench.processes import machine
from bench.rig import running_rig
from trading.oms.enums import OrderSide, OrderType
from trading.oms.models import Order

if TYPE_CHECKING:
    from temporalio.client import Client

    from bench.rig import Rig

_AT_ONCE = 50
_LEVELS = (100, 1000, 10_000)
_TURNS = 2
_DEEP = Decimal("0.5")
_KIB = 1024
_REMOTE_PARTS = {"client and worker": "client", WORKER: "workers"}
Figures = dict[str, Any]


class _Resting(Ours):
    """The embedded door, with orders that rest where nobody trades."""

    async def rest(self, how_many: int) -> None:
        """Let so many more orders rest."""
        left = iter(range(how_many))

        async def lane() -> None:
            assert self._manager is not None  # noqa: S101 - `running` has made it
            for _ in left:
                result = await self._manager.submit_order(_deep_order())
                if not result.success:
                    msg = f"an order was not accepted: {result}"
                    raise RuntimeError(msg)

        await asyncio.gather(*(lane() for _ in range(_AT_ONCE)))

    def known(self) -> int:
        """How many open orders the tracker knows."""
        assert self._manager is not None  # noqa: S101 - `running` has made it
        return len(self._manager.get_open_orders())


def _deep_order() -> Order:
    return Order(
        symbol="BTC/USDT",
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=LOT,
        price=PRICE * _DEEP,
        strategy_id="rests",
    )


def _memory_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _KIB / _KIB


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


async def _figures(rig: Rig, ours: Ours, client: Client, seconds: float) -> Figures:
    """What is measured everywhere: after a second of warming up, 50 orders at once."""
    await ours.settle(await run_orders(ours, Life.RESTING, _AT_ONCE, 1.0))
    cell = await measure(rig, ours, client, Life.RESTING, _AT_ONCE, seconds)
    figures = {
        "orders_per_s": round(cell.orders_per_s, 1),
        "cpu_ms": {name: round(value, 2) for name, value in cell.cpu_ms.items()},
        "memory_mib": round(_memory_mib(), 1),
    }
    _say(json.dumps(figures))
    return figures


async def _levels(rig: Rig, store: str, levels: list[int], seconds: float) -> Figures:
    """More and more open orders."""
    ours = _Resting(rig, store, f"embedded, {store}", store)
    found: list[Figures] = []
    rests = 0
    async with ours.running() as client:
        for level in levels:
            await ours.rest(level - rests)
            rests = level
            found.append({"open_orders": rests, **await _figures(rig, ours, client, seconds)})
    return {"levels": per_open_order(found), "restart": await _restart(ours, rests)}


def per_open_order(levels: list[Figures]) -> list[Figures]:
    """The levels with the memory of an open order, in KiB: what has come since the level before."""
    found = levels[:1]
    for less, more in pairwise(levels):
        kib = (more["memory_mib"] - less["memory_mib"]) * _KIB
        orders = more["open_orders"] - less["open_orders"]
        found.append({**more, "kib_per_open_order": round(kib / orders, 1)})
    return found


async def _workers(rig: Rig, store: str, counts: list[int], seconds: float) -> Figures:
    """More and more worker processes."""
    ours = OursRemote(rig, "remote", f"remote, {store}", store)
    found: list[Figures] = []
    for count in counts:
        ours.workers = count
        async with ours.running() as client:
            figures = await _figures(rig, ours, client, seconds)
        cpu_ms = {_REMOTE_PARTS.get(part, part): ms for part, ms in figures["cpu_ms"].items()}
        found.append({"workers": count, **figures, "cpu_ms": cpu_ms})
    return {"workers": found}


async def _journal(rig: Rig, store: str, rows: int, seconds: float) -> Figures:
    """An empty store and one with a past, in turns."""
    empty = _Resting(rig, store, f"embedded, {store}", store)
    filled = _Resting(rig, "filled", f"embedded, {store}, filled", store)
    found: list[Figures] = []
    orders, fill_s = 0, 0.0
    for _ in range(_TURNS):
        async with empty.running() as client:
            found.append({"old_rows": 0, **await _figures(rig, empty, client, seconds)})
        if not orders:
            started = time.monotonic()
            source, target = (Books(one.name, one.store_url) for one in (empty, filled))
            orders = await fill(source, target, rows)
            fill_s = round(time.monotonic() - started, 1)
            _say(f"{orders} old orders written in {fill_s} s")
        async with filled.running() as client:
            found.append({"old_rows": rows, **await _figures(rig, filled, client, seconds)})
    restart = await _restart(filled, 0)
    return {"journal": found, "old_orders": orders, "fill_s": fill_s, "restart": restart}


async def _restart(ours: _Resting, resting: int) -> dict[str, float]:
    """Seconds from the start of the process's parts until it trades, and until it knows all."""
    started = time.monotonic()
    async with ours.running():
        await ours.rest(1)
        trades_s = time.monotonic() - started
        while ours.known() < resting:  # noqa: ASYNC110 - the tracker tells nobody
            await asyncio.sleep(0.05)
        return {"trades_s": round(trades_s, 2), "knows_all_s": round(time.monotonic() - started, 2)}


async def _run(wanted: argparse.Namespace) -> Figures:
    store, seconds = wanted.store, wanted.seconds
    with tempfile.TemporaryDirectory(prefix="oms-bench-", ignore_cleanup_errors=True) as name:
        async with running_rig(Path(name), _say, postgres=store == "postgres") as rig:
            if wanted.workers:
                return await _workers(rig, store, wanted.workers, seconds)
            if wanted.journal:
                return await _journal(rig, store, wanted.journal, seconds)
            return await _levels(rig, store, sorted(set(wanted.levels or _LEVELS)), seconds)


def _wanted() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("levels", nargs="*", type=int, metavar="LEVEL", help=f"open orders {_LEVELS}")
    add("--workers", nargs="+", type=int, metavar="N", help="worker processes, as in 1 2 4")
    add("--journal", type=int, metavar="ROWS", help="rows of old orders in the journal")
    add("--store", choices=("sqlite", "postgres"), default="sqlite")
    add("--seconds", type=float, default=10.0, help="length of a cell (10)")
    wanted = parser.parse_args()
    if sum(map(bool, (wanted.levels, wanted.workers, wanted.journal))) > 1:
        parser.error("levels, --workers and --journal are measured in runs of their own")
    return wanted


def main() -> None:
    """Measure and print."""
    wanted = _wanted()
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine(),
        "store": wanted.store,
        "at_once": _AT_ONCE,
        "seconds_per_cell": wanted.seconds,
    }
    print(json.dumps({**facts, **asyncio.run(_run(wanted))}), flush=True)


if __name__ == "__main__":
    main()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(0)
