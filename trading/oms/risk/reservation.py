"""What an open order holds of its account: funds, position, a place in the count, exposure.

A reservation begins with the checks, follows the order's state, and ends with the order. All of
it is arithmetic on the order as it stands, so whoever computes it again gets the same.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from trading.oms.enums import OrderSide, Pending
from trading.oms.exact import EXACT
from trading.oms.models import DECIMALS_MAX, Order, OrderState

ZERO = Decimal(0)
_ONE = Decimal(1)
_LAST = _ONE.scaleb(-DECIMALS_MAX)


def rounded_up(amount: Decimal) -> Decimal:
    """An amount that the store can keep, never less than the exact one."""
    if amount.as_tuple().exponent >= -DECIMALS_MAX:  # type: ignore[operator]
        return amount
    return amount.quantize(_LAST, rounding=ROUND_CEILING, context=EXACT)


class Held(NamedTuple):
    """What is held, as sums over reservations: of quote and base asset, quantity and worth."""

    quote: Decimal = ZERO
    base: Decimal = ZERO
    quantity: Decimal = ZERO
    notional: Decimal = ZERO
    orders: int = 0

    def plus(self, other: "Held") -> "Held":
        """Both together."""
        return Held(
            EXACT.add(self.quote, other.quote),
            EXACT.add(self.base, other.base),
            EXACT.add(self.quantity, other.quantity),
            EXACT.add(self.notional, other.notional),
            self.orders + other.orders,
        )

    def minus(self, other: "Held") -> "Held":
        """What is left without the other."""
        return Held(
            EXACT.subtract(self.quote, other.quote),
            EXACT.subtract(self.base, other.base),
            EXACT.subtract(self.quantity, other.quantity),
            EXACT.subtract(self.notional, other.notional),
            self.orders - other.orders,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The reservation of one order.

    `open_quantity` is what it may still trade, at `price` in the worst case (0: nobody knows,
    for orders that were not reserved by us). During a modification `wanted_quantity` (the new
    total) and `wanted_price` are held as well, where they are more. `external` orders are
    somebody else's: they are counted, and the exchange's locks hold their funds.
    """

    order_id: str
    exchange: str
    account: str
    symbol: str
    strategy_id: str | None
    side: OrderSide
    open_quantity: Decimal
    price: Decimal
    fee_rate: Decimal = ZERO
    wanted_quantity: Decimal | None = None
    wanted_price: Decimal | None = None
    is_open: bool = True
    external: bool = False
    reserved_at: datetime

    @property
    def held(self) -> Held:
        """What it holds now; nothing once it is closed."""
        if not self.is_open:
            return Held()
        notional = rounded_up(EXACT.multiply(self.open_quantity, self.price))
        if self.external:
            return Held(quantity=self.open_quantity, notional=notional, orders=1)
        if self.side is OrderSide.SELL:
            return Held(ZERO, self.open_quantity, self.open_quantity, notional, 1)
        factor = EXACT.add(_ONE, self.fee_rate)
        return Held(
            rounded_up(EXACT.multiply(notional, factor)), ZERO, self.open_quantity, notional, 1
        )


def reservation_for(
    order: Order, state: OrderState, price: Decimal, fee_rate: Decimal, now: datetime
) -> Reservation:
    """What an order needs that asks to be sent: `order` has its venue, quantity and price."""
    return Reservation(
        order_id=state.client_order_id,
        exchange=order.exchange or "",
        account=order.account or "",
        symbol=order.symbol,
        strategy_id=order.strategy_id,
        side=order.side,
        open_quantity=order.quantity,
        price=rounded_up(price),
        fee_rate=fee_rate,
        reserved_at=now,
    )


def reservation_of(state: OrderState, now: datetime, *, external: bool = False) -> Reservation:
    """What an order holds that is open without a reservation: found by a sweep, or external."""
    return Reservation(
        order_id=state.client_order_id,
        exchange=state.exchange,
        account=state.account,
        symbol=state.symbol,
        strategy_id=state.strategy_id,
        side=state.side,
        open_quantity=max(ZERO, state.remaining_quantity),
        price=state.price or state.stop_price or state.average_fill_price or ZERO,
        is_open=state.is_open,
        external=external,
        reserved_at=now,
    )


def changing_to(reservation: Reservation, order: Order, state: OrderState) -> Reservation:
    """Hold both the old and the new of a modification; `order` has its new open quantity."""
    wanted = replace(
        reservation,
        wanted_quantity=EXACT.add(order.quantity, state.filled_quantity),
        wanted_price=order.price,
    )
    return following(wanted, state, is_settled=False)


def following(reservation: Reservation, state: OrderState, *, is_settled: bool) -> Reservation:
    """The reservation of the order as it stands now.

    `is_settled` says that no modification is under way, so that what was wanted is forgotten.
    The end of the order closes it, and proof of life opens it again. Doubt changes nothing. Of an
    order that is split its legs hold everything.
    """
    if state.is_terminal or state.is_split:
        return closed(reservation)
    quantity = max(ZERO, state.remaining_quantity)
    price = state.price if state.price is not None else reservation.price
    wanted_quantity, wanted_price = reservation.wanted_quantity, reservation.wanted_price
    if is_settled:
        wanted_quantity = wanted_price = None
    if wanted_quantity is not None:
        quantity = max(quantity, EXACT.subtract(wanted_quantity, state.filled_quantity))
    if wanted_price is not None:
        price = max(price, wanted_price)
    return replace(
        reservation,
        open_quantity=quantity,
        price=price,
        wanted_quantity=wanted_quantity,
        wanted_price=wanted_price,
        is_open=True,
    )


def closed(reservation: Reservation) -> Reservation:
    """The same with nothing left in it."""
    return replace(
        reservation, open_quantity=ZERO, wanted_quantity=None, wanted_price=None, is_open=False
    )


def modification_settled(before: OrderState, after: OrderState) -> bool:
    """Whether between the two states a modification was confirmed, refused or given up."""
    if after.pending is Pending.MODIFY or after.replacing:
        return False
    return before.pending is Pending.MODIFY or after.revision > before.revision
