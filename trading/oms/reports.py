"""From what an exchange said to what happened to the order: pure translation."""

from collections.abc import Iterable

from trading.oms.enums import Pending, ReasonCode, RejectedBy, TimeInForce
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState
from trading.oms.venue import ExecutionReport, VenueStatus

_LIVES = frozenset({VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED, VenueStatus.FILLED})


def elsewhere(reports: Iterable[ExecutionReport], state: OrderState | None) -> str | None:
    """What reports say of exchange, account and symbol that is not the order's; None: nothing.

    Of an order that was not routed yet nobody knows where it is.
    """
    if state is None or not state.exchange:
        return None
    own = (state.exchange, state.account, state.symbol)
    for report in reports:
        if report.where != own:
            return f"the report is about {' / '.join(report.where)}, the order on {' / '.join(own)}"
    return None


def events_of(report: ExecutionReport, leg: int, state: OrderState) -> list[LifecycleEvent]:
    """The lifecycle events that a report about exchange order number `leg` stands for.

    Acceptance first, then the fills it carries, then the end. A total without its fills is no
    event: it demands fills (see `missing_quantity`).
    """
    common = {
        "at": report.at,
        "leg": leg,
        "exchange_order_id": report.exchange_order_id,
    }
    events: list[LifecycleEvent] = []
    if report.status in _LIVES:
        events.append(LifecycleEvent(kind=EventKind.ACCEPTED, **common))
    for fill in report.fills:
        own = fill.model_copy(update={"order_id": state.client_order_id})
        events.append(
            LifecycleEvent(
                kind=EventKind.FILL,
                at=fill.timestamp,
                leg=leg,
                exchange_order_id=report.exchange_order_id,
                fill=own,
                quantity=report.cumulative_quantity if fill.inferred else None,
            )
        )
    if report.status is VenueStatus.CANCELLED:
        events.append(_cancelled(report, leg, state))
    elif report.status is VenueStatus.EXPIRED:
        events.append(
            LifecycleEvent(
                kind=EventKind.EXPIRED,
                reason_code=ReasonCode.EXCHANGE_EXPIRED,
                reason=report.reason,
                **common,
            )
        )
    elif report.status is VenueStatus.REJECTED:
        events.append(
            LifecycleEvent(
                kind=EventKind.REJECTED,
                rejected_by=RejectedBy.EXCHANGE,
                reason_code=ReasonCode.EXCHANGE_REJECTED,
                reason=report.reason,
                **common,
            )
        )
    return events


def _cancelled(report: ExecutionReport, leg: int, state: OrderState) -> LifecycleEvent:
    """A cancellation; of a good-till-date order at or after its date it is the expiry.

    By the exchange's clock or by ours: the cancel at its date was ours, and clocks differ.
    """
    kind, code = EventKind.CANCELLED, ReasonCode.EXCHANGE_CANCELLED
    if state.pending is Pending.CANCEL:
        code = ReasonCode.CANCEL_REQUESTED
    if (
        state.time_in_force is TimeInForce.GTD
        and state.expire_at is not None
        and max(report.at, report.received_at) >= state.expire_at
    ):
        kind, code = EventKind.EXPIRED, ReasonCode.EXPIRY_REACHED
    return LifecycleEvent(
        kind=kind,
        at=report.at,
        leg=leg,
        exchange_order_id=report.exchange_order_id,
        reason_code=code,
        reason=report.reason,
    )
