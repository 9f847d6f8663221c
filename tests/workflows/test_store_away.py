"""The worker's store is away for a moment while an order is on its way to the exchange."""

import asyncio
import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

import pytest
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.workflows.desk import Desk, an_order, until, working
from trading.oms.answers import is_answer
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy
from trading.oms.errors import StoreUnavailable
from workflows import steps, submission

pytestmark = pytest.mark.temporal


@contextlib.contextmanager
def store_away(desk: Desk, write: str) -> Iterator[asyncio.Event]:
    """Nothing can be placed in one step, nor this write be done; the event says: it was tried."""
    assert desk.runtime is not None
    store, tried = desk.runtime.store, asyncio.Event()

    async def fail(*_: Any, **__: Any) -> NoReturn:
        tried.set()
        raise StoreUnavailable("the store is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.risk, "place", fail)
        patch.setattr(store, write, fail)
        yield tried


@pytest.mark.parametrize(
    ("write", "rule"),
    [("admit", submission), ("claim_send", steps)],
    ids=["before it is admitted", "before it is claimed"],
)
async def test_an_order_for_which_the_store_was_away_too_long_is_not_sent(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch, write: str, rule: ModuleType
) -> None:
    """Of the two rules that say so only the one that holds here is made short."""
    monkeypatch.setattr(rule, "LATE_S", 0.5)
    order = an_order()
    order_id = order.client_order_id

    async with working(idle_desk, runner=UnsandboxedWorkflowRunner()):
        with store_away(idle_desk, write):
            await idle_desk.orders.start(order)
            await until(lambda: _waits_to_try_again(idle_desk, order_id))
        state = await idle_desk.until(order_id, is_answer)

    assert (state.status, state.reason_code) == (OrderStatus.REJECTED, ReasonCode.SEND_BY_PASSED)
    assert state.rejected_by is RejectedBy.RISK
    assert idle_desk.exchange.requests() == 0
    assert await idle_desk.store.claims_of(order_id) == []


async def test_a_cancel_that_comes_while_the_store_is_away_prevents_the_send(
    idle_desk: Desk,
) -> None:
    order = an_order()
    order_id = order.client_order_id

    async with working(idle_desk):
        with store_away(idle_desk, "admit") as tried:
            await idle_desk.orders.start(order)
            await tried.wait()
            cancel = asyncio.create_task(idle_desk.cancel(order_id, wait=30))
            await until(lambda: _has_heard(idle_desk, order_id))
        answer = await cancel
        closed = await idle_desk.until_closed(order_id)

    assert (answer.success, answer.outcome) == (True, CancelOutcome.CANCELLED)
    assert closed.state is not None
    assert closed.state.reason_code is ReasonCode.CANCELLED_BEFORE_SEND
    assert idle_desk.exchange.requests() == 0
    assert await idle_desk.store.claims_of(order_id) == []


async def _waits_to_try_again(desk: Desk, order_id: str) -> bool:
    """Whether the pauses have become too long for one task: within it, time stands still."""
    return "TIMER_STARTED" in await desk.history(order_id)


async def _has_heard(desk: Desk, order_id: str) -> bool:
    """Whether the workflow has the cancel: the server keeps it back while a task is at work."""
    return "WORKFLOW_EXECUTION_UPDATE_ACCEPTED" in await desk.history(order_id)
