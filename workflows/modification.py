"""Changing an order: in place where the exchange can, else cancel, count, and send the rest.

A replacement is an exchange order of its own (the next leg) under its own send claim. Both client
ids belong to one order, and fills of the old one still count. What comes between the two (a
cancel, a whole fill, a refused leg) ends the order with the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        ChangeKind,
        OrderAt,
        Reduce,
        RiskQuestion,
        Send,
        SendAnswer,
        SendKind,
    )
    from trading.oms.answers import modification_refused, result_of
    from trading.oms.enums import OrderStatus, Pending, ReasonCode
    from trading.oms.lifecycle import EventKind, LifecycleEvent
    from trading.oms.reading import number

from workflows import steps

if TYPE_CHECKING:
    from decimal import Decimal

    from trading.oms.commands import ModifyRequest
    from workflows.order_work import OrderWork
    from workflows.requests import Modify

_BACK_OFF_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0)
_REDUCE_TRIES = 8
_LIVE = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})


class Modification:
    """The modification under way, at most one at a time."""

    def __init__(self, work: OrderWork) -> None:
        """Nothing is being changed."""
        self._work = work
        self._request: Modify | None = None
        self._old_leg: OrderAt | None = None
        self._old_leg_ended = False
        self.is_replacing = False
        self.is_sending = False

    @property
    def is_running(self) -> bool:
        """Whether a modification has begun and not ended."""
        return self._request is not None

    async def begin(self, request: Modify) -> None:
        """Check the request against the order as it stands, then carry it out."""
        work = self._work
        refusal = self._refusal(request.command)
        if refusal is not None:
            request.answer = modification_refused(work.state, refusal)
            return
        if self._changes_nothing(request.command):
            request.answer = result_of(work.state)
            return
        denied = (await steps.check_risk(self._risk_question(request.command))).denied
        if denied is not None:
            request.answer = modification_refused(work.state, denied.reason).model_copy(
                update={"reason_code": denied.reason_code}
            )
            return
        self._request = request
        self._old_leg = work.here
        await work.record(work.event(EventKind.MODIFY_REQUESTED, details=_wish(request.command)))
        if work.state.is_terminal and not self._new_leg_exists:
            await self._give_up(f"the order has ended as {work.state.status.value}")
        elif self._can_reduce(request.command):
            await self._reduce(0)
        else:
            await self._start_replacement()

    async def advance(self, attempt: int) -> None:
        """Go on with the modification under way, after a pause or when fills have come."""
        if self._request is None:
            return
        if not self.is_replacing:
            await self._reduce(attempt)
        elif not self._old_leg_ended:
            await self._end_old_leg(attempt)
        elif not self._work.fills_missing and not self.is_sending:
            await self._send_rest()

    def leg_is_sent(self, answer: SendAnswer) -> None:
        """The new leg has its outcome: the modification is done, refused, or in doubt."""
        waits = {SendKind.IN_DOUBT, SendKind.NEVER_REACHED}
        if self.is_sending and answer.kind not in waits:
            self._finish()

    async def doubt_ended(self) -> None:
        """The doubt about the new leg has ended: record that the modification took effect."""
        if self.is_sending:
            if self._work.state.is_open:
                await self._work.record(self._modified())
            self._finish()

    async def end_with_the_order(self) -> None:
        """The order has ended before it could be changed."""
        if self._request is not None and self._work.state.is_terminal and not self.is_sending:
            await self._give_up(f"the order has ended as {self._work.state.status.value}")

    # In place.

    async def _reduce(self, attempt: int) -> None:
        work = self._work
        message = Reduce(
            order_id=work.state.client_order_id,
            leg=work.state.leg,
            generation=work.submission.generation,
            new_quantity=self._new_quantity(),
            revision=work.state.revision + 1,
        )
        answer = await steps.reduce(message)
        work.take(answer)
        if answer.kind is ChangeKind.DONE:
            self._finish()
        elif answer.kind is ChangeKind.UNSUPPORTED:
            await self._start_replacement()
        elif answer.kind is ChangeKind.REFUSED or not work.state.is_open:
            await self._give_up(answer.reason or "the exchange refused the change")
        elif attempt >= _REDUCE_TRIES:
            await self._give_up("the exchange did not answer; the order stands as it says")
        else:
            pause_s = max(answer.retry_after_s, _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
            work.later("modify", pause_s, attempt + 1)

    async def _give_up(self, reason: str) -> None:
        work = self._work
        if work.state.pending is Pending.MODIFY or work.state.replacing:
            await work.record(work.event(EventKind.REQUEST_ENDED, reason=reason))
        if self._request is not None:
            self._request.answer = modification_refused(work.state, reason)
        self._reset()

    # By a new leg.

    async def _start_replacement(self) -> None:
        self.is_replacing = True
        self._old_leg_ended = False
        leg = self._old_leg.leg if self._old_leg is not None else self._work.state.leg
        await self._work.record(self._work.event(EventKind.REPLACE_STARTED, leg=leg))
        await self._end_old_leg(0)

    async def _end_old_leg(self, attempt: int) -> None:
        work = self._work
        old_leg = self._old_leg or work.here
        answer = await steps.cancel(old_leg, "to be replaced", is_replacement=True)
        work.take(answer)
        if answer.carrier is not None:
            self._old_leg = answer.carrier
        if answer.kind is ChangeKind.DONE or work.state.is_terminal:
            self._old_leg_ended = True
            if not work.fills_missing:
                await self._send_rest()
            return
        pause_s = max(answer.retry_after_s, _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
        work.later("modify", pause_s, attempt + 1)

    async def _send_rest(self) -> None:
        """The old leg is dead and counted: send what is left of the new total."""
        work = self._work
        rest = self._new_quantity() - work.state.filled_quantity
        if self._new_leg_exists:
            self._first_send_of_leg()
            await self._send_leg()
        elif work.state.status is OrderStatus.FILLED:
            await self._give_up("the order was filled before it could be changed")
        elif work.cancellation.is_wanted:
            await self._end_order(ReasonCode.CANCEL_REQUESTED, "cancelled while being modified")
        elif rest <= 0:
            filled = number(work.state.filled_quantity)
            await self._end_order(
                ReasonCode.REPLACE_FAILED, f"{filled} was filled, the new total is reached"
            )
        else:
            self._first_send_of_leg()
            await self.send_leg()

    def _first_send_of_leg(self) -> None:
        self.is_sending = True
        self._work.submission.generation = self._work.submission.next_stamp = 1

    async def send_leg(self) -> None:
        """Send the new leg under a claim of its own."""
        if self._work.cancellation.is_wanted:
            await self._end_order(ReasonCode.CANCEL_REQUESTED, "cancelled while being modified")
        else:
            await self._send_leg()

    @property
    def _new_leg_exists(self) -> bool:
        """Whether an earlier try of this very task, which a crash ended, has claimed the new leg.

        The claim then says what became of it.
        """
        return self._old_leg is not None and self._work.state.leg > self._old_leg.leg

    async def _send_leg(self) -> None:
        work = self._work
        state = work.state
        starting = not self._new_leg_exists
        exchange, account = work.submission.venue
        await work.submission.send_leg(
            Send(
                order_id=state.client_order_id,
                exchange=exchange,
                account=account,
                leg=state.leg + 1 if starting else state.leg,
                generation=work.submission.generation,
                stamp=work.submission.next_stamp,
                quantity=self._new_quantity() - state.filled_quantity,
                price=self._new_price(),
                stop_price=state.stop_price,
                revision=state.revision + 1 if starting else state.revision,
                new_quantity=self._new_quantity(),
            )
        )

    async def _end_order(self, code: ReasonCode, reason: str) -> None:
        work = self._work
        await work.record(
            work.event(EventKind.REQUEST_ENDED, reason=reason),
            work.event(EventKind.CANCELLED, reason_code=code, reason=reason),
        )
        if self._request is not None:
            self._request.answer = modification_refused(work.state, reason)
        self._reset()

    # What is wanted.

    def _refusal(self, wish: ModifyRequest) -> str | None:
        state = self._work.state
        if state.is_terminal:
            return f"the order has ended as {state.status.value}"
        if state.in_doubt_since is not None or state.status not in _LIVE:
            return f"the order is {state.status.value} and not confirmed by the exchange yet"
        if state.pending is not Pending.NONE or self.is_running:
            return f"a {state.pending.value} of this order is still under way"
        if wish.new_price is not None and state.price is None:
            return f"new_price is {number(wish.new_price)}; a {state.order_type} order has no price"
        if wish.new_quantity is not None and wish.new_quantity <= state.filled_quantity:
            return (
                f"new_quantity is {number(wish.new_quantity)}; "
                f"must be greater than the {number(state.filled_quantity)} already filled"
            )
        return None

    def _changes_nothing(self, wish: ModifyRequest) -> bool:
        state = self._work.state
        return wish.new_quantity in {None, state.quantity} and wish.new_price in {
            None,
            state.price,
        }

    def _can_reduce(self, wish: ModifyRequest) -> bool:
        state = self._work.state
        return (
            wish.new_price in {None, state.price}
            and wish.new_quantity is not None
            and wish.new_quantity < state.quantity
        )

    def _risk_question(self, wish: ModifyRequest) -> RiskQuestion:
        state = self._work.state
        question = self._work.submission.risk_question()
        return question.model_copy(
            update={
                "quantity": (wish.new_quantity or state.quantity) - state.filled_quantity,
                "price": wish.new_price or state.price,
                "is_modification": True,
            }
        )

    def _new_quantity(self) -> Decimal:
        wish = self._request.command if self._request else None
        return (wish.new_quantity if wish else None) or self._work.state.quantity

    def _new_price(self) -> Decimal | None:
        wish = self._request.command if self._request else None
        return (wish.new_price if wish else None) or self._work.state.price

    def _modified(self) -> LifecycleEvent:
        state = self._work.state
        return self._work.event(
            EventKind.MODIFIED,
            revision=state.revision,
            quantity=state.quantity,
            price=state.price,
        )

    def _finish(self) -> None:
        """Answer with what the order is now: changed, or ended with the reason."""
        state = self._work.state
        self._work.cancellation.repeat()
        if self._request is not None:
            if state.status in {OrderStatus.CANCELLED, OrderStatus.REJECTED}:
                reason = state.rejection_reason or state.status.value
                self._request.answer = modification_refused(state, reason)
            else:
                self._request.answer = result_of(state)
        self._reset()

    def _reset(self) -> None:
        self._request = self._old_leg = None
        self._work.no_longer("modify")
        self._old_leg_ended = self.is_replacing = self.is_sending = False


def _wish(command: ModifyRequest) -> dict[str, str]:
    wish = {"new_quantity": command.new_quantity, "new_price": command.new_price}
    return {name: number(value) for name, value in wish.items() if value is not None}
