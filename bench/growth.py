"""`python -m bench.growth [--store sqlite|postgres] [LEVEL ...]`: what work costs as it grows.

At each level so many orders rest at the exchange, each an open workflow. Then whole lives of other
orders are measured as in `python -m bench` (50 at once), with the CPU of each part, and the memory
of this process (client and worker). At the end the process's client and worker stop and start anew:
the time until a new order is accepted, and until all that rest are known again. The last line is
JSON; progress goes to stderr.
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
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.market import LOT, PRICE
from bench.measures import Life, measure, run_orders
from bench.ours import Ours
from bench.processes import machine
from bench.rig import running_rig
from trading.oms.enums import OrderSide, OrderType
from trading.oms.models import Order

if TYPE_CHECKING:
    from temporalio.client import Client

    from bench.rig import Rig

_AT_ONCE = 50
_LEVELS = (100, 1000, 10_000)
_DEEP = Decimal("0.5")
_KIB = 1024


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


async def _level(
    rig: Rig, ours: _Resting, client: Client, resting: int, seconds: float
) -> dict[str, Any]:
    """One level's figures."""
    await ours.settle(await run_orders(ours, Life.RESTING, _AT_ONCE, 1.0))
    cell = await measure(rig, ours, client, Life.RESTING, _AT_ONCE, seconds)
    figures = {
        "open_orders": resting,
        "orders_per_s": round(cell.orders_per_s, 1),
        "cpu_ms": {name: round(value, 2) for name, value in cell.cpu_ms.items()},
        "memory_mib": round(_memory_mib(), 1),
    }
    _say(json.dumps(figures))
    return figures


async def _run(store: str, levels: list[int], seconds: float) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="oms-bench-", ignore_cleanup_errors=True) as name:
        async with running_rig(Path(name), _say, postgres=store == "postgres") as rig:
            ours = _Resting(rig, store, f"embedded, {store}")
            rests = 0
            async with ours.running() as client:
                for level in levels:
                    await ours.rest(level - rests)
                    rests = level
                    found.append(await _level(rig, ours, client, rests, seconds))
            restart = await _restart(ours, rests)
    return {"store": store, "levels": found, "restart": restart}


async def _restart(ours: _Resting, resting: int) -> dict[str, float]:
    """Seconds from the start of the process's parts until it trades, and until it knows all."""
    started = time.monotonic()
    async with ours.running():
        await ours.rest(1)
        trades_s = time.monotonic() - started
        while ours.known() < resting:  # noqa: ASYNC110 - the tracker tells nobody
            await asyncio.sleep(0.05)
        return {"trades_s": round(trades_s, 2), "knows_all_s": round(time.monotonic() - started, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("levels", nargs="*", type=int, default=_LEVELS, metavar="LEVEL")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a cell (10)")
    wanted = parser.parse_args()
    facts = machine()
    found = asyncio.run(_run(wanted.store, sorted(wanted.levels), wanted.seconds))
    print(json.dumps({"machine": facts, **found}), flush=True)


if __name__ == "__main__":
    main()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(0)
