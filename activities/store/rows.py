"""Between models and rows. The hot path: plain assignments, no validation of our own data."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from activities.store.columns import clean, plain
from activities.store.schema import orders
from trading.oms.enums import (
    OrderSide,
    OrderStatus,
    OrderType,
    Pending,
    ReasonCode,
    RejectedBy,
    TimeInForce,
)
from trading.oms.errors import UnreadableOrder
from trading.oms.models import Fill, OrderState, state_with

_FIXED = (
    "client_order_id",
    "symbol",
    "order_type",
    "time_in_force",
    "expire_at",
    "post_only",
    "reduce_only",
    "created_at",
    "strategy_id",
    "parent_order_id",
    "metadata",
)
"""Fields that nothing changes once the order is there."""
CHANGING = tuple(name for name in OrderState.model_fields if name not in {*_FIXED, "side"})
STATE_COLUMNS = tuple(orders.c[name] for name in OrderState.model_fields)
_SIDES = {side.value: side for side in OrderSide}
_TYPES = {kind.value: kind for kind in OrderType}
_TIMES_IN_FORCE = {word.value: word for word in TimeInForce}
_STATUSES: dict[str | None, OrderStatus | None] = {
    None: None,
    **{status.value: status for status in OrderStatus},
}
_PENDINGS = {pending.value: pending for pending in Pending}


def state_of(row: Mapping[str, Any]) -> OrderState:
    """The state in a row that has the `STATE_COLUMNS`. Raises `UnreadableOrder`."""
    try:
        return _state_of(row)
    except (ArithmeticError, KeyError, ValueError) as error:
        raise UnreadableOrder(row, error) from error


def _state_of(row: Mapping[str, Any]) -> OrderState:
    values = {name: row[name] for name in OrderState.model_fields}
    values["side"] = _SIDES[values["side"]]
    values["order_type"] = _TYPES[values["order_type"]]
    values["time_in_force"] = _TIMES_IN_FORCE[values["time_in_force"]]
    values["status"] = _STATUSES[values["status"]]
    values["ended_as"] = _STATUSES[values["ended_as"]]
    values["pending"] = _PENDINGS[values["pending"]]
    if values["rejected_by"] is not None:
        values["rejected_by"] = RejectedBy(values["rejected_by"])
    if values["reason_code"] is not None:
        values["reason_code"] = ReasonCode(values["reason_code"])
    values["fees_by_currency"] = {
        currency: Decimal(fee) for currency, fee in values["fees_by_currency"].items()
    }
    return state_with(values)


def numbered(state: OrderState, sequence: int) -> OrderState:
    """The same state with another number of its newest journal entry."""
    return state_with({**state.__dict__, "sequence": sequence})


def changing_values(state: OrderState) -> dict[str, Any]:
    """The columns that events can change."""
    known = state.__dict__
    values = {name: known[name] for name in CHANGING}
    values["status"] = state.status.value
    values["pending"] = state.pending.value
    values["ended_as"] = state.ended_as.value if state.ended_as else None
    values["rejected_by"] = state.rejected_by.value if state.rejected_by else None
    values["reason_code"] = state.reason_code.value if state.reason_code else None
    values["rejection_reason"] = clean(state.rejection_reason)
    values["fees_by_currency"] = {
        currency: plain(fee) for currency, fee in state.fees_by_currency.items()
    }
    return values


def all_values(state: OrderState) -> dict[str, Any]:
    """Every column that holds a field of the state."""
    known = state.__dict__
    values = changing_values(state)
    for name in _FIXED:
        values[name] = known[name]
    values["side"] = state.side.value
    values["order_type"] = state.order_type.value
    values["time_in_force"] = state.time_in_force.value
    return values


def fill_values(fill: Fill, received_at: datetime, booked_at: datetime) -> dict[str, Any]:
    """The row of a fill."""
    values = dict(fill.__dict__)
    values["side"] = fill.side.value
    values["received_at"] = fill.received_at or received_at
    values["booked_at"] = booked_at
    return values


def fill_of(row: Mapping[str, Any]) -> Fill:
    """The fill in a row."""
    values = dict(row)
    del values["booked_at"]
    return Fill.model_construct(**{**values, "side": _SIDES[values["side"]]})
