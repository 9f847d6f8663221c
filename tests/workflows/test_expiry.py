"""Orders with a time at which they end."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.workflows.another_try import never_reached, sent_once_more
from tests.workflows.desk import Desk, Exchange, an_order, until, working
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode
from workflows import expiry

pytestmark = pytest.mark.temporal
EXPIRED = OrderStatus.EXPIRED


def in_s(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize("skew_ms", [0, -3000, 3000], ids=["", "slow clock", "fast clock"])
async def test_an_order_expires_at_its_time(desk: Desk, exchange: Exchange, skew_ms: int) -> None:
    exchange.fault("clock_skew_ms", ms=skew_ms)
    await _look_at_the_clock(desk)
    expire_at = in_s(3)
    order_id = (await desk.resting(time_in_force="GTD", expire_at=expire_at)).client_order_id

    closed = await desk.until_closed(order_id)
    exchange.clear()
    await _look_at_the_clock(desk)

    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (EXPIRED, ReasonCode.EXPIRY_REACHED)
    assert datetime.now(UTC) >= expire_at
    assert exchange.orders()[-1]["status"] == "CANCELED"
    assert "order_expired" in await desk.names(order_id)


async def test_a_part_that_was_filled_stays_filled(desk: Desk, exchange: Exchange) -> None:
    order = await desk.resting(time_in_force="GTD", expire_at=in_s(1.2))
    exchange.market("SELL", "30000", "0.004")

    closed = await desk.until_closed(order.client_order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (EXPIRED, Decimal("0.004"))


async def test_a_whole_fill_wins_the_race_with_the_expiry(desk: Desk, exchange: Exchange) -> None:
    order = await desk.resting(time_in_force="GTD", expire_at=in_s(1.2))
    exchange.fault("stream_delay_ms", ms=2500, event="executionReport")
    exchange.market("SELL", "30000", "0.01")

    closed = await desk.until_closed(order.client_order_id)

    assert closed.status is OrderStatus.FILLED


async def test_an_order_that_ends_before_its_expiry_waits_for_nothing(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting(time_in_force="GTD", expire_at=in_s(3600))).client_order_id

    result = await desk.cancel(order_id)

    assert result.outcome is CancelOutcome.CANCELLED
    closed = await desk.until_closed(order_id)
    assert closed.status is OrderStatus.CANCELLED
    assert (await desk.history(order_id)).count("TIMER_FIRED") == 0


async def test_an_order_that_expires_before_it_could_be_sent_is_not_sent(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("rate_429", count=1, retry_after="30", endpoint="POST order")
    before = exchange.requests()

    submitted = await desk.submit(time_in_force="GTD", expire_at=in_s(0.8))
    closed = await desk.until_closed(submitted.order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (EXPIRED, ReasonCode.EXPIRY_REACHED)
    assert exchange.requests() == before + 1
    assert exchange.orders(status="NEW") == []


async def test_an_order_whose_time_has_passed_is_not_sent(desk: Desk, exchange: Exchange) -> None:
    before = exchange.requests()

    result = await desk.submit(time_in_force="GTD", expire_at=in_s(-1))

    assert (result.success, result.reason_code) == (False, ReasonCode.SEND_BY_PASSED)
    assert exchange.requests() == before


async def test_an_order_that_comes_back_to_life_expires_at_its_time(
    desk: Desk, exchange: Exchange
) -> None:
    """Its run has begun with a rejected order, of which a late report says that it lives."""
    exchange.fault("accept_delayed_ms", ms=2600, ignore_fence=True, count=1, endpoint="POST order")
    expire_at = in_s(5)
    result = await desk.submit(if_not_placed="reject", time_in_force="GTD", expire_at=expire_at)
    assert (await desk.until_closed(result.order_id)).status is OrderStatus.REJECTED
    await desk.until_status(result.order_id, OrderStatus.ACCEPTED)

    closed = await desk.until_closed(result.order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (EXPIRED, ReasonCode.EXPIRY_REACHED)
    assert datetime.now(UTC) >= expire_at
    assert exchange.orders()[-1]["status"] == "CANCELED"


async def test_an_order_that_expires_while_another_has_sent_it_is_cancelled(
    desk: Desk, exchange: Exchange
) -> None:
    """Its run waits to send it again; the task that it repeats has done so."""
    exchange.fault("stream_drop")
    exchange.fault("rate_429", retry_after="30", endpoint="POST order", count=1)
    order = an_order(time_in_force="GTD", expire_at=in_s(3))
    order_id = order.client_order_id
    await desk.orders.start(order)

    await until(lambda: never_reached(desk, order_id))
    await desk.lift_pauses()
    await sent_once_more(desk, order_id)
    assert exchange.orders()[-1]["status"] == "NEW"

    closed = await desk.until_closed(order_id)

    assert closed.status is EXPIRED
    assert exchange.orders()[-1]["status"] == "CANCELED"


async def test_an_order_that_expires_in_doubt_ends_as_expired(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("http_503", count=1, endpoint="POST order")
    _let_answers_take(desk, 4000)
    expire_at = in_s(3)
    result = await desk.submit(time_in_force="GTD", expire_at=expire_at)
    assert result.in_doubt
    await asyncio.sleep((expire_at - datetime.now(UTC)).total_seconds() + 0.1)
    known = await desk.store.order(result.order_id)
    assert known is not None
    assert known.in_doubt_since is not None

    closed = await desk.until_closed(result.order_id)

    assert closed.status is EXPIRED
    assert exchange.orders(status="NEW") == []


async def test_an_order_that_lives_on_after_its_expiry_is_alarmed(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cancel comes through."""
    monkeypatch.setattr(expiry, "_LATE_EXPIRY_S", 1.0)
    desk, exchange = idle_desk, idle_desk.exchange
    async with working(desk, runner=UnsandboxedWorkflowRunner()):
        exchange.fault("http_503", endpoint="DELETE order")
        expire_at = in_s(2)
        order_id = (await desk.resting(time_in_force="GTD", expire_at=expire_at)).client_order_id

        alarms = await until(lambda: desk.alarms(order_id))

        assert alarms == ["still open 1 s after its expiry"]
        assert datetime.now(UTC) >= expire_at + timedelta(seconds=1)
        exchange.clear()
        assert (await desk.until_closed(order_id)).status is EXPIRED


def _let_answers_take(desk: Desk, ms: int) -> None:
    """Nothing is proved not placed before then."""
    assert desk.runtime is not None
    for connector in desk.runtime.parts.connectors.values():
        longer = {"processing_bound_ms": ms}
        connector.capabilities = connector.capabilities.model_copy(update=longer)


async def _look_at_the_clock(desk: Desk) -> None:
    assert desk.runtime is not None
    for connector in desk.runtime.parts.connectors.values():
        await connector.server_time()
