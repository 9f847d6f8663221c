"""What Temporal knows of the newest orders, for a store that may have forgotten them.

Two lists and a few results, once at the start of a worker: nothing on an order's way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from activities.reconcile_messages import OrderMark
from trading.oms.models import OrderResult
from trading.oms.order_workflow import WORKFLOW_PREFIX

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowExecution

_NEWEST = 20


async def newest_orders(client: Client, task_queue: str) -> list[OrderMark]:
    """The newest orders that have been admitted: those that run, and those that have ended.

    A run shows its order's status once its first task, which has admitted it, is completed.
    """
    here = f"WorkflowType = 'Order' AND TaskQueue = '{task_queue}'"
    found = []
    for these in (
        "ExecutionStatus = 'Running' AND OrderStatus IS NOT NULL",
        "ExecutionStatus = 'Completed'",
    ):
        query = f"{here} AND {these}"
        found += [one async for one in client.list_workflows(query, limit=_NEWEST)]
    marks = await asyncio.gather(*(_mark(client, one) for one in found))
    return [mark for mark in marks if mark is not None]


async def _mark(client: Client, execution: WorkflowExecution) -> OrderMark | None:
    """None for a run whose result does not say what became of an order."""
    order_id, sequence = execution.id.removeprefix(WORKFLOW_PREFIX), 0
    if execution.status is WorkflowExecutionStatus.COMPLETED:
        handle = client.get_workflow_handle(
            execution.id, run_id=execution.run_id, result_type=OrderResult
        )
        try:
            state = (await handle.result(follow_runs=False)).state
        except (WorkflowFailureError, RPCError, ValueError, RuntimeError):
            return None  # It was deleted meanwhile, or is of another release.
        if state is None:
            return None
        order_id, sequence = state.client_order_id, state.sequence
    at = execution.close_time or execution.start_time
    return OrderMark(order_id=order_id, sequence=sequence, at=at)
