"""Refuses an order workflow, or a signal to one, that was given too many inputs or none."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)


class OneArgument(Interceptor):
    """Ends such a run at once; without it its first task would be repeated for ever."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - the SDK's signature
    ) -> type[WorkflowInboundInterceptor]:
        """The interceptor of every workflow run of the worker."""
        return _CountArguments


class _CountArguments(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - as above
        if len(input.args) != 1:
            msg = f"the workflow was given {len(input.args)} inputs, it takes exactly one"
            raise ApplicationError(msg, type="InvalidOrder", non_retryable=True)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - as above
        """A signal with more inputs than its handler takes would repeat its task for ever."""
        order: Any = workflow.instance()
        is_named = workflow.get_signal_handler(input.signal) is not None
        if is_named and len(input.args) > 1:
            order.refuse(f"{input.signal} signal: it was given {len(input.args)} inputs, not one")
        else:
            await super().handle_signal(input)
