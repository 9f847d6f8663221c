"""Risk through the whole story: reserved before the send, released by the end, moved by fills."""

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
