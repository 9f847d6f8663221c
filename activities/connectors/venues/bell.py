"""A venue's stream of orders, through ccxt.pro, as a bell: it says that something has happened.

What it says is not read. ccxt.pro merges and leaves out, and REST is asked for the truth at once
(`PolledFeed`); a stream that is silent or cannot be opened only makes that later.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from activities.connectors.classify import shown
from trading.oms.models import Instrument

logger = logging.getLogger(__name__)


class Bell:
    """One connection of its own; `listed` are the instruments by the venue's names."""

    def __init__(
        self, wire: Any, listed: Iterable[tuple[str, Instrument]], asked: Mapping[str, Any]
    ) -> None:
        self._wire = wire
        self._asked = asked
        # ccxt would load them itself, of all its markets, with requests of its own.
        wire.set_markets([_market(wire, name, one) for name, one in listed])

    async def ring(self, rung: Callable[[], None], pause_s: float) -> None:
        """Listen until cancelled; a stream that fails is tried again after a pause."""
        try:
            while True:
                try:
                    await self._wire.watch_orders(**self._asked)
                except Exception as error:  # noqa: BLE001 - ccxt raises whatever it likes
                    words = shown(self._wire.scrub(str(error)))
                    logger.info("the stream of orders is silent: %s", words)
                    await asyncio.sleep(pause_s)
                else:
                    rung()
        finally:
            await self._wire.close()


def _market(wire: Any, name: str, one: Instrument) -> Any:
    return wire.safe_market_structure(
        {
            "id": name,
            "symbol": one.symbol,
            "base": one.base,
            "quote": one.quote,
            "baseId": one.base,
            "quoteId": one.quote,
            "type": "spot",
            "spot": True,
            "active": True,
            "precision": {"amount": str(one.lot_size), "price": str(one.tick_size)},
        }
    )
