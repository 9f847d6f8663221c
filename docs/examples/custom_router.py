"""A router of one's own: small orders to the last exchange, large ones to the first.

Run it against the local stack: oms exec --own-queue python docs/examples/custom_router.py
"""

import asyncio

from trading.oms import OrderManager
from trading.oms.models import Order
from trading.oms.venue import IExecutionConnector


class BySize:
    """Does what `trading.oms.interfaces.IOrderRouter` asks for."""

    def __init__(self) -> None:
        self.exchanges: list[str] = []

    def register_exchange(self, exchange_name: str, _connector: IExecutionConnector) -> None:
        """At the start, once for each account, in the order of OMS_EXCHANGES."""
        self.exchanges.append(exchange_name)

    async def route_order(self, order: Order) -> str:
        """Raise `RoutingDenied` where no exchange will do."""
        return order.exchange or self.exchanges[-1 if order.quantity * 20 < 1 else 0]


async def main() -> None:
    """Two bids, one of each size."""
    async with OrderManager(order_router=BySize()) as oms:
        for quantity in ("0.01", "0.1"):
            bid = {"symbol": "BTC/USDT", "side": "buy", "order_type": "limit", "price": "38500"}
            result = await oms.submit_order(Order.model_validate({**bid, "quantity": quantity}))
            print(f"{quantity} at {result.state.exchange if result.state else result.error}")
            await oms.cancel_order(result.order_id)


if __name__ == "__main__":
    asyncio.run(main())
