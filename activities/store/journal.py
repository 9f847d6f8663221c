"""The journal: which names an event is published under, and its entries as rows."""

import hashlib
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from activities.store.columns import clean, to_json
from activities.store.types import JournalEntry
from trading.oms.enums import OrderStatus, Pending
from trading.oms.lifecycle import EventKind, LifecycleEvent, always_journalled
from trading.oms.models import Fill, OrderState

CREATED = "order_created"
ALARM = "order_alarm"
UPDATED = "order_updated"
DOUBT_ENDED = "order_doubt_ended"
REQUEST_ENDED = "order_request_ended"
_NO_TIME = datetime.fromtimestamp(0, UTC)

_NAME_OF_MARK = {
    EventKind.ROUTED: "order_routed",
    EventKind.SPLIT: "order_split",
    EventKind.IN_DOUBT: "order_in_doubt",
    EventKind.DOUBT_ENDED: DOUBT_ENDED,
    EventKind.RESENT: "order_resent",
    EventKind.CANCEL_REQUESTED: "order_cancel_requested",
    EventKind.MODIFY_REQUESTED: "order_modify_requested",
    EventKind.REPLACE_STARTED: "order_replace_started",
    EventKind.LEG_STARTED: "order_leg_started",
    EventKind.REQUEST_ENDED: REQUEST_ENDED,
    EventKind.RESOLVED: "order_resolved",
    EventKind.MESSAGE_REFUSED: "order_message_refused",
    EventKind.ALARM: ALARM,
}
_NAME_OF_WORD = {
    EventKind.CANCELLED: (OrderStatus.CANCELLED, "order_cancelled"),
    EventKind.EXPIRED: (OrderStatus.EXPIRED, "order_expired"),
    EventKind.REJECTED: (OrderStatus.REJECTED, "order_rejected"),
    EventKind.DENIED: (OrderStatus.REJECTED, "order_rejected"),
    EventKind.NOT_PLACED: (OrderStatus.REJECTED, "order_rejected"),
    EventKind.DECLARED_DEAD: (OrderStatus.ERROR, "order_error"),
}
EVENT_NAMES = frozenset(
    {
        CREATED,
        "order_pending",
        "order_submitted",
        "order_accepted",
        "order_fill",
        "order_partially_filled",
        "order_filled",
        "order_modified",
        UPDATED,
        *_NAME_OF_MARK.values(),
        *(name for _, name in _NAME_OF_WORD.values()),
    }
)
"""Every name that an entry can have."""


def names_of(before: OrderState, event: LifecycleEvent, after: OrderState) -> list[str]:
    """The names under which an event that was journalled is published, in order.

    A name says what became of the order, not what somebody said: a cancellation that met the
    last fill is no `order_cancelled`. What changed fields without a name is `order_updated`.
    """
    names = (
        [_NAME_OF_MARK[event.kind]]
        if event.kind in _NAME_OF_MARK
        else _status_names(before, event, after)
    )
    if before.in_doubt_since and not after.in_doubt_since and DOUBT_ENDED not in names:
        names.append(DOUBT_ENDED)
    return names


def _status_names(before: OrderState, event: LifecycleEvent, after: OrderState) -> list[str]:
    filled = after.status is OrderStatus.FILLED and before.status is not OrderStatus.FILLED
    was_filled = before.status is OrderStatus.FILLED
    if event.fill is not None and (was_filled or event.fill.quantity < 0):
        return ["order_fill"]
    if event.kind is EventKind.FILL:
        if filled:
            return ["order_fill", "order_filled"]
        overfilled = after.remaining_quantity <= 0
        return ["order_fill"] if overfilled else ["order_fill", "order_partially_filled"]
    if event.kind is EventKind.MODIFIED:
        took_effect = after.revision > before.revision or before.pending is Pending.MODIFY
        name = "order_modified" if took_effect else UPDATED
        return [name, "order_filled"] if filled else [name]
    if event.kind in _NAME_OF_WORD:
        status, name = _NAME_OF_WORD[event.kind]
        return [name if after.status is status and before.status is not status else UPDATED]
    return [_name_on_the_way(before, event, after)]


def _name_on_the_way(before: OrderState, event: LifecycleEvent, after: OrderState) -> str:
    moved = after.status is not before.status
    if event.kind is EventKind.SUBMITTING:
        return "order_pending" if moved else UPDATED
    if event.kind is EventKind.SUBMITTED:
        return "order_submitted" if moved or before.submitted_at is None else UPDATED
    is_new = before.exchange_order_id != after.exchange_order_id
    return "order_accepted" if moved or is_new else UPDATED


class Draft(NamedTuple):
    """An entry before it has its numbers."""

    name: str
    state: OrderState
    fill: Fill | None
    alarm: str | None
    details: dict[str, Any] | None
    fingerprint: str | None
    changed: bool
    """Whether the order changed; such an entry is never left out as a repetition."""
    exchange_at: datetime
    received_at: datetime


def created(state: OrderState, received_at: datetime) -> Draft:
    """The first entry of every order."""
    return Draft(CREATED, state, None, None, None, None, True, state.created_at, received_at)


def drafts_of(
    before: OrderState,
    event: LifecycleEvent,
    after: OrderState,
    received_at: datetime,
    *,
    changed: bool,
    alarm: str | None,
) -> list[Draft]:
    """The entries of one event; none where nothing changed that is worth one.

    Entries that a repeated event would write again (alarms, refused messages) have a
    fingerprint, by which the writer leaves out a second one that changes nothing.
    """
    always = always_journalled(event.kind)
    if not (changed or alarm or always):
        return []
    if event.kind is EventKind.ALARM:
        alarm = event.reason or "an alarm without a text"
    fingerprint = _fingerprint(event) if alarm or always else None
    ended = request_mark(event) if event.kind is EventKind.REQUEST_ENDED else None
    fill = event.fill
    if fill is not None and fill.received_at is not None:
        received_at = fill.received_at
    names = names_of(before, event, after) if changed or always else []
    if alarm and ALARM not in names:
        names.append(ALARM)
    details = _details(event)
    return [
        Draft(
            name,
            after,
            fill,
            clean(alarm) if name == ALARM else None,
            details,
            fingerprint if name == ALARM or always else ended,
            changed,
            event.at,
            received_at,
        )
        for name in names
    ]


_NAME_OF_STATUS = {
    OrderStatus.CREATED: UPDATED,
    OrderStatus.PENDING_SUBMISSION: "order_pending",
    OrderStatus.SUBMITTED: "order_submitted",
    OrderStatus.ACCEPTED: "order_accepted",
    OrderStatus.PARTIALLY_FILLED: "order_partially_filled",
    OrderStatus.FILLED: "order_filled",
    **dict(_NAME_OF_WORD.values()),
}


def drafts_of_sum(before: OrderState, after: OrderState, at: datetime) -> list[Draft]:
    """The entries of a split order whose legs have changed.

    No `order_fill`: each execution is published once, under its leg.
    """
    names = []
    if before.status is not after.status or before.filled_quantity < after.filled_quantity:
        names.append(_NAME_OF_STATUS[after.status])
    if before.quantity != after.quantity:
        names.append("order_modified")
    if before.in_doubt_since is None and after.in_doubt_since is not None:
        names.append(_NAME_OF_MARK[EventKind.IN_DOUBT])
    elif before.in_doubt_since is not None and after.in_doubt_since is None:
        names.append(DOUBT_ENDED)
    time = after.last_updated_at
    drafts = [
        Draft(name, after, None, None, None, None, True, time, at) for name in names or [UPDATED]
    ]
    if before.remaining_quantity >= 0 > after.remaining_quantity:
        alarm = "overfill: the legs have traded more than the quantity"
        drafts.append(Draft(ALARM, after, None, alarm, None, None, True, time, at))
    return drafts


def _details(event: LifecycleEvent) -> dict[str, Any] | None:
    """What the event says beyond the state: its own details, reason and leg."""
    details = dict(event.details) if event.details else {}
    if event.reason:
        details.setdefault("reason", event.reason)
    if event.reason_code:
        details.setdefault("reason_code", event.reason_code.value)
    if event.leg > 1:
        details.setdefault("leg", event.leg)
    return details or None


def _fingerprint(event: LifecycleEvent) -> str:
    """A refused message has a number of its own; a repeated task gives it another time."""
    if event.kind is EventKind.MESSAGE_REFUSED and event.details:
        event = event.model_copy(update={"at": _NO_TIME})
    return hashlib.sha256(event.model_dump_json().encode()).hexdigest()


def request_mark(event: LifecycleEvent) -> str | None:
    """The fingerprint of the request that an event asks or ends, where it names one."""
    named = (event.details or {}).get("request")
    return None if named is None else hashlib.sha256(str(named).encode()).hexdigest()


def numbered_entry(sequence: int, draft: Draft, committed_at: datetime) -> JournalEntry:
    """The entry of a draft."""
    return JournalEntry(
        sequence=sequence,
        order_id=draft.state.client_order_id,
        order_sequence=draft.state.sequence,
        name=draft.name,
        state=draft.state,
        fill=draft.fill,
        alarm=draft.alarm,
        details=draft.details,
        exchange_at=draft.exchange_at,
        received_at=draft.received_at,
        committed_at=committed_at,
    )


def entry_values(entry: JournalEntry, fingerprint: str | None) -> dict[str, Any]:
    """The row of an entry."""
    return {
        "sequence": entry.sequence,
        "order_id": entry.order_id,
        "order_sequence": entry.order_sequence,
        "name": entry.name,
        "state": entry.state.model_dump_json(),
        "fill": entry.fill.model_dump_json() if entry.fill else None,
        "alarm": entry.alarm,
        "details": to_json(entry.details) if entry.details else None,
        "fingerprint": fingerprint,
        "exchange_at": entry.exchange_at,
        "received_at": entry.received_at,
        "committed_at": entry.committed_at,
    }


def entry_of(row: sa.Row[Any]) -> JournalEntry:
    """The entry in a row of `order_events`."""
    return JournalEntry(
        sequence=row.sequence,
        order_id=row.order_id,
        order_sequence=row.order_sequence,
        name=row.name,
        state=OrderState.model_validate_json(row.state),
        fill=Fill.model_validate_json(row.fill) if row.fill else None,
        alarm=row.alarm,
        details=pydantic_core.from_json(row.details) if row.details else None,
        exchange_at=row.exchange_at,
        received_at=row.received_at,
        committed_at=row.committed_at,
    )
