"""Cancelling at every moment of an order's life, through every door."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from tests.workflows.desk import Desk, Exchange, an_order, until, working
from trading.oms.enums import CancelOutcome, OrderStatus, Pending, ReasonCode
from trading.oms.errors import InvalidOrder

pytestmark = pytest.mark.temporal
CANCELLED, FILLED = OrderStatus.CANCELLED, OrderStatus.FILLED


@pytest.mark.parametrize("door", ["order manager", "update", "signal", "workflow cancellation"])
async def test_a_resting_order_is_cancelled_through_every_door(
    desk: Desk, exchange: Exchange, door: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    handle = desk.handle(order_id)

    if door == "order manager":
        result = await desk.cancel(order_id, exchange=exchange.name, symbol="BTC/USDT")
        assert (result.success, result.outcome) == (True, CancelOutcome.CANCELLED)
        assert desk.oms.get_order(order_id).status is CANCELLED  # type: ignore[union-attr]
    elif door == "update":
        answer = await handle.execute_update("cancel", {"reason": "bored"})
        assert (answer["outcome"], answer["filled_quantity"]) == ("cancelled", "0")
    elif door == "signal":
        await handle.signal("cancel")
    else:
        await handle.cancel()

    closed = await desk.until_closed(order_id)
    assert closed.status is CANCELLED
    assert closed.state is not None
    assert closed.state.reason_code is ReasonCode.CANCEL_REQUESTED
    assert [order["status"] for order in exchange.orders()][-1] == "CANCELED"
    names = await desk.names(order_id)
    assert names[-2:] == ["order_cancel_requested", "order_cancelled"]


async def test_a_half_filled_order_is_cancelled_with_its_fills(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    exchange.market("SELL", "30000", "0.004")

    result = await desk.cancel(order_id)

    assert (result.outcome, result.filled_quantity) == (
        CancelOutcome.CANCELLED, Decimal("0.004"),
    )  # fmt: skip
    assert (await desk.until_closed(order_id)).status is CANCELLED
    assert len(await desk.store.fills(order_id)) == 1


async def test_a_cancel_that_meets_the_whole_fill_says_so(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    exchange.market("SELL", "30000", "0.01")

    result = await desk.cancel(order_id)

    assert (result.success, result.outcome) == (False, CancelOutcome.ALREADY_FILLED)
    assert result.filled_quantity == Decimal("0.01")
    assert (await desk.until_closed(order_id)).status is FILLED
    assert "order_cancelled" not in await desk.names(order_id)


async def test_an_ended_order_answers_a_cancel_with_how_it_ended(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.market("SELL", "30000", "0.01", "GTC")
    filled = (await desk.submit()).order_id
    expired = (await desk.submit(time_in_force="IOC")).order_id
    await desk.until_closed(filled)
    await desk.until_closed(expired)
    sent = exchange.requests("DELETE order")

    assert (await desk.cancel(filled)).outcome is CancelOutcome.ALREADY_FILLED
    assert (await desk.cancel(expired)).outcome is CancelOutcome.ALREADY_ENDED
    assert exchange.requests("DELETE order") == sent


async def test_an_unknown_order_is_not_found(desk: Desk) -> None:
    result = await desk.cancel("nobody-knows-this-one")

    assert (result.success, result.outcome) == (False, CancelOutcome.NOT_FOUND)


@pytest.mark.parametrize("guard", [{"exchange": "elsewhere"}, {"symbol": "ETH/USDT"}])
async def test_a_cancel_with_another_exchange_or_symbol_is_refused(
    desk: Desk, exchange: Exchange, guard: dict[str, str]
) -> None:
    order_id = (await desk.resting()).client_order_id
    (given,) = guard.values()

    with pytest.raises(InvalidOrder, match=given):
        await desk.cancel(order_id, **guard)
    await desk.handle(order_id).signal("cancel", guard)

    await until(lambda: _has(desk, order_id, "order_message_refused"))
    assert (await desk.state(order_id)).is_open
    assert exchange.requests("DELETE order") == 0 or exchange.orders(status="NEW")


async def test_two_cancels_at_once_are_one_cancel_with_one_answer(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    handle = desk.handle(order_id)

    *answers, _ = await asyncio.gather(
        *(desk.cancel(order_id) for _ in range(3)), handle.signal("cancel")
    )

    assert {answer.outcome for answer in answers if answer} == {CancelOutcome.CANCELLED}
    assert (await desk.names(order_id)).count("order_cancelled") == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reply_lost"},
        {"kind": "reply_lost", "order": "dead"},
        {"kind": "http_503"},
        {"kind": "http_503", "order": "alive"},
        {"kind": "code_-1007", "order": "alive"},
        {"kind": "rate_429", "retry_after": "0.2"},
        {"kind": "garbled"},
    ],
    ids=lambda fault: "-".join(fault.values()),
)
async def test_a_cancel_that_gets_no_clear_answer_is_repeated_until_it_does(
    desk: Desk, exchange: Exchange, fault: dict[str, str]
) -> None:
    order_id = (await desk.resting()).client_order_id
    kind = fault.pop("kind")
    exchange.fault(kind, count=2, endpoint="DELETE order", **fault)

    result = await desk.cancel(order_id)

    assert result.outcome is CancelOutcome.CANCELLED
    assert (await desk.until_closed(order_id)).status is CANCELLED


async def test_a_cancel_is_pending_while_the_exchange_is_silent(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("http_503", endpoint="DELETE order")

    first = await desk.cancel(order_id, wait=0.3)
    state = await desk.state(order_id)
    exchange.clear()
    second = await desk.cancel(order_id)

    assert (first.success, first.outcome) == (False, CancelOutcome.PENDING)
    assert (state.status, state.pending) == (OrderStatus.ACCEPTED, Pending.CANCEL)
    assert second.outcome is CancelOutcome.CANCELLED
    assert (await desk.state(order_id)).pending is Pending.NONE


async def test_a_cancel_is_pending_while_fills_from_before_it_are_not_collected(
    desk: Desk, exchange: Exchange
) -> None:
    """The order has ended as cancelled; that it has filled nothing would be a lie."""
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_drop")
    exchange.fault("rest_lag_ms", ms=3_600_000, endpoint="GET myTrades")
    exchange.market("SELL", "30000", "0.004")

    first = await desk.cancel(order_id, wait=0.3)
    state = await desk.state(order_id)
    exchange.clear("rest_lag_ms")
    second = await desk.cancel(order_id)

    assert (state.status, state.filled_quantity) == (CANCELLED, Decimal(0))
    assert (first.success, first.outcome) == (False, CancelOutcome.PENDING)
    filled = Decimal("0.004")
    assert (second.outcome, second.filled_quantity) == (CancelOutcome.CANCELLED, filled)
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (CANCELLED, filled)
    assert len(await desk.store.fills(order_id)) == 1


async def test_a_cancel_before_the_send_prevents_it(desk: Desk, exchange: Exchange) -> None:
    exchange.fault("rate_429", retry_after="30", count=1, endpoint="POST order")
    order = an_order()
    await desk.orders.start(order)
    await desk.until_status(order.client_order_id, OrderStatus.SUBMITTED)
    sent = exchange.requests()

    result = await desk.cancel(order.client_order_id)

    assert result.outcome is CancelOutcome.CANCELLED
    closed = await desk.until_closed(order.client_order_id)
    assert closed.state is not None
    assert closed.state.reason_code is ReasonCode.CANCELLED_BEFORE_SEND
    assert exchange.requests() == sent


@pytest.mark.parametrize("by", ["signal", "workflow cancellation"])
async def test_a_cancel_that_comes_before_the_first_task_prevents_the_send(
    idle_desk: Desk, by: str
) -> None:
    order = an_order()
    await idle_desk.orders.start(order)
    handle = idle_desk.handle(order.client_order_id)
    await (handle.signal("cancel") if by == "signal" else handle.cancel())

    async with working(idle_desk):
        closed = await idle_desk.until_closed(order.client_order_id)

    assert closed.status is CANCELLED
    assert idle_desk.exchange.requests() == 0


@pytest.mark.parametrize("update", ["cancel", "modify"])
async def test_a_message_that_does_not_wait_is_answered_in_the_first_task(
    idle_desk: Desk, update: str
) -> None:
    order = an_order()
    order_id = order.client_order_id
    await idle_desk.orders.start(order)
    payload = {"wait_s": 0} if update == "cancel" else {"wait_s": 0, "new_price": "30100"}
    call = asyncio.create_task(idle_desk.handle(order_id).execute_update(update, payload))
    await asyncio.sleep(0)

    async with working(idle_desk):
        answer = await call
        assert answer["order_id"] == order_id
        await idle_desk.until(order_id, lambda state: state.status is not OrderStatus.CREATED)


async def test_a_cancel_of_the_workflow_twice_is_one_cancel(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("http_503", endpoint="DELETE order")
    await desk.handle(order_id).cancel()
    await desk.until(order_id, lambda state: state.pending is Pending.CANCEL)
    await desk.handle(order_id).cancel()
    exchange.clear()

    assert (await desk.until_closed(order_id)).status is CANCELLED
    assert (await desk.names(order_id)).count("order_cancelled") == 1


async def test_an_order_that_the_exchange_cancels_ends(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id

    exchange.cancel(exchange.orders(status="NEW")[-1])

    closed = await desk.until_closed(order_id)
    assert closed.status is OrderStatus.EXPIRED
    assert closed.state is not None
    assert closed.state.reason_code is ReasonCode.EXCHANGE_EXPIRED


async def test_a_cancel_with_an_absurd_wait_is_refused_without_a_trace(desk: Desk) -> None:
    order_id = (await desk.resting()).client_order_id
    before = await desk.history(order_id)

    payloads: list[Any] = [{"wait_s": 1e9}, {"why": "no such field"}, [], "cancel", {"reason": 5}]
    for payload in payloads:
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await desk.handle(order_id).execute_update("cancel", payload)
        assert str(caught.value.cause)

    assert await desk.history(order_id) == before
    assert (await desk.state(order_id)).is_open


async def _has(desk: Desk, order_id: str, name: str) -> bool:
    return name in await desk.names(order_id)
