"""What an operator may do to workflows of orders in Temporal's web UI, without asking us."""

import uuid
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle

from tests.chaos.world import World

_AT_ONCE = 2
_RPC_TIMEOUT = timedelta(seconds=5)


async def terminate(world: World) -> None:
    """End the newest ones, whatever they do. Raises `RPCError`."""
    for handle in await _newest(world):
        world.terminated.add(str(handle.run_id))
        await handle.terminate("an operator's mistake", rpc_timeout=_RPC_TIMEOUT)


async def reset(world: World) -> None:
    """Let the newest ones begin again after their first task. Raises `RPCError`."""
    for handle in await _newest(world):
        async for event in handle.fetch_history_events(rpc_timeout=_RPC_TIMEOUT):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                await _reset_to(world, handle, event.event_id)
                break


async def _newest(world: World) -> list[WorkflowHandle[Any, Any]]:
    query = f"WorkflowType='Order' AND ExecutionStatus='Running' AND TaskQueue='{world.task_queue}'"
    found = []
    async for one in world.client.list_workflows(query, rpc_timeout=_RPC_TIMEOUT):
        found.append(world.client.get_workflow_handle(one.id, run_id=one.run_id))
        if len(found) == _AT_ONCE:
            break
    return found


async def _reset_to(world: World, handle: WorkflowHandle[Any, Any], event_id: int) -> None:
    await world.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=world.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=str(handle.run_id)),
            reason="an operator's try",
            workflow_task_finish_event_id=event_id,
            request_id=uuid.uuid4().hex,
        ),
        timeout=_RPC_TIMEOUT,
    )
