"""A process that submits orders against one account until told to stop: for the overspending test.

`python -m tests.activities.reserving_process URL PREFIX COUNT STRATEGY`: prints the ids that
passed. Each order is admitted and reserved, many at once, as a worker does it. STRATEGY may be
empty; the strategy "bounded" may hold 100.
"""

import asyncio
import sys
from decimal import Decimal

from activities.store import Store, StoreSettings
from activities.store.reservations import ReserveWish
from tests.activities.store_builders import new_order
from trading.oms.models import Order
from trading.oms.risk.limits import LimitRule, RiskLimits, RiskRules

RULES = RiskRules(
    limits=RiskLimits(max_price_deviation=None),
    rules=(LimitRule(strategy_id="bounded", limits=RiskLimits(max_position_size=Decimal(100))),),
)


async def submit(store: Store, order: Order) -> bool:
    await store.admit(order)
    limits = RULES.limits_for(order, "sandbox", "main")
    answer = await store.risk.reserve(ReserveWish(order=order, limits=limits))
    if answer.denial is None:
        print(order.client_order_id, flush=True)  # noqa: T201 - the parent reads it
    return answer.denial is None


async def main(url: str, prefix: str, count: int, strategy_id: str | None) -> None:
    store = await Store.open(url, settings=StoreSettings(answer_within_s=60))
    orders = [
        new_order(
            client_order_id=f"{prefix}-{number}",
            quantity=Decimal(1),
            price=Decimal(100),
            strategy_id=strategy_id,
        )
        for number in range(count)
    ]
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(submit(store, order) for order in orders))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] or None))
