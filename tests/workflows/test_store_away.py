"""The worker's store is away for a moment while an order is on its way to the exchange."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

import pytest
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.workflows.desk import Desk, an_order, until, working
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy
from trading.oms.errors import StoreUnavailable
from workflows import steps, submission

pytestmark = pytest.mark.temporal
LATE_S = 0.5
"""What stands for the minute within which an order may still be sent."""


@contextmanager
def store_away(desk: Desk, write: str) -> Iterator[list[str]]:
    """Nothing can be placed in one step, nor this write be done; gives what was tried."""
    assert desk.runtime is not None
    store, tried = desk.runtime.store, list[str]()

    async def fail_to_place(*_: Any, **__: Any) -> NoReturn:
        tried.append("place")
        raise StoreUnavailable("the store is away")

    async def fail_to_write(*_: Any, **__: Any) -> NoReturn:
        tried.append(write)
        raise StoreUnavailable("the store is away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.risk, "place", fail_to_place)
        patch.setattr(store, write, fail_to_write)
        yield tried


@pytest.mark.parametrize(
    ("write", "rule"),
    [("admit", submission), ("claim_send", steps)],
    ids=["before it is admitted", "before it is claimed"],
)
async def test_an_order_for_which_the_store_was_away_too_long_is_not_sent(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch, write: str, rule: ModuleType
) -> None:
    """Of the two rules that say so only the one is made short that holds here."""
    monkeypatch.setattr(rule, "LATE_S", LATE_S)
    order = an_order()

    async with working(idle_desk, runner=UnsandboxedWorkflowRunner()):
        with store_away(idle_desk, write) as tried:
            await idle_desk.orders.start(order)
            await until(lambda: _many(tried, 2))
            await asyncio.sleep(LATE_S + 0.1)
        closed = await idle_desk.until_closed(order.client_order_id)

    assert (closed.status, closed.reason_code) == (OrderStatus.REJECTED, ReasonCode.SEND_BY_PASSED)
    assert closed.rejected_by is RejectedBy.RISK
    assert idle_desk.exchange.requests() == 0
    assert await idle_desk.store.claims_of(order.client_order_id) == []


async def test_a_cancel_that_comes_while_the_store_is_away_prevents_the_send(
    idle_desk: Desk,
) -> None:
    order = an_order()
    order_id = order.client_order_id

    async with working(idle_desk):
        with store_away(idle_desk, "admit") as tried:
            await idle_desk.orders.start(order)
            await until(lambda: _many(tried, 1))
            cancel = asyncio.create_task(idle_desk.cancel(order_id, wait=30))
            await until(lambda: _has_heard(idle_desk, order_id))
        answer = await cancel
        closed = await idle_desk.until_closed(order_id)

    assert (answer.success, answer.outcome) == (True, CancelOutcome.CANCELLED)
    assert closed.state is not None
    assert closed.state.reason_code is ReasonCode.CANCELLED_BEFORE_SEND
    assert idle_desk.exchange.requests() == 0
    assert await idle_desk.store.claims_of(order_id) == []


async def _many(tried: list[str], number: int) -> bool:
    return len(tried) >= number


async def _has_heard(desk: Desk, order_id: str) -> bool:
    """Whether the workflow has the update; while a task of it runs, the server keeps it back."""
    return "WORKFLOW_EXECUTION_UPDATE_ACCEPTED" in await desk.history(order_id)
