"""What a venue's own rules say about an order, before its market is looked at."""

from decimal import Decimal

from trading.oms.enums import ReasonCode
from trading.oms.models import Instrument, Order, utc_now
from trading.oms.risk.instrument_checks import (
    check_min_notional,
    check_price_valid,
    check_quantity_valid,
)
from trading.oms.risk.limits import RiskLimits, WithoutQuote
from trading.oms.risk.snapshot import RiskSnapshot
from trading.oms.routing.base import Refusal

_NO_LIMITS = RiskLimits(without_quote=WithoutQuote.SKIP_ALL)


def refused_by_rules(
    order: Order,
    rules: Instrument | None,
    quantity: Decimal | None = None,
    price: Decimal | None = None,
) -> Refusal | None:
    """The first rule of the venue (lot, size, tick, smallest notional) that the order breaks.

    With `quantity` the order is taken for one of that size. A market order's smallest notional is
    judged by `price`; without one it is left to the risk checks, which have a quote.
    """
    if rules is None:
        return Refusal(ReasonCode.UNKNOWN_SYMBOL, f"it does not list {order.symbol}")
    size = quantity if quantity is not None else order.quantity
    asked = order.model_copy(update={"quantity": size, "price": order.price or price})
    snapshot = RiskSnapshot(now=utc_now(), limits=_NO_LIMITS, instrument=rules)
    checks = (check_quantity_valid, check_price_valid, check_min_notional)
    for check in checks:
        # The price of a market order is the book's, and so on its tick.
        denial = check(asked, snapshot)
        if denial is not None:
            return Refusal(denial.code, denial.message)
    return None
