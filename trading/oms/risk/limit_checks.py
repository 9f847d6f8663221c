"""The limits of size: position, count of open orders, orders in a minute, exposure.

Each is compared for the account first, and then for the strategy and the symbol that have a limit
of their own. A denial says in its text, its code and its numbers whose limit it was.
"""

from decimal import Decimal

from trading.oms.enums import OrderSide, ReasonCode
from trading.oms.exact import EXACT
from trading.oms.models import Order
from trading.oms.reading import number
from trading.oms.risk.instrument_checks import stale_quote
from trading.oms.risk.snapshot import ZERO, Denial, OwnNumbers, RiskSnapshot, worst_price

_OF_STRATEGY = {
    ReasonCode.POSITION_LIMIT: ReasonCode.STRATEGY_POSITION_LIMIT,
    ReasonCode.ORDER_COUNT_LIMIT: ReasonCode.STRATEGY_ORDER_COUNT_LIMIT,
    ReasonCode.ORDER_RATE_LIMIT: ReasonCode.STRATEGY_ORDER_RATE_LIMIT,
    ReasonCode.EXPOSURE_LIMIT: ReasonCode.STRATEGY_EXPOSURE_LIMIT,
}


def check_position_limit(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """The position must stay within the limit even if all orders of this side are filled."""
    for one in snapshot.compared:
        limit = one.limits.max_position_size
        if limit is None:
            continue
        before, after = worst_positions(order, one)
        if after.copy_abs() <= limit or only_shrinks(before, after):
            continue
        text = f"the position{_of(one)} may become {number(after)}, the limit is {number(limit)}"
        numbers = {"position": one.position, "worst_position": after, "max_position_size": limit}
        return _denial(one, ReasonCode.POSITION_LIMIT, text, numbers)
    return None


def check_order_count(order: Order, snapshot: RiskSnapshot) -> Denial | None:  # noqa: ARG001
    """One more open order must fit."""
    for one in snapshot.compared:
        limit = one.limits.max_open_orders
        if limit is None or one.open_orders < limit:
            continue
        text = f"{one.open_orders} orders{_of(one)} are open, the limit is {limit}"
        numbers = {"open_orders": Decimal(one.open_orders), "max_open_orders": Decimal(limit)}
        return _denial(one, ReasonCode.ORDER_COUNT_LIMIT, text, numbers)
    return None


def check_order_rate(order: Order, snapshot: RiskSnapshot) -> Denial | None:  # noqa: ARG001
    """One more order must fit into the minute."""
    for one in snapshot.compared:
        limit, count = one.limits.max_orders_per_minute, one.orders_last_minute
        if limit is None or count < limit:
            continue
        text = f"{count} orders{_of(one)} were submitted in the last minute, the limit is {limit}"
        numbers = {"orders_last_minute": Decimal(count), "max_orders_per_minute": Decimal(limit)}
        return _denial(one, ReasonCode.ORDER_RATE_LIMIT, text, numbers)
    return None


def check_exposure_limit(order: Order, snapshot: RiskSnapshot) -> Denial | None:
    """All that is held and ordered, and what this order adds to it, must stay within the limit."""
    for one in snapshot.compared:
        limit = one.limits.max_exposure
        if limit is None:
            continue
        before, after = worst_positions(order, one)
        increase = EXACT.subtract(after.copy_abs(), before.copy_abs())
        if increase <= 0:
            continue
        price = worst_price(order, snapshot)
        if price is None or one.exposure is None:
            return stale_quote(order, snapshot)
        added = EXACT.multiply(increase, price)
        exposure = EXACT.add(one.exposure, added)
        if exposure <= limit:
            continue
        text = f"the exposure{_of(one)} would be {number(exposure)}, the limit is {number(limit)}"
        numbers = {"exposure": one.exposure, "added": added, "max_exposure": limit}
        return _denial(one, ReasonCode.EXPOSURE_LIMIT, text, numbers)
    return None


def worst_positions(order: Order, around: RiskSnapshot | OwnNumbers) -> tuple[Decimal, Decimal]:
    """The position if all open orders of the order's side are filled, without and with it."""
    if order.side is OrderSide.BUY:
        before = EXACT.add(around.position, around.open_buys)
        return before, EXACT.add(before, order.quantity)
    before = EXACT.subtract(around.position, around.open_sells)
    return before, EXACT.subtract(before, order.quantity)


def only_shrinks(before: Decimal, after: Decimal) -> bool:
    """Whether `after` lies between 0 and `before`: nearer to 0, and not past it."""
    return ZERO <= after <= before or before <= after <= ZERO


def _of(one: OwnNumbers) -> str:
    said = one.limits.scope.said
    return f" {said}" if said else ""


def _denial(one: OwnNumbers, code: ReasonCode, text: str, numbers: dict[str, Decimal]) -> Denial:
    """A strategy's own limit has a code and numbers that say so."""
    scope = one.limits.scope
    if scope.strategy_id is not None:
        return Denial(
            _OF_STRATEGY[code], text, {f"strategy_{name}": n for name, n in numbers.items()}
        )
    if scope.symbol is not None:
        numbers = {f"symbol_{name}": n for name, n in numbers.items()}
    return Denial(code, text, numbers)
