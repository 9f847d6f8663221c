"""Exchange orders of ours that should not be alive: a send that was proved absent and came later.

The exchange broke its own fence, and the order was sent again meanwhile: two of its sends live.
Nobody has asked for twice the quantity, so all of them are cancelled, every fill is booked, and
the order ends; the alarm is in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, ChangeKind, OrderAt
    from trading.oms.enums import OrderStatus, ReasonCode
    from trading.oms.lifecycle import EventKind

from workflows import steps

if TYPE_CHECKING:
    from workflows.order_work import OrderWork

_BACK_OFF_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0)
_REASON = "two sends of this order were alive at once"


class Strays:
    """The stray sends of one order that are not known to have ended."""

    def __init__(self, work: OrderWork) -> None:
        """None is known."""
        self._work = work
        self._alive: list[OrderAt] = []

    @property
    def exist(self) -> bool:
        """Whether a stray may be alive; nothing more is sent then."""
        return bool(self._alive)

    def take(self, found: tuple[OrderAt, ...]) -> None:
        """Note what a report has shown."""
        new = [at for at in found if at not in self._alive]
        if new:
            self._alive += new
            self._work.later("strays", 0)

    async def end_all(self, attempt: int) -> None:
        """Cancel the strays and the newest send; repeat what stays unknown."""
        work = self._work
        ended = all([await self._end(at) for at in self._alive])
        if ended and (work.state.is_open or work.state.status is OrderStatus.FILLED):
            ended = await self._end(work.here)
        if not ended:
            work.later("strays", _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)], attempt + 1)
            return
        self._alive.clear()
        if work.state.is_open:
            code = ReasonCode.CANCEL_REQUESTED
            await work.record(
                work.event(EventKind.CANCELLED, reason_code=code, reason=_REASON),
            )

    async def _end(self, at: OrderAt) -> bool:
        answer = await steps.cancel(at, _REASON, is_replacement=True)
        self._work.take(Booked(state=answer.state, fills_missing=answer.fills_missing))
        if answer.kind is not ChangeKind.DONE:
            return False
        booked = await steps.collect_fills(at)
        self._work.take(booked)
        return not booked.fills_missing
