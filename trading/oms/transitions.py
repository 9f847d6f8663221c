"""The transition table: (status, step) to the status that follows, with the odd rows' reasons.

It is written out by column, one column for each thing that can happen. The reference page, the
diagram and the tests are made from it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from trading.oms.enums import OrderStatus


class Step(StrEnum):
    """The columns of the table: an event's kind, and whether the quantity is filled by it."""

    SUBMITTING = "submitting"
    DENIED = "denied"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    FILL_PART = "fill_part"
    FILL_WHOLE = "fill_whole"
    MODIFIED = "modified"
    MODIFIED_WHOLE = "modified_whole"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_PLACED = "not_placed"
    DECLARED_DEAD = "declared_dead"


class Row(NamedTuple):
    """One row of the table: the status that follows, why where it is odd, and the alarm."""

    status: OrderStatus
    reason: str = ""
    alarm: bool = False


_CREATED = OrderStatus.CREATED
_PENDING = OrderStatus.PENDING_SUBMISSION
_SUBMITTED = OrderStatus.SUBMITTED
_ACCEPTED = OrderStatus.ACCEPTED
_PART = OrderStatus.PARTIALLY_FILLED
_FILLED = OrderStatus.FILLED
_CANCELLED = OrderStatus.CANCELLED
_EXPIRED = OrderStatus.EXPIRED
_REJECTED = OrderStatus.REJECTED
_ERROR = OrderStatus.ERROR

RANK: Mapping[OrderStatus, int] = {
    status: rank
    for rank, status in enumerate(
        (
            _CREATED,
            _PENDING,
            _SUBMITTED,
            _ERROR,
            _REJECTED,
            _ACCEPTED,
            _PART,
            _EXPIRED,
            _CANCELLED,
            _FILLED,
        )
    )
}
"""Weakest evidence first. The test of the table recomputes every row from this ranking."""

_BEFORE_ANSWER = "a repeated first task sees the exchange's messages before its own answer"
_REVIVED = "proof of life revives an order that was taken for dead"
_CONTRADICTION = "the exchange contradicts what it said before; the stronger evidence stays"
_LATE_FILL = "a fill that happened before the end can be reported after it"
_REMAINDER = "the rest of a partly filled order"


def _rows() -> dict[tuple[OrderStatus, Step], Row]:
    """The table, written out by column."""
    started = {_CREATED: Row(_PENDING), _PENDING: Row(_PENDING)}
    sent = {_CREATED: Row(_SUBMITTED, _BEFORE_ANSWER), _PENDING: Row(_SUBMITTED)}
    sent[_SUBMITTED] = Row(_SUBMITTED)
    # Ours: repeated by a crash, and then weaker than anything that the exchange has said.
    for status in OrderStatus:
        started.setdefault(status, Row(status, "a repeated first task"))
        sent.setdefault(status, Row(status, "a repeated first task"))
    denied = {
        _CREATED: Row(_REJECTED),
        _PENDING: Row(_REJECTED),
        _SUBMITTED: Row(_REJECTED, "denied when it was to be sent again"),
        _ERROR: Row(_REJECTED, alarm=True, reason=_CONTRADICTION),
        _REJECTED: Row(_REJECTED),
        **_kept(_ACCEPTED, _PART, _EXPIRED, _CANCELLED, _FILLED),
    }
    accepted = {
        _CREATED: Row(_ACCEPTED, _BEFORE_ANSWER),
        _PENDING: Row(_ACCEPTED, _BEFORE_ANSWER),
        _SUBMITTED: Row(_ACCEPTED),
        _ERROR: Row(_ACCEPTED, _REVIVED, alarm=True),
        _REJECTED: Row(_ACCEPTED, _REVIVED, alarm=True),
        _ACCEPTED: Row(_ACCEPTED),
        _PART: Row(_PART, "fill before acceptance"),
        _EXPIRED: Row(_EXPIRED, "the acceptance was overtaken"),
        _CANCELLED: Row(_CANCELLED, "the acceptance was overtaken"),
        _FILLED: Row(_FILLED, "fill before acceptance"),
    }
    fill_part = {
        _CREATED: Row(_PART, _BEFORE_ANSWER),
        _PENDING: Row(_PART, _BEFORE_ANSWER),
        _SUBMITTED: Row(_PART, "fill before acceptance"),
        _ERROR: Row(_PART, _REVIVED, alarm=True),
        _REJECTED: Row(_PART, _REVIVED, alarm=True),
        _ACCEPTED: Row(_PART),
        _PART: Row(_PART),
        _EXPIRED: Row(_EXPIRED, _LATE_FILL),
        _CANCELLED: Row(_CANCELLED, _LATE_FILL),
    }
    fill_whole = {
        _CREATED: Row(_FILLED, _BEFORE_ANSWER),
        _PENDING: Row(_FILLED, _BEFORE_ANSWER),
        _SUBMITTED: Row(_FILLED, "fill before acceptance"),
        _ERROR: Row(_FILLED, _REVIVED, alarm=True),
        _REJECTED: Row(_FILLED, _REVIVED, alarm=True),
        _ACCEPTED: Row(_FILLED),
        _PART: Row(_FILLED),
        _EXPIRED: Row(_FILLED, _LATE_FILL),
        _CANCELLED: Row(_FILLED, _LATE_FILL),
        _FILLED: Row(_FILLED, "overfill: booked, never dropped", alarm=True),
    }
    modified = {**accepted, _FILLED: Row(_PART, "the new quantity leaves a remainder again")}
    modified_whole = {
        status: Row(_FILLED, "the new quantity is already filled")
        for status in (_PART, _EXPIRED, _CANCELLED, _FILLED, _ACCEPTED, _SUBMITTED)
    }
    cancelled = {
        _CREATED: Row(_CANCELLED, "cancelled before it was sent"),
        _PENDING: Row(_CANCELLED, "cancelled before it was sent"),
        _SUBMITTED: Row(_CANCELLED, "the acceptance was overtaken"),
        _ERROR: Row(_CANCELLED, _REVIVED, alarm=True),
        _REJECTED: Row(_CANCELLED, _CONTRADICTION, alarm=True),
        _ACCEPTED: Row(_CANCELLED),
        _PART: Row(_CANCELLED, _REMAINDER),
        _EXPIRED: Row(_CANCELLED, _CONTRADICTION),
        _CANCELLED: Row(_CANCELLED),
        _FILLED: Row(_FILLED, "a cancel that met the last fill"),
    }
    expired = {
        _CREATED: Row(_EXPIRED, _BEFORE_ANSWER),
        _PENDING: Row(_EXPIRED, "the expiry passed before it was sent"),
        _SUBMITTED: Row(_EXPIRED, "an IOC, FOK or market remainder"),
        _ERROR: Row(_EXPIRED, _REVIVED, alarm=True),
        _REJECTED: Row(_EXPIRED, _CONTRADICTION, alarm=True),
        _ACCEPTED: Row(_EXPIRED),
        _PART: Row(_EXPIRED, "expiry of an IOC remainder"),
        _EXPIRED: Row(_EXPIRED),
        _CANCELLED: Row(_CANCELLED, _CONTRADICTION),
        _FILLED: Row(_FILLED, "an expiry that met the last fill"),
    }
    rejected = {
        _CREATED: Row(_REJECTED, _BEFORE_ANSWER),
        _PENDING: Row(_REJECTED, _BEFORE_ANSWER),
        _SUBMITTED: Row(_REJECTED),
        _ERROR: Row(_REJECTED, "the exchange's word replaces the operator's"),
        _REJECTED: Row(_REJECTED),
        **_kept(_ACCEPTED, _PART, _EXPIRED, _CANCELLED, _FILLED),
    }
    dead = {
        _CREATED: Row(_ERROR, "an operator's verdict", alarm=True),
        _PENDING: Row(_ERROR, "an operator's verdict", alarm=True),
        _SUBMITTED: Row(_ERROR, "an operator's verdict", alarm=True),
        _ERROR: Row(_ERROR),
        _REJECTED: Row(_REJECTED, "the exchange's word is stronger than the operator's"),
        **_kept(_ACCEPTED, _PART, _EXPIRED, _CANCELLED, _FILLED),
    }
    columns = {
        Step.SUBMITTING: started,
        Step.DENIED: denied,
        Step.SUBMITTED: sent,
        Step.ACCEPTED: accepted,
        Step.FILL_PART: fill_part,
        Step.FILL_WHOLE: fill_whole,
        Step.MODIFIED: modified,
        Step.MODIFIED_WHOLE: modified_whole,
        Step.CANCELLED: cancelled,
        Step.EXPIRED: expired,
        Step.REJECTED: rejected,
        Step.NOT_PLACED: rejected,
        Step.DECLARED_DEAD: dead,
    }
    return {
        (status, step): row for step, column in columns.items() for status, row in column.items()
    }


def _kept(*statuses: OrderStatus) -> dict[OrderStatus, Row]:
    return {status: Row(status, _CONTRADICTION, alarm=True) for status in statuses}


TABLE: Mapping[tuple[OrderStatus, Step], Row] = _rows()
"""(status, step) to what follows. A pair that is not here is recorded and alarmed."""
