"""Fills that the exchange's totals demand and its list of trades does not have.

One fill stands for all that is missing of an exchange order, priced so that the order's notional is
the exchange's. When a real fill of that exchange order comes, as much of what was inferred is taken
back by a negative fill, in the same transaction: nothing is deleted, and once all real fills are
there the sums are theirs alone.
"""

import hashlib
from collections.abc import Iterable, Sequence
from decimal import Decimal

from trading.oms.exact import EXACT
from trading.oms.identity import fill_id
from trading.oms.lifecycle import LifecycleEvent, product
from trading.oms.models import DECIMALS_MAX, Fill
from trading.oms.venue import ExecutionReport

_ZERO = Decimal(0)
_LAST = Decimal(1).scaleb(-DECIMALS_MAX)
_INTEGER_DIGITS_MAX = 20


def executed(fills: Iterable[Fill], exchange_order_id: str | None) -> tuple[Decimal, Decimal]:
    """Quantity and notional of an exchange order's fills, inferred ones and corrections too."""
    quantity = notional = _ZERO
    for fill in fills:
        if fill.exchange_order_id == exchange_order_id:
            quantity = EXACT.add(quantity, fill.quantity)
            notional = EXACT.add(notional, product(fill.quantity, fill.price))
    return quantity, notional


def inferred_fill(report: ExecutionReport, booked: Iterable[Fill]) -> Fill | None:
    """The fill that brings what is booked of an exchange order to the totals of `report`.

    None where nothing is missing, or where the report lacks what is needed to say it: the executed
    quantity, its worth in the quote asset, the side. The same totals give the same id.
    """
    total, worth = report.cumulative_quantity, report.cumulative_notional
    if not total or worth is None or report.side is None or not report.exchange_order_id:
        return None
    quantity, notional = executed(booked, report.exchange_order_id)
    missing, worth = EXACT.subtract(total, quantity), EXACT.subtract(worth, notional)
    if missing <= 0 or worth <= 0:
        return None
    price = EXACT.divide(worth, missing).quantize(_LAST, context=EXACT).normalize(EXACT)
    if price <= 0 or price.adjusted() >= _INTEGER_DIGITS_MAX:
        return None
    id_ = report.exchange_order_id
    trade = f"inferred:{total.normalize(EXACT):f}"
    return Fill(
        fill_id=fill_id(report.exchange, report.account, report.symbol, trade, id_),
        order_id="",
        exchange=report.exchange,
        account=report.account,
        symbol=report.symbol,
        side=report.side,
        quantity=missing,
        price=Decimal(format(price, "f")),
        fee=_ZERO,
        fee_currency=report.symbol.partition("/")[2],
        timestamp=report.at,
        received_at=report.received_at,
        exchange_order_id=id_,
        inferred=True,
    )


def to_book(event: LifecycleEvent, booked: Sequence[Fill]) -> list[LifecycleEvent]:
    """What a fill that is not booked becomes beside its order's `booked` ones.

    A real one comes after what it takes back. An inferred one that does not bring its exchange
    order to exactly the total by which it was inferred is nothing: a real one was quicker.
    """
    fill = event.fill
    if fill is None:
        return [event]
    if fill.inferred:
        quantity, _ = executed(booked, fill.exchange_order_id)
        return [event] if EXACT.add(quantity, fill.quantity) == event.quantity else []
    corrections = [
        event.model_copy(update={"fill": one, "reason": f"replaced by fill {fill.fill_id}"})
        for one in _taken_back(fill, booked)
    ]
    return [*corrections, event]


def _taken_back(real: Fill, booked: Iterable[Fill]) -> list[Fill]:
    """What a real fill does to the inferred ones of its exchange order, for as much as it covers.

    An inferred fill is taken back whole, so that every product of quantity and price has its exact
    opposite; what the real one does not cover is inferred anew. Both name it in `trade_id`.
    """
    inferred = [f for f in booked if f.inferred and f.exchange_order_id == real.exchange_order_id]
    gone = {fill.trade_id for fill in inferred if fill.quantity < 0}
    standing = [fill for fill in inferred if fill.quantity > 0 and fill.fill_id not in gone]
    rest = real.quantity
    made = []
    for fill in sorted(standing, key=lambda one: (one.timestamp, one.fill_id)):
        if rest <= 0:
            break
        made.append(_instead(fill, real, fill.quantity.copy_negate()))
        if rest < fill.quantity:
            made.append(_instead(fill, real, EXACT.subtract(fill.quantity, rest)))
        rest = EXACT.subtract(rest, fill.quantity)
    return made


def _instead(fill: Fill, real: Fill, quantity: Decimal) -> Fill:
    what = "taken back" if quantity < 0 else "left"
    text = f"{fill.fill_id}: {what} by {real.fill_id}"
    change = {
        "fill_id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "quantity": quantity,
        "trade_id": fill.fill_id,
        "received_at": real.received_at,
    }
    return fill.model_copy(update=change)
