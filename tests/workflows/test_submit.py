"""Submitting: what becomes of an order at once, and that it is sent once."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.store import TradingState
from tests.workflows.desk import Desk, Exchange, an_order
from trading.oms.enums import OrderStatus, ReasonCode, RejectedBy

pytestmark = pytest.mark.temporal
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
REJECTED, EXPIRED = OrderStatus.REJECTED, OrderStatus.EXPIRED
HALF = Decimal("0.005")


async def test_an_order_that_rests_is_accepted(desk: Desk, exchange: Exchange) -> None:
    result = await desk.submit()

    assert (result.success, result.status, result.error) == (True, ACCEPTED, None)
    (there,) = exchange.orders(status="NEW")
    state = await desk.state(result.order_id)
    assert state.exchange_order_id == str(there["orderId"])
    assert state.exchange_client_id == there["clientOrderId"]
    assert (state.exchange, state.account) == (exchange.name, "main")
    assert await desk.names(result.order_id) == [
        "order_created", "order_routed", "order_pending", "order_leg_started", "order_submitted",
        "order_accepted",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["limit", "market"])
async def test_a_marketable_order_is_filled_in_the_answer(
    desk: Desk, exchange: Exchange, kind: str
) -> None:
    exchange.market("SELL", "29000", "0.004", "GTC")
    exchange.market("SELL", "29500", "0.006", "GTC")

    result = await desk.submit(order_type=kind)

    assert (result.success, result.status) == (True, FILLED)
    state = await desk.state(result.order_id)
    assert (state.filled_quantity, state.remaining_quantity) == (Decimal("0.01"), Decimal(0))
    assert state.average_fill_price == Decimal(29300)
    assert state.fees_by_currency == {"BTC": Decimal("0.00001")}
    closed = await desk.until_closed(result.order_id)
    assert closed.status is FILLED
    assert (await desk.names(result.order_id))[-4:] == [
        "order_fill", "order_partially_filled", "order_fill", "order_filled",
    ]  # fmt: skip


async def test_fills_from_the_market_arrive_one_by_one(desk: Desk, exchange: Exchange) -> None:
    order = await desk.resting()
    order_id = order.client_order_id

    exchange.market("SELL", "30000", "0.003")
    part = await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    exchange.market("SELL", "30000", "0.002")
    await desk.until(order_id, lambda state: state.filled_quantity == HALF)
    exchange.market("SELL", "30000", "0.005")
    result = await desk.until_closed(order_id)

    assert part.filled_quantity == Decimal("0.003")
    assert result.status is FILLED
    assert [fill.quantity for fill in await desk.store.fills(order_id)] == [
        Decimal("0.003"), Decimal("0.002"), HALF,
    ]  # fmt: skip
    names = await desk.names(order_id)
    assert (names.count("order_fill"), names.count("order_filled")) == (3, 1)


async def test_an_ioc_order_expires_with_what_it_got(desk: Desk, exchange: Exchange) -> None:
    exchange.market("SELL", "30000", "0.005", "GTC")

    result = await desk.submit(time_in_force="IOC")

    assert result.status is EXPIRED
    closed = await desk.until_closed(result.order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (EXPIRED, HALF)


@pytest.mark.parametrize(("offered", "status"), [("0.005", EXPIRED), ("0.01", FILLED)])
async def test_a_fok_order_gets_all_or_nothing(
    desk: Desk, exchange: Exchange, offered: str, status: OrderStatus
) -> None:
    exchange.market("SELL", "30000", offered, "GTC")

    result = await desk.submit(time_in_force="FOK")

    assert result.status is status
    assert result.state is not None
    assert result.state.filled_quantity == (Decimal("0.01") if status is FILLED else 0)


async def test_a_post_only_order_that_would_take_is_rejected(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.market("SELL", "29000", "1", "GTC")

    result = await desk.submit(post_only=True)

    assert (result.success, result.status) == (False, REJECTED)
    assert result.rejected_by is RejectedBy.EXCHANGE
    assert "immediately match and take" in str(result.error)


async def test_the_exchanges_rejection_has_its_code_and_text(
    desk: Desk, exchange: Exchange
) -> None:
    result = await desk.submit(quantity="290", price="30000", side="sell")

    assert (result.success, result.status) == (False, REJECTED)
    assert (result.rejected_by, result.reason_code) == (
        RejectedBy.EXCHANGE, ReasonCode.EXCHANGE_REJECTED,
    )  # fmt: skip
    assert "-2010" in str(result.error)
    assert "insufficient balance" in str(result.error)
    assert (await desk.until_closed(result.order_id)).status is REJECTED


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"price": "30000.001"}, ReasonCode.PRICE_OFF_TICK, "30000.001"),
        ({"quantity": "0.0100001"}, ReasonCode.QUANTITY_OFF_LOT, "0.0100001"),
        ({"quantity": "0.0001", "price": "1000"}, ReasonCode.NOTIONAL_TOO_SMALL, "0.1"),
        ({"quantity": "9001"}, ReasonCode.QUANTITY_TOO_LARGE, "9001"),
        ({"symbol": "DOGE/USDT"}, ReasonCode.UNKNOWN_SYMBOL, "DOGE/USDT"),
        ({"exchange": "nowhere"}, ReasonCode.NO_EXCHANGE, "nowhere"),
        ({"account": "nobody"}, ReasonCode.NO_EXCHANGE, "nobody"),
    ],
)
async def test_a_denied_order_is_not_sent(
    desk: Desk, exchange: Exchange, fields: dict[str, Any], code: ReasonCode, words: str
) -> None:
    before = exchange.requests()

    result = await desk.submit(**fields)

    assert (result.success, result.status) == (False, REJECTED)
    assert (result.rejected_by, result.reason_code) == (RejectedBy.RISK, code)
    assert words in str(result.error)
    assert exchange.requests() == before
    assert await desk.store.claims_of(result.order_id) == []
    assert (await desk.until_closed(result.order_id)).status is REJECTED


async def test_an_order_is_not_sent_after_its_send_by_time(desk: Desk, exchange: Exchange) -> None:
    before = exchange.requests()

    result = await desk.submit(send_by=datetime.now(UTC) - timedelta(seconds=1))

    assert (result.status, result.reason_code) == (REJECTED, ReasonCode.SEND_BY_PASSED)
    assert exchange.requests() == before


async def test_an_order_is_not_sent_while_trading_is_halted(desk: Desk, exchange: Exchange) -> None:
    before = exchange.requests()
    await desk.store.set_trading_state("all", TradingState.HALTED, by="a test")
    try:
        result = await desk.submit()
    finally:
        await desk.store.set_trading_state("all", TradingState.ACTIVE, by="a test")

    assert (result.status, result.reason_code) == (REJECTED, ReasonCode.TRADING_HALTED)
    assert exchange.requests() == before


async def test_the_same_order_again_is_the_same_order(desk: Desk, exchange: Exchange) -> None:
    order = an_order()

    results = await asyncio.gather(*(desk.oms.submit_order(order) for _ in range(5)))
    again = await desk.oms.submit_order(order)

    assert {result.status for result in (*results, again)} == {ACCEPTED}
    assert len(exchange.orders(status="NEW")) == 1


async def test_the_same_order_again_after_its_end_is_the_same_order(
    desk: Desk, exchange: Exchange
) -> None:
    order = an_order()
    await desk.oms.submit_order(order)
    await desk.cancel(order.client_order_id)
    await desk.until_closed(order.client_order_id)
    sent = exchange.requests()

    again = await desk.oms.submit_order(order)

    assert again.status is OrderStatus.CANCELLED
    assert again.order_id == order.client_order_id
    assert exchange.requests() == sent


@pytest.mark.parametrize("ended", [False, True], ids=["while it is open", "after its end"])
async def test_another_order_under_a_known_id_is_refused_with_the_difference(
    desk: Desk, exchange: Exchange, *, ended: bool
) -> None:
    order = an_order()
    await desk.oms.submit_order(order)
    if ended:
        await desk.cancel(order.client_order_id)
        await desk.until_closed(order.client_order_id)
    sent = exchange.requests()

    other = order.model_copy(update={"quantity": Decimal("0.02")})
    result = await desk.oms.submit_order(other)

    assert not result.success
    assert result.reason_code is ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT
    assert "quantity is 0.02, the known order has 0.01" in str(result.error)
    assert exchange.requests() == sent
    assert (await desk.state(order.client_order_id)).quantity == Decimal("0.01")


async def test_an_order_waits_while_the_exchange_asks_for_a_pause(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("rate_429", count=2, retry_after="0.3", endpoint="POST order")

    result = await desk.submit()

    assert result.status is ACCEPTED
    assert len(exchange.orders(status="NEW")) == 1


async def test_an_order_whose_stamp_was_refused_is_stamped_again(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("accept_delayed_ms", ms=900, count=1, endpoint="POST order")

    result = await desk.submit()
    state = await desk.until_status(result.order_id, ACCEPTED)

    assert len(exchange.orders(status="NEW")) == 1
    assert state.filled_quantity == 0


async def test_send_by_holds_for_a_send_that_is_repeated_too(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault("rate_429", retry_after="0.2", endpoint="POST order")

    result = await desk.submit(send_by=datetime.now(UTC) + timedelta(seconds=1))
    state = await desk.until_status(result.order_id, REJECTED)
    sent = exchange.requests()
    exchange.clear()

    assert state.reason_code is ReasonCode.SEND_BY_PASSED
    await desk.until_closed(result.order_id)
    assert exchange.requests() == sent
    assert exchange.orders(status="NEW") == []
