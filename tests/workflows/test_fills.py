"""Executions: each is booked once and none is missed, whatever the stream does."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.booking import Booking
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import OrderSide, OrderStatus
from trading.oms.identity import fill_id
from trading.oms.models import Fill, utc_now
from trading.oms.venue import ExecutionReport, ReportSource

pytestmark = pytest.mark.temporal
FILLED, PART = OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED
PARTS = ("0.001", "0.002", "0.003", "0.004")


async def truth(desk: Desk, exchange: Exchange, order_id: str) -> None:
    """The store's fills are the exchange's trades, one for one."""
    state = await desk.state(order_id)
    booked = await desk.store.fills(order_id)
    trades = exchange.trades_of(str(state.exchange_order_id))
    assert sorted((fill.trade_id, fill.quantity, fill.price) for fill in booked) == sorted(
        (str(t["id"]), Decimal(t["quantity"]), Decimal(t["price"])) for t in trades
    )
    assert state.filled_quantity == sum(fill.quantity for fill in booked)
    names = await desk.names(order_id)
    assert names.count("order_fill") == len(trades)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "stream_duplicate"},
        {"kind": "stream_reorder"},
        {"kind": "stream_delay_ms", "ms": 150, "probability": "0.5"},
        {"kind": "stream_drop", "event": "TRADE", "count": 2},
        {"kind": "stream_disconnect", "event": "TRADE", "count": 1},
        {"kind": "stream_disconnect", "count": 3},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_every_trade_is_booked_once(
    desk: Desk, exchange: Exchange, fault: dict[str, Any]
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault(fault.pop("kind"), **fault)

    for part in PARTS:
        exchange.market("SELL", "30000", part)
    exchange.clear()
    exchange.disconnect()  # A gap makes the feed ask for what it may have missed.
    await desk.until_status(order_id, FILLED)

    await desk.until_closed(order_id)
    await truth(desk, exchange, order_id)


async def test_an_end_that_the_stream_did_not_tell_is_found_after_a_gap(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_drop")
    exchange.market("SELL", "30000", "0.004")
    exchange.cancel(exchange.orders(status="PARTIALLY_FILLED")[-1])
    await until(lambda: _settled_long_ago(desk, order_id))
    exchange.clear()
    exchange.disconnect()

    closed = await desk.until_closed(order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (OrderStatus.EXPIRED, Decimal("0.004"))
    await truth(desk, exchange, order_id)


async def test_two_orders_of_ours_that_trade_with_each_other_both_have_the_fill(
    desk: Desk, exchange: Exchange
) -> None:
    maker = (await desk.resting()).client_order_id

    taker = (await desk.submit(side="sell", quantity="0.006")).order_id
    await desk.until_status(taker, FILLED)
    await desk.until_status(maker, PART)

    (bought,) = await desk.store.fills(maker)
    (sold,) = await desk.store.fills(taker)
    assert bought.trade_id == sold.trade_id
    assert (bought.side, sold.side) == (OrderSide.BUY, OrderSide.SELL)
    assert bought.fill_id != sold.fill_id


async def test_a_fill_for_an_order_that_has_ended_reopens_it(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    await desk.cancel(order_id)
    await desk.until_closed(order_id)
    first_run = (await desk.handle(order_id).describe()).run_id

    state = await desk.state(order_id)
    await desk.store.inbox_add([report(state.exchange_order_id, "0.004", state.exchange, "late-1")])

    late = await desk.until(order_id, lambda state: state.filled_quantity == Decimal("0.004"))
    assert late.status is OrderStatus.CANCELLED
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    assert (await desk.handle(order_id).describe()).run_id != first_run
    await desk.store.inbox_add([report(state.exchange_order_id, "0.006", state.exchange, "late-2")])
    await desk.until_status(order_id, FILLED)
    again = await desk.oms.submit_order(an_order(client_order_id=order_id))
    assert (again.success, again.status) == (True, FILLED)


async def test_a_fill_that_the_store_has_and_the_workflow_does_not_is_told_again(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed's first update booked it, and was lost together with the Temporal server."""
    state = await desk.resting()
    fill = report(state.exchange_order_id, "0.01", state.exchange, "trade-1")
    await Booking(desk.store).book(state.client_order_id, [fill])
    assert (await desk.state(state.client_order_id)).status is OrderStatus.FILLED

    a_while_ago = utc_now() - timedelta(seconds=10)
    monkeypatch.setattr("activities.store.inbox.utc_now", lambda: a_while_ago)
    await desk.store.inbox_add([fill])

    assert (await desk.until_closed(state.client_order_id)).status is OrderStatus.FILLED


async def test_an_overfill_is_booked_and_alarmed(desk: Desk, exchange: Exchange) -> None:
    exchange.market("SELL", "30000", "0.01", "GTC")
    order_id = (await desk.submit()).order_id
    await desk.until_closed(order_id)

    state = await desk.state(order_id)
    await desk.store.inbox_add([report(state.exchange_order_id, "0.002", state.exchange, "over")])

    over = await desk.until(order_id, lambda state: state.filled_quantity == Decimal("0.012"))
    assert (over.status, over.remaining_quantity) == (FILLED, Decimal("-0.002"))
    assert any("overfill" in alarm for alarm in await desk.alarms(order_id))


async def test_an_order_that_an_operator_terminated_is_taken_up_by_its_next_fill(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    await desk.handle(order_id).terminate("an operator's mistake")

    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, PART)
    exchange.market("SELL", "30000", "0.006")

    assert (await desk.until_closed(order_id)).status is FILLED
    await truth(desk, exchange, order_id)


@pytest.mark.parametrize("call", ["submit", "cancel", "modify"])
async def test_an_order_that_an_operator_terminated_is_taken_up_by_its_next_call(
    desk: Desk, exchange: Exchange, call: str
) -> None:
    order = an_order()
    await desk.oms.submit_order(order)
    order_id = order.client_order_id
    await desk.handle(order_id).terminate("an operator's mistake")

    if call == "submit":
        result = await desk.oms.submit_order(order)
        assert (result.success, result.status) == (True, OrderStatus.ACCEPTED)
        assert len(exchange.orders(status="NEW")) == 1
    elif call == "modify":
        changed = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.005"))
        assert changed.success, changed
    cancelled = await desk.cancel(order_id)

    assert cancelled.outcome == "cancelled"
    assert exchange.orders(status="NEW") == []


def report(
    exchange_order_id: str | None, quantity: str, exchange: str, trade: str
) -> ExecutionReport:
    """A trade that only the feed knows of."""
    key = (exchange, "main", "BTC/USDT", trade, str(exchange_order_id))
    fill = Fill(
        fill_id=fill_id(*key),
        order_id="",
        exchange=exchange,
        account="main",
        symbol="BTC/USDT",
        side=OrderSide.BUY,
        quantity=Decimal(quantity),
        price=Decimal(30000),
        fee=Decimal(0),
        fee_currency="USDT",
        timestamp=utc_now(),
        trade_id=trade,
        exchange_order_id=exchange_order_id,
    )
    return ExecutionReport(
        exchange=exchange,
        account="main",
        symbol="BTC/USDT",
        exchange_order_id=exchange_order_id,
        side=OrderSide.BUY,
        fills=(fill,),
        at=utc_now(),
        received_at=utc_now(),
        source=ReportSource.QUERY,
    )


async def _settled_long_ago(desk: Desk, order_id: str) -> bool:
    """The catch-up leaves orders alone that changed within the last two seconds."""
    age = utc_now() - (await desk.state(order_id)).last_updated_at
    return age.total_seconds() > 2.1
