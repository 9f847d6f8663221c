"""The standard pre-trade checks (specification, "Standard Pre-Trade Checks"): pure functions.

Where the specification's formulas ignore the side, these are signed and take the worst case: an
order that can only make a position smaller is not held back by a limit on its size.
"""

from decimal import Decimal

from trading.oms.enums import OrderSide, OrderType, ReasonCode, TradingState
from trading.oms.exact import EXACT
from trading.oms.models import Order
from trading.oms.reading import number
from trading.oms.risk.instrument_checks import (
    check_instrument_fresh,
    check_instrument_known,
    check_max_notional,
    check_min_notional,
    check_price_valid,
    check_quantity_valid,
    stale_quote,
)
from trading.oms.risk.limit_checks import (
    check_exposure_limit,
    check_order_count,
    check_order_rate,
    check_position_limit,
    only_shrinks,
    worst_positions,
)
from trading.oms.risk.limits import WithoutQuote
from trading.oms.risk.snapshot import (
    ZERO,
    Check,
    Denial,
    RiskSnapshot,
    required_funds,
)

_CENT = Decimal("0.01")
_HUNDRED = Decimal(100)


def check_trading_state(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """HALTED lets nothing out, REDUCING only what makes the position smaller."""
    if snapshot.trading_state is TradingState.HALTED:
        return Denial(ReasonCode.TRADING_HALTED, "trading is halted", {})
    if snapshot.trading_state is TradingState.REDUCING:
        return _must_reduce(order, snapshot, "trading is set to reducing")
    return None


def check_reduce_only(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """A reduce-only order must not exceed the position less what is already out against it."""
    if not order.reduce_only:
        return None
    return _must_reduce(order, snapshot, "the order is reduce-only")


def check_price_sanity(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """A price must lie near the market's, a stop's limit near its trigger.

    A stop must also trigger on the far side of the market: above it to buy, below it to sell.
    """
    if order.order_type is OrderType.MARKET or snapshot.limits.max_price_deviation is None:
        return None
    if order.stop_price is not None and order.price is not None:
        denial = _too_far(order.price, order.stop_price, "the stop price", snapshot)
        if denial is not None:
            return denial
    return _away_from_market(order, snapshot)


def check_balances_fresh(order: Order, snapshot: RiskSnapshot) -> Denial | None:  # noqa: ARG001
    """What is compared with the balances needs balances that are young enough."""
    limit = snapshot.limits.balance_age_s_max
    age = snapshot.balance_age_s
    if not snapshot.limits.check_capital or (age is not None and age <= limit):
        return None
    if age is None:
        return Denial(
            ReasonCode.STALE_BALANCE,
            "the balances of the account have not been fetched yet",
            {"balance_age_s_max": limit},
        )
    return Denial(
        ReasonCode.STALE_BALANCE,
        f"the balances of the account are {number(age)} s old, the limit is {number(limit)} s",
        {"balance_age_s": age, "balance_age_s_max": limit},
    )


def check_sufficient_capital(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """A buy needs the quote asset with the worst fee, a sell the base asset."""
    if not snapshot.limits.check_capital:
        return None
    required = required_funds(order, snapshot)
    if required is None:
        return stale_quote(order, snapshot)
    buys = order.side is OrderSide.BUY
    available = snapshot.available_quote if buys else snapshot.available_base
    if required <= available:
        return None
    base, _, quote = order.symbol.partition("/")
    asset = quote if buys else base
    return Denial(
        ReasonCode.INSUFFICIENT_FUNDS,
        f"the order needs {number(required)} {asset}, {number(available)} are available",
        {"required": required, "available": available},
    )


def check_daily_loss(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """A strategy that has lost its limit today may only make its position smaller."""
    limit = snapshot.limits.max_daily_loss
    if limit is None or snapshot.lost_today < limit or _is_reducing(order, snapshot):
        return None
    return Denial(
        ReasonCode.DAILY_LOSS_LIMIT,
        f"the strategy has lost {number(snapshot.lost_today)} today, the limit is {number(limit)}",
        {"lost_today": snapshot.lost_today, "max_daily_loss": limit},
    )


ORDER_CHECKS: tuple[tuple[str, Check], ...] = (
    ("instrument_known", check_instrument_known),
    ("instrument_fresh", check_instrument_fresh),
    ("quantity_valid", check_quantity_valid),
    ("price_valid", check_price_valid),
    ("price_sanity", check_price_sanity),
    ("min_notional", check_min_notional),
    ("max_notional", check_max_notional),
)
"""What makes an order wrong whoever sends it: it needs the venue's rules and a quote only."""

ACCOUNT_CHECKS: tuple[tuple[str, Check], ...] = (
    ("trading_state", check_trading_state),
    ("reduce_only", check_reduce_only),
    ("order_rate", check_order_rate),
    ("daily_loss", check_daily_loss),
    ("balances_fresh", check_balances_fresh),
    ("sufficient_capital", check_sufficient_capital),
    ("position_limit", check_position_limit),
    ("order_count", check_order_count),
    ("exposure_limit", check_exposure_limit),
)
"""What depends on all else that the account has open: the reservation decides it in the store."""

STANDARD_CHECKS = ORDER_CHECKS + ACCOUNT_CHECKS
"""Name and function, in the order in which they run."""


def _is_reducing(order: Order, snapshot: RiskSnapshot) -> bool:
    return only_shrinks(*worst_positions(order, snapshot))


def _must_reduce(order: Order, snapshot: RiskSnapshot, why: str) -> Denial | None:
    if _is_reducing(order, snapshot):
        return None
    before, _ = worst_positions(order, snapshot)
    closes = before if order.side is OrderSide.SELL else before.copy_negate()
    reducible = max(ZERO, closes)
    return Denial(
        ReasonCode.NOT_REDUCING,
        f"quantity is {number(order.quantity)}, but {why} and "
        f"{number(reducible)} is all that a {order.side} can reduce",
        {"quantity": order.quantity, "reducible": reducible, "position": snapshot.position},
    )


def _too_far(
    price: Decimal, reference: Decimal, whose: str, snapshot: RiskSnapshot
) -> Denial | None:
    limit = snapshot.limits.max_price_deviation
    distance = EXACT.subtract(price, reference).copy_abs()
    if limit is None or distance <= EXACT.multiply(limit, reference):
        return None
    percent = EXACT.divide(EXACT.multiply(distance, _HUNDRED), reference)
    percent = percent.quantize(_CENT, context=EXACT)
    return Denial(
        ReasonCode.PRICE_TOO_FAR,
        f"price is {number(price)}, which is {number(percent)} % from {whose} at "
        f"{number(reference)}; the limit is {number(EXACT.multiply(limit, _HUNDRED))} %",
        {"price": price, "reference": reference, "max_price_deviation": limit},
    )


def _trigger_side(order: Order, stop: Decimal, ask: Decimal, bid: Decimal) -> Denial | None:
    buys = order.side is OrderSide.BUY
    market = ask if buys else bid
    if stop > market if buys else stop < market:
        return None
    side = "above the ask" if buys else "below the bid"
    return Denial(
        ReasonCode.TRIGGER_ON_WRONG_SIDE,
        f"stop_price is {number(stop)}, a {order.side} must trigger {side} of {number(market)}",
        {"stop_price": stop, "market": market},
    )


def _away_from_market(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    quote = snapshot.fresh_quote
    if quote is None:
        if snapshot.limits.without_quote is not WithoutQuote.DENY:
            return None
        return stale_quote(order, snapshot)
    if order.stop_price is not None:
        return _trigger_side(order, order.stop_price, quote.ask, quote.bid)
    if order.price is None:
        return None
    return _too_far(order.price, quote.mid, "the market", snapshot)
