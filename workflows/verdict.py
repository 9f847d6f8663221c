"""An operator's verdict on an order in doubt: adopt what is there, dead, or send it again.

Adopt and dead may be said of a confirmed order too: an exchange forgets what has ended. Then the
order is looked up first, and dead is refused where the exchange has it or does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, LookUp, SightingKind
    from trading.oms.answers import not_resolved, result_of
    from trading.oms.enums import OrderStatus, Pending, ReasonCode, RejectedBy, Verdict
    from trading.oms.lifecycle import EventKind

from workflows import interruption, steps

if TYPE_CHECKING:
    from activities.messages import OrderAt, Sighting
    from workflows.order_work import OrderWork
    from workflows.requests import Resolve

_CONFIRMED = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})


class Verdicts:
    """Carries out verdicts. Each is journalled with its author and reason before it acts."""

    def __init__(self, work: OrderWork) -> None:
        """Nobody has given one."""
        self._work = work

    async def begin(self, request: Resolve) -> None:
        """Carry out one verdict, or refuse it."""
        work, command = self._work, request.command
        refusal = self._refusal(command.verdict)
        if refusal is not None:
            await self._refuse(request, refusal)
            return
        if not work.doubt.exists:
            await self._on_confirmed(request)
            return
        await self._note(request)
        if command.verdict is Verdict.ADOPT:
            work.doubt.adopting = request  # Answered by the look-up.
            work.doubt.look()
            return
        at = work.doubt.leave()
        if at is not None and command.verdict is Verdict.DEAD:
            await self._end_as_dead(at, command.reason, command.by)
        elif at is not None:
            await self._send_again(at)
        else:
            await interruption.take_up_newest_send(work)  # The doubt has ended before the verdict.
        request.answer = result_of(work.state)

    async def _on_confirmed(self, request: Resolve) -> None:
        """Look first: the exchange's word, where it has one, is better than any verdict."""
        work, command = self._work, request.command
        sighting = await steps.look_up(LookUp(**work.here.model_dump(), as_it_is=True))
        refusal = self._take(sighting, command.verdict)
        if refusal is not None:
            await self._refuse(request, refusal)
            return
        await self._note(request)
        if work.state.is_open and command.verdict is Verdict.DEAD:
            # Nobody tells its fills any more; those that a list has come with reconciliation.
            work.fills_missing = False
            work.forget("fills")
            await self._end_as_dead(work.here, command.reason, command.by)
        request.answer = result_of(work.state)

    def _take(self, sighting: Sighting, verdict: Verdict) -> str | None:
        """Take what was seen of a confirmed order; why the verdict does not fit it, if so."""
        work = self._work
        if sighting.kind is SightingKind.NO_OBSERVATION:
            return sighting.reason or "the exchange does not answer"
        if sighting.kind is not SightingKind.SEEN:
            return "the exchange has no such order" if verdict is Verdict.ADOPT else None
        work.take(
            Booked(
                state=sighting.state,
                fills_missing=sighting.fills_missing,
                strays=sighting.strays,
                carrier=sighting.carrier,
            )
        )
        is_alive = verdict is Verdict.DEAD and work.state.is_open
        return "the exchange has the order" if is_alive else None

    async def _note(self, request: Resolve) -> None:
        work, command = self._work, request.command
        details = {"verdict": command.verdict.value, "by": command.by}
        await work.record(work.event(EventKind.RESOLVED, reason=command.reason, details=details))

    async def _refuse(self, request: Resolve, refusal: str) -> None:
        work, command = self._work, request.command
        await work.note_refusal(f"resolve {command.verdict.value} by {command.by}: {refusal}")
        request.answer = not_resolved(work.state, refusal)

    def _refusal(self, verdict: Verdict) -> str | None:
        work = self._work
        if work.state.is_split:
            return f"the order is split; give the verdict to a leg: {', '.join(work.split.legs)}"
        if not work.doubt.exists and not self._may_be_forgotten(verdict):
            return f"the order is {work.state.status.value} and not in doubt"
        if work.doubt.adopting is not None:
            return "an operator has said adopt, and the look-up is under way"
        if verdict is Verdict.RETRY and work.cancellation.is_wanted:
            return "somebody has asked to cancel the order, so it is not sent again"
        return None

    def _may_be_forgotten(self, verdict: Verdict) -> bool:
        work = self._work
        is_sent = work.state.status in _CONFIRMED and not work.submission.unsent
        return is_sent and verdict is not Verdict.RETRY and workflow.patched("forgotten_orders_end")

    async def _end_as_dead(self, at: OrderAt, reason: str, by: str) -> None:
        """The claim keeps its unknown outcome: proof of life revives the order."""
        work = self._work
        text = f"declared dead by {by}: {reason}"
        if at.leg > work.state.leg:
            # A cancel-replace: the order before it stands as the exchange has it.
            alarm = f"leg {at.leg} was {text}"
            await work.record(
                work.event(EventKind.DOUBT_ENDED), work.event(EventKind.ALARM, reason=alarm)
            )
            await work.modification.give_up(text)
            return
        word = {"reason_code": ReasonCode.OPERATOR_DEAD, "reason": text}
        if at.leg == 1 and work.state.status not in _CONFIRMED:
            await work.record(
                work.event(EventKind.DOUBT_ENDED),
                work.event(EventKind.DECLARED_DEAD, rejected_by=RejectedBy.OMS, **word),
            )
        else:
            # The exchange has confirmed it, or the legs before: only the rest of it is dead.
            await work.record(
                work.event(EventKind.DOUBT_ENDED),
                work.event(EventKind.REQUEST_ENDED),
                work.event(EventKind.CANCELLED, rejected_by=RejectedBy.OMS, **word),
                work.event(EventKind.ALARM, reason=f"leg {at.leg} was {text}"),
            )
        work.later("certain", 0)

    async def _send_again(self, at: OrderAt) -> None:
        work = self._work
        events = [work.event(EventKind.DOUBT_ENDED)]
        replacing = work.modification.is_sending
        if work.state.pending is Pending.MODIFY and not replacing:
            events.append(work.event(EventKind.REQUEST_ENDED))
        await work.conclude_not_placed(at, *events)
        if at.leg == 1 and work.state.status is not OrderStatus.SUBMITTED:
            # Somebody has seen it alive meanwhile, or an earlier try of this has sent it again.
            await interruption.take_up_newest_send(work)
            return
        if replacing:
            await work.modification.replacement.try_again()
        else:
            await work.submission.send_again()
