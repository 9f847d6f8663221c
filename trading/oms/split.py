"""An order that is split: its legs are orders of their own, and its state is their sum.

A leg's id follows from its parent's id and its number, so that whoever sees the one knows the
other. The sum is taken in the store, in the transaction that changes a leg: it holds at every
moment, whether or not anybody works on the parent.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from trading.oms.enums import OPEN_STATUSES, OrderStatus, Pending, ReasonCode
from trading.oms.exact import EXACT
from trading.oms.lifecycle import EventKind, average
from trading.oms.models import Order, OrderState
from trading.oms.reading import number
from trading.oms.transitions import RANK

LEGS_MAX = 99
PARENT_ID_LENGTH_MAX = 58
_LEG_ID = re.compile(r"(.{1,58})\.leg[1-9][0-9]?")
_REASON_MAX = 1000
_LIVE = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
_NUMBER = re.compile(r"[0-9]+\Z")
_AS_OPEN = {
    OrderStatus.CREATED: OrderStatus.PENDING_SUBMISSION,
    OrderStatus.PENDING_SUBMISSION: OrderStatus.PENDING_SUBMISSION,
    OrderStatus.SUBMITTED: OrderStatus.SUBMITTED,
    OrderStatus.ACCEPTED: OrderStatus.ACCEPTED,
    OrderStatus.PARTIALLY_FILLED: OrderStatus.ACCEPTED,
    OrderStatus.FILLED: OrderStatus.ACCEPTED,
    OrderStatus.CANCELLED: OrderStatus.PENDING_SUBMISSION,
    OrderStatus.EXPIRED: OrderStatus.PENDING_SUBMISSION,
    OrderStatus.REJECTED: OrderStatus.PENDING_SUBMISSION,
    OrderStatus.ERROR: OrderStatus.PENDING_SUBMISSION,
}
"""What a leg says of a parent that is open and has no fill: how far its way has come.

A leg that has ended without a fill is no way any more, so it counts as not begun.
"""


def leg_id(parent_id: str, number: int) -> str:
    """The id of a leg, counted from 1: the parent's with `.leg3` behind it."""
    return f"{parent_id}.leg{number}"


def parent_id_of(order_id: str) -> str | None:
    """The id of the parent that an order with such an id would be a leg of."""
    match = _LEG_ID.fullmatch(order_id)
    return None if match is None else match[1]


def leg_number(order_id: str) -> int:
    """The number at the end of a leg's id."""
    match = _NUMBER.search(order_id)
    return int(match[0]) if match else 0


def is_leg(state: OrderState) -> bool:
    """Whether an order is the leg of a split, by its id and by what it says of its parent."""
    parent = state.parent_order_id
    return parent is not None and parent_id_of(state.client_order_id) == parent


def summed(parent: OrderState, legs: Iterable[OrderState]) -> OrderState:
    """The parent with fills, fees, doubt and status from its legs; itself where all is as it was.

    Filled is filled. Otherwise it is open while a leg is open, and also when all have ended until
    the parent's own word on its end (`ended_as`) is there: what was refused may be routed again.
    A leg that comes back to life makes an ended parent open again.
    """
    legs = list(legs)
    filled = _sum(leg.filled_quantity for leg in legs)
    notional = _sum(leg.filled_notional for leg in legs)
    doubts = [leg.in_doubt_since for leg in legs if leg.in_doubt_since is not None]
    sent = [leg.submitted_at for leg in legs if leg.submitted_at is not None]
    status = _status(parent, legs, filled)
    change: dict[str, Any] = {
        "filled_quantity": filled,
        "filled_notional": notional,
        "remaining_quantity": EXACT.subtract(parent.quantity, filled),
        "average_fill_price": average(notional, filled),
        "inferred_quantity": _sum(leg.inferred_quantity for leg in legs),
        "fees": _sum(leg.fees for leg in legs),
        "fees_by_currency": _fees(legs),
        "in_doubt_since": min(doubts, default=None),
        "submitted_at": min(sent, default=None),
        "status": status,
        "pending": parent.pending if status in OPEN_STATUSES else Pending.NONE,
    }
    if all(getattr(parent, name) == value for name, value in change.items()):
        return parent
    change["last_updated_at"] = max(leg.last_updated_at for leg in (parent, *legs))
    return parent.model_copy(update=change)


def _status(parent: OrderState, legs: list[OrderState], filled: Decimal) -> OrderStatus:
    if filled >= parent.quantity:
        return OrderStatus.FILLED
    if parent.ended_as is not None and all(leg.is_terminal for leg in legs):
        return parent.ended_as
    if filled:
        return OrderStatus.PARTIALLY_FILLED
    shown = (_AS_OPEN[leg.status] for leg in legs)
    return max(shown, key=RANK.__getitem__, default=OrderStatus.PENDING_SUBMISSION)


def _fees(legs: Iterable[OrderState]) -> dict[str, Decimal]:
    fees: dict[str, Decimal] = {}
    for leg in legs:
        for currency, fee in leg.fees_by_currency.items():
            fees[currency] = EXACT.add(fees.get(currency, Decimal(0)), fee)
    return fees


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, value)
    return total


class Again(NamedTuple):
    """What is to be routed again, in the base asset, and who has refused, with the reasons."""

    quantity: Decimal
    refused: dict[str, str]


def to_be_routed_again(
    order: Order, parent: OrderState, legs: Iterable[OrderState], *, is_fresh: bool
) -> Again:
    """What legs were refused and nothing was sent for since; what is in doubt is alive.

    Only a leg that ended REJECTED (denied, rejected, proved not placed) is proved dead; one that
    nobody sent in time is a trade that nobody asks for any more. The legs'
    quantities beyond the parent's are what was routed again before. A market or IOC order that is
    not fresh any more, or whose leg proved not placed, would be a late trade nobody asked for.
    """
    legs = list(legs)
    dead = [leg for leg in legs if leg.status is OrderStatus.REJECTED]
    dead = [leg for leg in dead if leg.reason_code is not ReasonCode.SEND_BY_PASSED]
    refused = {leg.exchange: leg.rejection_reason or leg.status.value for leg in dead}
    if not order.resend_if_not_placed:
        if not is_fresh:
            return Again(Decimal(0), refused)
        dead = [leg for leg in dead if leg.reason_code is not ReasonCode.NOT_PLACED]
    routed_again = EXACT.subtract(_sum(leg.quantity for leg in legs), parent.quantity)
    refused_quantity = _sum(leg.remaining_quantity for leg in dead)
    quantity = EXACT.subtract(refused_quantity, max(routed_again, Decimal(0)))
    return Again(max(quantity, Decimal(0)), refused)


class End(NamedTuple):
    """How a split order ends: the event's kind, and the fields that say why."""

    kind: EventKind
    word: dict[str, Any]


def end_of(
    parent: OrderState, legs: Iterable[OrderState], *, is_wanted: bool, unroutable: str | None
) -> End:
    """The parent's end, once every leg has ended and something is left.

    Cancelled where that was wished or a leg was; expired where time or the market ended it;
    rejected where every leg was. The reason has what is left and what the legs say.
    """
    left = [leg for leg in legs if leg.status is not OrderStatus.FILLED]
    said = [f"{leg.client_order_id} is {leg.status}{_because(leg)}" for leg in left]
    said += [unroutable] if unroutable else []
    reason = f"{number(parent.remaining_quantity)} is left: {'; '.join(said)}"[:_REASON_MAX]
    last = left[-1] if left else parent
    by = {"rejected_by": last.rejected_by, "reason_code": last.reason_code, "reason": reason}
    if is_wanted:
        return End(
            EventKind.CANCELLED, {"reason_code": ReasonCode.CANCEL_REQUESTED, "reason": reason}
        )
    statuses = {leg.status for leg in left}
    if statuses <= {OrderStatus.REJECTED} and not parent.filled_quantity:
        return End(EventKind.REJECTED, by)
    if OrderStatus.EXPIRED in statuses and statuses <= {OrderStatus.EXPIRED, OrderStatus.REJECTED}:
        expired = next(leg for leg in left if leg.status is OrderStatus.EXPIRED)
        return End(EventKind.EXPIRED, {"reason_code": expired.reason_code, "reason": reason})
    return End(EventKind.CANCELLED, by)


def _because(leg: OrderState) -> str:
    return f" ({leg.rejection_reason})" if leg.rejection_reason else ""


class Change(NamedTuple):
    """What one leg is asked for, and what it had."""

    order_id: str
    old_quantity: Decimal
    new_quantity: Decimal | None
    new_price: Decimal | None

    @property
    def said(self) -> str:
        """In words, for the journal."""
        wish = {"quantity": self.new_quantity, "price": self.new_price}
        return ", ".join(f"{name} {number(v)}" for name, v in wish.items() if v is not None)

    def is_in(self, leg: OrderState) -> bool:
        """Whether the leg has what it was asked for."""
        return self.new_quantity in {None, leg.quantity} and self.new_price in {None, leg.price}


def changes_of(
    parent: OrderState,
    legs: Iterable[OrderState],
    new_quantity: Decimal | None,
    new_price: Decimal | None,
) -> list[Change] | str:
    """What the legs are asked for; in words why the wish is refused.

    A new price goes to every open leg. A change of the quantity goes whole to the last open leg
    that has more than that left.
    """
    legs = [leg for leg in legs if leg.is_open]
    refusal = _refusal_of_change(parent, legs, new_quantity, new_price)
    if refusal is not None:
        return refusal
    more = EXACT.subtract(new_quantity, parent.quantity) if new_quantity else Decimal(0)
    carrier = None
    if more:
        able = [leg for leg in legs if EXACT.add(leg.remaining_quantity, more) > 0]
        if not able:
            return f"no open leg has more than {number(-more)} left; cancel a leg instead"
        carrier = able[-1]
    changes = []
    for leg in legs:
        quantity = EXACT.add(leg.quantity, more) if leg is carrier else None
        price = new_price if new_price not in {None, leg.price} else None
        if quantity is not None or price is not None:
            changes.append(Change(leg.client_order_id, leg.quantity, quantity, price))
    return changes


def _refusal_of_change(
    parent: OrderState,
    legs: list[OrderState],
    new_quantity: Decimal | None,
    new_price: Decimal | None,
) -> str | None:
    if parent.is_terminal or not legs:
        return f"the order is {parent.status.value} and no leg of it is open"
    if parent.pending is not Pending.NONE:
        return f"a {parent.pending.value} of this order is still under way"
    for leg in legs:
        if leg.status not in _LIVE or leg.in_doubt_since or leg.pending is not Pending.NONE:
            return f"{leg.client_order_id} is {leg.status} and not at rest at its exchange"
    if new_price is not None and parent.price is None:
        return f"new_price is {number(new_price)}; a {parent.order_type} order has no price"
    if new_quantity is not None and new_quantity <= parent.filled_quantity:
        return (
            f"new_quantity is {number(new_quantity)}; "
            f"must be greater than the {number(parent.filled_quantity)} already filled"
        )
    return None
