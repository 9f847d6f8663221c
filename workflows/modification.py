"""Changing an order: in place where the exchange can, else by another exchange order.

A replacement is an exchange order of its own (the next leg) under its own send claim. Both client
ids belong to one order, and fills of the old one still count. What comes between the two (a
cancel, a whole fill, a refused leg) ends the order with the reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        AmendAt,
        ChangeKind,
        ClaimFacts,
        Denied,
        RiskQuestion,
        SendAnswer,
    )
    from trading.oms.answers import modification_refused, result_of
    from trading.oms.enums import OrderStatus, Pending, ReasonCode
    from trading.oms.lifecycle import EventKind
    from trading.oms.reading import number

from workflows import interruption, steps
from workflows.replacement import BACK_OFF_S, TRIES, Replacement, Stage

if TYPE_CHECKING:
    from decimal import Decimal

    from trading.oms.commands import ModifyRequest
    from workflows.order_work import OrderWork
    from workflows.requests import Modify

_RESEND_AGE_S_MAX = 60.0
_CHECK_AGE_S_MAX = 1.0
_LIVE = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})


class Modification:
    """The modification under way, at most one at a time."""

    def __init__(self, work: OrderWork) -> None:
        """Nothing is being changed."""
        self._work = work
        self._request: Modify | None = None
        self._began: datetime | None = None
        self._asked_at: datetime | None = None
        self._revision = 0
        self.replacement = Replacement(work, self)

    @property
    def is_running(self) -> bool:
        """Whether a modification has begun and not ended."""
        return self._request is not None or self.is_replacing

    @property
    def is_replacing(self) -> bool:
        """Whether the order is about to go from one exchange order to another."""
        return self.replacement.stage is not None

    @property
    def is_sending(self) -> bool:
        """Whether the new leg is being sent, or in doubt."""
        return self.replacement.stage is Stage.NEW_LEG

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
        self._request, self._began = request, workflow.now()
        # Both before the store is read again: an earlier try of this task may have come further.
        self._revision = work.state.revision + 1
        self.replacement.take_place(work.here)
        details = {**_wish(request.command), **self._named}
        await work.record(work.event(EventKind.MODIFY_REQUESTED, details=details))
        if self.replacement.new_leg_exists and not self._is_carried_out:
            # The new leg is of another request, whose task was lost: this run is behind the store.
            await self.give_up("the order has been changed meanwhile")
            await interruption.take_up_newest_send(work)
        elif self.replacement.new_leg_exists:
            await self.replacement.in_steps()
        elif work.state.is_terminal:
            await self.give_up(f"the order has ended as {work.state.status.value}")
        elif work.state.pending is Pending.NONE and work.state.revision < self._revision:
            # Another try of this task has answered: that must stay true.
            await self.give_up("it was refused before")
        else:
            await self._amend(0)

    async def take_up(self, claim: ClaimFacts) -> None:
        """Go on with a cancel-replace without an outcome, whose asker is not known any more."""
        if not self.is_running:
            await self.replacement.take_up(claim)

    async def advance(self, attempt: int) -> None:
        """Go on with the modification under way, after a pause or when fills have come."""
        if self.is_replacing:
            await self.replacement.advance(attempt)
        elif self._request is None:
            return
        else:
            # An amendment has no claim: a halt that came since the last try shows here alone.
            asks = workflow.patched("amend_asks_again")
            denied = await self.denial() if asks else None
            await self._amend(attempt, None if denied is None else denied.reason)

    async def end_with_the_order(self) -> None:
        """The order has ended before it could be changed, or right after it."""
        work = self._work
        if not self.is_running or not work.state.is_terminal or work.doubt.exists:
            return
        if self.replacement.new_leg_exists:
            self.finish()
        else:
            await self.give_up(f"the order has ended as {work.state.status.value}")

    async def leg_is_sent(self, answer: SendAnswer) -> None:
        """A send has its outcome; of the new leg it is the modification's."""
        await self.replacement.leg_is_sent(answer)

    async def doubt_ended(self) -> None:
        """A doubt has ended; of the new leg it was the modification's."""
        await self.replacement.doubt_ended()

    # In place.

    async def _amend(self, attempt: int, denied: str | None = None) -> None:
        """Send it, or where that is `denied` by now see what became of the tries before."""
        work = self._work
        message = AmendAt(
            at=work.here,
            new_quantity=self.new_quantity,
            new_price=self.new_price,
            revision=self._revision,
            denied=denied,
            asked_at=self._asked_at,
        )
        if denied is None:
            self._asked_at = workflow.now()
        answer = await steps.amend(message)
        work.take(answer)
        if answer.kind is ChangeKind.DONE:
            self.finish()
        elif answer.kind is ChangeKind.UNSUPPORTED:
            await self.replacement.at_once(0)
        elif answer.kind is ChangeKind.REFUSED or not work.state.is_open:
            await self.give_up(answer.reason or "the exchange refused the change")
        elif attempt >= TRIES:
            silent = "the exchange did not answer; the order stands as it says"
            await self.give_up(denied or silent)
        else:
            pause_s = max(answer.retry_after_s, BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
            work.later("modify", pause_s, attempt + 1)

    # The end.

    async def give_up(self, reason: str) -> None:
        """The order stands as it was; what the exchange said of it meanwhile counts."""
        work = self._work
        if self.is_replacing and work.state.is_open:
            work.later("fills", 0)
        if work.state.pending is Pending.MODIFY or work.state.replacing:
            ended = work.event(EventKind.REQUEST_ENDED, reason=reason, details=self._named)
            await work.record(ended)
        if self._request is not None:
            self._request.answer = modification_refused(work.state, reason)
        self._reset()

    async def end_order(self, code: ReasonCode, reason: str) -> None:
        """The old leg is dead and there will be no new one: so the order ends.

        The store decides whether that is so: the task that this one repeats may have sent it.
        """
        work, kind = self._work, EventKind.CANCELLED
        if work.expiry.is_reached:
            kind, code = EventKind.EXPIRED, ReasonCode.EXPIRY_REACHED
        booked = await steps.record_unsent(
            work.state.client_order_id,
            self.replacement.newest_known,
            work.event(EventKind.REQUEST_ENDED, reason=reason, details=self._named),
            work.event(kind, reason_code=code, reason=reason),
        )
        work.take(booked)
        if booked.claim is not None:
            await self.replacement.go_on_from(booked.claim)
            return
        if self._request is not None:
            self._request.answer = modification_refused(work.state, reason)
        self._reset()

    def finish(self) -> None:
        """Answer with what the order is now: changed, or ended with the reason."""
        state = self._work.state
        if self._request is not None:
            if state.status in {OrderStatus.CANCELLED, OrderStatus.REJECTED}:
                reason = state.rejection_reason or state.status.value
                self._request.answer = modification_refused(state, reason)
            else:
                self._request.answer = result_of(state)
        self._reset()

    def _reset(self) -> None:
        self._request = self._began = self._asked_at = None
        self._work.no_longer("modify")
        self._work.cancellation.repeat()
        self.replacement.reset()

    # What is wanted.

    @property
    def _named(self) -> dict[str, str]:
        """By which the store knows the request: what was answered does not begin again."""
        name = self._request.request_id if self._request else ""
        return {"request": name} if name else {}

    @property
    def new_quantity(self) -> Decimal:
        """The order's total quantity after the modification."""
        wish = self._request.command if self._request else None
        return (wish.new_quantity if wish else None) or self._work.state.quantity

    @property
    def new_price(self) -> Decimal | None:
        """The order's price after the modification."""
        wish = self._request.command if self._request else None
        return (wish.new_price if wish else None) or self._work.state.price

    @property
    def _is_carried_out(self) -> bool:
        """Whether the order has the terms that are wanted."""
        state = self._work.state
        return (state.quantity, state.price) == (self.new_quantity, self.new_price)

    @property
    def is_fresh(self) -> bool:
        """Whether the wish is so recent that it may still be carried out."""
        return self._is_younger_than(_RESEND_AGE_S_MAX)

    @property
    def is_just_checked(self) -> bool:
        """Whether the checks before it began still say what the market is like."""
        return self._is_younger_than(_CHECK_AGE_S_MAX)

    def _is_younger_than(self, seconds: float) -> bool:
        began = self._began
        return began is not None and (workflow.now() - began).total_seconds() <= seconds

    @property
    def may_be_sent_again(self) -> bool:
        """Whether a new leg that was proved not to be placed takes another generation."""
        order = self._work.order
        return order is not None and order.resend_if_not_placed and self.is_fresh

    async def denial(self) -> Denied | None:
        """What the pre-trade checks say of it now."""
        if self._request is None:
            question = self._work.submission.risk_question()
        else:
            question = self._risk_question(self._request.command)
        return (await steps.check_risk(question)).denied

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


def _wish(command: ModifyRequest) -> dict[str, str]:
    wish = {"new_quantity": command.new_quantity, "new_price": command.new_price}
    return {name: number(value) for name, value in wish.items() if value is not None}
