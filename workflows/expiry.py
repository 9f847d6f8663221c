"""The end of a good-till-date order: at its time it is cancelled, or never sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from trading.oms.commands import CancelRequest
    from trading.oms.enums import ReasonCode
    from trading.oms.lifecycle import EventKind

from workflows.requests import Cancel

if TYPE_CHECKING:
    from workflows.order_work import OrderWork

_LATE_EXPIRY_S = 30.0


class Expiry:
    """Watches the time of one order. The legs of an order that is split look after themselves."""

    def __init__(self, work: OrderWork) -> None:
        """Nothing is watched yet."""
        self._work = work

    @property
    def is_reached(self) -> bool:
        """Whether a good-till-date order is at the end of its time."""
        expire_at = self._work.state.expire_at
        return expire_at is not None and expire_at <= workflow.now()

    def watch(self) -> None:
        """Put the expiry of an order that has one into its inbox when it is due.

        Once when a run begins, and once when its order comes back to life: one that is past would
        come at once, every time.
        """
        state = self._work.state
        if state.expire_at is not None and state.is_open and not state.is_split:
            left = (state.expire_at - workflow.now()).total_seconds()
            self._work.later("expire", max(left, 0))

    def watch_if_revived(self) -> None:
        """The order had ended; where a late report has brought it back to life its time counts."""
        state = self._work.state
        if state.is_open and state.expire_at is not None and workflow.patched("revived_expires"):
            self.watch()

    async def come(self) -> None:
        """The time has come: end the order here or at the exchange."""
        work = self._work
        if not work.state.is_open:
            return
        work.later("expired", _LATE_EXPIRY_S)
        if work.submission.unsent:
            ended = work.event(EventKind.EXPIRED, reason_code=ReasonCode.EXPIRY_REACHED)
            await work.submission.end_unsent(ended)
        if work.state.is_open:  # Or an earlier try of this task has sent it.
            await work.cancellation.begin(Cancel(CancelRequest(reason="expiry reached")))

    async def alarm_if_late(self) -> None:
        """Some time after the expiry the order should have ended."""
        if self._work.state.is_open:
            reason = f"still open {_LATE_EXPIRY_S:.0f} s after its expiry"
            await self._work.record(self._work.event(EventKind.ALARM, reason=reason))
