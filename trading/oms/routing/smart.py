"""The venue that offers most for an order (specification, "Smart Order Routing")."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading.oms.enums import ReasonCode
from trading.oms.models import Instrument, Order, utc_now
from trading.oms.routing.base import Refusal, RoutingDenied, Share
from trading.oms.routing.legs import Venue, divided, not_to_be_split
from trading.oms.routing.markets import (
    QUOTE_AGE_S_MAX,
    Offer,
    VenueMarket,
    by_liquidity,
    by_price,
    cannot_pay,
    offer_of,
    said,
    too_old,
)
from trading.oms.routing.rules import refused_by_rules
from trading.oms.routing.simple import SimpleRouter
from trading.oms.venue import IExecutionConnector

GetMarket = Callable[[str, Order], Awaitable[VenueMarket | Refusal | str | None]]
"""The book at an exchange for an order, with the venue's fee; None where it has none. Why the
venue does not count: in words, or as a `Refusal` that has the denial's code as well."""


class RoutingStrategy(StrEnum):
    """How a venue is chosen where the trader has named none."""

    CONFIGURED = "configured"
    BEST_PRICE = "best_price"
    LIQUIDITY = "liquidity"
    SPLIT = "split"


class SmartOrderRouter:
    """Routes by the best price with fees over the depth of the book, or to the deepest book.

    A venue that the trader names is taken as it is. A venue without the symbol, whose rules the
    order breaks, that is halted, whose account cannot pay for the whole order, without a fresh
    quote or without enough for a market order does not count; where none is left the order is
    denied with the reason for each. SPLIT divides an order over the venues (`divide`); as one
    venue for all of it, it means the best price.
    """

    def __init__(
        self,
        get_market: GetMarket,
        strategy: str = RoutingStrategy.BEST_PRICE,
        *,
        default_exchange: str | None = None,
        quote_age_s_max: Decimal = QUOTE_AGE_S_MAX,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`default_exchange` serves CONFIGURED and decides between equal offers.

        `strategy` is a `RoutingStrategy` or its word. Raises `ValueError` for another.
        """
        self.routing_strategy = strategy
        self._simple = SimpleRouter(default_exchange)
        self._get_market = get_market
        self._quote_age_s_max = quote_age_s_max
        self._clock = clock

    @property
    def routing_strategy(self) -> RoutingStrategy:
        """How a venue is chosen; may be set by its word. Raises `ValueError` for another."""
        return self._strategy

    @routing_strategy.setter
    def routing_strategy(self, strategy: str) -> None:
        try:
            self._strategy = RoutingStrategy(strategy)
        except ValueError:
            msg = f"routing_strategy is {strategy!r}; allowed are {', '.join(RoutingStrategy)}"
            raise ValueError(msg) from None

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
            by_liquidity if self.routing_strategy is RoutingStrategy.LIQUIDITY else by_price
        )
        return best_first(order, offers, self._simple.default_exchange)

    @property
    def splits(self) -> bool:
        """Whether orders that name no exchange are to be divided."""
        return self.routing_strategy is RoutingStrategy.SPLIT

    async def divide(
        self, order: Order, quantity: Decimal, refused: Mapping[str, Refusal]
    ) -> list[Share]:
        """Divide `quantity` of an order over the venues, without those of `refused`.

        The legs obey their venues' rules and their sum is exact. Raises `RoutingDenied` with the
        reason of each venue, and at once for what cannot be split: FOK, post-only, stop orders.
        """
        if (what := not_to_be_split(order)) is not None:
            msg = f"a {what} order cannot be split; name an exchange for it"
            raise RoutingDenied(msg, reason_code=ReasonCode.UNSUPPORTED)
        exchanges = [name for name in self._simple.exchanges if name not in refused]
        found = await asyncio.gather(*(self._venue(order, name) for name in exchanges))
        pairs = zip(exchanges, found, strict=True)
        reasons = {name: why for name, why in pairs if isinstance(why, Refusal)}
        venues = [venue for venue in found if isinstance(venue, Venue)]
        shares = divided(order, quantity, venues, self._simple.default_exchange)
        if isinstance(shares, list):
            return shares
        raise _denied(
            dict(refused)
            | reasons
            | {name: Refusal(ReasonCode.NO_EXCHANGE, why) for name, why in shares.items()}
        )

    async def _venue(self, order: Order, exchange: str) -> Venue | Refusal:
        rules = self._rules(order, exchange)
        if isinstance(rules, Refusal):
            return rules
        market = await self._asked(order, exchange)
        return market if isinstance(market, Refusal) else Venue(exchange, rules, market)

    def _rules(self, order: Order, exchange: str) -> Instrument | Refusal:
        connectors = self._simple.connectors(exchange)
        if order.account:
            connectors = [each for each in connectors if each.account == order.account]
            if not connectors:
                return Refusal(ReasonCode.NO_EXCHANGE, f"it has no account {order.account}")
        for connector in connectors:
            if (rules := connector.instrument(order.symbol)) is not None:
                return rules
        return Refusal(ReasonCode.UNKNOWN_SYMBOL, f"it does not list {order.symbol}")

    async def _offer(self, order: Order, exchange: str) -> Offer | Refusal:
        rules = self._rules(order, exchange)
        refused = rules if isinstance(rules, Refusal) else refused_by_rules(order, rules)
        if refused is not None:
            return refused
        market = await self._asked(order, exchange)
        if isinstance(market, Refusal):
            return market
        if (too_little := cannot_pay(order, market)) is not None:
            return Refusal(ReasonCode.INSUFFICIENT_FUNDS, too_little)
        offer = offer_of(order, market)
        return Refusal(ReasonCode.NO_EXCHANGE, offer) if isinstance(offer, str) else offer

    async def _asked(self, order: Order, exchange: str) -> VenueMarket | Refusal:
        """A fresh book, or why there is none."""
        try:
            market = await self._get_market(exchange, order)
        except Exception as error:  # noqa: BLE001 - one venue's failure must not stop the others
            market = f"its quote cannot be had: {type(error).__name__}: {error}"
        if isinstance(market, VenueMarket):
            market = too_old(market, self._clock(), self._quote_age_s_max) or market
        if isinstance(market, VenueMarket | Refusal):
            return market
        return Refusal(ReasonCode.NO_EXCHANGE, market or "it has no quote")


def _denied(reasons: dict[str, Refusal]) -> RoutingDenied:
    """No venue is left: the code that all have which list the symbol, and each one's reason."""
    if not reasons:
        return RoutingDenied("no exchange is registered")
    unlisted = {ReasonCode.UNKNOWN_SYMBOL}
    codes = {reason.code for reason in reasons.values()} - unlisted or unlisted
    texts = {exchange: reason.text for exchange, reason in reasons.items()}
    return RoutingDenied(
        f"no exchange can take the order: {said(texts)}",
        reason_code=codes.pop() if len(codes) == 1 else ReasonCode.NO_EXCHANGE,
        venues=texts,
    )
