"""Risk through the whole story: reserved before the send, released by the end, moved by fills."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from temporalio.client import Client

from activities.store.account_book import AccountBook
from tests.workflows.desk import Desk, a_desk
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy
from trading.oms.models import Order
from trading.oms.portfolio import Portfolio
from trading.oms.risk.checker import RiskChecker
from trading.oms.risk.limits import RiskLimits
from workers.composition import Choices

pytestmark = pytest.mark.temporal
LIMITS = RiskLimits(max_price_deviation=None, max_open_orders=3)


async def never_thirteen(order: Order, _: Portfolio) -> bool:
    return order.quantity != 13


@pytest.fixture
async def strict(temporal_client: Client, sqlite_url: str) -> AsyncIterator[Desk]:
    """A desk with limits and a custom check; its account has 10,000,000 USDT and 100 BTC."""
    checker = RiskChecker(LIMITS)
    checker.add_check("never_thirteen", never_thirteen)
    choices = Choices(risk_checker=checker)
    async with a_desk(temporal_client, sqlite_url, choices=choices) as desk:
        yield desk


async def book(desk: Desk) -> AccountBook:
    return await desk.store.risk.book(desk.exchange.name, "main")


async def test_capital_is_reserved_changed_moved_and_released(strict: Desk) -> None:
    desk = strict
    order_id = (await desk.resting(quantity="200")).client_order_id
    assert (await book(desk)).reserved("USDT") == 6_000_000

    denied = await desk.submit(quantity="200")
    assert (denied.success, denied.rejected_by) == (False, RejectedBy.RISK)
    assert denied.reason_code is ReasonCode.INSUFFICIENT_FUNDS
    (entry,) = [e for e in await desk.journal(denied.order_id) if e.name == "order_rejected"]
    assert entry.details is not None
    assert entry.details["numbers"] == {"required": "6000000", "available": "4000000"}
    assert len(desk.exchange.orders()) == 1

    too_much = await desk.oms.modify_order(order_id, new_quantity=Decimal(400))
    assert (too_much.success, too_much.reason_code) == (False, ReasonCode.INSUFFICIENT_FUNDS)
    more = await desk.oms.modify_order(order_id, new_quantity=Decimal(300))
    assert more.success, more.error
    assert (await book(desk)).reserved("USDT") == 9_000_000

    desk.exchange.market("SELL", "30000", "100")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    after = await book(desk)
    assert after.reserved("USDT") == 6_000_000
    assert after.open_orders() == 1
    assert after.position("BTC/USDT") > 199  # 100 were there, 100 came, less the fee.

    cancelled = await desk.cancel(order_id)
    assert cancelled.outcome is CancelOutcome.CANCELLED
    after = await book(desk)
    assert after.reserved("USDT") == 0
    assert after.open_orders() == 0
    assert after.available("USDT") <= 7_000_000


async def test_the_count_and_custom_checks_deny(strict: Desk) -> None:
    for _ in range(3):
        await strict.resting(quantity="1")
    full = await strict.submit(quantity="1")
    assert full.reason_code is ReasonCode.ORDER_COUNT_LIMIT
    thirteen = await strict.submit(quantity="13")
    assert thirteen.reason_code is ReasonCode.RISK_CHECK_FAILED
    assert "never_thirteen" in str(thirteen.error)
    assert (await book(strict)).open_orders() == 3


async def test_a_replacement_whose_old_order_took_long_to_end_is_checked_again(
    temporal_client: Client, sqlite_url: str
) -> None:
    """Nobody knew for more than a second whether it was cancelled, and the market has moved."""
    market = {"is calm": True}

    async def calm(_order: Order, _: Portfolio) -> bool:
        return market["is calm"]

    checker = RiskChecker(LIMITS)
    checker.add_check("calm", calm)
    async with a_desk(temporal_client, sqlite_url, choices=Choices(risk_checker=checker)) as desk:
        desk.replaces_at_once(at_once=False)
        order_id = (await desk.resting(quantity="1")).client_order_id
        desk.exchange.fault("http_503", endpoint="DELETE order")
        change = asyncio.create_task(
            desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
        )
        await desk.until(order_id, lambda state: state.replacing)
        market["is calm"] = False
        await asyncio.sleep(1.2)
        desk.exchange.clear()

        result = await change

        assert (result.success, result.status) == (False, OrderStatus.CANCELLED)
        assert "calm" in str(result.error)
        closed = await desk.until_closed(order_id)
        assert closed.state is not None
        assert closed.state.reason_code is ReasonCode.RISK_CHECK_FAILED
        assert desk.exchange.orders(status="NEW") == []
        assert (await book(desk)).open_orders() == 0
