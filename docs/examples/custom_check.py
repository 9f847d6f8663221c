"""A risk check of one's own: never trade with oneself.

Run it against the local stack: oms exec --own-queue python docs/examples/custom_check.py
"""

import asyncio

from trading.oms import OrderManager
from trading.oms.models import Order
from trading.oms.portfolio import Portfolio
from trading.oms.risk.checker import RiskChecker

risk_checker = RiskChecker()
oms = OrderManager(risk_checker=risk_checker)


async def no_self_trade(order: Order, _portfolio: Portfolio) -> bool:
    """Whether no open order of ours would meet this one."""
    for other in oms.get_open_orders(symbol=order.symbol):
        pair = (order.price, other.price)
        bid, offer = pair if order.side == "buy" else reversed(pair)
        if other.side is not order.side and bid and offer and bid >= offer:
            return False
    return True


async def main() -> None:
    """Bid, then try to sell into the own bid."""
    risk_checker.add_check("no_self_trade", no_self_trade)
    async with oms:
        order = {"symbol": "BTC/USDT", "order_type": "limit", "quantity": "0.01", "price": "38500"}
        bid = await oms.submit_order(Order.model_validate({**order, "side": "buy"}))
        offer = await oms.submit_order(Order.model_validate({**order, "side": "sell"}))
        print(f"bid: {bid.status}; offer: {offer.status}, {offer.error}")
        await oms.cancel_order(bid.order_id)


if __name__ == "__main__":
    asyncio.run(main())
