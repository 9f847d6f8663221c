"""Requests that the store has and this run does not know.

An update lives in the server's memory until its task is completed. When the server dies after a
step of it was committed, the update is gone: nobody in the workflow goes on with what was begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, OrderAt
    from trading.oms.commands import CancelRequest
    from trading.oms.enums import Pending
    from trading.oms.lifecycle import EventKind

from workflows import steps
from workflows.requests import Cancel

if TYPE_CHECKING:
    from activities.messages import ClaimFacts
    from workflows.order_work import OrderWork


async def mend(work: OrderWork) -> None:
    """End what was begun and has no one, and go on from the newest send that the store knows."""
    if await end_requests(work) and work.state.is_open:
        await take_up_newest_send(work)


async def end_requests(work: OrderWork) -> bool:
    """Go on with a cancel that was begun; end a modification, of which half is known at most.

    Answers whether a modification was ended: it may have claimed a send.
    """
    state = work.state
    if state.pending is Pending.CANCEL and state.is_open and not work.cancellation.is_wanted:
        work.enqueue(Cancel(CancelRequest(reason="requested before")))
    begun = state.pending is Pending.MODIFY or state.replacing
    if not begun or work.modification.is_running or work.split.modification.is_running:
        return False
    known = await steps.load(state.client_order_id)
    work.take(Booked(state=known.state))
    if known.claim is not None and known.claim.replaces is not None:
        await work.modification.take_up(known.claim)
        return False
    reason = "interrupted; the order stands as the exchange has it"
    await work.record(work.event(EventKind.REQUEST_ENDED, reason=reason))
    return True


async def take_up_newest_send(work: OrderWork) -> None:
    """A send that this run does not know may be on its way, or wait: go on from it."""
    known = await steps.load(work.state.client_order_id)
    work.take(Booked(state=known.state))
    if known.claim is not None and work.state.is_open:
        await go_on_from(work, known.claim)


async def go_on_from(work: OrderWork, claim: ClaimFacts) -> None:
    """Find the place in the story where the newest claim was left."""
    if claim.replaces is not None:
        await work.modification.take_up(claim)
        return
    work.submission.take_up(claim)
    is_known = claim.outcome not in {None, "unknown"}
    if work.state.exchange_order_id is not None and is_known:
        work.later("fills", 0)
    elif claim.outcome == "not_placed":
        order_id = work.state.client_order_id
        at = OrderAt(order_id=order_id, leg=claim.leg, generation=claim.generation)
        await work.doubt.was_not_placed(at)
    elif work.submission.unsent:
        work.later("send", 0)
    elif not is_known:
        await work.doubt.begin(claim.leg, claim.generation)
    else:
        work.later("fills", 0)
