"""Sending an order: claim, write, record the outcome. Never twice.

The claim is one durable statement in the store. Whoever finds it taken without an outcome does
not send: the order is in doubt, and it is looked for at the exchange by its client id.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING, Any, cast

from activities.booking import fills_missing_by
from activities.messages import Denied, OrderAt, Send, SendAnswer, SendKind
from activities.store import ClaimKey, ClaimOutcome
from activities.store.claims import ClaimRequest
from trading.oms.enums import ReasonCode, RejectedBy
from trading.oms.errors import (
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
)
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.reports import events_of
from trading.oms.venue import OrderRef, OrderRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from activities.order_steps import Parts
    from activities.store import Claim
    from trading.oms.models import Order, OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector
    from trading.oms.venue_changes import IReplaces

_REFUSALS = {
    ReasonCode.CANCELLED_BEFORE_SEND: "cancelled before it was sent",
    ReasonCode.SEND_BY_PASSED: "the time by which it had to be sent has passed",
    ReasonCode.TRADING_HALTED: "trading is halted",
    ReasonCode.RESENDING_STOPPED: "nothing is sent again on this account; see its alarms",
}
_KNOWN_OUTCOMES = {
    ClaimOutcome.ACCEPTED: SendKind.ACKNOWLEDGED,
    ClaimOutcome.REJECTED: SendKind.REJECTED,
    ClaimOutcome.NEVER_REACHED: SendKind.NEVER_REACHED,
}
_HOPELESS = frozenset({"local_request", "local_symbol"})
"""Our own connector cannot build the request; it would fail the same way every time."""
_MARKET_CLOSED = "Market is closed."


class Sender:
    """Sends legs of orders, each under its claim."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; a claimant's name tells processes apart in the claim table."""
        self._parts = parts
        self._store = parts.store
        self._claimant = f"{os.uname().nodename}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    async def send(self, order: Order, send: Send) -> SendAnswer:
        """Claim, and if the claim is ours write its request; the answer is committed before."""
        connector = self._parts.connectors[send.exchange, send.account]
        old = None
        if send.replaces is not None:
            if not connector.capabilities.cancel_replace:
                return SendAnswer(kind=SendKind.UNSUPPORTED, state=await self._state(send.order_id))
            old = await self._ref(send.replaces)
        request = self._request(order, send, connector)
        if old is not None:
            request = request.model_copy(update={"replaces": old})
        return await self.write(send, await self._claim(order, send, request))

    def first_claim(self, order: Order, send: Send) -> ClaimRequest:
        """The claim of an order's first send, for a transaction that does more."""
        request = self._request(order, send, self._parts.connectors[send.exchange, send.account])
        key = ClaimKey(send.order_id, send.leg, send.generation)
        return ClaimRequest(key, request, self._claimant, _not_after(order, send), send.before)

    async def write(self, send: Send, claim: Claim) -> SendAnswer:
        """Write the claimed request, if the claim is ours; the answer is committed before."""
        connector = self._parts.connectors[send.exchange, send.account]
        if claim.refusal is not None:
            return _refused(send, claim)
        if not claim.won:
            return await self._taken(send, claim)
        if send.replaces is not None:
            return await self._replace(send, claim, cast("IReplaces", connector))
        try:
            report = await connector.place(claim.request)
        except ExchangeError as error:
            return await self._failed(send, claim, error)
        return await self._acknowledged(send, claim, report)

    async def _replace(self, send: Send, claim: Claim, connector: IReplaces) -> SendAnswer:
        """Write a cancel-replace. What it left undone may be stamped anew: the old order stands."""
        try:
            said = await connector.replace(claim.request)
        except ExchangeError as error:
            if isinstance(error, ExchangeRejected) or error.code in _HOPELESS:
                return await self._not_replaced(send, claim, error, SendKind.UNCHANGED)
            return await self._failed(send, claim, error)
        if not isinstance(said.placed, ExchangeError):
            return await self._acknowledged(send, claim, said.placed)
        if said.cancelled is None:
            return await self._not_replaced(send, claim, said.placed, SendKind.NOT_CANCELLED)
        answer = await self._failed(send, claim, said.placed)
        return answer.model_copy(update={"old_leg_ended": True})

    async def _not_replaced(
        self, send: Send, claim: Claim, error: ExchangeError, kind: SendKind
    ) -> SendAnswer:
        await self._learn_from(send, error)
        answer = await self._never_reached(send, claim, error)
        return answer.model_copy(update={"kind": kind, "reason": str(error)})

    async def _learn_from(self, send: Send, error: ExchangeError) -> None:
        """A refusal may say that our clock, or the rules that we know, are old."""
        connector = self._parts.connectors[send.exchange, send.account]
        record = connector.capabilities
        if error.code in record.stale_stamp_codes:
            await _set_clock(connector)
        if error.code in record.rule_refusal_codes or error.text == _MARKET_CLOSED:
            self._parts.risk.filter_refused(send.exchange, send.account)

    async def _failed(self, send: Send, claim: Claim, error: ExchangeError) -> SendAnswer:
        await self._learn_from(send, error)
        if isinstance(error, ExchangeRejected) or error.code in _HOPELESS:
            return await self._rejected(send, claim, error)
        if isinstance(error, ExchangeUnavailable):
            return await self._never_reached(send, claim, error)
        return await self._unknown(send, claim, error)

    async def conclude(
        self, at: OrderAt, outcome: ClaimOutcome, events: Sequence[LifecycleEvent]
    ) -> OrderState:
        """Commit a word on a send (it placed nothing, nobody knows) with what follows from it."""
        return await self._store.settle_claim(
            at.order_id, at.leg, at.generation, outcome=outcome, events=events
        )

    async def _ref(self, at: OrderAt) -> OrderRef:
        """How the exchange knows one of our orders there; ids that we do not know are left out."""
        claim = await self._store.claim(at.order_id, at.leg, at.generation)
        if claim is None:
            msg = f"order {at.order_id} has no claim for leg {at.leg}, generation {at.generation}"
            raise LookupError(msg)
        return OrderRef(
            symbol=claim.request.symbol,
            exchange_client_id=claim.request.exchange_client_id,
            exchange_order_id=claim.exchange_order_id,
        )

    async def _state(self, order_id: str) -> OrderState:
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise LookupError(msg)
        return state

    def _request(self, order: Order, send: Send, connector: IExecutionConnector) -> OrderRequest:
        now_ms = int(connector.exchange_now().timestamp() * 1000)
        return OrderRequest(
            exchange=send.exchange,
            account=send.account,
            symbol=order.symbol,
            exchange_client_id=exchange_client_id(
                self._parts.deployment, send.order_id, send.leg, send.generation
            ),
            side=order.side,
            order_type=order.order_type,
            quantity=send.quantity,
            price=send.price,
            stop_price=send.stop_price,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            timestamp_ms=now_ms,
            window_ms=connector.capabilities.fence_ms,
        )

    async def _claim(self, order: Order, send: Send, request: OrderRequest) -> Claim:
        not_after = _not_after(order, send)
        if send.stamp > 1:
            return await self._store.reclaim(
                send.order_id,
                send.leg,
                send.generation,
                stamp=send.stamp - 1,
                request=request,
                claimant=self._claimant,
                not_after=not_after,
                events=_starts(send, request),
            )
        return await self._store.claim_send(
            send.order_id,
            send.leg,
            send.generation,
            request,
            claimant=self._claimant,
            not_after=not_after,
            before=send.before,
            events=_starts(send, request),
        )

    async def _taken(self, send: Send, claim: Claim) -> SendAnswer:
        """Somebody claimed this send before: its recorded outcome, else doubt."""
        known = claim.outcome
        if known in _KNOWN_OUTCOMES:
            return SendAnswer(kind=_KNOWN_OUTCOMES[known], state=claim.state, stamp=claim.stamp)
        if known is ClaimOutcome.NOT_PLACED and send.leg > 1:
            return SendAnswer(kind=SendKind.NOT_PLACED, state=claim.state, stamp=claim.stamp)
        if known is ClaimOutcome.NOT_PLACED:
            return SendAnswer(kind=SendKind.IN_DOUBT, state=claim.state, stamp=claim.stamp)
        return await self._in_doubt(send, claim, "the send was claimed before", None)

    async def _acknowledged(self, send: Send, claim: Claim, report: ExecutionReport) -> SendAnswer:
        events = events_of(report, send.leg, claim.state)
        if send.revision:
            events.insert(0, _modified(send, report))
        if send.replaces is not None:
            events.insert(0, _leg_started(send, claim.request))
        answer = report.model_dump(mode="json", exclude={"fills"})
        state = await self._settle(send, claim, ClaimOutcome.ACCEPTED, answer, events)
        missing = await fills_missing_by(self._store, state, [report])
        return SendAnswer(
            kind=SendKind.ACKNOWLEDGED, state=state, stamp=claim.stamp, fills_missing=missing
        )

    async def _rejected(self, send: Send, claim: Claim, error: ExchangeError) -> SendAnswer:
        reason = str(error)
        if send.leg > 1:
            events = [
                _event(EventKind.REQUEST_ENDED, send, reason=reason),
                _event(
                    EventKind.CANCELLED, send, reason_code=ReasonCode.REPLACE_FAILED, reason=reason
                ),
            ]
        else:
            events = [
                _event(
                    EventKind.REJECTED,
                    send,
                    rejected_by=RejectedBy.EXCHANGE,
                    reason_code=ReasonCode.EXCHANGE_REJECTED,
                    reason=reason,
                )
            ]
        state = await self._settle(send, claim, ClaimOutcome.REJECTED, _answer(error), events)
        return SendAnswer(kind=SendKind.REJECTED, state=state, stamp=claim.stamp)

    async def _never_reached(self, send: Send, claim: Claim, error: ExchangeError) -> SendAnswer:
        state = await self._settle(send, claim, ClaimOutcome.NEVER_REACHED, _answer(error), [])
        return SendAnswer(
            kind=SendKind.NEVER_REACHED,
            state=state,
            stamp=claim.stamp,
            retry_after_s=_pause_of(error),
            reason=str(error),
        )

    async def _unknown(self, send: Send, claim: Claim, error: ExchangeError) -> SendAnswer:
        return await self._in_doubt(send, claim, str(error), _answer(error))

    async def _in_doubt(
        self, send: Send, claim: Claim, reason: str, answer: dict[str, Any] | None
    ) -> SendAnswer:
        """Doubt, unless others have found out meanwhile; the store decides which came first."""
        doubt = _event(EventKind.IN_DOUBT, send, reason=reason)
        state = await self._settle(send, claim, ClaimOutcome.UNKNOWN, answer, [doubt])
        found = await self._store.claim(send.order_id, send.leg, send.generation)
        kind = SendKind.IN_DOUBT
        if found is not None and found.outcome in {ClaimOutcome.ACCEPTED, ClaimOutcome.REJECTED}:
            kind = _KNOWN_OUTCOMES[found.outcome]
        return SendAnswer(kind=kind, state=state, stamp=claim.stamp)

    async def _settle(
        self,
        send: Send,
        claim: Claim,
        outcome: ClaimOutcome,
        answer: dict[str, Any] | None,
        events: Sequence[LifecycleEvent],
    ) -> OrderState:
        return await self._store.settle_claim(
            send.order_id,
            send.leg,
            send.generation,
            outcome=outcome,
            answer=answer,
            events=events,
            stamp=claim.stamp,
        )


def _not_after(order: Order, send: Send) -> datetime | None:
    """Until when it may be sent. A modification is a wish of its own: `send_by` is behind it."""
    limits = [send.not_after, order.expire_at, order.send_by if send.leg == 1 else None]
    return min((time for time in limits if time is not None), default=None)


def _refused(send: Send, claim: Claim) -> SendAnswer:
    code = claim.refusal or ReasonCode.CANCELLED_BEFORE_SEND
    denied = Denied(reason_code=code, reason=_REFUSALS.get(code, code.value))
    return SendAnswer(kind=SendKind.REFUSED, state=claim.state, stamp=send.stamp, denied=denied)


def _pause_of(error: ExchangeError) -> float:
    return (error.retry_after or 0.0) if isinstance(error, ExchangeUnavailable) else 0.0


def _event(kind: EventKind, send: Send, **fields: Any) -> LifecycleEvent:
    return LifecycleEvent(kind=kind, at=utc_now(), leg=send.leg, **fields)


def _starts(send: Send, request: OrderRequest) -> list[LifecycleEvent]:
    """What goes with a won claim besides; the first leg starts by itself.

    With a cancel-replace the order stays on the old leg until the exchange's word on the new one.
    """
    if send.replaces is not None:
        started = LifecycleEvent(
            kind=EventKind.REPLACE_STARTED, at=utc_now(), leg=send.replaces.leg
        )
        return [started]
    return [_leg_started(send, request)] if send.revision else []


def _leg_started(send: Send, request: OrderRequest) -> LifecycleEvent:
    """The next leg of a modified order.

    Its totals hold from the claim on: an early fill of it counts against the new quantity.
    """
    return _event(
        EventKind.LEG_STARTED,
        send,
        exchange_client_id=request.exchange_client_id,
        revision=send.revision,
        quantity=send.new_quantity,
        price=send.price,
        stop_price=send.stop_price,
    )


def _modified(send: Send, report: ExecutionReport) -> LifecycleEvent:
    return LifecycleEvent(
        kind=EventKind.MODIFIED,
        at=report.at,
        leg=send.leg,
        revision=send.revision,
        quantity=send.new_quantity,
        price=send.price,
        stop_price=send.stop_price,
    )


async def _set_clock(connector: IExecutionConnector) -> None:
    """The exchange refused our time stamp: look at its clock before the next one."""
    with contextlib.suppress(ExchangeError):
        await connector.server_time()


def _answer(error: ExchangeError) -> dict[str, Any]:
    return {"code": error.code, "text": error.text, "status": error.status}
