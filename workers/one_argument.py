"""Refuses a workflow, or a signal to one, that was given too many inputs or too few."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import CompositePayloadConverter
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

_ENCODINGS = tuple(PydanticPayloadConverter().converters.values())


class AsItCame(CompositePayloadConverter):
    """Reads payloads; what nobody has a type for and that cannot be read stays as it came.

    The SDK makes a converter for each task of a workflow, and pydantic's would bring a serializer
    and an empty cache of types each time: all of ours share one.

    Inputs that are more than the parameters have no types. An error here would repeat the task for
    ever, and drop a signal without a word; so they can be counted, and refused.
    """

    def __init__(self) -> None:
        """Share the encodings."""
        super().__init__(*_ENCODINGS)

    def from_payloads(
        self, payloads: Sequence[Payload], type_hints: list[type] | None = None
    ) -> list[Any]:
        """The values, or all of them as they came."""
        try:
            return super().from_payloads(payloads, type_hints)
        except Exception:
            if type_hints:
                raise
            return [RawValue(payload) for payload in payloads]


def for_workers(client: Client) -> Client:
    """The same client, on the same connection, that reads as `AsItCame` does."""
    config = client.config()
    config["data_converter"] = dataclasses.replace(
        client.data_converter, payload_converter_class=AsItCame
    )
    return Client(**config)


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
        # The parameters but `self`.
        wanted = input.run_fn.__code__.co_argcount - 1
        if len(input.args) != wanted:
            msg = f"the workflow was given {len(input.args)} inputs, it takes {wanted}"
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
