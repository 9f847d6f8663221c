"""What the venues offer for an order, and which offer is the best: pure functions."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from trading.oms.enums import OrderSide, OrderType
from trading.oms.exact import EXACT
from trading.oms.models import Exact, Order, Quote, Total, Utc
from trading.oms.reading import number

ZERO = Decimal(0)
ONE = Decimal(1)
LIQUIDITY_BAND = Decimal("0.01")
QUOTE_AGE_S_MAX = Decimal(5)


class Level(NamedTuple):
    """A price of the book, in the quote asset, and what is on offer there, in the base asset."""

    price: Exact
    quantity: Exact


class VenueMarket(BaseModel):
    """The book of a symbol at one venue, best levels first, and the venue's taker fee.

    `fee_rate` is a fraction (0.001 is 0.1 %); `fee_in_quote`: a buy pays it on top, else out of
    what it receives. `spendable` is what the account can still give of
    the asset that the order gives (a buy the quote, a sell the base); None: not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: str
    symbol: str
    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    fee_rate: Exact = ZERO
    fee_in_quote: bool = True
    spendable: Total | None = None
    received_at: Utc

    @classmethod
    def of_quote(cls, quote: Quote, size: Decimal, fee_rate: Decimal = ZERO) -> "VenueMarket":
        """A book of one level on each side, where nothing but a quote is known."""
        return cls(
            exchange=quote.exchange,
            symbol=quote.symbol,
            bids=(Level(quote.bid, size),) if quote.bid > 0 else (),
            asks=(Level(quote.ask, size),) if quote.ask > 0 else (),
            fee_rate=fee_rate,
            received_at=quote.received_at,
        )


class Offer(NamedTuple):
    """What a venue offers: the average price with its fee, and the quantity within reach.

    Of a limit order the average is that of the levels within its limit, or the best level's where
    none is.
    """

    exchange: str
    net_price: Decimal
    quantity: Decimal


def too_old(market: VenueMarket, now: datetime, age_s_max: Decimal = QUOTE_AGE_S_MAX) -> str | None:
    """In words that the book is too old to count; None: it is not."""
    age = Decimal(f"{(now - market.received_at).total_seconds():.3f}")
    if age <= age_s_max:
        return None
    return f"its quote is {number(age)} s old, the limit is {number(age_s_max)} s"


def offer_of(order: Order, market: VenueMarket) -> Offer | str:
    """The venue's offer for this order, or in words why it does not count."""
    buys = order.side is OrderSide.BUY
    levels = market.asks if buys else market.bids
    taken, notional = _walk(within_limit(order, levels) or levels[:1], order.quantity)
    if not taken:
        return f"nobody {'sells' if buys else 'buys'} there"
    if order.order_type is OrderType.MARKET and taken < order.quantity:
        return f"it has {number(taken)} on offer, the quantity is {number(order.quantity)}"
    fee = market.fee_rate if buys else market.fee_rate.copy_negate()
    average = EXACT.divide(notional, taken)
    net = EXACT.multiply(average, EXACT.add(ONE, fee))
    return Offer(market.exchange, net, _within_reach(order, levels))


def cannot_pay(order: Order, market: VenueMarket) -> str | None:
    """In words that the account there has too little for the whole order; None: it has enough.

    It spares the order a venue that the reservation would deny; that alone decides.
    """
    if market.spendable is None:
        return None
    base, _, quote = order.symbol.partition("/")
    given, needed = base, order.quantity
    if order.side is OrderSide.BUY:
        taken, notional = _walk(market.asks, order.quantity)
        if order.price is not None:
            notional = EXACT.multiply(order.quantity, order.price)
        elif taken < order.quantity:
            return None
        fee = market.fee_rate if market.fee_in_quote else ZERO
        given, needed = quote, EXACT.multiply(notional, EXACT.add(ONE, fee))
    if needed <= market.spendable:
        return None
    return f"the order needs {number(needed)} {given}, its account has {number(market.spendable)}"


def by_price(order: Order, offers: Iterable[Offer], preferred: str | None) -> list[Offer]:
    """Best price with fees first; among equals the preferred venue, then by name.

    Before the price counts what of a limit order can be had within its limit: that is sure.
    """
    sign = ONE if order.side is OrderSide.BUY else -ONE
    return sorted(
        offers,
        key=lambda offer: (
            ZERO if order.price is None else min(offer.quantity, order.quantity).copy_negate(),
            EXACT.multiply(sign, offer.net_price),
            offer.exchange != preferred,
            offer.exchange,
        ),
    )


def by_liquidity(order: Order, offers: Iterable[Offer], preferred: str | None) -> list[Offer]:
    """Most on offer first; among equals by price."""
    return sorted(by_price(order, offers, preferred), key=lambda offer: -offer.quantity)


def within_limit(order: Order, levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The levels that the order may trade with; all where it has no limit price."""
    return levels if order.price is None else _up_to(order, order.price, levels)


def said(reasons: Mapping[str, str]) -> str:
    """One line for all venues: "binance: its quote is 7 s old ...; kraken: ..."."""
    return "; ".join(f"{exchange}: {reason}" for exchange, reason in sorted(reasons.items()))


def _walk(levels: Iterable[Level], quantity: Decimal) -> tuple[Decimal, Decimal]:
    """What of the quantity the levels fill, and what that is worth."""
    taken, notional = ZERO, ZERO
    for level in levels:
        part = min(level.quantity, EXACT.subtract(quantity, taken))
        taken = EXACT.add(taken, part)
        notional = EXACT.add(notional, EXACT.multiply(part, level.price))
        if taken >= quantity:
            break
    return taken, notional


def _within_reach(order: Order, levels: tuple[Level, ...]) -> Decimal:
    """What is on offer up to the limit price, or within 1 % of the best price."""
    buys = order.side is OrderSide.BUY
    best = levels[0].price
    band = EXACT.multiply(best, EXACT.add(ONE, LIQUIDITY_BAND if buys else -LIQUIDITY_BAND))
    reach = ZERO
    for level in _up_to(order, band if order.price is None else order.price, levels):
        reach = EXACT.add(reach, level.quantity)
    return reach


def _up_to(order: Order, worst: Decimal, levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The levels at this price or a better one."""
    buys = order.side is OrderSide.BUY
    return tuple(takewhile(lambda at: at.price <= worst if buys else at.price >= worst, levels))
