"""Quotes for the risk checks: asked for when one needs them, and kept for a moment."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from trading.oms.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from trading.oms.models import Quote
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
_WAIT_S = 1.0
_SILENT_S = 1.0
"""How long an exchange that gave no quote is not asked for the same one again."""


class QuoteKey(NamedTuple):
    """Which quote: the connector's two names, and the symbol."""

    exchange: str
    account: str
    symbol: str


class Quotes:
    """The best prices of each symbol that somebody asked for.

    A quote in the younger half of its allowed age is given as it is; in the older half it is
    given too and asked for anew meanwhile. So only the first order of a symbol waits.
    """

    def __init__(self, connectors: Mapping[tuple[str, str], IExecutionConnector]) -> None:
        """Nothing is asked for yet."""
        self._connectors = connectors
        self._known: dict[QuoteKey, tuple[float, Quote]] = {}
        self._silent: dict[QuoteKey, float] = {}
        self._asking: dict[QuoteKey, asyncio.Task[Quote | None]] = {}

    async def quote(self, key: QuoteKey, age_s_max: Decimal) -> Quote | None:
        """The quote, at most so old; None where the exchange gives none within a second."""
        now = asyncio.get_running_loop().time()
        at, known = self._known.get(key, (0.0, None))
        if known is not None and now - at <= age_s_max:
            if now - at > age_s_max / 2:
                self._ask(key)
            return known
        if now - self._silent.get(key, -_SILENT_S) < _SILENT_S:
            return None
        try:
            async with asyncio.timeout(_WAIT_S):
                return await asyncio.shield(self._ask(key))
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, key: QuoteKey) -> asyncio.Task[Quote | None]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _fetch(self, key: QuoteKey) -> Quote | None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            quote = await self._connectors[key.exchange, key.account].quote(key.symbol)
        except ExchangeError as error:
            _log.info("no quote of %s at %s: %s", key.symbol, key.exchange, error)
            self._silent[key] = loop.time()
            return None
        self._known[key] = (asked_at, quote)
        return quote
