"""Refuses an order workflow that was started with no input, or with more than one."""

from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ExecuteWorkflowInput,
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
