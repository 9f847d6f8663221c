"""Cancelling many at once: one request for a symbol where only ours rest, and each order's own."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import cast

import pytest

from activities.store import Store
from tests.workflows.desk import Desk
from tests.workflows.elsewhere import place_elsewhere
from trading.oms.cli.halt import Scope, cancel_many
from trading.oms.cli.target import Target
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode
from trading.oms.models import CancelResult, OrderState
from trading.oms.order_manager import OrderManager

pytestmark = pytest.mark.temporal
ALL = "DELETE openOrders"
LONG = pytest.mark.skipif(not os.environ.get("CHAOS_LONG"), reason="takes long; set CHAOS_LONG=1")


class Beside:
    """The target of a command that runs beside the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @asynccontextmanager
    async def orders(self) -> AsyncIterator[OrderManager]:
        yield self._desk.oms

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        yield self._desk.store


async def cancelled(desk: Desk, scope: Scope) -> list[CancelResult]:
    return await cancel_many(cast("Target", Beside(desk)), scope, "a storm")


async def resting(desk: Desk, count: int, **fields: str) -> list[OrderState]:
    """So many orders at rest, each at another price; four at a time."""
    slots = asyncio.Semaphore(4)

    async def one(number: int) -> OrderState:
        async with slots:
            result = await desk.submit(price=str(Decimal(20000 + number)), **fields)
        return await desk.until_status(result.order_id, OrderStatus.ACCEPTED)

    return await asyncio.gather(*(one(number) for number in range(count)))


def is_ended(desk: Desk) -> bool:
    return not desk.exchange.orders(status="NEW")


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=LONG)])
async def test_one_request_cancels_many_orders_and_each_knows_why(desk: Desk, count: int) -> None:
    orders = await resting(desk, count)
    before = [desk.exchange.requests(one) for one in (ALL, "DELETE order")]

    answers = await cancelled(desk, Scope(symbol="BTC/USDT"))

    assert [one.outcome for one in answers] == [CancelOutcome.CANCELLED] * count
    assert is_ended(desk)
    asked = [desk.exchange.requests(one) for one in (ALL, "DELETE order")]
    assert asked[0] - before[0] == 1
    # An order's own cancel asks the exchange only where the stream was late to tell of its end.
    assert asked[1] - before[1] <= count / 4
    for order in orders:
        state = await desk.state(order.client_order_id)
        assert (state.status, state.reason_code) == (
            OrderStatus.CANCELLED, ReasonCode.CANCEL_REQUESTED
        )  # fmt: skip


async def test_where_somebody_elses_order_rests_each_is_cancelled_alone(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = await resting(desk, 5)
    await place_elsewhere(desk, "not-ours-1")
    before = desk.exchange.requests(ALL)

    answers = await cancelled(desk, Scope())

    assert [one.outcome for one in answers] == [CancelOutcome.CANCELLED] * 5
    assert {one.order_id for one in answers} == {order.client_order_id for order in orders}
    assert desk.exchange.requests(ALL) == before
    assert [one["clientOrderId"] for one in desk.exchange.orders(status="NEW")] == ["not-ours-1"]
    told = capsys.readouterr().err
    assert f"BTC/USDT at {desk.exchange.name}: one by one, because not-ours-1 is somebody" in told


async def test_a_strategys_orders_are_cancelled_alone(desk: Desk) -> None:
    await resting(desk, 4, strategy_id="stormy")
    (other,) = await resting(desk, 1)
    before = desk.exchange.requests(ALL)

    answers = await cancelled(desk, Scope(strategy="stormy"))

    assert [one.outcome for one in answers] == [CancelOutcome.CANCELLED] * 4
    assert desk.exchange.requests(ALL) == before
    assert (await desk.state(other.client_order_id)).status is OrderStatus.ACCEPTED


@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_without_an_answer_to_it_each_order_finds_out(desk: Desk, order: str) -> None:
    await resting(desk, 4)
    desk.exchange.fault("reply_lost", order=order, endpoint=ALL)

    answers = await cancelled(desk, Scope(symbol="BTC/USDT"))

    assert [one.outcome for one in answers] == [CancelOutcome.CANCELLED] * 4
    assert desk.exchange.hits("reply_lost") == 1  # It is not asked for again.
    assert is_ended(desk)


async def test_where_the_open_orders_cannot_be_read_each_is_cancelled_alone(desk: Desk) -> None:
    await resting(desk, 4)
    desk.exchange.fault("row_garbled", endpoint="GET openOrders")
    before = desk.exchange.requests(ALL)

    answers = await cancelled(desk, Scope())

    assert [one.outcome for one in answers] == [CancelOutcome.CANCELLED] * 4
    assert desk.exchange.requests(ALL) == before
