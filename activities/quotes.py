"""Best prices and books: asked for when one needs them, and kept for a moment."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from trading.oms.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from trading.oms.models import Quote
    from trading.oms.routing.markets import VenueMarket
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
_WAIT_S = 1.0
_FIRST_WAIT_S = 4.0
"""For the first answer about a symbol: a worker that has just started has much else to do."""
_SILENT_S = 1.0
"""How long an exchange that gave no answer is not asked for the same thing again."""
_WARM_S = 600.0
"""How long after its last order a symbol is kept fresh."""
_WARM_MAX = 5
"""How many symbols: each costs every worker a request in four seconds."""
_STALE_SOON = Decimal("0.8")
_LOOK_S = 0.5
_Kept = TypeVar("_Kept")


class QuoteKey(NamedTuple):
    """Which quote or book: the connector's two names, and the symbol."""

    exchange: str
    account: str
    symbol: str


class Kept(Generic[_Kept]):
    """What the exchanges say about each symbol that somebody asked for.

    An answer in the younger half of its allowed age is given as it is; in the older half it is
    given too and asked for anew meanwhile. So only the first order of a symbol waits, and of
    those that `keep_warm` looks after none does.
    """

    def __init__(self, ask: Callable[[QuoteKey], Awaitable[_Kept]]) -> None:
        """`ask` asks the exchange. Nothing is asked for yet."""
        self._fetch_one = ask
        self._known: dict[QuoteKey, tuple[float, _Kept]] = {}
        self._silent: dict[QuoteKey, float] = {}
        self._asking: dict[QuoteKey, asyncio.Task[_Kept | None]] = {}
        self._wanted: dict[QuoteKey, tuple[float, Decimal]] = {}

    async def get(self, key: QuoteKey, age_s_max: Decimal) -> _Kept | None:
        """The answer, at most so old; None where the exchange gives none within a second.

        The very first one may take four.
        """
        now = asyncio.get_running_loop().time()
        self.want(key, age_s_max)
        at, known = self._known.get(key, (0.0, None))
        if known is not None and now - at <= age_s_max:
            if now - at > age_s_max / 2:
                self._ask(key)
            return known
        if now - self._silent.get(key, -_SILENT_S) < _SILENT_S:
            return None
        try:
            async with asyncio.timeout(_FIRST_WAIT_S if known is None else _WAIT_S):
                return await asyncio.shield(self._ask(key))
        except TimeoutError:
            return None

    def want(self, key: QuoteKey, age_s_max: Decimal) -> None:
        """Somebody will ask for this: `keep_warm` has it ready for some minutes from now on."""
        self._wanted.pop(key, None)  # The newest wish stands last.
        self._wanted[key] = (asyncio.get_running_loop().time(), age_s_max)

    async def keep_warm(self) -> None:
        """Ask anew, for ever, for what was wanted last, before it is too old to be given."""
        while True:
            now = asyncio.get_running_loop().time()
            for key, (wanted_at, _) in list(self._wanted.items()):
                if now - wanted_at > _WARM_S or len(self._wanted) > _WARM_MAX:
                    del self._wanted[key]
            for key, (_, age_s_max) in self._wanted.items():
                is_silent = now - self._silent.get(key, -_SILENT_S) < _SILENT_S
                if (
                    not is_silent
                    and now - self._known.get(key, (-inf,))[0] > age_s_max * _STALE_SOON
                ):
                    self._ask(key)
            await asyncio.sleep(_LOOK_S)

    def newest(self, key: QuoteKey) -> _Kept | None:
        """The last answer, however old."""
        return self._known.get(key, (0.0, None))[1]

    async def close(self) -> None:
        """Ask no more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, key: QuoteKey) -> asyncio.Task[_Kept | None]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _fetch(self, key: QuoteKey) -> _Kept | None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            answer = await self._fetch_one(key)
        except ExchangeError as error:
            _log.info("nothing about %s at %s: %s", key.symbol, key.exchange, error)
            self._silent[key] = loop.time()
            return None
        self._known[key] = (asked_at, answer)
        return answer


def quotes_of(connectors: Mapping[tuple[str, str], IExecutionConnector]) -> Kept[Quote]:
    """The best prices, for the risk checks."""
    return Kept(lambda key: connectors[key.exchange, key.account].quote(key.symbol))


def books_of(connectors: Mapping[tuple[str, str], IExecutionConnector]) -> Kept[VenueMarket]:
    """The books, for the router."""
    return Kept(lambda key: connectors[key.exchange, key.account].book(key.symbol))
