"""A send that was proved absent shows life before the order is sent again."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from activities.store import TradingState, resend_scope
from tests.workflows.desk import Desk, Exchange, an_order
from tests.workflows.test_rate_limits import ORDERS, pause
from tests.workflows.test_verdicts import in_doubt, no_look_by_the_clock
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.models import OrderState

pytestmark = pytest.mark.temporal
__all__ = ["no_look_by_the_clock"]
PART = OrderStatus.PARTIALLY_FILLED


@pytest.fixture(autouse=True)
async def may_send_again(desk: Desk, exchange: Exchange) -> AsyncIterator[None]:
    """A send that was proved absent and lives stops resending on its account."""
    yield
    await desk.oms.allow_resending(exchange.name, "main", "explained", by="ann")


async def test_what_lives_is_not_sent_again_when_its_slot_comes(
    desk: Desk, exchange: Exchange
) -> None:
    doubted = await revived_while_it_waits(desk, exchange, wait_s=3)
    order_id, sent = doubted.client_order_id, exchange.requests()

    await asyncio.sleep(4)

    assert exchange.requests() == sent
    (there,) = exchange.orders(status="PARTIALLY_FILLED")
    assert there["clientOrderId"] == doubted.exchange_client_id
    assert len(await desk.store.claims_of(order_id)) == 1
    assert any("which was proved not to be placed" in one for one in await desk.alarms(order_id))
    scope = resend_scope(exchange.name, "main")
    assert (await desk.store.trading_states())[scope] is TradingState.HALTED
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED


async def test_what_lives_is_cancelled_at_the_exchange(desk: Desk, exchange: Exchange) -> None:
    doubted = await revived_while_it_waits(desk, exchange, wait_s=15)

    answer = await desk.cancel(doubted.client_order_id)

    assert (answer.outcome, answer.filled_quantity) == (CancelOutcome.CANCELLED, Decimal("0.001"))
    assert exchange.orders(status="PARTIALLY_FILLED") == []
    assert (await desk.until_closed(doubted.client_order_id)).status is OrderStatus.CANCELLED


async def test_an_order_that_comes_after_its_fence_while_the_next_waits_is_one_order(
    desk: Desk, exchange: Exchange
) -> None:
    """Proved absent by the order's own rule; the slot of the next send is seconds away."""
    exchange.fault("accept_delayed_ms", ms=7000, ignore_fence=True, count=1, endpoint="POST order")
    order, sent = an_order(), exchange.requests()
    order_id = order.client_order_id
    submitting = asyncio.create_task(desk.oms.submit_order(order))
    await desk.until(order_id, lambda state: state.in_doubt_since is not None)
    pause(desk, ORDERS, 12)
    await submitting

    await desk.until_status(order_id, OrderStatus.ACCEPTED)
    await desk.lift_pauses()
    await asyncio.sleep(6)

    assert exchange.requests() == sent + 1
    assert len(exchange.orders(status="NEW")) == 1
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []


async def revived_while_it_waits(desk: Desk, exchange: Exchange, *, wait_s: float) -> OrderState:
    """An operator has it sent again, the slot for that is a while off, and the first one fills."""
    doubted = await in_doubt(desk, exchange)
    order_id = doubted.client_order_id
    pause(desk, ORDERS, wait_s)
    await desk.oms.resolve_order(order_id, "retry", "they have none", by="ann", wait=1)
    exchange.clear()
    exchange.market("SELL", "30000", "0.001")
    return await desk.until_status(order_id, PART)
