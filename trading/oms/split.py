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
from trading.oms.routing.base import Refusal
from trading.oms.transitions import RANK

LEGS_MAX = 99
PARENT_ID_LENGTH_MAX = 58
_LEG_ID = re.compile(r"(.{1,58})\.leg[1-9][0-9]?")
_REASON_MAX = 1000
_NONE = Decimal(0)
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


def summed(parent: OrderState, legs: Iterable[OrderState], more: Decimal = _NONE) -> OrderState:
    """The parent with fills, fees, doubt and status from its legs; itself where all is as it was.

    `more` is by how much the legs' quantities have become greater, or smaller, with this change.
    Filled is filled. Otherwise it is open while a leg is open, and also when all have ended until
    the parent's own word on its end (`ended_as`) is there: what was refused may be routed again.
    A leg that comes back to life makes an ended parent open again.
    """
    legs = list(legs)
    if more:
        parent = parent.model_copy(update={"quantity": EXACT.add(parent.quantity, more)})
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
            fees[currency] = EXACT.add(fees.get(currency, _NONE), fee)
    return fees


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = _NONE
    for value in values:
        total = EXACT.add(total, value)
    return total


class Again(NamedTuple):
    """What is to be routed again, in the base asset, and who has refused, with the reasons."""

    quantity: Decimal
    refused: dict[str, Refusal]


def to_be_routed_again(
    order: Order, parent: OrderState, legs: Iterable[OrderState], *, is_fresh: bool
) -> Again:
    """What legs were refused and nothing was sent for since; what is in doubt is alive.

    Only a leg that ended REJECTED (denied, rejected, proved not placed) is proved dead; one that
    nobody sent in time is a trade that nobody asks for any more. What was routed again before is
    taken off, and never is there more than the parent lacks: a smaller quantity may have given it
    up. A market or IOC order that is not fresh any more, or whose leg proved not placed, would be
    a late trade nobody asked for.
    """
    legs = list(legs)
    dead = [leg for leg in legs if leg.status is OrderStatus.REJECTED]
    dead = [leg for leg in dead if leg.reason_code is not ReasonCode.SEND_BY_PASSED]
    refused = {leg.exchange: _refusal(leg) for leg in dead}
    if not order.resend_if_not_placed:
        if not is_fresh:
            return Again(_NONE, refused)
        dead = [leg for leg in dead if leg.reason_code is not ReasonCode.NOT_PLACED]
    quantity = EXACT.subtract(
        _sum(leg.remaining_quantity for leg in dead), parent.rerouted_quantity
    )
    return Again(max(min(quantity, dead_quantity(parent, legs)), _NONE), refused)


def _refusal(leg: OrderState) -> Refusal:
    text = leg.rejection_reason or leg.status.value
    return Refusal(leg.reason_code or ReasonCode.NO_EXCHANGE, text)


def dead_quantity(parent: OrderState, legs: Iterable[OrderState]) -> Decimal:
    """What of the parent's quantity is neither filled nor in a leg that may still trade."""
    alive = _sum(leg.remaining_quantity for leg in legs if leg.is_open)
    return EXACT.subtract(parent.remaining_quantity, alive)


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
