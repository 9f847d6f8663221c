"""Processes that place orders as fast as the rate limits let them: for the proof of the ledger.

`python -m tests.activities.rate_process STORE CONNECTOR SECONDS PROCESSES` forks, because loading
ccxt takes longer than the test. CONNECTOR are its settings as JSON. Each process prints what it has
done as one line of JSON.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from decimal import Decimal

from activities.connectors.registry import build_connector
from activities.connectors.settings import ConnectorSettings
from activities.rate_desk import RateDesk, patient
from activities.store import Store, StoreSettings
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import ExchangeUnavailable
from trading.oms.interfaces import RateSlot, RateWish
from trading.oms.venue import IExecutionConnector, OrderRequest

_TASKS = 12
_numbers = itertools.count(1)


async def at_full_speed(
    store_url: str, connector: dict[str, str], seconds: float, processes: int
) -> list[dict[str, int]]:
    """Run so many of them; what each has done."""
    names = {"exchange": "limited", "account": "main"}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.activities.rate_process",
        *(store_url, json.dumps(names | connector), str(seconds), str(processes)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(program.communicate(), 100)
    assert program.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


class Trader:
    """Places orders that expire at once, many at a time, each as a worker does it."""

    def __init__(self, desk: RateDesk, connector: IExecutionConnector, until: float) -> None:
        self._desk = desk
        self._connector = connector
        self._until = until
        self.placed = 0
        self.refused = 0
        self.held_back = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._trade() for _ in range(_TASKS)))

    async def _trade(self) -> None:
        while time.monotonic() < self._until:
            name = f"{os.getpid():016x}{next(_numbers):016x}"
            slot, wish = RateSlot(), RateWish("limited", "place", symbol="BTC/USDT")
            while (slot := await self._desk.reserve(wish._replace(slot=slot.slot))).wait_s:
                if time.monotonic() + slot.wait_s > self._until:
                    return
                await asyncio.sleep(slot.wait_s)
            await self._place(name)

    async def _place(self, name: str) -> None:
        request = OrderRequest(
            exchange="limited",
            account="main",
            symbol="BTC/USDT",
            exchange_client_id=name,
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC,
            quantity=Decimal("0.01"),
            price=Decimal(1000),
            timestamp_ms=int(self._connector.exchange_now().timestamp() * 1000),
            window_ms=5000,
        )
        try:
            await self._connector.place(request)
        except ExchangeUnavailable as error:
            if error.status is None:
                self.held_back += 1
            else:
                self.refused += 1
        else:
            self.placed += 1


async def main(store_url: str, connector_settings: str, seconds: float) -> None:
    store = await Store.open(store_url, settings=StoreSettings(answer_within_s=30))
    desk = RateDesk(store.rates)
    connector = build_connector(ConnectorSettings.model_validate_json(connector_settings))
    desk.put_behind(connector)
    with patient():
        await connector.start()
    trader = Trader(desk, connector, time.monotonic() + seconds)
    await trader.run()
    await connector.close()
    await desk.close()
    await store.close()
    done = {"placed": trader.placed, "refused": trader.refused, "held_back": trader.held_back}
    os.write(1, (json.dumps(done) + "\n").encode())


if __name__ == "__main__":
    for _ in range(int(sys.argv[4])):
        if os.fork() == 0:
            asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
            os._exit(0)
    failed = sum(os.wait()[1] != 0 for _ in range(int(sys.argv[4])))
    sys.exit(failed)
