"""The life of an order: one table, and the one function that applies an event to a state.

The status is the *join of the evidence*: statuses are ranked, each event is evidence for one
rank, and the table moves an order only upwards in rank (a fill outranks a rejection, a
cancellation outranks an acceptance, a whole fill outranks everything). Therefore any order of
arrival of the same events ends in the same state, and the same event twice changes nothing. The
steps down are a modification that makes room above a whole fill, and a leg that proves to follow
the one that has ended. Fills are the truth of quantities, the average price and fees.
"""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from trading.oms.enums import OrderStatus, Pending, ReasonCode, RejectedBy
from trading.oms.exact import EXACT
from trading.oms.models import DECIMALS_MAX, Exact, Fill, OrderState, Utc, state_with
from trading.oms.transitions import RANK, TABLE, Row, Step

_EIGHTEEN = Decimal(1).scaleb(-DECIMALS_MAX)


class EventKind(StrEnum):
    """What can happen to an order. The second group leaves the status alone."""

    SUBMITTING = "submitting"
    DENIED = "denied"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    FILL = "fill"
    MODIFIED = "modified"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_PLACED = "not_placed"
    DECLARED_DEAD = "declared_dead"

    ROUTED = "routed"
    SPLIT = "split"
    IN_DOUBT = "in_doubt"
    DOUBT_ENDED = "doubt_ended"
    RESENT = "resent"
    CANCEL_REQUESTED = "cancel_requested"
    MODIFY_REQUESTED = "modify_requested"
    REPLACE_STARTED = "replace_started"
    LEG_STARTED = "leg_started"
    REQUEST_ENDED = "request_ended"
    RESOLVED = "resolved"
    MESSAGE_REFUSED = "message_refused"
    ALARM = "alarm"


class LifecycleEvent(BaseModel):
    """One thing that happened to an order; only the fields that its kind needs are set.

    `at` is the exchange's time where it gave one. `leg` is the number of the exchange order that
    it speaks of. `quantity` and `price` of MODIFIED are the order's new totals (each revision
    repeats those that stay, so that the newest alone decides), `revision` its number, counted
    from 1. A fill comes in a FILL event and nowhere else; of an inferred one `quantity` is the
    executed total of its exchange order by which it was inferred; of SPLIT what is routed again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind
    at: Utc
    leg: int = 1
    fill: Fill | None = None
    exchange: str | None = None
    account: str | None = None
    exchange_order_id: str | None = None
    exchange_client_id: str | None = None
    quantity: Exact | None = None
    price: Exact | None = None
    stop_price: Exact | None = None
    revision: int = 0
    rejected_by: RejectedBy | None = None
    reason_code: ReasonCode | None = None
    reason: str | None = None
    details: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fill_in_fill_events_only(self) -> Self:
        if (self.fill is not None) is not (self.kind is EventKind.FILL):
            msg = f"fill is {'missing' if self.fill is None else 'given'} in an event {self.kind}"
            raise ValueError(msg)
        return self


_ENDS_A_LEG = frozenset({EventKind.CANCELLED, EventKind.EXPIRED, EventKind.REJECTED})
_WORD_OF = {
    EventKind.CANCELLED: OrderStatus.CANCELLED,
    EventKind.EXPIRED: OrderStatus.EXPIRED,
    EventKind.REJECTED: OrderStatus.REJECTED,
    EventKind.DENIED: OrderStatus.REJECTED,
    EventKind.NOT_PLACED: OrderStatus.REJECTED,
    EventKind.DECLARED_DEAD: OrderStatus.ERROR,
}
_STEP_OF = {kind: Step(kind.value) for kind in EventKind if kind.value in Step._value2member_map_}
_EVIDENCE_OF_LIFE = frozenset(
    {
        EventKind.ACCEPTED,
        EventKind.FILL,
        EventKind.MODIFIED,
        EventKind.CANCELLED,
        EventKind.EXPIRED,
    }
)
_GENERIC_CODES = frozenset(
    {
        ReasonCode.EXCHANGE_REJECTED,
        ReasonCode.EXCHANGE_CANCELLED,
        ReasonCode.EXCHANGE_EXPIRED,
    }
)
"""Codes that repeat the status; any other code of an equally strong word says more."""


class Applied(NamedTuple):
    """The state after an event, whether anything changed, and the alarm text if one is due.

    An event that changes nothing may still be the newest: `state.last_updated_at` notes its time
    without `changed`, because that alone is not worth a journal entry.
    """

    state: OrderState
    changed: bool
    alarm: str | None


def apply(state: OrderState, event: LifecycleEvent) -> Applied:
    """Apply one event. Never raises; a fill must not have been applied before (the store's key).

    What the table does not know leaves the state as it is and comes back as an alarm.
    """
    change: dict[str, Any] = {}
    if event.fill is not None:
        change.update(_with_fill(state, event.fill))
    if event.kind is EventKind.MODIFIED and event.revision > state.revision:
        change.update(_with_modification(state, event))
    if event.exchange_order_id and event.leg == state.leg:
        change["exchange_order_id"] = event.exchange_order_id
    if event.fill is not None and _replaces_inferred(state, change, event.fill):
        return _finish(state, change, event, None)
    marks = _MARKS.get(event.kind)
    if marks is not None:
        change.update(marks(state, event))
        return _finish(state, change, event, None)
    if event.kind in _ENDS_A_LEG and _is_about_a_replaced_leg(state, event):
        return _finish(state, change, event, None)
    return _with_step(state, change, event)


def _replaces_inferred(state: OrderState, change: dict[str, Any], fill: Fill) -> bool:
    """Whether it takes back, or fills again, what was filled already: no word on the status."""
    was_whole = state.status is OrderStatus.FILLED and change["remaining_quantity"] >= 0
    return was_whole or fill.quantity < 0


def _with_step(state: OrderState, change: dict[str, Any], event: LifecycleEvent) -> Applied:
    step = _step(state, change, event)
    row = TABLE.get((state.status, step))
    if row is None:
        unknown = f"the lifecycle has no row for {step.value} in {state.status.value}"
        return _finish(state, change, event, unknown)
    status = row.status
    word = _WORD_OF.get(event.kind)
    if word is not None:
        change.update(_with_word(state, event, word))
    if step is Step.MODIFIED and state.status is OrderStatus.FILLED:
        status = _beneath_filled(state)
    if event.kind is EventKind.SUBMITTED:
        change["submitted_at"] = min(event.at, state.submitted_at or event.at)
    change["status"] = status
    if event.kind is EventKind.MODIFIED:
        change.update(pending=Pending.NONE, replacing=False)
    if RANK[status] >= RANK[OrderStatus.EXPIRED]:
        change.update(pending=Pending.NONE, in_doubt_since=None)
    elif event.kind in _EVIDENCE_OF_LIFE and _is_what_is_in_doubt(state, event):
        change["in_doubt_since"] = None
    if event.kind in {EventKind.REJECTED, EventKind.NOT_PLACED, EventKind.DENIED}:
        change["in_doubt_since"] = None
    return _finish(state, change, event, _alarm_of(row, state, event, change))


def _alarm_of(
    row: Row, state: OrderState, event: LifecycleEvent, change: dict[str, Any]
) -> str | None:
    step, fill = _step(state, change, event), event.fill
    alarm = f"{step.value} in {state.status.value}: {row.reason}" if row.alarm else None
    if fill is None or not fill.inferred or fill.trade_id is not None:
        return alarm
    missing = f"{fill.quantity.normalize(EXACT):f} of exchange order {fill.exchange_order_id}"
    text = f"inferred: a fill of {missing}, which the exchange counts and does not list"
    return f"{text}; {alarm}" if alarm else text


def _with_word(state: OrderState, event: LifecycleEvent, word: OrderStatus) -> dict[str, Any]:
    """The final word with its reasons, where it outweighs the one that is known."""
    given = _weight(word, event.rejected_by, event.reason_code, event.reason)
    known = _weight(state.ended_as, state.rejected_by, state.reason_code, state.rejection_reason)
    if given <= known:
        return {}
    return {
        "ended_as": word,
        "rejected_by": event.rejected_by,
        "reason_code": event.reason_code,
        "rejection_reason": event.reason,
    }


def _weight(
    word: OrderStatus | None,
    rejected_by: RejectedBy | None,
    code: ReasonCode | None,
    reason: str | None,
) -> tuple[int, bool, bool, str, str, str]:
    """A total order, so that equally ranked words end in the same reasons however they arrive.

    The rank first, then the exchange's own word, then a code that says more than the status.
    """
    return (
        -1 if word is None else RANK[word],
        rejected_by is RejectedBy.EXCHANGE,
        code is not None and code not in _GENERIC_CODES,
        code or "",
        rejected_by or "",
        reason or "",
    )


def _beneath_filled(state: OrderState) -> OrderStatus:
    """What an order is when its whole fill becomes a part: the exchange's word, else open."""
    if state.ended_as in {OrderStatus.CANCELLED, OrderStatus.EXPIRED}:
        return state.ended_as
    return OrderStatus.PARTIALLY_FILLED


def _step(state: OrderState, change: dict[str, Any], event: LifecycleEvent) -> Step:
    whole = change.get("remaining_quantity", state.remaining_quantity) <= 0
    if event.kind is EventKind.FILL:
        return Step.FILL_WHOLE if whole else Step.FILL_PART
    if event.kind is EventKind.MODIFIED:
        return Step.MODIFIED_WHOLE if whole else Step.MODIFIED
    return _STEP_OF[event.kind]


def _is_about_a_replaced_leg(state: OrderState, event: LifecycleEvent) -> bool:
    """A replacement ends one exchange order to start the next; that is not the order's end."""
    return event.leg < state.leg or (event.leg == state.leg and state.replacing)


def _is_what_is_in_doubt(state: OrderState, event: LifecycleEvent) -> bool:
    """While a leg is being replaced, the doubt is about the one that replaces it."""
    return event.leg > state.leg or (event.leg == state.leg and not state.replacing)


def _finish(
    state: OrderState, change: dict[str, Any], event: LifecycleEvent, alarm: str | None
) -> Applied:
    known = state.__dict__
    changed = False
    for name, value in change.items():
        if known[name] != value:
            changed = True
            break
    if event.at > state.last_updated_at:
        change["last_updated_at"] = event.at
    elif not changed:
        return Applied(state, changed=False, alarm=alarm)
    return Applied(state_with({**known, **change}), changed, alarm)


def _with_fill(state: OrderState, fill: Fill) -> dict[str, Any]:
    filled = EXACT.add(state.filled_quantity, fill.quantity)
    notional = EXACT.add(state.filled_notional, product(fill.quantity, fill.price))
    inferred = fill.quantity if fill.inferred else Decimal(0)
    fees = dict(state.fees_by_currency)
    fees[fill.fee_currency] = EXACT.add(fees.get(fill.fee_currency, Decimal(0)), fill.fee)
    return {
        "filled_quantity": filled,
        "filled_notional": notional,
        "remaining_quantity": EXACT.subtract(state.quantity, filled),
        "average_fill_price": average(notional, filled),
        "fees_by_currency": fees,
        "fees": EXACT.add(state.fees, fee_in_quote(fill)),
        "inferred_quantity": EXACT.add(state.inferred_quantity, inferred),
    }


def fee_in_quote(fill: Fill) -> Decimal:
    """The fee in the quote currency; a base fee counts at the fill's price, others as 0."""
    base, _, quote = fill.symbol.partition("/")
    if fill.fee_currency == quote:
        return fill.fee
    if fill.fee_currency == base:
        return product(fill.fee, fill.price)
    return Decimal(0)


def product(left: Decimal, right: Decimal) -> Decimal:
    """Rounded to 18 decimals fill by fill, so that sums fit the store and have no order."""
    exact = EXACT.multiply(left, right)
    if exact.as_tuple().exponent >= -DECIMALS_MAX:  # type: ignore[operator]
        return exact
    return exact.quantize(_EIGHTEEN, context=EXACT)


def average(notional: Decimal, filled: Decimal) -> Decimal | None:
    """The average price of what is filled, to 18 decimals; None where nothing is."""
    if not filled:
        return None
    price = EXACT.divide(notional, filled).quantize(_EIGHTEEN, context=EXACT).normalize(EXACT)
    return Decimal(format(price, "f"))


def _with_modification(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    new = {"quantity": event.quantity, "price": event.price, "stop_price": event.stop_price}
    change: dict[str, Any] = {name: value for name, value in new.items() if value is not None}
    if event.quantity is not None:
        change["remaining_quantity"] = EXACT.subtract(event.quantity, state.filled_quantity)
    return {"revision": event.revision, **change}


def _doubted(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    return {"in_doubt_since": state.in_doubt_since or event.at} if state.is_open else {}


def _leg_started(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    if event.leg < state.leg:
        return {}
    change: dict[str, Any] = {"leg": event.leg, "exchange_client_id": event.exchange_client_id}
    if event.revision > state.revision:
        change.update(_with_modification(state, event))
    if event.leg > state.leg:
        change.update(exchange_order_id=None, replacing=False)
        if state.status in {OrderStatus.CANCELLED, OrderStatus.EXPIRED}:
            # That was the end of the leg before: a cancel-replace of which we heard the half.
            status = OrderStatus.PARTIALLY_FILLED if state.filled_quantity else OrderStatus.ACCEPTED
            change.update(status=status, ended_as=None, rejected_by=None)
            change.update(reason_code=None, rejection_reason=None)
    return change


def _pending(kind: Pending) -> Callable[[OrderState, LifecycleEvent], dict[str, Any]]:
    return lambda state, _event: {"pending": kind} if state.is_open else {}


def _modify_requested(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    """A repeated task asks again about a leg that its first try has replaced already."""
    return {"pending": Pending.MODIFY} if state.is_open and event.leg >= state.leg else {}


def _replace_started(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    return {"replacing": True} if state.is_open and event.leg >= state.leg else {}


def _split(state: OrderState, event: LifecycleEvent) -> dict[str, Any]:
    again = EXACT.add(state.rerouted_quantity, event.quantity or Decimal(0))
    return {"leg": 0, "rerouted_quantity": again}


_MARKS: dict[EventKind, Callable[[OrderState, LifecycleEvent], dict[str, Any]]] = {
    EventKind.ROUTED: lambda _state, event: {
        "exchange": event.exchange or "",
        "account": event.account or "",
    },
    EventKind.SPLIT: _split,
    EventKind.IN_DOUBT: _doubted,
    EventKind.DOUBT_ENDED: lambda _state, _event: {"in_doubt_since": None},
    EventKind.CANCEL_REQUESTED: _pending(Pending.CANCEL),
    EventKind.MODIFY_REQUESTED: _modify_requested,
    EventKind.REPLACE_STARTED: _replace_started,
    EventKind.LEG_STARTED: _leg_started,
    EventKind.REQUEST_ENDED: lambda _state, _event: {"pending": Pending.NONE, "replacing": False},
    EventKind.RESENT: _leg_started,
    EventKind.RESOLVED: lambda _state, _event: {},
    EventKind.MESSAGE_REFUSED: lambda _state, _event: {},
    EventKind.ALARM: lambda _state, _event: {},
}
"""Events that leave the status alone, and the fields that each of them sets."""


_ALWAYS_JOURNALLED = frozenset(
    {
        EventKind.MESSAGE_REFUSED,
        EventKind.ALARM,
        EventKind.RESENT,
        EventKind.RESOLVED,
        EventKind.SPLIT,
    }
)


def always_journalled(kind: EventKind) -> bool:
    """Whether an event is worth a journal entry although no field changed."""
    return kind in _ALWAYS_JOURNALLED
