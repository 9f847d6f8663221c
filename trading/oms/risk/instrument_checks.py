"""The venue's rules for a symbol: lot, sizes, tick, smallest notional."""

from decimal import ROUND_FLOOR, Decimal

from trading.oms.enums import OrderType, ReasonCode
from trading.oms.exact import EXACT
from trading.oms.models import Instrument, Order
from trading.oms.reading import number
from trading.oms.risk.limits import WithoutQuote
from trading.oms.risk.snapshot import Denial, RiskSnapshot, worst_price


def check_instrument_known(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """The venue must list the symbol."""
    if snapshot.instrument is not None:
        return None
    where = order.exchange or "the exchange"
    return Denial(ReasonCode.UNKNOWN_SYMBOL, f"{where} does not list {order.symbol}", {})


def check_instrument_fresh(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """The venue's rules must be young enough to be believed."""
    rules = snapshot.instrument
    if rules is None:
        return None
    limit = snapshot.limits.instrument_age_s_max
    age = Decimal(f"{(snapshot.now - rules.fetched_at).total_seconds():.0f}")
    if age <= limit:
        return None
    return Denial(
        ReasonCode.STALE_INSTRUMENT,
        f"the rules of {order.symbol} are {number(age)} s old, the limit is {number(limit)} s",
        {"instrument_age_s": age, "instrument_age_s_max": limit},
    )


def check_quantity_valid(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """The quantity must be a multiple of the lot, between the smallest and the largest size."""
    rules = snapshot.instrument
    if rules is None:
        return None
    quantity = order.quantity
    if quantity < rules.min_order_size:
        return Denial(
            ReasonCode.QUANTITY_TOO_SMALL,
            f"quantity is {number(quantity)}, the smallest is {number(rules.min_order_size)}",
            {"quantity": quantity, "min_order_size": rules.min_order_size},
        )
    if rules.max_order_size is not None and quantity > rules.max_order_size:
        return Denial(
            ReasonCode.QUANTITY_TOO_LARGE,
            f"quantity is {number(quantity)}, the largest is {number(rules.max_order_size)}",
            {"quantity": quantity, "max_order_size": rules.max_order_size},
        )
    return _off_the_lot(quantity, rules)


def check_price_valid(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """Price and stop price must be multiples of the tick."""
    rules = snapshot.instrument
    if rules is None:
        return None
    for name, price in (("price", order.price), ("stop_price", order.stop_price)):
        if price is None or is_multiple(price, rules.tick_size):
            continue
        nearest = _nearest(price, rules.tick_size, rules.tick_size, None)
        return Denial(
            ReasonCode.PRICE_OFF_TICK,
            f"{name} is {number(price)}, the tick is {number(rules.tick_size)}: {_said(nearest)}",
            {name: price, "tick_size": rules.tick_size, **nearest},
        )
    return None


def check_min_notional(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """Quantity times price must reach the venue's minimum; a market order takes the quote."""
    rules = snapshot.instrument
    if rules is None or rules.min_notional is None:
        return None
    price = order.price or order.stop_price
    if price is None:
        quote = snapshot.fresh_quote
        if quote is None:
            skips = snapshot.limits.without_quote is WithoutQuote.SKIP_ALL
            return None if skips else stale_quote(order, snapshot)
        price = quote.mid
    notional = EXACT.multiply(order.quantity, price)
    if notional >= rules.min_notional:
        return None
    return Denial(
        ReasonCode.NOTIONAL_TOO_SMALL,
        f"{number(order.quantity)} at {number(price)} is worth {number(notional)} {rules.quote}, "
        f"the smallest is {number(rules.min_notional)}",
        {"notional": notional, "min_notional": rules.min_notional},
    )


def check_max_notional(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """Quantity times the worst price must stay within the limit of a single order."""
    limit = snapshot.limits.max_order_notional
    if limit is None:
        return None
    price = worst_price(order, snapshot)
    if price is None:
        return stale_quote(order, snapshot)
    notional = EXACT.multiply(order.quantity, price)
    if notional <= limit:
        return None
    return Denial(
        ReasonCode.NOTIONAL_TOO_LARGE,
        f"the order is worth {number(notional)} at worst, the limit is {number(limit)}",
        {"notional": notional, "max_order_notional": limit},
    )


def stale_quote(order: Order, snapshot: RiskSnapshot) -> Denial:
    """The denial for a check that needs a quote and has none."""
    limit = snapshot.limits.quote_age_s_max
    if snapshot.quote is None:
        found: dict[str, Decimal] = {}
        message = f"there is no quote of {order.symbol} to compare with"
    elif snapshot.quote.bid <= 0 or snapshot.quote.ask <= 0:
        found = {"bid": snapshot.quote.bid, "ask": snapshot.quote.ask}
        message = f"the quote of {order.symbol} has one side only"
    else:
        age = Decimal(f"{(snapshot.now - snapshot.quote.received_at).total_seconds():.3f}")
        found = {"quote_age_s": age}
        message = f"the quote of {order.symbol} is {number(age)} s old, the limit is {limit} s"
    kind = "market order" if order.order_type is OrderType.MARKET else "price"
    return Denial(
        ReasonCode.STALE_QUOTE,
        f"{message}; a {kind} cannot be checked without one",
        {**found, "quote_age_s_max": limit},
    )


def is_multiple(value: Decimal, step: Decimal) -> bool:
    """Whether `value` lies on the grid of `step`; a step of 0 is no grid."""
    return not step or not EXACT.remainder(value, step)


def _off_the_lot(quantity: Decimal, rules: Instrument) -> Denial | None:
    lot = rules.lot_size
    if is_multiple(quantity, lot):
        return None
    nearest = _nearest(quantity, lot, rules.min_order_size, rules.max_order_size)
    return Denial(
        ReasonCode.QUANTITY_OFF_LOT,
        f"quantity is {number(quantity)}, the lot is {number(lot)}: {_said(nearest)}",
        {"quantity": quantity, "lot_size": lot, **nearest},
    )


def _nearest(
    value: Decimal, step: Decimal, smallest: Decimal, largest: Decimal | None
) -> dict[str, Decimal]:
    """The grid's values next to `value` that are allowed: none, one or two."""
    steps = EXACT.divide(value, step).to_integral_value(ROUND_FLOOR, context=EXACT)
    below = EXACT.multiply(steps, step)
    above = EXACT.add(below, step)
    nearest = {}
    if below >= smallest and below > 0:
        nearest["nearest_below"] = below
    if largest is None or above <= largest:
        nearest["nearest_above"] = above
    return nearest


def _said(nearest: dict[str, Decimal]) -> str:
    values = " and ".join(number(value) for value in nearest.values())
    if len(nearest) == 1:
        return f"the nearest valid value is {values}"
    return f"the nearest valid values are {values}" if nearest else "no value near it is valid"
