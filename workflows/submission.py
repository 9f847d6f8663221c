"""Sending an order: venue, risk, rate limit, claim and send; and what is sent again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        Booked,
        ClaimFacts,
        Denied,
        Placed,
        Prepared,
        RateAnswer,
        RateQuestion,
        RiskAnswer,
        RiskQuestion,
        Send,
        SendAnswer,
        SendKind,
    )
    from trading.oms.commands import CancelRequest
    from trading.oms.enums import Pending, ReasonCode, RejectedBy
    from trading.oms.lifecycle import EventKind, LifecycleEvent
    from trading.oms.reading import number

from workflows import steps
from workflows.requests import Cancel
from workflows.steps import LATE_S

if TYPE_CHECKING:
    from datetime import datetime

    from workflows.order_work import OrderWork

_BACK_OFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""The pauses after sends that never reached the exchange, where it asks for none."""
_AGAIN_S = 1.0


class Submission:
    """The way of one order to its exchange.

    `unsent` says that the exchange provably has nothing of it yet. `generation` counts the sends
    of a leg that each proved to have placed nothing, `next_stamp` the requests of a generation
    that never reached the exchange.
    """

    def __init__(self, work: OrderWork) -> None:
        """Nothing is routed or sent yet."""
        self._work = work
        self._marks: list[LifecycleEvent] = []
        self._vain_sends = 0
        self.venue = ("", "")
        self.unsent = True
        self.generation = 1
        self.next_stamp = 1
        self._slot: float | None = None
        self._leg = 1
        self.leg_began: datetime | None = None
        """When the present leg was first sent, where it is not the first one."""
        self.slot_at: datetime | None = None
        """When the exchange's rate limit has room for the order; None: it does not wait for it."""

    def take_up(self, claim: ClaimFacts) -> None:
        """Go on from the newest claim that a former run has left."""
        self.generation, self.next_stamp = claim.generation, claim.stamp + 1
        self.unsent = claim.outcome == "never_reached"
        if claim.leg > 1:
            self._leg, self.leg_began = claim.leg, claim.claimed_at
        self._work.strays.take_up(claim)

    @staticmethod
    def is_late(since: datetime) -> bool:
        """Whether it lay about since then for longer than is allowed."""
        return (workflow.now() - since).total_seconds() > LATE_S

    async def deny_if_late(self, since: datetime) -> None:
        """An order that lay about unsent for too long is a trade that nobody asks for any more.

        `since` is when it was to be sent: at the start of its workflow, or, where that has ended
        and another takes the order up, when it was made.
        """
        if not self.is_late(since):
            return
        late_s = (workflow.now() - since).total_seconds()
        reason = f"nobody worked on it for {late_s:.0f} s; at most {LATE_S:.0f} s is allowed"
        state = self._work.state
        if state.is_split and state.is_open and state.submitted_at is None:
            self._work.enqueue(Cancel(CancelRequest(reason=reason)))
        elif self._is_to_be_sent():
            await self.deny(Denied(reason_code=ReasonCode.SEND_BY_PASSED, reason=reason))

    async def take_placed(self, placed: Placed) -> None:
        """Take what came of the first step: sent, or ended by our own rules."""
        self.venue = (placed.exchange, placed.account)
        if placed.sent is not None:
            await self._take_sent(placed.sent)
        elif placed.state is not None:
            self._work.take(Booked(state=placed.state))

    async def decide(self, prepared: Prepared) -> None:
        """Take the venue, the checks' answer and the slot; a denial by one of them is the end."""
        routed = prepared.routed
        if routed is None or not self._is_to_be_sent():
            return
        if routed.denied is not None:
            await self.deny(routed.denied)
            return
        self.venue = (routed.exchange, routed.account)
        self._marks.append(
            self._work.event(EventKind.ROUTED, exchange=routed.exchange, account=routed.account)
        )
        if prepared.risk is not None:
            await self._take_risk(prepared.risk)
        if prepared.rate is not None:
            await self._take_slot(prepared.rate)

    async def check_risk(self) -> None:
        """Run the pre-trade checks again on the venue chosen; a failed one is a denial."""
        if self._is_to_be_sent():
            await self._take_risk(await steps.check_risk(self.risk_question()))

    async def _take_risk(self, answer: RiskAnswer) -> None:
        if answer.denied is not None:
            await self.deny(answer.denied)
        else:
            self._marks.append(self._work.event(EventKind.SUBMITTING))

    async def acquire_rate_limit(self) -> None:
        """Take another slot."""
        if not self._is_to_be_sent():
            return
        exchange, account = self.venue
        order_id = self._work.state.client_order_id
        question = RateQuestion(
            exchange=exchange,
            account=account,
            order_id=order_id,
            slot=self._slot,
        )
        await self._take_slot(await steps.acquire_rate_limit(question))

    async def _take_slot(self, answer: RateAnswer) -> None:
        """A slot in the future becomes a durable timer, and the loop sends then."""
        self.slot_at = None
        if answer.denied is not None:
            await self.deny(answer.denied)
        elif answer.wait_s > 0:
            self._slot = answer.slot
            self.slot_at = workflow.now() + timedelta(seconds=answer.wait_s)
            self._work.later("send", answer.wait_s)

    async def send(self) -> None:
        """Claim and send, once; what must wait is sent by the loop when it is due."""
        if self._is_to_be_sent():
            await self.send_leg(self.present_leg())

    async def send_leg(self, message: Send) -> None:
        """Send one leg and take its outcome: live, refused, in doubt, or to be sent again."""
        summary = f"{self._work.state.side} {number(message.quantity)} {self._work.state.symbol}"
        if message.leg != self._leg:
            self._leg, self.leg_began = message.leg, workflow.now()
        answer = await steps.send(message, summary)
        while answer.kind is SendKind.NOT_PLACED:
            again = {"generation": message.generation + 1, "stamp": 1}
            message = message.model_copy(update=again)
            answer = await steps.send(message, summary)
        self._marks.clear()
        await self._take_sent(answer, message.leg, message.generation)

    async def _take_sent(self, answer: SendAnswer, leg: int = 1, generation: int = 1) -> None:
        """Take the outcome of a send."""
        self.next_stamp = answer.stamp + 1
        self._work.take(Booked(state=answer.state, fills_missing=answer.fills_missing))
        if answer.kind is not SendKind.REFUSED:
            self.generation = generation
        if answer.kind is SendKind.NEVER_REACHED:
            pause_s = _BACK_OFF_S[min(self._vain_sends, len(_BACK_OFF_S) - 1)]
            self._vain_sends += 1
            self._work.later("send", max(answer.retry_after_s, pause_s))
            return
        self._vain_sends = 0
        self.unsent = False
        if answer.kind is SendKind.IN_DOUBT:
            await self._work.doubt.begin(leg, generation)
        elif answer.kind is SendKind.REFUSED and answer.denied is not None:
            await self._refused_at_claim(answer.denied, leg, generation)
        await self._work.modification.leg_is_sent(answer)

    async def send_now(self) -> None:
        """A waiting send is due: the market may have moved, so the risk is checked again."""
        if self._work.modification.is_sending:
            await self._work.modification.replacement.send_again()
            return
        if not self._is_to_be_sent():
            return
        order = self._work.order
        is_late = self.next_stamp > 1 and not self._work.is_fresh
        if is_late and order is not None and not order.resend_if_not_placed:
            reason = "the exchange could not be reached; it is too late for this order now"
            await self._work.end_not_placed(self._work.here, reason)
            return
        self._marks = [mark for mark in self._marks if mark.kind is not EventKind.SUBMITTING]
        await self.check_risk()
        await self.acquire_rate_limit()
        if self._is_to_be_sent():
            await self.send_leg(self.present_leg())

    async def send_again(self) -> None:
        """Proved not placed: the next generation, after the same checks as the first."""
        self.next_generation()
        self.unsent = True
        await self.check_risk()
        await self.acquire_rate_limit()
        await self.send()

    def next_generation(self) -> None:
        """The send before this one placed nothing."""
        self.generation += 1
        self.next_stamp = 1
        self._slot = None

    def present_leg(self) -> Send:
        """The send of the present leg, with what is left of the order."""
        exchange, account = self.venue
        state = self._work.state
        return Send(
            order_id=state.client_order_id,
            exchange=exchange,
            account=account,
            leg=state.leg,
            generation=self.generation,
            stamp=self.next_stamp,
            quantity=state.remaining_quantity,
            price=state.price,
            stop_price=state.stop_price,
            before=tuple(self._marks),
        )

    def risk_question(self) -> RiskQuestion:
        """The order as it stands, on the venue chosen."""
        exchange, account = self.venue
        return RiskQuestion(
            order_id=self._work.state.client_order_id,
            exchange=exchange,
            account=account,
            quantity=self._work.state.remaining_quantity,
            price=self._work.state.price,
        )

    async def end_unsent(self, *events: LifecycleEvent) -> None:
        """End the order, nothing of its present leg having been sent."""
        await self._end_unsent(self._work.state.leg, self.generation, *events)

    async def _end_unsent(self, leg: int, generation: int, *events: LifecycleEvent) -> None:
        """End the order where nothing of a leg was sent. The store decides whether that is so.

        The task that this one repeats may have claimed a send, and only its result was lost; or a
        send that was proved absent has shown life.
        """
        work = self._work
        known = ClaimFacts(
            leg=leg,
            generation=generation,
            stamp=self.next_stamp - 1,
            outcome="never_reached",
        )
        booked = await steps.record_unsent(work.state.client_order_id, known, *events)
        work.take(booked)
        if booked.claim is None:
            return
        self.take_up(booked.claim)
        if booked.claim.outcome in {None, "unknown"}:
            await work.doubt.begin(booked.claim.leg, booked.claim.generation)
        else:
            work.later("fills", 0)
        work.cancellation.repeat(_AGAIN_S if self.unsent else 0)

    async def deny(self, denied: Denied) -> None:
        """End the order by our own rule, nothing having been sent.

        Of a later leg nothing was: the exchange has confirmed those before, so it is no rejection.
        """
        if self._work.state.leg > 1:
            self._marks.clear()
            word = {"reason_code": denied.reason_code, "reason": denied.reason}
            await self.end_unsent(
                self._work.event(EventKind.REQUEST_ENDED),
                self._work.event(EventKind.CANCELLED, rejected_by=RejectedBy.RISK, **word),
            )
            return
        await self.end_unsent(
            *self._marks,
            self._work.event(
                EventKind.DENIED,
                rejected_by=RejectedBy.RISK,
                reason_code=denied.reason_code,
                reason=denied.reason,
                details={"numbers": denied.numbers} if denied.numbers else None,
            ),
        )
        self._marks.clear()

    async def _refused_at_claim(self, denied: Denied, leg: int, generation: int) -> None:
        if self._work.state.is_terminal or self._work.state.is_split:
            return
        if leg > 1 or self._work.state.pending is Pending.CANCEL:
            await self._end_unsent(
                leg,
                generation,
                self._work.event(EventKind.REQUEST_ENDED),
                self._work.event(
                    EventKind.CANCELLED, reason_code=denied.reason_code, reason=denied.reason
                ),
            )
        else:
            await self.deny(denied)

    def _is_to_be_sent(self) -> bool:
        return (
            self._work.refusal is None
            and not self._work.state.is_split
            and self.unsent
            and self._work.state.is_open
            and not self._work.is_due("send")
            and not self._work.cancellation.is_wanted
            and not self._work.cancel_is_waiting
            and not self._work.strays.exist
        )
