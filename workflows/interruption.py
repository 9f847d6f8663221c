"""Requests that the store has and this run does not know.

An update lives in the server's memory until its task is completed. When the server dies after a
step of it was committed, the update is gone: nobody in the workflow goes on with what was begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from trading.oms.commands import CancelRequest
    from trading.oms.enums import Pending
    from trading.oms.lifecycle import EventKind

from workflows.requests import Cancel

if TYPE_CHECKING:
    from workflows.order_work import OrderWork


async def mend(work: OrderWork) -> None:
    """Go on with a cancel that was begun; end a modification, of which half is known at most."""
    state = work.state
    if state.pending is Pending.CANCEL and state.is_open and not work.cancellation.is_wanted:
        work.enqueue(Cancel(CancelRequest(reason="requested before")))
    begun = state.pending is Pending.MODIFY or state.replacing
    is_known = work.modification.is_running or work.split.modification.is_running
    if begun and not is_known:
        reason = "interrupted; the order stands as the exchange has it"
        await work.record(work.event(EventKind.REQUEST_ENDED, reason=reason))
        if state.is_open and state.exchange_order_id is not None:
            work.later("fills", 0)
