"""The venue that offers most for an order (specification, "Smart Order Routing")."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading.oms.enums import ReasonCode
from trading.oms.models import Order, utc_now
from trading.oms.routing.base import RoutingDenied
from trading.oms.routing.markets import (
    QUOTE_AGE_S_MAX,
    Offer,
    VenueMarket,
    by_liquidity,
    by_price,
    offer_of,
    said,
)
from trading.oms.routing.rules import Refusal, refused_by_rules
from trading.oms.routing.simple import SimpleRouter
from trading.oms.venue import IExecutionConnector

GetMarket = Callable[[str, Order], Awaitable[VenueMarket | str | None]]
"""The book at an exchange for an order, with the venue's fee; None where it has none, and in
words why the venue does not count (trading is halted there)."""


class RoutingStrategy(StrEnum):
    """How a venue is chosen where the trader has named none."""

    CONFIGURED = "configured"
    BEST_PRICE = "best_price"
    LIQUIDITY = "liquidity"


class SmartOrderRouter:
    """Routes by the best price with fees over the depth of the book, or to the deepest book.

    A venue that the trader names is taken as it is. A venue without the symbol, whose rules the
    order breaks, that is halted, without a fresh quote or without enough for a market order does
    not count; where none is left the order is denied with the reason for each. Splitting an
    order into legs is not done here.
    """

    def __init__(
        self,
        get_market: GetMarket,
        strategy: RoutingStrategy = RoutingStrategy.BEST_PRICE,
        *,
        default_exchange: str | None = None,
        quote_age_s_max: Decimal = QUOTE_AGE_S_MAX,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`default_exchange` serves CONFIGURED and decides between equal offers."""
        self.routing_strategy = strategy
        self._simple = SimpleRouter(default_exchange)
        self._get_market = get_market
        self._quote_age_s_max = quote_age_s_max
        self._clock = clock

    def register_exchange(self, exchange_name: str, connector: IExecutionConnector) -> None:
        """Make a venue known; one connector for each account there."""
        self._simple.register_exchange(exchange_name, connector)

    async def route_order(self, order: Order) -> str:
        """The exchange for this order. Raises `RoutingDenied` with the reason per venue."""
        named = self._simple.named_by(order)
        if named is not None:
            return named
        if self.routing_strategy is RoutingStrategy.CONFIGURED:
            return self._simple.configured(order)
        return (await self.offers(order))[0].exchange

    async def offers(self, order: Order) -> list[Offer]:
        """What the venues offer, the best first. Raises `RoutingDenied` where none does."""
        exchanges = self._simple.exchanges
        found = await asyncio.gather(*(self._offer(order, exchange) for exchange in exchanges))
        offers = [offer for offer in found if isinstance(offer, Offer)]
        if not offers:
            pairs = zip(exchanges, found, strict=True)
            raise _denied({name: why for name, why in pairs if isinstance(why, Refusal)})
        best_first = (
            by_price if self.routing_strategy is RoutingStrategy.BEST_PRICE else by_liquidity
        )
        return best_first(order, offers, self._simple.default_exchange)

    async def _offer(self, order: Order, exchange: str) -> Offer | Refusal:
        connectors = self._simple.connectors(exchange)
        if order.account:
            connectors = [each for each in connectors if each.account == order.account]
            if not connectors:
                return Refusal(ReasonCode.NO_EXCHANGE, f"it has no account {order.account}")
        rules = (connector.instrument(order.symbol) for connector in connectors)
        refused = refused_by_rules(order, next((one for one in rules if one is not None), None))
        if refused is not None:
            return refused
        offer = await self._asked(order, exchange)
        return offer if isinstance(offer, Offer) else Refusal(ReasonCode.NO_EXCHANGE, offer)

    async def _asked(self, order: Order, exchange: str) -> Offer | str:
        try:
            market = await self._get_market(exchange, order)
        except Exception as error:  # noqa: BLE001 - one venue's failure must not stop the others
            return f"its quote cannot be had: {type(error).__name__}: {error}"
        if market is None:
            return "it has no quote"
        if isinstance(market, str):
            return market
        return offer_of(order, market, self._clock(), self._quote_age_s_max)


def _denied(reasons: dict[str, Refusal]) -> RoutingDenied:
    """No venue is left: the code that all of them have, and each one's reason."""
    if not reasons:
        return RoutingDenied("no exchange is registered")
    codes = {reason.code for reason in reasons.values()}
    texts = {exchange: reason.text for exchange, reason in reasons.items()}
    return RoutingDenied(
        f"no exchange can take the order: {said(texts)}",
        reason_code=codes.pop() if len(codes) == 1 else ReasonCode.NO_EXCHANGE,
        venues=texts,
    )
