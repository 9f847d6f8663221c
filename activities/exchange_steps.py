"""The steps that ask the exchange about an order that it may have: cancel, amend, collect.

All of them are safe to repeat: a cancel and an amendment name their target, the others only read.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from temporalio import activity

from activities.booking import Booking, fills_missing_by
from activities.messages import (
    AmendAt,
    Booked,
    CancelAt,
    ChangeAnswer,
    ChangeKind,
    CollectAt,
    OrderAt,
)
from activities.rate_desk import urgent
from trading.oms.errors import (
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.exact import EXACT
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.venue import Amend, OrderRef, VenueMargins, VenueStatus
from trading.oms.venue_changes import IAmends, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from activities.order_steps import Parts
    from activities.store import StoredClaim
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector

_ENDED = frozenset(
    {VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.REJECTED}
)


class ExchangeSteps:
    """The activities that ask an exchange about one of our orders there."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._store = parts.store
        self._booking = Booking(parts.store)

    @activity.defn(name="cancel_at_exchange")
    async def cancel_at_exchange(self, message: CancelAt) -> ChangeAnswer:
        """Cancel by client id. What the answer leaves open is asked after.

        "Unknown order" may mean filled, or ended. And done is only what is known to have ended
        with a total: what was traded before the end must not be sent again.
        """
        claim, connector = await self._there(message.at)
        if message.is_replacement:
            state = await self._state(message.at.order_id)
        else:
            state = await self._mark(message.at, EventKind.CANCEL_REQUESTED, message.reason)
        if not message.of_strays and (other := await self._overtaken(claim, state)) is not None:
            return _of_another(other)
        ref = _ref(claim, state)
        try:
            report = await connector.cancel(ref)
        except ExchangeRejected as error:
            return await self._after_unclear_cancel(connector, ref, message.at, str(error))
        except ExchangeUnavailable as error:
            return await self._not_now(message.at, error)
        except OutcomeUnknown as error:
            return await self._after_unclear_cancel(connector, ref, message.at, str(error))
        if report.status not in _ENDED or report.cumulative_quantity is None:
            taken = "the cancel was taken, without a word on what was traded"
            return await self._after_unclear_cancel(connector, ref, message.at, taken)
        return await self._done(message.at, [report])

    @activity.defn(name="amend_at_exchange")
    async def amend_at_exchange(self, message: AmendAt) -> ChangeAnswer:
        """Change quantity and price in place, as far as the exchange can."""
        at = message.at
        claim, connector = await self._there(at)
        state = await self._state(at.order_id)
        if (other := await self._overtaken(claim, state)) is not None:
            return _of_another(other)
        if state.revision >= message.revision or not _can_amend(connector, message, state):
            return await self._not_asked(message, state)
        filled_elsewhere = await self._filled_elsewhere(state)
        terms = Terms(
            quantity=EXACT.subtract(message.new_quantity, filled_elsewhere),
            price=message.new_price,
            post_only=claim.request.post_only,
            deadline_ms=_now_ms(connector) + connector.capabilities.fence_ms,
        )
        ref = _ref(claim, state)
        try:
            if message.denied is not None:
                raise _denied(connector, message)
            report = await _amend(connector, ref, terms)
        except ExchangeUnavailable as error:
            return await self._not_now(at, error)
        except (ExchangeRejected, OutcomeUnknown) as error:
            return await self._after_unclear_amendment(connector, ref, message, terms, error)
        if report.cumulative_quantity is None:
            # More may have been traded than the new total: then it has cancelled the rest.
            taken = OutcomeUnknown("the change was taken, without a word on what was traded")
            return await self._after_unclear_amendment(connector, ref, message, terms, taken)
        return await self._amended(message, report)

    @activity.defn(name="collect_fills")
    async def collect_fills(self, at: CollectAt) -> Booked:
        """Fetch the order and its fills, and book them; still missing when it cannot be asked."""
        claim, connector = await self._there(at)
        state = await self._state(at.order_id)
        if not at.of_strays and (other := await self._overtaken(claim, state)) is not None:
            return other.model_copy(update={"fills_missing": True})
        ref = _ref(claim, state)
        try:
            with urgent():
                report = await connector.find_order(ref)
                if report is None:
                    return Booked(state=await self._state(at.order_id), fills_missing=True)
                if not ref.exchange_order_id:
                    ref = ref.model_copy(update={"exchange_order_id": report.exchange_order_id})
                fills = await connector.fills_of(ref)
        except ExchangeError:
            return Booked(state=await self._state(at.order_id), fills_missing=True)
        whole = report.model_copy(update={"fills": (*report.fills, *fills)})
        booked = await self._booking.book(at.order_id, [whole], generation=at.generation)
        missing = await fills_missing_by(self._store, booked.state, [whole], exactly=True)
        executed = report.cumulative_quantity or Decimal(0)
        return booked.model_copy(update={"fills_missing": missing, "executed": executed})

    async def _overtaken(self, claim: StoredClaim, state: OrderState) -> Booked | None:
        """What carries the order where the asker, who means the order, names another send of it.

        An older one may live after all, and a task that is repeated does not know yet that its
        earlier try has sent the order again.
        """
        if claim.key.leg != state.leg or _carries(claim, state):
            return None
        return await self._booking.carriers.overtaken(state, claim.key.generation)

    async def _after_unclear_cancel(
        self, connector: IExecutionConnector, ref: OrderRef, at: OrderAt, reason: str
    ) -> ChangeAnswer:
        """The order itself says what became of it, and what it has traded."""
        try:
            with urgent():
                report = await connector.find_order(ref)
        except ExchangeError as error:
            report, reason = None, str(error)
        if report is None or report.status not in _ENDED:
            state = await self._state(at.order_id)
            return ChangeAnswer(kind=ChangeKind.UNKNOWN, state=state, reason=reason)
        return await self._done(at, [report])

    async def _after_unclear_amendment(
        self,
        connector: IExecutionConnector,
        ref: OrderRef,
        message: AmendAt,
        terms: Terms,
        error: ExchangeError,
    ) -> ChangeAnswer:
        at = message.at
        try:
            with urgent():
                report = await connector.find_order(ref)
        except ExchangeError as failure:
            state = await self._state(at.order_id)
            return ChangeAnswer(kind=ChangeKind.UNKNOWN, state=state, reason=str(failure))
        if report is not None and _has(report, terms):
            return await self._amended(message, report)
        booked = await self._booking.book(at.order_id, [report] if report else [])
        refused = isinstance(error, ExchangeRejected)
        return ChangeAnswer(
            kind=ChangeKind.REFUSED if refused else ChangeKind.UNKNOWN,
            state=booked.state,
            reason=str(error),
            fills_missing=booked.fills_missing,
        )

    async def _amended(self, message: AmendAt, report: ExecutionReport) -> ChangeAnswer:
        at = message.at
        state = await self._state(at.order_id)
        await self._store.record(at.order_id, [_modified(message, state, report.at)])
        return await self._done(at, [report])

    async def _not_asked(self, message: AmendAt, state: OrderState) -> ChangeAnswer:
        """The exchange cannot do it, or it was done before, and perhaps another change after it.

        So asks a task that a crash repeats, and one that its worker swallowed while it stood still:
        what it would write now takes back whatever others have changed since.
        """
        if state.revision < message.revision:
            return ChangeAnswer(kind=ChangeKind.UNSUPPORTED, state=state)
        terms = (message.new_quantity, message.new_price)
        if (state.quantity, state.price) != terms:
            reason = "the order has been changed again since"
            return ChangeAnswer(kind=ChangeKind.REFUSED, state=state, reason=reason)
        event = _modified(message, state, state.last_updated_at)
        state = await self._store.record(message.at.order_id, [event])
        return ChangeAnswer(kind=ChangeKind.DONE, state=state)

    async def _done(self, at: OrderAt, reports: Sequence[ExecutionReport]) -> ChangeAnswer:
        booked = await self._booking.book(at.order_id, reports)
        self._parts.on_state(booked.state)
        return ChangeAnswer(
            kind=ChangeKind.DONE, state=booked.state, fills_missing=booked.fills_missing
        )

    async def _not_now(self, at: OrderAt, error: ExchangeUnavailable) -> ChangeAnswer:
        return ChangeAnswer(
            kind=ChangeKind.UNKNOWN,
            state=await self._state(at.order_id),
            reason=str(error),
            retry_after_s=error.retry_after or 0.0,
        )

    async def _filled_elsewhere(self, state: OrderState) -> Decimal:
        """What the order's other exchange orders have filled; theirs is part of its total."""
        if state.leg == 1:
            return EXACT.create_decimal(0)
        total = EXACT.create_decimal(0)
        for fill in await self._store.fills(state.client_order_id):
            if fill.exchange_order_id != state.exchange_order_id:
                total = EXACT.add(total, fill.quantity)
        return total

    async def _mark(self, at: OrderAt, kind: EventKind, reason: str | None) -> OrderState:
        event = LifecycleEvent(kind=kind, at=utc_now(), leg=at.leg, reason=reason)
        return await self._store.record(at.order_id, [event])

    async def _there(self, at: OrderAt) -> tuple[StoredClaim, IExecutionConnector]:
        claim = await self._store.claim(at.order_id, at.leg, at.generation)
        if claim is None:
            msg = f"order {at.order_id} has no claim for leg {at.leg}, generation {at.generation}"
            raise LookupError(msg)
        request = claim.request
        return claim, self._parts.connectors[request.exchange, request.account]

    async def _state(self, order_id: str) -> OrderState:
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise LookupError(msg)
        return state


def _modified(message: AmendAt, state: OrderState, at: datetime) -> LifecycleEvent:
    return LifecycleEvent(
        kind=EventKind.MODIFIED,
        at=at,
        leg=message.at.leg,
        revision=message.revision,
        quantity=message.new_quantity,
        price=message.new_price,
        stop_price=state.stop_price,
    )


def _carries(claim: StoredClaim, state: OrderState) -> bool:
    return claim.request.exchange_client_id == state.exchange_client_id


def _ref(claim: StoredClaim, state: OrderState) -> OrderRef:
    own = state.exchange_order_id if _carries(claim, state) else claim.exchange_order_id
    return OrderRef(
        symbol=claim.request.symbol,
        exchange_client_id=claim.request.exchange_client_id,
        exchange_order_id=own,
    )


def _of_another(known: Booked) -> ChangeAnswer:
    """Nothing is done: the asker repeats it with what carries the order."""
    return ChangeAnswer(
        kind=ChangeKind.UNKNOWN,
        state=known.state,
        reason="another send carries the order",
        strays=known.strays,
        carrier=known.carrier,
    )


def _can_amend(connector: IExecutionConnector, message: AmendAt, state: OrderState) -> bool:
    record = connector.capabilities.amend
    if record is Amend.IN_PLACE:
        return isinstance(connector, IAmends) or _only_reduces(message, state)
    return record is Amend.IN_PLACE_REDUCE and _only_reduces(message, state)


def _only_reduces(message: AmendAt, state: OrderState) -> bool:
    return message.new_price == state.price and message.new_quantity <= state.quantity


def _denied(connector: IExecutionConnector, message: AmendAt) -> ExchangeError:
    """Nothing more is sent: a refusal, once no earlier try can be carried out any more."""
    record, why = connector.capabilities, message.denied or ""
    margin_ms = record.fence_ms + VenueMargins.of(record).fence_margin_ms
    if message.asked_at and utc_now() < message.asked_at + timedelta(milliseconds=margin_ms):
        return OutcomeUnknown(why)
    return ExchangeRejected(why)


async def _amend(connector: IExecutionConnector, ref: OrderRef, terms: Terms) -> ExecutionReport:
    is_full = connector.capabilities.amend is Amend.IN_PLACE
    if is_full and isinstance(connector, IAmends):
        return await connector.amend(ref, terms)
    return await connector.reduce(ref, terms.quantity)


def _has(report: ExecutionReport, terms: Terms) -> bool:
    """Whether the exchange's order has these terms; a price that it does not tell is no word.

    One that had traded more already has lost its rest by it, and nothing was changed.
    """
    executed = report.cumulative_quantity or Decimal(0)
    is_whole = report.quantity == terms.quantity and executed <= terms.quantity
    return is_whole and report.price in {None, terms.price}


def _now_ms(connector: IExecutionConnector) -> int:
    return int(connector.exchange_now().timestamp() * 1000)
