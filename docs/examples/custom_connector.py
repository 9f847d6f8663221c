"""A connector of one's own: an exchange's whole market, and not one order sent there.

It is whatever takes `ConnectorSettings` and gives an `IExecutionConnector`; this one changes one
method of ours. OMS_<EXCHANGE>_KIND names it; a package can give it a name, see `oms.connectors`.

Run it against the local stack: oms exec --own-queue python docs/examples/custom_connector.py
"""

import asyncio
import os

from activities.connectors.binance_connector import BinanceConnector
from trading.oms import OrderManager
from trading.oms.errors import ExchangeRejected
from trading.oms.models import Order
from trading.oms.venue import ExecutionReport, OrderRequest


class DryRun(BinanceConnector):
    """Says of each order what would have been sent, and rejects it."""

    async def place(self, request: OrderRequest) -> ExecutionReport:
        """`ExchangeRejected` is definite; after `OutcomeUnknown` the order is looked for."""
        text = f"a dry run: {request.side} {request.quantity} {request.symbol} at {request.price}"
        raise ExchangeRejected(text, code="dry_run")


async def main() -> None:
    """One order that passes every check of ours."""
    os.environ["OMS_ALPHA_KIND"] = "custom_connector:DryRun"
    async with OrderManager() as oms:
        order = {"symbol": "BTC/USDT", "side": "buy", "order_type": "limit", "exchange": "alpha"}
        bid = Order.model_validate({**order, "quantity": "0.01", "price": "38500"})
        result = await oms.submit_order(bid)
        print(f"{result.status} by the {result.rejected_by}: {result.error}")


if __name__ == "__main__":
    asyncio.run(main())
