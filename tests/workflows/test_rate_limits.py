"""Orders that wait for a slot in the exchange's rate limit."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client

from activities.rate_desk import RateDesk
from activities.store import TradingState
from tests.workflows.desk import Desk, Exchange, a_desk, an_order, until
from trading.oms.enums import OrderStatus, ReasonCode
from trading.oms.models import Order, OrderResult
from trading.oms.portfolio import Portfolio
from trading.oms.rate_ledger import EVERYTHING
from trading.oms.risk.checker import RiskChecker
from trading.oms.risk.limits import RiskLimits
from workers.composition import Choices

pytestmark = pytest.mark.temporal
ORDERS = "orders_10s:main"


def pause(desk: Desk, name: str, seconds: float) -> None:
    """As if the exchange had asked for it."""
    assert desk.runtime is not None
    rates = desk.runtime.parts.rate_limits
    assert isinstance(rates, RateDesk)
    rates._leases[desk.exchange.name].pause(name, seconds)


async def shown(desk: Desk, order_id: str) -> str:
    found = await desk.handle(order_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return str(found.current_details)


@pytest.fixture
async def waiting(desk: Desk) -> AsyncIterator[tuple[Order, asyncio.Task[OrderResult]]]:
    """An order whose slot is seconds away, and its submission."""
    order, submitting = await submitted_to_wait(desk)
    yield order, submitting
    await submitting


async def submitted_to_wait(desk: Desk) -> tuple[Order, asyncio.Task[OrderResult]]:
    pause(desk, ORDERS, 4)
    order = an_order()
    submitting = asyncio.create_task(desk.oms.submit_order(order))

    async def says_so() -> Any:
        known = await desk.store.order(order.client_order_id)
        return known and "rate limit" in await shown(desk, order.client_order_id)

    await until(says_so)
    return order, submitting


async def test_an_order_waits_for_its_slot_by_a_timer_and_is_sent_once(
    desk: Desk, exchange: Exchange, waiting: tuple[Order, asyncio.Task[OrderResult]]
) -> None:
    order, submitting = waiting
    assert exchange.orders(status="NEW") == []

    result = await submitting

    assert result.status is OrderStatus.ACCEPTED
    assert len(exchange.orders(status="NEW")) == 1
    assert (await desk.history(order.client_order_id)).count("TIMER_FIRED") == 1
    assert "rate limit" not in await shown(desk, order.client_order_id)


async def test_an_order_that_has_waited_for_its_slot_is_checked_again(
    temporal_client: Client, sqlite_url: str
) -> None:
    """The market has moved meanwhile."""
    market = {"is calm": True}

    async def calm(_order: Order, _: Portfolio) -> bool:
        return market["is calm"]

    checker = RiskChecker(RiskLimits(max_price_deviation=None))
    checker.add_check("calm", calm)
    async with a_desk(temporal_client, sqlite_url, choices=Choices(risk_checker=checker)) as desk:
        _, submitting = await submitted_to_wait(desk)
        market["is calm"] = False

        result = await submitting

        assert (result.status, result.reason_code) == (
            OrderStatus.REJECTED,
            ReasonCode.RISK_CHECK_FAILED,
        )
        assert desk.exchange.orders() == []


async def test_a_halt_stops_an_order_that_waits_for_its_slot(
    desk: Desk, exchange: Exchange, waiting: tuple[Order, asyncio.Task[OrderResult]]
) -> None:
    _, submitting = waiting
    await desk.store.set_trading_state("all", TradingState.HALTED, by="test")

    result = await submitting

    assert (result.status, result.reason_code) == (
        OrderStatus.REJECTED,
        ReasonCode.TRADING_HALTED,
    )
    assert exchange.orders(status="NEW") == []


async def test_a_cancel_ends_an_order_that_waits_for_its_slot(
    desk: Desk, exchange: Exchange, waiting: tuple[Order, asyncio.Task[OrderResult]]
) -> None:
    order, _ = waiting
    cancelled = await desk.cancel(order.client_order_id)
    assert cancelled.success
    assert (await desk.until_closed(order.client_order_id)).status is OrderStatus.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_slot_after_send_by_is_a_denial_at_once(desk: Desk, exchange: Exchange) -> None:
    pause(desk, ORDERS, 20)
    began = datetime.now(UTC)

    result = await desk.submit(send_by=began + timedelta(seconds=10))

    assert (result.status, result.reason_code) == (OrderStatus.REJECTED, ReasonCode.RATE_LIMITED)
    assert datetime.now(UTC) - began < timedelta(seconds=9)
    assert exchange.orders(status="NEW") == []


async def test_a_cancel_is_sent_while_orders_pause_and_waits_while_everything_does(
    desk: Desk,
) -> None:
    one, other = await desk.resting(), await desk.resting()
    pause(desk, ORDERS, 30)
    assert (await desk.cancel(one.client_order_id)).outcome.value == "cancelled"
    pause(desk, EVERYTHING, 1)
    began = datetime.now(UTC)
    assert (await desk.cancel(other.client_order_id)).outcome.value == "cancelled"
    assert datetime.now(UTC) - began > timedelta(seconds=0.8)
