"""Cancelling an order: before it is sent, at the exchange, or while its send is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import ChangeKind
    from trading.oms.answers import cancel_result
    from trading.oms.enums import ReasonCode
    from trading.oms.lifecycle import EventKind

from workflows import interruption, steps

if TYPE_CHECKING:
    from workflows.order_work import OrderWork
    from workflows.requests import Cancel

_BACK_OFF_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0)


class Cancellation:
    """The cancels asked of one order, and our tries at the exchange."""

    def __init__(self, work: OrderWork) -> None:
        """Nobody has asked yet."""
        self._work = work
        self._requests: list[Cancel] = []

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the order to be cancelled."""
        return bool(self._requests)

    async def begin(self, request: Cancel) -> None:
        """Take a request; the first one goes to the exchange, all are answered together."""
        self._requests.append(request)
        if self._work.state.is_open and len(self._requests) == 1:
            await self.try_again(0)

    def repeat(self, seconds: float = 0) -> None:
        """Doubt has ended with a live order: what was asked meanwhile is due now."""
        if self._requests and self._work.state.is_open:
            self._work.later("cancel", seconds)

    def answer(self) -> None:
        """Answer every request once the order has ended and all its fills are booked."""
        work = self._work
        if work.state.is_terminal and not work.fills_missing:
            for request in self._requests:
                request.answer = cancel_result(work.state)
            self._requests.clear()

    async def try_again(self, attempt: int) -> None:
        """Ask the exchange (or nobody, where nothing was sent); repeat what stays unknown."""
        work = self._work
        if not self._requests or not work.state.is_open:
            return
        if work.state.is_split:
            await work.split.cancel(self._requests[0].command.reason)
            return
        if work.submission.unsent:
            await self._cancel_unsent()
            return
        if work.modification.is_replacing:
            work.later("modify", 0)  # It looks for a cancel before anything more is sent.
            return
        asked = work.here
        answer = await steps.cancel(asked, self._requests[0].command.reason)
        work.take(answer)
        is_behind = work.state.leg > asked.leg
        ends_with_its_fills = answer.kind is ChangeKind.DONE and work.fills_missing
        if (ends_with_its_fills and not is_behind) or not work.state.is_open:
            return
        if is_behind:  # The task that had replaced that leg was lost, and this run's memory of it.
            await interruption.take_up_newest_send(work)
        pause_s = max(answer.retry_after_s, _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
        work.later("cancel", pause_s, attempt + 1)

    async def _cancel_unsent(self) -> None:
        work = self._work
        await work.submission.end_unsent(
            work.event(EventKind.CANCEL_REQUESTED, reason=self._requests[0].command.reason),
            work.event(
                EventKind.CANCELLED,
                reason_code=ReasonCode.CANCELLED_BEFORE_SEND,
                reason="cancelled before it was sent",
            ),
        )
