"""Replacing an order's exchange order by another: in one request where the exchange can.

In one request the exchange cancels the old order, if it has no fill, and only then places the new
one. Until there is proof of the new one the old one carries the order: what is refused leaves it
as it was, and what gets no answer is looked for. Else, and for an order with fills, the old one is
cancelled and counted, and what is left of the new total is sent as the next leg.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        Booked,
        ChangeKind,
        ClaimFacts,
        OrderAt,
        Send,
        SendAnswer,
        SendKind,
    )
    from trading.oms.enums import OrderStatus, Pending, ReasonCode
    from trading.oms.lifecycle import EventKind
    from trading.oms.reading import number

from workflows import steps

if TYPE_CHECKING:
    from workflows.modification import Modification
    from workflows.order_work import OrderWork

BACK_OFF_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0)
TRIES = 8
_CANCELLED = "cancelled while being modified"
_NOT_PLACED = "the new order was proved not to be placed"


class Stage(Enum):
    """What a replacement waits for: both halves at once, the old leg's end, the new leg's send."""

    AT_ONCE = auto()
    OLD_LEG = auto()
    NEW_LEG = auto()


class Replacement:
    """The replacement under way, at most one; `generation` is that of the new leg's next send."""

    def __init__(self, work: OrderWork, modification: Modification) -> None:
        """Nothing is being replaced."""
        self._work = work
        self._modification = modification
        self._old_leg: OrderAt | None = None
        self._old_leg_ended = False
        self._stamp = 1
        self.generation = 1
        self.stage: Stage | None = None

    @property
    def new_leg_exists(self) -> bool:
        """Whether the order has gone on to the new leg.

        When a modification begins, an earlier try of this very task, which a crash ended, may have
        come as far; its claim then says what became of it.
        """
        return self._old_leg is not None and self._work.state.leg > self._old_leg.leg

    def take_place(self, old_leg: OrderAt) -> None:
        """A modification begins, of the order that `old_leg` carries."""
        self._old_leg = old_leg
        self.generation = self._stamp = 1

    def reset(self) -> None:
        """The modification has ended."""
        self._old_leg = self.stage = None
        self._old_leg_ended = False

    async def take_up(self, claim: ClaimFacts) -> None:
        """A cancel-replace of a former run, or of a lost request, has no known outcome."""
        work = self._work
        old_leg = claim.replaces or work.here
        self._old_leg, self.stage = old_leg, Stage.NEW_LEG
        self.generation, self._stamp = claim.generation, claim.stamp + 1
        work.submission.generation, work.submission.unsent = old_leg.generation, False
        if not work.state.replacing:
            await work.record(work.event(EventKind.REPLACE_STARTED, leg=old_leg.leg))
        await work.doubt.begin(claim.leg, claim.generation)

    async def advance(self, attempt: int) -> None:
        """Go on after a pause, when fills have come, or when a cancel is wanted."""
        work = self._work
        if self.stage is Stage.AT_ONCE:
            await self._at_once_again(attempt)
        elif self.stage is Stage.NEW_LEG:
            if work.cancellation.is_wanted and work.is_due("send"):
                work.no_longer("send")
                await self.send_again()
        elif not self._old_leg_ended:
            await self._end_old_leg(attempt)
        elif not work.fills_missing:
            await self._send_rest()

    # Both in one request.

    async def at_once(self, attempt: int) -> None:
        """Let the exchange cancel the old order and place the new one, if nothing is filled."""
        work = self._work
        self.stage = Stage.AT_ONCE
        if work.state.filled_quantity or work.cancellation.is_wanted:
            await self.in_steps()
            return
        answer = await steps.replace(self._new_leg(replaces=self._old_leg))
        work.take(Booked(state=answer.state, fills_missing=answer.fills_missing))
        if answer.kind is SendKind.UNSUPPORTED:
            await self.in_steps()
            return
        self._stamp = answer.stamp + 1
        await self._take(answer, attempt)

    async def _take(self, answer: SendAnswer, attempt: int) -> None:
        modification = self._modification
        match answer.kind:
            case SendKind.ACKNOWLEDGED | SendKind.REJECTED:
                modification.finish()
            case SendKind.IN_DOUBT:
                self.stage = Stage.NEW_LEG
                await self._work.doubt.begin(self._new_leg_number, self.generation)
            case SendKind.NOT_CANCELLED:
                await self.in_steps()
            case SendKind.NOT_PLACED:
                self._next_generation()
                await self.at_once(attempt)
            case SendKind.NEVER_REACHED:
                await self._try_later(answer, attempt)
            case _ if self.new_leg_exists:  # An older send of it has shown life meanwhile.
                await self._work.take_up_carrier()
                await self._new_leg_is_there()
            case _:
                refusal = answer.denied.reason if answer.denied is not None else answer.reason
                await modification.give_up(refusal or "the exchange refused the change")

    async def _try_later(self, answer: SendAnswer, attempt: int) -> None:
        """The new order never reached the engine; the old one mostly stands as it was."""
        work = self._work
        pause_s = max(answer.retry_after_s, BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
        if answer.old_leg_ended:
            self._old_leg_ended, self.stage = True, Stage.NEW_LEG
            work.later("send", pause_s)
        elif attempt >= TRIES:
            await self._modification.give_up(answer.reason or "the exchange was out of reach")
        else:
            work.later("modify", pause_s, attempt + 1)

    async def _at_once_again(self, attempt: int) -> None:
        """The market may have moved: the risk is checked again, unless there is a fill now."""
        work = self._work
        if work.state.filled_quantity or work.cancellation.is_wanted:
            await self.in_steps()
            return
        denied = await self._modification.denial()
        if denied is not None:
            await self._modification.give_up(denied.reason)
        else:
            await self.at_once(attempt)

    # One after the other.

    async def in_steps(self) -> None:
        """Cancel the old leg, count it, send the rest."""
        self.stage = Stage.OLD_LEG
        leg = self._old_leg.leg if self._old_leg is not None else self._work.state.leg
        await self._work.record(self._work.event(EventKind.REPLACE_STARTED, leg=leg))
        await self._end_old_leg(0)

    async def _end_old_leg(self, attempt: int) -> None:
        work = self._work
        answer = await steps.cancel(
            self._old_leg or work.here, "to be replaced", is_replacement=True
        )
        work.take(answer)
        if answer.carrier is not None:
            self._old_leg = answer.carrier
        if answer.kind is ChangeKind.DONE or work.state.is_terminal:
            self._old_leg_ended = True
            if not work.fills_missing:
                await self._send_rest()
            return
        pause_s = max(answer.retry_after_s, BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
        work.later("modify", pause_s, attempt + 1)

    async def _send_rest(self) -> None:
        """The old leg is dead and counted: send what is left of the new total."""
        work, modification = self._work, self._modification
        state = work.state
        rest = modification.new_quantity - state.filled_quantity
        if self.new_leg_exists and state.exchange_order_id is not None:
            await self._new_leg_is_there()
        elif self.new_leg_exists:
            await self._send()
        elif state.status is OrderStatus.FILLED:
            await modification.give_up("the order was filled before it could be changed")
        elif work.cancellation.is_wanted:
            await modification.end_order(ReasonCode.CANCEL_REQUESTED, _CANCELLED)
        elif rest <= 0:
            text = f"{number(state.filled_quantity)} was filled, the new total is reached"
            await modification.end_order(ReasonCode.REPLACE_FAILED, text)
        elif modification.is_just_checked or not workflow.patched("late_rest_is_checked"):
            await self._send()
        else:  # The old leg's end was long unknown, and the market may have moved.
            await self.send_again()

    async def send_again(self) -> None:
        """The new leg is not at the exchange, and the old one is dead: once more, if wanted."""
        work, modification = self._work, self._modification
        order = work.order
        if work.cancellation.is_wanted:
            await modification.end_order(ReasonCode.CANCEL_REQUESTED, _CANCELLED)
        elif order is not None and not order.resend_if_not_placed and not modification.is_fresh:
            text = "the exchange could not be reached; it is too late for this order now"
            await modification.end_order(ReasonCode.REPLACE_FAILED, text)
        elif (denied := await modification.denial()) is not None:
            await modification.end_order(denied.reason_code, denied.reason)
        else:
            await self._send()

    async def _send(self) -> None:
        """Send the new leg under a claim of its own."""
        self.stage = Stage.NEW_LEG
        submission = self._work.submission
        await submission.send_leg(self._new_leg())
        self.generation, self._stamp = submission.generation, submission.next_stamp

    @property
    def newest_known(self) -> ClaimFacts:
        """The newest request for the new leg that this run knows of; it reached nobody."""
        return ClaimFacts(
            leg=self._new_leg_number,
            generation=self.generation,
            stamp=self._stamp - 1,
            outcome="never_reached",
        )

    async def go_on_from(self, claim: ClaimFacts) -> None:
        """An earlier try of this task has sent the new leg: what became of that is the answer.

        A cancel that waits is repeated after it, on the leg that lives.
        """
        work = self._work
        is_unknown = claim.outcome in {None, "unknown"}
        if is_unknown and claim.replaces is not None:
            await self.take_up(claim)
            return
        self.stage = Stage.NEW_LEG
        self.generation, self._stamp = claim.generation, claim.stamp + 1
        work.submission.take_up(claim)
        if is_unknown:
            await work.doubt.begin(claim.leg, claim.generation)
        elif work.submission.unsent:
            work.later("send", 0)
        else:
            work.later("fills", 0)
            await self._new_leg_is_there()

    async def leg_is_sent(self, answer: SendAnswer) -> None:
        """The new leg has its outcome: the modification is done, refused, or in doubt."""
        if self.stage is not Stage.NEW_LEG or answer.kind is SendKind.IN_DOUBT:
            return
        if answer.kind is SendKind.REFUSED:  # Where it is open, an older send of it lives.
            await self._note_the_change()
        self._modification.finish()

    # Doubt.

    async def doubt_ended(self) -> None:
        """The doubt about the new leg has ended: it is there, or the old one has the last word."""
        if self.stage is not Stage.NEW_LEG:
            return
        if not self.new_leg_exists:
            await self._modification.give_up("the doubt about the new order ended without it")
        elif self._old_leg_ended:
            await self._new_leg_is_there()
        else:
            await self._note_the_change()
            self.stage = Stage.OLD_LEG  # The exchange has ended it; make sure, and count.
            await self._end_old_leg(0)

    async def was_not_placed(self, at: OrderAt) -> None:
        """Proved: nothing was placed. Once more under the next generation, or the end of it."""
        work, modification = self._work, self._modification
        await work.conclude_not_placed(at, work.event(EventKind.DOUBT_ENDED))
        if work.state.leg == at.leg and work.state.exchange_order_id is not None:
            # Somebody has seen it alive meanwhile, or an earlier try of this has sent it again.
            await work.take_up_carrier()
            await self.doubt_ended()
            return
        if work.state.is_terminal:
            return
        self._next_generation()
        stops = work.cancellation.is_wanted or work.strays.exist
        once_more = modification.may_be_sent_again and not stops
        if work.state.leg < at.leg and once_more:
            await self._at_once_again(0)
        elif work.state.leg < at.leg and work.cancellation.is_wanted:
            await self.in_steps()
        elif work.state.leg < at.leg:
            await modification.give_up(_NOT_PLACED)
        elif once_more:
            await self.send_again()
        else:
            code = ReasonCode.REPLACE_FAILED
            if work.cancellation.is_wanted:
                code = ReasonCode.CANCEL_REQUESTED
            await modification.end_order(code, _NOT_PLACED)

    async def try_again(self) -> None:
        """An operator says that the send in doubt is dead, and to be repeated."""
        self._next_generation()
        if self.new_leg_exists:
            await self.send_again()
        else:
            await self._at_once_again(0)

    def _next_generation(self) -> None:
        self.generation += 1
        self._stamp = 1

    async def _new_leg_is_there(self) -> None:
        await self._note_the_change()
        self._modification.finish()

    async def _note_the_change(self) -> None:
        state = self._work.state
        if state.is_open and state.pending is Pending.MODIFY:
            modified = self._work.event(
                EventKind.MODIFIED,
                revision=state.revision,
                quantity=state.quantity,
                price=state.price,
            )
            await self._work.record(modified)

    # The new leg.

    @property
    def _new_leg_number(self) -> int:
        state = self._work.state
        return state.leg if self.new_leg_exists else state.leg + 1

    def _new_leg(self, replaces: OrderAt | None = None) -> Send:
        state, modification = self._work.state, self._modification
        exchange, account = self._work.submission.venue
        return Send(
            order_id=state.client_order_id,
            exchange=exchange,
            account=account,
            leg=self._new_leg_number,
            generation=self.generation,
            stamp=self._stamp,
            quantity=modification.new_quantity - state.filled_quantity,
            price=modification.new_price,
            stop_price=state.stop_price,
            revision=state.revision if self.new_leg_exists else state.revision + 1,
            new_quantity=modification.new_quantity,
            replaces=replaces,
        )
