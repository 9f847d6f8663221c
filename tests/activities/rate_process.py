"""Processes that place orders as fast as the rate limits let them: for the proof of the ledger.

`python -m tests.activities.rate_process STORE EXCHANGE_URL KEY SECONDS PROCESSES` forks, because
loading ccxt takes longer than the test. Each process prints what it has done as one line of JSON.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from decimal import Decimal

from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.settings import ConnectorSettings
from activities.rate_desk import RateDesk, patient
from activities.store import Store, StoreSettings
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import ExchangeUnavailable
from trading.oms.interfaces import RateSlot, RateWish
from trading.oms.venue import OrderRequest

_TASKS = 12
_numbers = itertools.count(1)


class Trader:
    """Places orders that expire at once, many at a time, each as a worker does it."""

    def __init__(self, desk: RateDesk, connector: BinanceConnector, until: float) -> None:
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
            name = f"o{os.getpid()}-{next(_numbers)}"
            slot, wish = RateSlot(), RateWish("limited", "place")
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


async def main(store_url: str, exchange_url: str, key: str, seconds: float) -> None:
    store = await Store.open(store_url, settings=StoreSettings(answer_within_s=30))
    settings = {
        "exchange": "limited",
        "account": "main",
        "api_key": key,
        "secret": key,
        "rest_url": exchange_url,
    }
    desk = RateDesk(store.rates)
    connector = BinanceConnector(ConnectorSettings.model_validate(settings))
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
    for _ in range(int(sys.argv[5])):
        if os.fork() == 0:
            asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
            os._exit(0)
    failed = sum(os.wait()[1] != 0 for _ in range(int(sys.argv[5])))
    sys.exit(failed)
