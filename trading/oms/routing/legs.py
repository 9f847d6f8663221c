"""Dividing an order over venues: pure functions over their books and rules.

The best levels of all books are taken first, with fees, up to the limit price. What no level
offers goes to the venue of the best level, where a limit order rests. Every leg obeys its venue's
rules, and the legs' sum is the quantity, exactly; where that cannot be, it is said and nothing is
rounded.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.exact import EXACT
from trading.oms.models import Instrument, Order
from trading.oms.reading import number
from trading.oms.routing.base import Share
from trading.oms.routing.markets import ONE, ZERO, Level, VenueMarket, within_limit
from trading.oms.routing.rules import refused_by_rules


class Venue(NamedTuple):
    """A venue that counts: its rules for the symbol, its book, its name."""

    exchange: str
    rules: Instrument
    market: VenueMarket


class _Level(NamedTuple):
    """A level of some book with the price that it costs there, fee included; less is better."""

    cost: Decimal
    exchange: str
    quantity: Decimal


def not_to_be_split(order: Order) -> str | None:
    """What kind of order cannot be divided; None: it can."""
    if order.time_in_force is TimeInForce.FOK:
        return "fill-or-kill"
    if order.post_only:
        return "post-only"
    if order.stop_price is not None:
        return "stop"
    return None


def divided(
    order: Order, quantity: Decimal, venues: Sequence[Venue], preferred: str | None = None
) -> list[Share] | dict[str, str]:
    """The shares of `quantity`, the best venue first; else for each venue in words why not.

    A venue whose share its rules refuse gets none, and the others are asked again without it.
    """
    refused: dict[str, str] = {}
    left = {venue.exchange: venue for venue in venues}
    while left:
        shares, rest = _fitted(order, quantity, left, preferred)
        if not shares:
            why = f"its rules leave no quantity of {number(quantity)}"
            return refused | dict.fromkeys(left, why)
        too_small = {
            share.exchange: reason.text
            for share in shares
            if (
                reason := refused_by_rules(
                    order,
                    left[share.exchange].rules,
                    share.quantity,
                    _price(order, left[share.exchange]),
                )
            )
        }
        if not too_small and not rest:
            return shares
        if not too_small:
            why = f"{number(rest)} of {number(quantity)} is left that no exchange here can take"
            return refused | dict.fromkeys(left, why)
        # One at a time, the smallest share first: what it gives up may be enough for the others.
        smallest = min((s for s in shares if s.exchange in too_small), key=lambda s: s.quantity)
        refused[smallest.exchange] = too_small[smallest.exchange]
        del left[smallest.exchange]
    return refused


def _price(order: Order, venue: Venue) -> Decimal | None:
    """What a market order's smallest notional is judged by."""
    book = _book(order, venue)
    return order.price or (book[0].price if book else None)


def _fitted(
    order: Order, quantity: Decimal, venues: Mapping[str, Venue], preferred: str | None
) -> tuple[list[Share], Decimal]:
    """The shares in whole lots and within the largest sizes, and what is left over."""
    taken = _taken(order, quantity, venues, preferred)
    shares = {one: _whole(amount, venues[one].rules) for one, amount in taken.items()}
    rest = EXACT.subtract(quantity, _total(shares))
    if order.order_type is OrderType.MARKET and _total(taken) < quantity:
        return [], quantity
    for exchange in taken:
        most = _whole(EXACT.add(shares[exchange], rest), venues[exchange].rules)
        rest = EXACT.subtract(rest, EXACT.subtract(most, shares[exchange]))
        shares[exchange] = most
    return [Share(one, amount) for one, amount in shares.items() if amount], rest


def _taken(
    order: Order, quantity: Decimal, venues: Mapping[str, Venue], preferred: str | None
) -> dict[str, Decimal]:
    """By venue, the best first: what of the quantity its levels take, before its rules."""
    levels = sorted(
        (level for venue in venues.values() for level in _levels(order, venue)),
        key=lambda level: (level.cost, level.exchange != preferred, level.exchange),
    )
    taken: dict[str, Decimal] = {}
    left = quantity
    for level in levels:
        part = min(level.quantity, left)
        if part:
            taken[level.exchange] = EXACT.add(taken.get(level.exchange, ZERO), part)
        left = EXACT.subtract(left, part)
    names = sorted(venues, key=lambda name: (_first(order, venues[name]), name != preferred, name))
    ranked = [*taken, *(name for name in names if name not in taken)]
    if left and order.order_type is not OrderType.MARKET:
        # Nobody offers it at this price: it rests where the order trades first.
        taken[ranked[0]] = EXACT.add(taken.get(ranked[0], ZERO), left)
    return {name: taken.get(name, ZERO) for name in ranked}


def _levels(order: Order, venue: Venue) -> list[_Level]:
    levels = within_limit(order, _book(order, venue))
    return [_Level(_cost(order, venue, at), venue.exchange, at.quantity) for at in levels]


def _first(order: Order, venue: Venue) -> tuple[bool, Decimal]:
    """What the best level costs, which is where the order trades first; without one it is last."""
    book = _book(order, venue)
    return (not book, _cost(order, venue, book[0]) if book else ZERO)


def _cost(order: Order, venue: Venue, level: Level) -> Decimal:
    buys = order.side is OrderSide.BUY
    rate = venue.market.fee_rate
    net = EXACT.multiply(level.price, EXACT.add(ONE, rate if buys else rate.copy_negate()))
    return net if buys else net.copy_negate()


def _book(order: Order, venue: Venue) -> tuple[Level, ...]:
    return venue.market.asks if order.side is OrderSide.BUY else venue.market.bids


def _whole(amount: Decimal, rules: Instrument) -> Decimal:
    """The most that is within an amount, a multiple of the lot and not above the largest size."""
    if rules.max_order_size is not None:
        amount = min(amount, rules.max_order_size)
    if not rules.lot_size:
        return amount
    lots = EXACT.divide(amount, rules.lot_size).to_integral_value(ROUND_FLOOR, context=EXACT)
    return EXACT.multiply(lots, rules.lot_size)


def _total(amounts: Mapping[str, Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts.values():
        total = EXACT.add(total, amount)
    return total
