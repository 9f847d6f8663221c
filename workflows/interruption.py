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

from workflows import steps
from workflows.requests import Cancel

if TYPE_CHECKING:
    from workflows.order_work import OrderWork


async def mend(work: OrderWork) -> None:
    """End what was begun and has no one, and go on from the newest send that the store knows."""
    begun = work.state.pending is Pending.MODIFY or work.state.replacing
    is_interrupted = begun and not work.modification.is_running
    await end_requests(work)
    if is_interrupted and work.state.is_open:
        await take_up_newest_send(work)


async def end_requests(work: OrderWork) -> None:
    """Go on with a cancel that was begun; end a modification, of which half is known at most."""
    state = work.state
    if state.pending is Pending.CANCEL and state.is_open and not work.cancellation.is_wanted:
        work.enqueue(Cancel(CancelRequest(reason="requested before")))
    begun = state.pending is Pending.MODIFY or state.replacing
    is_known = work.modification.is_running or work.split.modification.is_running
    if begun and not is_known:
        reason = "interrupted; the order stands as the exchange has it"
        await work.record(work.event(EventKind.REQUEST_ENDED, reason=reason))


async def take_up_newest_send(work: OrderWork) -> None:
    """A send that this run does not know may be on its way: look for it, or for its fills."""
    claim = (await steps.load(work.state.client_order_id)).claim
    if claim is None:
        return
    work.submission.take_up(claim)
    if claim.outcome in {None, "unknown"}:
        await work.doubt.begin(claim.leg, claim.generation)
    else:
        work.later("fills", 0)
