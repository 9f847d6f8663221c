"""What the OMS publishes: one immutable event for each entry of the journal.

Names are in the past tense and begin with "order_" (specification, "Listening to Order Events").
`order_fill` comes for each execution, `order_partially_filled` for those that leave a rest,
`order_filled` once.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict, Field

from trading.oms.enums import OrderSide, OrderStatus, ReasonCode
from trading.oms.models import Fill, OrderState, Utc


class IJournalEntry(Protocol):
    """What an event is made from: one committed entry of the journal."""

    @property
    def sequence(self) -> int:
        """The public sequence of the journal, in the order of commits."""
        ...

    @property
    def order_id(self) -> str:
        """Our client order id."""
        ...

    @property
    def order_sequence(self) -> int:
        """The number of this entry among those of its order, counted from 1 without gaps."""
        ...

    @property
    def name(self) -> str:
        """The event's name, as in "order_filled"."""
        ...

    @property
    def state(self) -> OrderState:
        """The order after the event."""
        ...

    @property
    def fill(self) -> Fill | None:
        """The execution, where there was one."""
        ...

    @property
    def alarm(self) -> str | None:
        """Why an operator should look at it."""
        ...

    @property
    def details(self) -> Mapping[str, Any] | None:
        """What else belongs to the event, as plain JSON."""
        ...

    @property
    def exchange_at(self) -> datetime | None:
        """The exchange's time of the event."""
        ...

    @property
    def received_at(self) -> datetime | None:
        """When we heard of it."""
        ...

    @property
    def committed_at(self) -> datetime | None:
        """When it was committed to the journal."""
        ...


class OrderEvent(BaseModel):
    """One thing that happened to one order; `state` is the order after it.

    `sequence` numbers all events of the store in the order of their commits: keep the last one
    that was handled and subscribe again with `after=sequence`. `order_sequence` numbers those of
    the order, from 1 without gaps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sequence: int = Field(ge=0)
    order_id: str
    order_sequence: int = Field(ge=0)
    state: OrderState
    fill: Fill | None = None
    alarm: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    exchange_at: Utc | None = None
    received_at: Utc | None = None
    committed_at: Utc | None = None

    @property
    def status(self) -> OrderStatus:
        """The order's status after the event."""
        return self.state.status

    @property
    def exchange(self) -> str:
        """The venue of the order; empty before routing."""
        return self.state.exchange

    @property
    def symbol(self) -> str:
        """BASE/QUOTE."""
        return self.state.symbol

    @property
    def side(self) -> OrderSide:
        """The side of the order."""
        return self.state.side

    @property
    def strategy_id(self) -> str | None:
        """The strategy that placed the order."""
        return self.state.strategy_id

    @property
    def exchange_order_id(self) -> str | None:
        """The exchange's own id of the order."""
        return self.state.exchange_order_id

    @property
    def filled_quantity(self) -> Decimal:
        """All that is filled so far, in the base asset."""
        return self.state.filled_quantity

    @property
    def remaining_quantity(self) -> Decimal:
        """What is left to fill, in the base asset."""
        return self.state.remaining_quantity

    @property
    def average_fill_price(self) -> Decimal | None:
        """The average price of all fills so far, in the quote asset."""
        return self.state.average_fill_price

    @property
    def reason_code(self) -> ReasonCode | None:
        """Why the order was refused or ended."""
        return self.state.reason_code

    @property
    def reason(self) -> str | None:
        """The same in words."""
        return self.state.rejection_reason


class OrderCreatedEvent(OrderEvent):
    """The order is in the store."""

    name: Literal["order_created"] = "order_created"


class OrderPendingEvent(OrderEvent):
    """The order is on its way through routing, risk and the rate limit."""

    name: Literal["order_pending"] = "order_pending"


class OrderRoutedEvent(OrderEvent):
    """The venue is chosen."""

    name: Literal["order_routed"] = "order_routed"


class OrderSplitEvent(OrderEvent):
    """The order is split; `details` has its new legs, which are orders of their own."""

    name: Literal["order_split"] = "order_split"


class OrderSubmittedEvent(OrderEvent):
    """The send is claimed: from here on it may have reached the exchange."""

    name: Literal["order_submitted"] = "order_submitted"


class OrderAcceptedEvent(OrderEvent):
    """The exchange has confirmed the order."""

    name: Literal["order_accepted"] = "order_accepted"


class OrderFillEvent(OrderEvent):
    """One execution, whatever it leaves."""

    name: Literal["order_fill"] = "order_fill"
    fill: Fill


class OrderPartiallyFilledEvent(OrderEvent):
    """An execution that leaves a remainder."""

    name: Literal["order_partially_filled"] = "order_partially_filled"


class OrderFilledEvent(OrderEvent):
    """The whole quantity is filled."""

    name: Literal["order_filled"] = "order_filled"


class OrderModifiedEvent(OrderEvent):
    """The exchange has taken a new quantity or price."""

    name: Literal["order_modified"] = "order_modified"


class OrderCancelledEvent(OrderEvent):
    """The order is cancelled; what was filled stays filled."""

    name: Literal["order_cancelled"] = "order_cancelled"


class OrderExpiredEvent(OrderEvent):
    """The order's time has run out, or its immediate part is over."""

    name: Literal["order_expired"] = "order_expired"


class OrderRejectedEvent(OrderEvent):
    """Denied by our risk, rejected by the exchange, or proved not placed: see `reason_code`."""

    name: Literal["order_rejected"] = "order_rejected"


class OrderErrorEvent(OrderEvent):
    """Ended by us without the exchange's word."""

    name: Literal["order_error"] = "order_error"


class OrderInDoubtEvent(OrderEvent):
    """Sent, and not known what became of it."""

    name: Literal["order_in_doubt"] = "order_in_doubt"


class OrderDoubtEndedEvent(OrderEvent):
    """What became of the send is known."""

    name: Literal["order_doubt_ended"] = "order_doubt_ended"


class OrderResentEvent(OrderEvent):
    """A send that proved to have placed nothing is repeated under a new exchange client id."""

    name: Literal["order_resent"] = "order_resent"


class OrderCancelRequestedEvent(OrderEvent):
    """We have been asked to cancel."""

    name: Literal["order_cancel_requested"] = "order_cancel_requested"


class OrderModifyRequestedEvent(OrderEvent):
    """We have been asked to modify."""

    name: Literal["order_modify_requested"] = "order_modify_requested"


class OrderReplaceStartedEvent(OrderEvent):
    """A modification has begun to replace the exchange order."""

    name: Literal["order_replace_started"] = "order_replace_started"


class OrderLegStartedEvent(OrderEvent):
    """The next exchange order of this order is on its way."""

    name: Literal["order_leg_started"] = "order_leg_started"


class OrderRequestEndedEvent(OrderEvent):
    """A cancel or modify request has its answer."""

    name: Literal["order_request_ended"] = "order_request_ended"


class OrderResolvedEvent(OrderEvent):
    """An operator gave a verdict on an order in doubt; `details`: verdict, author, reason."""

    name: Literal["order_resolved"] = "order_resolved"


class OrderMessageRefusedEvent(OrderEvent):
    """A message to the order could not be understood; `details` says why."""

    name: Literal["order_message_refused"] = "order_message_refused"


class OrderUpdatedEvent(OrderEvent):
    """Something about the order changed that has no name of its own."""

    name: Literal["order_updated"] = "order_updated"


class OrderAlarmEvent(OrderEvent):
    """An operator should look at it; `alarm` says why."""

    name: Literal["order_alarm"] = "order_alarm"
    alarm: str


def _by_name() -> dict[str, type[OrderEvent]]:
    return {
        get_args(kind.model_fields["name"].annotation)[0]: kind
        for kind in OrderEvent.__subclasses__()
    }


EVENT_TYPES: Mapping[str, type[OrderEvent]] = _by_name()
"""Every event name with its class."""


def event_of(name: str, **fields: Any) -> OrderEvent:
    """The event of this name in its own class; an unknown name (of a newer release) in the base.

    Raises pydantic's `ValidationError` for fields that do not fit.
    """
    return EVENT_TYPES.get(name, OrderEvent)(name=name, **fields)


def event_from(entry: IJournalEntry) -> OrderEvent:
    """The event that a journal entry stands for."""
    return event_of(
        entry.name,
        sequence=entry.sequence,
        order_id=entry.order_id,
        order_sequence=entry.order_sequence,
        state=entry.state,
        fill=entry.fill,
        alarm=entry.alarm,
        details=dict(entry.details or {}),
        exchange_at=entry.exchange_at,
        received_at=entry.received_at,
        committed_at=entry.committed_at,
    )
