"""An order whose workflow somebody has cut off before its first step: who gave it gets it still."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.service import RPCError

from tests.workflows.desk import Desk, a_desk, an_order, until, working
from trading.oms.commands import OrderInput
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.models import Order
from trading.oms.order_client import OrderClient

pytestmark = [
    pytest.mark.temporal,
    # The run that knows no order ends under those who ask it; their clients know what that means.
    pytest.mark.filterwarnings("ignore::temporalio.workflow.UnfinishedUpdateHandlersWarning"),
]

_SIGNALLED: Final = "workflow_execution_signaled_event_attributes"


class Doomed(NamedTuple):
    """An order whose workflow was terminated before its first task; nobody works yet."""

    desk: Desk
    client: OrderClient
    order: Order

    async def looked_for(self) -> None:
        """Begin a run that has no order, only its id: so somebody looks for it who changes it."""
        await self.desk.client.start_workflow(
            "Order",
            {"resume": self.order.client_order_id},
            id=f"order-{self.order.client_order_id}",
            task_queue=self.desk.task_queue,
        )


@pytest.fixture
async def doomed(temporal_client: Client, tmp_path: Path) -> AsyncIterator[Doomed]:
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    async with a_desk(temporal_client, url, work=False) as desk:
        order = an_order(exchange=desk.exchange.name)
        handle = await desk.client.start_workflow(
            "Order",
            OrderInput(order=order),
            id=f"order-{order.client_order_id}",
            task_queue=desk.task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
        await handle.terminate("an operator's mistake")
        yield Doomed(desk, OrderClient(desk.client, desk.task_queue), order)


async def test_a_submission_that_meets_a_run_which_knows_no_order_starts_its_own(
    doomed: Doomed,
) -> None:
    desk, client, order = doomed
    await doomed.looked_for()
    submitting = asyncio.create_task(client.submit(order))
    await asyncio.sleep(0.5)

    async with working(desk):
        assert (await submitting).status is OrderStatus.ACCEPTED
        cancelled = await desk.cancel(order.client_order_id)
        assert cancelled.outcome is CancelOutcome.CANCELLED


async def test_a_submission_goes_on_although_others_have_begun_a_run_since_its_own_was_cut_off(
    doomed: Doomed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has seen that no run is there, and when it looks why, there is one."""
    desk, client, order = doomed
    goes_on = client._goes_on
    begun = asyncio.Event()

    async def later(asked: Order | str) -> bool:
        if not begun.is_set():
            await doomed.looked_for()
            begun.set()
        return await goes_on(asked)

    monkeypatch.setattr(client, "_goes_on", later)
    submitting = asyncio.create_task(client.submit(order))
    await begun.wait()

    async with working(desk):
        assert (await submitting).status is OrderStatus.ACCEPTED


async def test_an_order_that_does_not_answer_an_update_is_woken_by_a_signal(
    temporal_client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have lost the task of the update; that of a signal it writes down."""
    monkeypatch.setattr("trading.oms.order_client._RPC_TIMEOUT", timedelta(seconds=1))
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    async with a_desk(temporal_client, url, work=False) as desk:
        order = an_order(exchange=desk.exchange.name)
        submitting = asyncio.create_task(OrderClient(desk.client, desk.task_queue).submit(order))
        handle = desk.handle(order.client_order_id)

        async def was_signalled() -> bool:
            with contextlib.suppress(RPCError):
                events = [event async for event in handle.fetch_history_events()]
                return any(e.HasField(_SIGNALLED) for e in events)
            return False

        await until(was_signalled)
        async with working(desk):
            assert (await submitting).status is OrderStatus.ACCEPTED
