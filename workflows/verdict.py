"""An operator's verdict on an order in doubt: adopt what is there, dead, or send it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from trading.oms.answers import not_resolved, result_of
    from trading.oms.enums import OrderStatus, Pending, ReasonCode, RejectedBy, Verdict
    from trading.oms.lifecycle import EventKind

from workflows import interruption

if TYPE_CHECKING:
    from activities.messages import OrderAt
    from workflows.order_work import OrderWork
    from workflows.requests import Resolve


class Verdicts:
    """Carries out verdicts. Each is journalled with its author and reason before it acts."""

    def __init__(self, work: OrderWork) -> None:
        """Nobody has given one."""
        self._work = work

    async def begin(self, request: Resolve) -> None:
        """Carry out one verdict, or refuse it: only an order in doubt can be resolved."""
        work, command = self._work, request.command
        refusal = self._refusal(command.verdict)
        if refusal is not None:
            text = f"resolve {command.verdict.value} by {command.by}: {refusal}"
            await work.note_refusal(text)
            request.answer = not_resolved(work.state, refusal)
            return
        details = {"verdict": command.verdict.value, "by": command.by}
        await work.record(work.event(EventKind.RESOLVED, reason=command.reason, details=details))
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

    def _refusal(self, verdict: Verdict) -> str | None:
        work = self._work
        if work.state.is_split:
            return f"the order is split; give the verdict to a leg: {', '.join(work.split.legs)}"
        if not work.doubt.exists:
            return f"the order is {work.state.status.value} and not in doubt"
        if work.doubt.adopting is not None:
            return "an operator has said adopt, and the look-up is under way"
        if verdict is Verdict.RETRY and work.cancellation.is_wanted:
            return "somebody has asked to cancel the order, so it is not sent again"
        return None

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
        if at.leg == 1:
            await work.record(
                work.event(EventKind.DOUBT_ENDED),
                work.event(EventKind.DECLARED_DEAD, rejected_by=RejectedBy.OMS, **word),
            )
        else:
            # The exchange has confirmed the legs before; only the rest of the order is dead.
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
