"""The way from an activity to an order: its workflow, running or to be taken up again."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.waking import nudge
from trading.oms.client_calls import give_back_cancellation, look_at
from trading.oms.commands import CancelRequest, ExecutionBatch, ModifyRequest
from trading.oms.models import OrderResult
from trading.oms.order_workflow import TASK_TIMEOUT, WORKFLOW_PREFIX, workflow_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel
    from temporalio.client import Client

    from trading.oms.venue import ExecutionReport

_log = logging.getLogger(__name__)
_RPC_TIMEOUT = timedelta(seconds=10)
_MODIFY_TIMEOUT = timedelta(seconds=15)
_REFUSED = (RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError)


class OrderDoor:
    """Speaks to order workflows; one that is not running is started with its order's id."""

    def __init__(self, client: Client, task_queue: str) -> None:
        """`task_queue` is where the order workflows run."""
        self._client = client
        self._task_queue = task_queue

    async def is_running(self, order_id: str) -> bool:
        """Whether a workflow works on the order. Raises `RPCError` when nobody can say."""
        try:
            described = await self._client.get_workflow_handle(workflow_id(order_id)).describe(
                rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return described.status in {
            WorkflowExecutionStatus.RUNNING,
            WorkflowExecutionStatus.CONTINUED_AS_NEW,
        }

    async def all_running(self, exchange: str) -> set[str]:
        """The orders at an exchange that a workflow works on, as Temporal's list has them.

        The list lags behind by a moment. Raises `RPCError` when nobody can say.
        """
        query = f"WorkflowType='Order' AND ExecutionStatus='Running' AND Exchange='{exchange}'"
        listed = self._client.list_workflows(query, rpc_timeout=_RPC_TIMEOUT)
        return {found.id.removeprefix(WORKFLOW_PREFIX) async for found in listed}

    async def tell(self, order_id: str, reports: Sequence[ExecutionReport]) -> bool:
        """Let the order book what the exchange says; True once it has."""
        return await self._ask(order_id, "executions", ExecutionBatch(reports=tuple(reports)))

    async def cancel(self, order_id: str, reason: str) -> bool:
        """Ask for the order to be cancelled, without waiting for the exchange."""
        return await self._ask(order_id, "cancel", CancelRequest(reason=reason, wait_s=0))

    async def modify(self, order_id: str, request: ModifyRequest, update_id: str) -> OrderResult:
        """Ask for a modification; the same `update_id` is the same request.

        Raises `RPCError` and the client's other errors where the order did not answer.
        """
        handle = self._client.get_workflow_handle(workflow_id(order_id))
        given: OrderResult = await handle.execute_update(
            "modify", request, id=update_id, result_type=OrderResult, rpc_timeout=_MODIFY_TIMEOUT
        )
        return given

    async def take_up_again(self, order_id: str) -> bool:
        """Start a run for an order that has none."""
        try:
            await self._client.start_workflow(
                "Order",
                {"resume": order_id},
                id=workflow_id(order_id),
                task_queue=self._task_queue,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            )
        except RPCError as error:
            _log.warning("order %s could not be taken up again: %s", order_id, error)
            return False
        return True

    async def _ask(self, order_id: str, update: str, command: BaseModel) -> bool:
        start = resuming(order_id, self._task_queue)
        try:
            await self._client.execute_update_with_start_workflow(
                update, command, start_workflow_operation=start, rpc_timeout=_RPC_TIMEOUT
            )
        except _REFUSED as error:
            await look_at(start)
            give_back_cancellation()
            if isinstance(error, WorkflowUpdateRPCTimeoutOrCancelledError):
                await nudge(self._client, order_id)
            _log.warning("order %s does not take %s yet: %s", order_id, update, error)
            return False
        return True


def resuming(order_id: str, task_queue: str) -> WithStartWorkflowOperation[Any, Any]:
    """A start of the order's next run, for an update that finds none running."""
    return WithStartWorkflowOperation(
        "Order",
        {"resume": order_id},
        id=workflow_id(order_id),
        task_queue=task_queue,
        task_timeout=TASK_TIMEOUT,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
    )
