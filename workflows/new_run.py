"""A long history goes on in a new run: what its timers were for follows from the store.

The server ends a run at some 50,000 events, and takes no update more after 2,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

if TYPE_CHECKING:
    from workflows.order_work import OrderWork


def begin_if_due(work: OrderWork) -> bool:
    """Begin one where the history is long; whether one is due as soon as the order is quiet.

    Who brought the last message has its answer in a moment only.
    """
    if not workflow.info().is_continue_as_new_suggested():
        return False
    goes_on = workflow.patched("goes_on_once_answered")
    if is_quiet(work) and (goes_on or not work.modification.is_running):
        workflow.continue_as_new({"resume": work.state.client_order_id})
    return goes_on


def is_quiet(work: OrderWork) -> bool:
    """Whether nothing is under way that the store does not tell the next run of.

    Of a replacement in doubt it does, and the next run looks for it.
    """
    return not (
        work.has_messages
        or (work.fills_missing and not work.state.is_open)
        or work.doubt.is_looking
        or (work.modification.is_running and not _is_in_the_store(work))
        or work.strays.exist
        or work.split.modification.is_running
        or work.voice.is_telling
        or work.state.submitted_at is None
        or not workflow.all_handlers_finished()
    )


def _is_in_the_store(work: OrderWork) -> bool:
    """Whether the replacement under way is: one in doubt, that nobody wants to be cancelled."""
    return work.doubt.exists and not work.cancellation.is_wanted
