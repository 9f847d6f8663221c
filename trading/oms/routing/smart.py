"""The venue that offers most for an order (specification, "Smart Order Routing")."""

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
from trading.oms.routing.simple import SimpleRouter
from trading.oms.venue import IExecutionConnector

GetMarket = Callable[[str, str], Awaitable[VenueMarket | None]]
"""(exchange, symbol): the book there with the venue's fee; None where it has none."""


class RoutingStrategy(StrEnum):
    """How a venue is chosen where the trader has named none."""

    CONFIGURED = "configured"
    BEST_PRICE = "best_price"
    LIQUIDITY = "liquidity"


class SmartOrderRouter:
    """Routes by the best price with fees over the depth of the book, or to the deepest book.

    A venue that the trader names is taken as it is. A venue without the symbol, without a fresh
    quote or without enough for a market order does not count; where none is left the order is
    denied with the reason for each. Splitting an order into legs is not done here.
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
        offers: list[Offer] = []
        reasons: dict[str, str] = {}
        for exchange in self._simple.exchanges:
            offer = await self._offer(order, exchange)
            if isinstance(offer, Offer):
                offers.append(offer)
            else:
                reasons[exchange] = offer
        if not offers:
            raise self._denied(order, reasons)
        best_first = (
            by_price if self.routing_strategy is RoutingStrategy.BEST_PRICE else by_liquidity
        )
        return best_first(order, offers, self._simple.default_exchange)

    async def _offer(self, order: Order, exchange: str) -> Offer | str:
        connectors = self._simple.connectors(exchange)
        if all(connector.instrument(order.symbol) is None for connector in connectors):
            return f"it does not list {order.symbol}"
        if order.account and order.account not in {each.account for each in connectors}:
            return f"it has no account {order.account}"
        try:
            market = await self._get_market(exchange, order.symbol)
        except Exception as error:  # noqa: BLE001 - one venue's failure must not stop the others
            return f"its quote cannot be had: {type(error).__name__}: {error}"
        if market is None:
            return "it has no quote"
        return offer_of(order, market, self._clock(), self._quote_age_s_max)

    def _denied(self, order: Order, reasons: dict[str, str]) -> RoutingDenied:
        unlisted = f"it does not list {order.symbol}"
        if not reasons:
            return RoutingDenied("no exchange is registered")
        code = ReasonCode.NO_EXCHANGE
        if all(reason == unlisted for reason in reasons.values()):
            code = ReasonCode.UNKNOWN_SYMBOL
        return RoutingDenied(
            f"no exchange can take the order: {said(reasons)}", reason_code=code, venues=reasons
        )
