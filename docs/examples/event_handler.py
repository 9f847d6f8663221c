"""A book-keeper beside the OMS: each fill once, whenever it was, whoever was down meanwhile.

Events come at least once and in each order's own order; `handled_through` is where to go on.

Run it against the local stack: oms exec python docs/examples/event_handler.py fills.txt
"""

import asyncio
import os
import sys
from pathlib import Path

from trading.oms import OrderManager
from trading.oms.events import OrderFillEvent

BOOK = Path(sys.argv[1] if len(sys.argv) > 1 else "fills.txt")
CURSOR = BOOK.with_suffix(".cursor")


async def book(event: OrderFillEvent) -> None:
    """A handler that raises is called again with the same event."""
    known = BOOK.read_text() if BOOK.exists() else ""
    if event.fill.fill_id not in known:  # An event can come again; a fill's id is for ever.
        line = f"{event.fill.fill_id} {event.side} {event.fill.quantity} at {event.fill.price}\n"
        BOOK.write_text(known + line)


async def main() -> None:
    """Take in all fills so far; a service would go on with `await asyncio.Event().wait()`."""
    after = int(CURSOR.read_text()) if CURSOR.exists() else 0
    async with OrderManager.remote(store_url=os.environ["OMS_STORE_URL"]) as oms:
        subscription = await oms.event_bus.subscribe("order_fill", book, after=after, for_ever=True)
        await oms.event_bus.drain()
        CURSOR.write_text(str(subscription.handled_through))
        print(f"{subscription.handled} fills, up to event {subscription.handled_through}")


if __name__ == "__main__":
    asyncio.run(main())
