"""Every order is one run of this workflow: from the trader's wish to the last fill.

`run` reads as the story of an order. Handlers only validate and put a message into the inbox;
one loop takes them out, one after the other, so there are no locks. The store decides what two
processes could race for (see `activities`), the workflow decides what happens next.
"""

import asyncio
from collections.abc import Sequence
from itertools import count

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from trading.oms.answers import result_of
    from trading.oms.commands import (
        CancelRequest,
        ExecutionBatch,
        ModifyRequest,
        OrderInput,
        OutcomeRequest,
        ResolveRequest,
        decode,
    )
    from trading.oms.errors import InvalidOrder
    from trading.oms.models import CancelResult, Order, OrderResult, OrderState
    from trading.oms.reports import elsewhere

from workflows.order_work import OrderWork
from workflows.payloads import NOTHING, decoded, own_order
from workflows.requests import Cancel, Executions, LegNews, Modify, Refused, Resolve


@workflow.defn(name="Order")
class OrderWorkflow:
    """One order. Workflow id `order-<client_order_id>`; the input is described in `docs/`."""

    def __init__(self) -> None:
        """Nothing is parsed here: a failing constructor would repeat its task for ever."""
        self._work = OrderWork()
        self._signals = count(1)

    @workflow.run
    async def run(self, payload: RawValue) -> OrderResult:
        """Live the order's whole life and return how it ended.

        Raises a non-retryable `ApplicationError` that names the field for input that is no order,
        or that is another order than the workflow's id says.
        A request to cancel the workflow is a cancel of the order; only settling ends a run.
        """
        command = decoded(payload, OrderInput)
        if command.order is not None:
            named = own_order(command.order, workflow.info().workflow_id)
            command = command.model_copy(update={"order": named})
        story = asyncio.create_task(self._story(command))
        while True:
            try:
                return await asyncio.shield(story)
            except asyncio.CancelledError:
                if story.cancelled():  # The worker evicts this run; it goes on elsewhere.
                    raise
                self._work.enqueue(Cancel(CancelRequest(reason="workflow cancellation")))

    async def _story(self, command: OrderInput) -> OrderResult:
        work = self._work
        await asyncio.sleep(0)  # A cancellation that came with the first task is heard first.
        if command.order is not None:
            await work.begin(command.order)
        else:
            await work.take_up_again(str(command.resume))
        await work.split.start()
        await work.submission.send()
        await work.until_settled()
        return work.result()

    @workflow.update(name="cancel")
    async def cancel(self, payload: RawValue = NOTHING) -> CancelResult:
        """Cancel the order; answers with the exchange's outcome, or `pending` after `wait_s`."""
        request = Cancel(decoded(payload, CancelRequest))
        await self._work.wait_for_answer(request, request.command.wait_s)
        return request.answer or self._work.cancel_so_far()

    @cancel.validator
    def _cancel_is_valid(self, payload: RawValue = NOTHING) -> None:
        mismatch = decoded(payload, CancelRequest).mismatch(self._work.known_state)
        if mismatch is not None:
            raise ApplicationError(mismatch, type="InvalidOrder", non_retryable=True)

    @workflow.update(name="modify")
    async def modify(self, payload: RawValue = NOTHING) -> OrderResult:
        """Change quantity, price or both; after `wait_s` answers with the state, still pending."""
        update = workflow.current_update_info()
        request = Modify(decoded(payload, ModifyRequest), update.id if update else "")
        await self._work.wait_for_answer(request, request.command.wait_s)
        return request.answer or result_of(self._work.state)

    @modify.validator
    def _modify_is_valid(self, payload: RawValue = NOTHING) -> None:
        decoded(payload, ModifyRequest)

    @workflow.update(name="resolve")
    async def resolve(self, payload: RawValue = NOTHING) -> OrderResult:
        """An operator's verdict on the doubt; after `wait_s` answers with the state as it is."""
        request = Resolve(decoded(payload, ResolveRequest))
        await self._work.wait_for_answer(request, request.command.wait_s)
        return request.answer or result_of(self._work.state)

    @resolve.validator
    def _resolve_is_valid(self, payload: RawValue = NOTHING) -> None:
        decoded(payload, ResolveRequest)

    @workflow.update(name="outcome")
    async def outcome(self, payload: RawValue = NOTHING) -> OrderResult:
        """Wait for the outcome of the submission: the exchange's word, a denial, or doubt."""
        return await self._work.outcome(decoded(payload, OutcomeRequest))

    @outcome.validator
    def _outcome_is_valid(self, payload: RawValue = NOTHING) -> None:
        decoded(payload, OutcomeRequest)

    @workflow.update(name="executions")
    async def executions(self, payload: RawValue = NOTHING) -> None:
        """Book what the exchange said about this order; returns once the store has it."""
        request = Executions(decoded(payload, ExecutionBatch))
        await self._work.wait_for_answer(request, None)

    @executions.validator
    def _executions_are_valid(self, payload: RawValue = NOTHING) -> None:
        mismatch = elsewhere(decoded(payload, ExecutionBatch).reports, self._work.known_state)
        if mismatch is not None:
            raise ApplicationError(mismatch, type="InvalidOrder", non_retryable=True)

    @workflow.signal(name="cancel")
    def signal_cancel(self, payload: RawValue = NOTHING) -> None:
        """Cancel the order, from the web UI or a CLI; a refused one is journalled."""
        try:
            command = decode(payload.payload.data, CancelRequest)
        except InvalidOrder as error:
            self.refuse(f"cancel signal: {error}")
        else:
            self._work.enqueue(Cancel(command))

    @workflow.signal(name="modify")
    def signal_modify(self, payload: RawValue = NOTHING) -> None:
        """Modify the order, from the web UI or a CLI; a refused one is journalled."""
        try:
            command = decode(payload.payload.data, ModifyRequest)
        except InvalidOrder as error:
            self.refuse(f"modify signal: {error}")
        else:
            name = f"signal {next(self._signals)} of {workflow.info().run_id}"
            self._work.enqueue(Modify(command, name))

    @workflow.signal(name="resolve")
    def signal_resolve(self, payload: RawValue = NOTHING) -> None:
        """A verdict on the doubt, from the web UI or a CLI; a refused one is journalled."""
        try:
            command = decode(payload.payload.data, ResolveRequest)
        except InvalidOrder as error:
            self.refuse(f"resolve signal: {error}")
        else:
            self._work.enqueue(Resolve(command))

    @workflow.signal(name="leg")
    def signal_leg(self) -> None:
        """A leg of this order, which is split, has changed; the store has its state."""
        self._work.enqueue(LegNews())

    @workflow.signal(dynamic=True)
    def signal_unknown(self, name: str, _payloads: Sequence[RawValue]) -> None:
        """Nobody listens to a signal of another name; it is journalled, so that its sender sees."""
        self.refuse(f"{name} signal: the order takes the signals cancel, modify and resolve")

    def refuse(self, reason: str) -> None:
        """Journal that a message was refused."""
        self._work.enqueue(Refused(reason))

    @workflow.query(name="order")
    def order(self) -> Order | None:
        """The order as the trader gave it; None before the order is admitted."""
        return self._work.order

    @workflow.query(name="doubt")
    def doubt(self) -> list[str]:
        """What was asked of the exchange about a doubt, and its last answers, in words."""
        return self._work.doubt.words()

    @workflow.query(name="state")
    def state(self) -> OrderState | None:
        """The order's state as this run knows it; None before the order is admitted."""
        return self._work.known_state
