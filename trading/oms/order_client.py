"""Orders as Temporal workflows, from the caller's side: start, update, read the result.

Every call may be repeated: an update that times out is sent again under the same id, a start
under a known id finds the order that exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.waking import nudge
from trading.oms.answers import cancel_result, different_content, modification_refused
from trading.oms.client_calls import give_back_cancellation, look_at
from trading.oms.commands import (
    CancelRequest,
    ModifyRequest,
    OrderInput,
    OutcomeRequest,
    ResolveRequest,
    decode,
)
from trading.oms.enums import ReasonCode
from trading.oms.errors import InvalidOrder, OrderNotFound, ServiceUnavailable
from trading.oms.identity import content_difference, content_hash
from trading.oms.models import CancelResult, Order, OrderResult, OrderState
from trading.oms.order_client_accounts import AccountCalls
from trading.oms.order_client_errors import (
    WORKFLOW,
    refused,
    translated,
    unavailable,
    why_failed,
)
from trading.oms.order_workflow import TASK_TIMEOUT, workflow_id
from trading.oms.reading import summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import BaseModel
    from temporalio.client import Client, WorkflowHandle

_RPC_TIMEOUT = timedelta(seconds=15)
_QUICK_RPC_TIMEOUT = timedelta(seconds=5)
_PATIENCE_S = 45.0
_PAUSE_S = 0.2
_RUNS_MAX = 3  # Of one order, asked in turn: each may be cut off, or know no order.
_NOT_ENDED = frozenset(
    {
        WorkflowExecutionStatus.RUNNING,
        WorkflowExecutionStatus.CONTINUED_AS_NEW,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
        WorkflowExecutionStatus.CANCELED,
    }
)
_Answer = TypeVar("_Answer")


class OrderClient:
    """The calls of one Temporal client to order workflows."""

    def __init__(self, client: Client, task_queue: str) -> None:
        """`task_queue` is where the workers take order workflows from."""
        self._client = client
        self._task_queue = task_queue
        self.accounts = AccountCalls(client, task_queue)

    async def start(self, order: Order) -> bool:
        """Start the order's workflow, eagerly where a worker of this process can take it.

        False when the order exists. Raises `ServiceUnavailable`.
        """
        try:
            await self._client.start_workflow(
                WORKFLOW,
                _input(order),
                id=workflow_id(order.client_order_id),
                task_queue=self._task_queue,
                task_timeout=TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                request_eager_start=True,
                static_summary=summary(order),
                memo={"content_hash": content_hash(order)},
            )
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            raise unavailable(error) from error
        return True

    async def submit(self, order: Order) -> OrderResult:
        """Start the order's workflow where there is none, and wait for the outcome, in one call."""
        request = OutcomeRequest(content_hash=content_hash(order))
        reuse = WorkflowIDReusePolicy.REJECT_DUPLICATE
        try:
            result = await self._with_start(order, "outcome", request, OrderResult, reuse)
        except (WorkflowAlreadyStartedError, OrderNotFound):
            return await self.outcome(order)
        return await self._explained(order, result)

    async def outcome(self, order: Order) -> OrderResult:
        """Wait for the outcome of an order that was started before."""
        request = OutcomeRequest(content_hash=content_hash(order))
        try:
            result = await self._update(order, "outcome", request, OrderResult)
        except OrderNotFound:
            return await self._ended(order)
        return await self._explained(order, result)

    async def cancel(self, order_id: str, request: CancelRequest) -> CancelResult:
        """Cancel. Raises `OrderNotFound`, `InvalidOrder`, `ServiceUnavailable`."""
        try:
            return await self._update(order_id, "cancel", request, CancelResult)
        except OrderNotFound:
            state = (await self._result(order_id)).state
            if state is None:
                raise
            _refuse_mismatch(request, state)
            return cancel_result(state)

    async def modify(self, order_id: str, request: ModifyRequest) -> OrderResult:
        """Modify. Raises `OrderNotFound`, `InvalidOrder`, `ServiceUnavailable`."""
        try:
            return await self._update(order_id, "modify", request, OrderResult)
        except OrderNotFound:
            state = (await self._result(order_id)).state
            if state is None:
                raise
            return modification_refused(state, f"the order has ended as {state.status.value}")

    async def resolve(self, order_id: str, request: ResolveRequest) -> OrderResult:
        """Give a verdict on an order in doubt; one whose workflow has ended is taken up again.

        Raises `OrderNotFound`, `InvalidOrder`, `ServiceUnavailable`.
        """
        try:
            return await self._update(order_id, "resolve", request, OrderResult)
        except OrderNotFound:
            reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        try:
            return await self._with_start(order_id, "resolve", request, OrderResult, reuse)
        except OrderNotFound:
            return await self._result(order_id)  # Its run has ended at once, and says why.

    async def doubt(self, order_id: str) -> list[str]:
        """What was asked about a doubt, and the last answers; empty where there is no doubt.

        Raises `OrderNotFound`, and `ServiceUnavailable` where no worker has answered.
        """
        handle = self._client.get_workflow_handle(workflow_id(order_id))
        try:
            told: list[str] = await handle.query(
                "doubt", result_type=list[str], rpc_timeout=_QUICK_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise OrderNotFound(f"no order has the id {order_id!r}") from None
            raise unavailable(error) from error
        except WorkflowQueryFailedError as error:
            raise ServiceUnavailable(f"the order's workflow does not say: {error}") from error
        return told

    async def state(self, order_id: str) -> OrderState | None:
        """The state as the order's workflow knows it; None where there is no such workflow."""
        handle = self._client.get_workflow_handle(workflow_id(order_id))
        try:
            state: OrderState | None = await handle.query(
                "state", result_type=OrderState, rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise unavailable(error) from error
        return state

    async def _update(
        self, order: Order | str, name: str, request: BaseModel, answer: type[_Answer]
    ) -> _Answer:
        """Ask a running workflow; one that was cut off by an operator goes on in a new run."""
        handle = self._client.get_workflow_handle(workflow_id(_id_of(order)))

        async def call(update_id: str) -> _Answer:
            given: _Answer = await handle.execute_update(
                name, request, id=update_id, result_type=answer, rpc_timeout=_RPC_TIMEOUT
            )
            return given

        try:
            return await self._until_answered(call, order)
        except OrderNotFound as error:
            not_found = error
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        for _ in range(_RUNS_MAX):
            if not await self._goes_on(order):
                break
            with contextlib.suppress(OrderNotFound):
                return await self._with_start(order, name, request, answer, reuse)
        raise not_found

    async def _with_start(
        self,
        order: Order | str,
        name: str,
        request: BaseModel,
        answer: type[_Answer],
        reuse: WorkflowIDReusePolicy,
    ) -> _Answer:
        """Ask the order's workflow, which is started where none runs."""

        async def call(update_id: str) -> _Answer:
            start = self._started_with(order, reuse)
            try:
                given: _Answer = await self._client.execute_update_with_start_workflow(
                    name,
                    request,
                    start_workflow_operation=start,
                    id=update_id,
                    result_type=answer,
                    rpc_timeout=_RPC_TIMEOUT,
                )
            except BaseException:
                await look_at(start)
                raise
            return given

        return await self._until_answered(call, order)

    def _started_with(
        self, order: Order | str, reuse: WorkflowIDReusePolicy
    ) -> WithStartWorkflowOperation[Any, Any]:
        shown: dict[str, Any] = {}
        if isinstance(order, Order):
            shown = {
                "static_summary": summary(order),
                "memo": {"content_hash": content_hash(order)},
            }
        return WithStartWorkflowOperation(
            WORKFLOW,
            _input(order) if isinstance(order, Order) else {"resume": order},
            id=workflow_id(_id_of(order)),
            task_queue=self._task_queue,
            task_timeout=TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=reuse,
            **shown,
        )

    async def _goes_on(self, order: Order | str) -> bool:
        """Whether the workflow ended without settling its order, or another run has begun since.

        One that failed was given no order; only a whole order can take its place.
        """
        try:
            described = await self._client.get_workflow_handle(workflow_id(_id_of(order))).describe(
                rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise unavailable(error) from error
        failed = described.status is WorkflowExecutionStatus.FAILED
        return described.status in _NOT_ENDED or (failed and isinstance(order, Order))

    async def _until_answered(
        self, call: Callable[[str], Awaitable[_Answer]], order: Order | str
    ) -> _Answer:
        """Repeat a call under one update id until the server has its answer."""
        update_id = uuid.uuid4().hex
        last: Exception | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    try:
                        return await call(update_id)
                    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                        give_back_cancellation()
                        await nudge(self._client, _id_of(order))
                        last = error
                    except WorkflowUpdateFailedError as error:
                        last = refused(error)
                        update_id = uuid.uuid4().hex  # The old id's answer stays what it is.
                    except RPCError as error:
                        last = translated(error)
                    await asyncio.sleep(_PAUSE_S)
        msg = f"Temporal has not answered within {_PATIENCE_S:.0f} s: {last}"
        raise ServiceUnavailable(msg)

    async def _ended(self, order: Order) -> OrderResult:
        """The result of a workflow that has ended; refused where it was another order's."""
        result = await self._result(order.client_order_id)
        if result.content_hash in {None, content_hash(order)} or result.state is None:
            return result
        refused = different_content(result.state, ("the content hashes differ",))
        return await self._explained(order, refused)

    async def _explained(self, order: Order, result: OrderResult) -> OrderResult:
        """A refusal for other content, with the fields that differ from the order first given."""
        if (
            result.reason_code is not ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT
            or result.state is None
        ):
            return result
        handle = self._client.get_workflow_handle(workflow_id(order.client_order_id))
        known: Order | None = None
        with contextlib.suppress(RPCError, InvalidOrder):
            async for event in handle.fetch_history_events(page_size=1):
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                [payload] = await self._client.data_converter.decode(payloads, [RawValue])
                known = decode(payload.payload.data, OrderInput).order
                break
            if known is None:  # A later run of the order: its input only names the order.
                known = await handle.query("order", result_type=Order, rpc_timeout=_RPC_TIMEOUT)
        if known is None:
            return result
        return different_content(result.state, content_difference(known, order))

    async def _result(self, order_id: str) -> OrderResult:
        handle: WorkflowHandle[Any, OrderResult] = self._client.get_workflow_handle(
            workflow_id(order_id), result_type=OrderResult
        )
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await handle.result()
        except WorkflowFailureError as error:
            raise why_failed(error, order_id) from None
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                msg = f"no order has the id {order_id!r}"
                raise OrderNotFound(msg) from None
            raise unavailable(error) from error
        except TimeoutError:
            msg = f"Temporal has not answered within {_PATIENCE_S:.0f} s"
            raise ServiceUnavailable(msg) from None


def _id_of(order: Order | str) -> str:
    return order if isinstance(order, str) else order.client_order_id


def _refuse_mismatch(request: CancelRequest, state: OrderState) -> None:
    """The guards of a cancel hold for an order that has ended too."""
    for name in ("exchange", "symbol"):
        given, own = getattr(request, name), getattr(state, name)
        if given is not None and own and given != own:
            msg = f"{name} is {given!r}, the order is on {own!r}"
            raise InvalidOrder(msg)


def _input(order: Order) -> dict[str, Any]:
    """The workflow's input: only what the order has, so that it reads well in the web UI."""
    return {"order": order.model_dump(mode="json", exclude_none=True)}
