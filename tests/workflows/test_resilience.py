"""An order outlives its worker, its store, a hanging exchange and a long history."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner

from activities.risk_desk import RiskDesk
from tests.workflows.desk import Desk, Exchange, a_desk, an_order, until, working
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode
from trading.oms.errors import StartUpError
from workflows import submission

pytestmark = pytest.mark.temporal
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
CANCELLED, PART = OrderStatus.CANCELLED, OrderStatus.PARTIALLY_FILLED


async def test_a_hanging_exchange_does_not_delay_a_cancel_elsewhere(
    temporal_client: Client, sqlite_url: str
) -> None:
    async with a_desk(temporal_client, sqlite_url, exchanges=2, timeout_ms=6000) as desk:
        hanging, healthy = desk.exchanges
        resting = await desk.resting(exchange=healthy.name)
        hanging.fault("reply_delayed_ms", ms=4000, endpoint="POST order")
        stuck = [an_order(exchange=hanging.name) for _ in range(20)]
        for order in stuck:
            await desk.orders.start(order)
        await until(lambda: _all_sent(hanging, 20))

        started = time.perf_counter()
        result = await desk.cancel(resting.client_order_id)
        took_s = time.perf_counter() - started

        assert result.outcome is CancelOutcome.CANCELLED
        assert took_s < 1, took_s
        for order in stuck:
            assert (await desk.state(order.client_order_id)).status is OrderStatus.SUBMITTED
        await desk.until_status(stuck[-1].client_order_id, ACCEPTED)


async def test_more_updates_at_once_than_the_server_takes_are_none_lost(desk: Desk) -> None:
    order_id = (await desk.resting(quantity="0.1")).client_order_id
    handle = desk.handle(order_id)
    there = desk.exchange.orders(status="NEW")[-1]
    for _ in range(30):
        desk.exchange.market("SELL", "30000", "0.001")

    await asyncio.gather(
        *(desk.cancel(order_id, wait=0) for _ in range(5)),
        *(handle.query("state") for _ in range(5)),
        *(desk.oms.modify_order(order_id, new_quantity=Decimal("0.2"), wait=5) for _ in range(20)),
    )

    assert (await desk.until_closed(order_id)).status in {CANCELLED, FILLED}
    executed = sum(
        Decimal(order["executedQty"])
        for order in desk.exchange.orders()
        if int(order["orderId"]) >= int(there["orderId"])
    )
    await desk.until(order_id, lambda state: state.filled_quantity == executed)


async def test_open_orders_go_on_with_another_worker(idle_desk: Desk) -> None:
    desk, exchange = idle_desk, idle_desk.exchange
    async with working(desk):
        filled = (await desk.resting()).client_order_id
        exchange.market("SELL", "30000", "0.004")
        await desk.until_status(filled, PART)
        cancelled = (await desk.resting(price="29000")).client_order_id
        modified = (await desk.resting(price="28000")).client_order_id
        changed = await desk.oms.modify_order(modified, new_price=Decimal(28001))
        assert changed.success

    exchange.market("SELL", "30000", "0.006")
    async with working(desk):
        closed = await desk.until_closed(filled)
        assert closed.state is not None
        assert (closed.status, closed.state.filled_quantity) == (FILLED, Decimal("0.01"))
        assert (await desk.cancel(cancelled)).outcome is CancelOutcome.CANCELLED
        again = await desk.oms.modify_order(modified, new_price=Decimal(28002))
        assert (again.success, again.state and again.state.leg) == (True, 3)
        assert [order["price"] for order in exchange.orders(status="NEW")] == ["28002.00000000"]


async def test_an_order_that_was_started_without_a_worker_is_sent_when_there_is_one(
    idle_desk: Desk,
) -> None:
    order = an_order()
    await idle_desk.orders.start(order)
    assert idle_desk.exchange.requests() == 0

    async with working(idle_desk):
        await idle_desk.until_status(order.client_order_id, ACCEPTED)

    assert len(idle_desk.exchange.orders(status="NEW")) == 1


async def test_an_order_that_waited_too_long_for_a_worker_is_not_sent(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "LATE_S", 0.5)
    order = an_order()
    await idle_desk.orders.start(order)
    await asyncio.sleep(0.6)

    async with working(idle_desk, runner=UnsandboxedWorkflowRunner()):
        ended = await idle_desk.until_status(order.client_order_id, OrderStatus.REJECTED)

    assert ended.reason_code is ReasonCode.SEND_BY_PASSED
    assert idle_desk.exchange.requests() == 0


async def test_a_second_deployment_does_not_start_on_an_account_of_the_first(
    idle_desk: Desk,
) -> None:
    desk, own = idle_desk, idle_desk.settings
    async with working(desk):
        pass
    desk.settings = own.model_copy(update={"deployment": "another"})
    with pytest.raises(StartUpError, match=r"and this is .another. "):
        async with working(desk):
            pytest.fail("it has started")

    await desk.store.upkeep.let_go(desk.exchange.name, "main")
    async with working(desk):
        await desk.resting()


async def test_an_order_waits_for_a_store_that_is_away(
    temporal_client: Client, tmp_path: Path
) -> None:
    file = tmp_path / "store.sqlite3"
    async with a_desk(temporal_client, f"sqlite:///{file}") as desk:
        resting = (await desk.resting()).client_order_id
        new = an_order(price="29000")
        with closing(sqlite3.connect(file, isolation_level=None)) as hand:
            hand.execute("BEGIN EXCLUSIVE")
            await desk.orders.start(new)
            desk.exchange.market("SELL", "30000", "0.004")
            cancel = asyncio.create_task(desk.cancel(resting, wait=30))
            await until(lambda: _has_been_asked(desk, resting))
            assert not cancel.done()
            hand.execute("ROLLBACK")

        assert (await cancel).outcome is CancelOutcome.CANCELLED
        await desk.until_status(new.client_order_id, ACCEPTED)
        await desk.until(resting, lambda state: state.filled_quantity == Decimal("0.004"))
        assert len(desk.exchange.orders(status="NEW")) == 1


async def test_a_worker_stops_although_a_step_cannot_be_taken(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("the store is away")

    order = an_order()
    with monkeypatch.context() as patch:
        patch.setattr(RiskDesk, "wish", fail)
        async with working(idle_desk):
            await idle_desk.orders.start(order)
            await until(lambda: _reached(lambda: tries, 3))
            started = time.perf_counter()
        assert time.perf_counter() - started < 8

    async with working(idle_desk):
        await idle_desk.until_status(order.client_order_id, ACCEPTED)
    assert len(idle_desk.exchange.orders(status="NEW")) == 1


async def test_a_look_up_about_an_old_send_does_not_end_a_new_doubt(desk: Desk) -> None:
    """A modification is in doubt while the look-up of the first doubt still waits."""
    exchange = desk.exchange
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    exchange.fault("rate_429", count=1, retry_after="0.1", endpoint="GET time")
    result = await desk.submit()
    await desk.until_status(result.order_id, ACCEPTED)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order")

    changed = await desk.oms.modify_order(result.order_id, new_price=Decimal(30100), wait=20)

    assert (changed.success, changed.status) == (True, ACCEPTED)
    assert (await desk.state(result.order_id)).in_doubt_since is None


async def _reached(count: Callable[[], int], number: int) -> bool:
    return count() >= number


async def _all_sent(exchange: Exchange, number: int) -> bool:
    return exchange.requests() >= number


async def _has_been_asked(desk: Desk, order_id: str) -> bool:
    history = await desk.history(order_id)
    return "WORKFLOW_TASK_STARTED" in history[-3:] and len(history) > 8
