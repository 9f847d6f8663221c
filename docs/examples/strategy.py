"""A small strategy: buy, and offer what was bought for 0.1 % more.

Run it against the local stack: oms exec python docs/examples/strategy.py
"""

import asyncio
import os
from decimal import Decimal

from trading.oms import OrderManager
from trading.oms.events import OrderFilledEvent
from trading.oms.models import Order, new_client_order_id

ENTRY = new_client_order_id()  # Keep it, and the round can be repeated after a crash.
ORDER = {"symbol": "BTC/USDT", "quantity": "0.01", "strategy_id": "buy_and_offer"}
offered = asyncio.Event()


async def main() -> None:
    """One round of the strategy."""
    async with OrderManager.remote(store_url=os.environ["OMS_STORE_URL"]) as oms:

        async def offer(event: OrderFilledEvent) -> None:
            if event.order_id == ENTRY and event.average_fill_price is not None:
                price = round(event.average_fill_price * Decimal("1.001"), 2)
                # The event can come twice. The same id with the same content is the same order.
                sale = {**ORDER, "side": "sell", "order_type": "limit", "price": price}
                order = Order.model_validate({**sale, "client_order_id": f"{ENTRY}-exit"})
                print(f"offered at {price}: {(await oms.submit_order(order)).status}")
                offered.set()

        await oms.event_bus.subscribe("order_filled", offer)
        entry = {**ORDER, "client_order_id": ENTRY, "side": "buy", "order_type": "market"}
        await oms.submit_order(Order.model_validate(entry))
        await asyncio.wait_for(offered.wait(), 20)
        await oms.cancel_order(f"{ENTRY}-exit")


asyncio.run(main())
