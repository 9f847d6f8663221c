"""Positions from fills, and what a fill moves between assets: pure arithmetic."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading.oms.enums import OrderSide
from trading.oms.exact import EXACT
from trading.oms.lifecycle import fee_in_quote
from trading.oms.models import DECIMALS_MAX, Fill

_ZERO = Decimal(0)
_LAST = Decimal(1).scaleb(-DECIMALS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What one strategy holds of one symbol on one account ("" is nobody's strategy).

    `quantity` is signed, in the base asset; `cost` is what it cost by the average price, in the
    quote asset, with the same sign. `realised` is gain less loss and fees in the quote asset,
    `realised_on_day` the part of the UTC day `day`.
    """

    exchange: str
    account: str
    symbol: str
    strategy_id: str = ""
    quantity: Decimal = _ZERO
    cost: Decimal = _ZERO
    realised: Decimal = _ZERO
    day: str = ""
    realised_on_day: Decimal = _ZERO

    def lost_on(self, day: str) -> Decimal:
        """Gain (negative) or loss (positive) realised on a UTC day."""
        return self.realised_on_day.copy_negate() if self.day == day else _ZERO


def day_of(at: datetime) -> str:
    """The UTC day of a time, as in 2025-01-31."""
    return at.date().isoformat()


def with_fill(position: Position, fill: Fill) -> Position:
    """The position after a fill. A fee in the base asset makes the quantity smaller.

    It leaves the position at the fill's price, like what is sold, and is lost besides: so what is
    realised less what is held at cost is always what the fills have paid in the quote asset.
    """
    if fill.quantity < 0:
        return _taken_back(position, fill)
    base, _, _ = fill.symbol.partition("/")
    signed = fill.quantity if fill.side is OrderSide.BUY else fill.quantity.copy_negate()
    if fill.fee_currency == base:
        signed = EXACT.subtract(signed, fill.fee)
    closed = _closed_by(position.quantity, signed)
    gain = _ZERO
    cost = position.cost
    if closed:
        part = _rounded(
            EXACT.divide(EXACT.multiply(cost, closed), position.quantity)
        )  # Of the same sign as the position.
        gain = EXACT.subtract(_worth(closed, fill.price), part)
        cost = EXACT.subtract(cost, part)
    opened = EXACT.add(signed, closed)
    cost = EXACT.add(cost, _worth(opened, fill.price))
    gain = EXACT.subtract(gain, fee_in_quote(fill))
    quantity = EXACT.add(position.quantity, signed)
    return _moved(position, fill, quantity, cost, gain)


def _taken_back(position: Position, fill: Fill) -> Position:
    """The position without what was inferred; the real fill comes next.

    What had closed a part of what is held comes back at the average, which a close leaves alone.
    """
    signed = fill.quantity if fill.side is OrderSide.BUY else fill.quantity.copy_negate()
    worth = _worth(signed, fill.price)
    at_cost = worth
    if position.quantity and (position.quantity > 0) is (signed > 0):
        at_cost = _rounded(EXACT.divide(EXACT.multiply(position.cost, signed), position.quantity))
    quantity = EXACT.add(position.quantity, signed)
    cost = EXACT.add(position.cost, at_cost)
    return _moved(position, fill, quantity, cost, EXACT.subtract(at_cost, worth))


def _moved(
    position: Position, fill: Fill, quantity: Decimal, cost: Decimal, gain: Decimal
) -> Position:
    day = day_of(fill.timestamp)
    on_day = position.realised_on_day if day == position.day else _ZERO
    if day < position.day:  # A late fill of a former day leaves today's sum alone.
        day, on_day, today = position.day, position.realised_on_day, _ZERO
    else:
        today = gain
    return replace(
        position,
        quantity=quantity,
        cost=cost,
        realised=EXACT.add(position.realised, gain),
        day=day,
        realised_on_day=EXACT.add(on_day, today),
    )


def effects(fill: Fill) -> dict[str, Decimal]:
    """What the fill adds to and takes from each asset of the account, fees included."""
    base, _, quote = fill.symbol.partition("/")
    worth = _worth(fill.quantity, fill.price)
    moved = {base: fill.quantity, quote: worth.copy_negate()}
    if fill.side is OrderSide.SELL:
        moved = {base: fill.quantity.copy_negate(), quote: worth}
    if fill.fee:
        moved[fill.fee_currency] = EXACT.subtract(moved.get(fill.fee_currency, _ZERO), fill.fee)
    return moved


def _closed_by(held: Decimal, signed: Decimal) -> Decimal:
    """How much of what is held the fill closes, with the sign of what is held."""
    if not held or (held > 0) is (signed > 0):
        return _ZERO
    size = min(held.copy_abs(), signed.copy_abs())
    return size if held > 0 else size.copy_negate()


def _worth(quantity: Decimal, price: Decimal) -> Decimal:
    return _rounded(EXACT.multiply(quantity, price))


def _rounded(amount: Decimal) -> Decimal:
    if amount.as_tuple().exponent >= -DECIMALS_MAX:  # type: ignore[operator]
        return amount
    return amount.quantize(_LAST, context=EXACT)
