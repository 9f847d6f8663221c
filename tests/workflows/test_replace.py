"""Replacing in one request: each outcome of both halves, and a fill at each point between."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from activities.store import ClaimOutcome
from tests.workflows.desk import Desk, Exchange, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending, ReasonCode
from trading.oms.models import OrderResult, OrderState

pytestmark = pytest.mark.temporal
CANCELLED, FILLED = OrderStatus.CANCELLED, OrderStatus.FILLED
ACCEPTED, PART = OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED
REPLACE = "POST order/cancelReplace"
OLD, NEW = "30000", "30100"


def D(text: str) -> Decimal:  # noqa: N802 - short, in tables of numbers
    return Decimal(text)


def there(exchange: Exchange) -> list[tuple[str, Decimal, Decimal]]:
    """What the exchange has: status, price and quantity of each order, oldest first."""
    return [(o["status"], D(o["price"]), D(o["origQty"])) for o in exchange.orders()[-3:]]


async def outcomes(desk: Desk, order_id: str) -> list[tuple[int, int, int, ClaimOutcome | None]]:
    """Each claim after the first: leg, generation, stamp, outcome."""
    claims = await desk.store.claims_of(order_id)
    return [(*c.key[1:], c.stamp, c.outcome) for c in claims[1:]]


async def booked(desk: Desk, exchange: Exchange, order_id: str) -> Decimal:
    """What the order has filled, which is what its exchange orders have, each trade once."""
    state = await desk.state(order_id)
    claims = await desk.store.claims_of(order_id)
    ids = {claim.request.exchange_client_id for claim in claims}
    mine = [one for one in exchange.orders() if one["clientOrderId"] in ids]
    executed = sum((D(one["executedQty"]) for one in mine), D("0"))
    assert state.filled_quantity == executed
    fills = await desk.store.fills(order_id)
    assert sum((fill.quantity for fill in fills), D("0")) == executed
    return executed


def asked(desk: Desk, order_id: str, **wish: Any) -> "asyncio.Task[OrderResult]":
    wish = wish or {"new_price": D(NEW)}
    return asyncio.create_task(desk.oms.modify_order(order_id, wait=20, **wish))


async def in_doubt(desk: Desk, order_id: str) -> OrderState:
    return await desk.until(order_id, lambda state: state.in_doubt_since is not None)


def blind(exchange: Exchange) -> None:
    """Neither the stream nor the queries say anything."""
    exchange.fault("stream_drop")
    exchange.fault("http_503", endpoint="GET order")
    for endpoint in ("GET order", "GET allOrders", "GET myTrades"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=endpoint)


# Fills


@pytest.mark.parametrize("quantity", ["0.02", "0.008", None])
@pytest.mark.parametrize("filled", ["0.004", "0.01"])
async def test_a_fill_before_the_request_arrives(
    desk: Desk, exchange: Exchange, filled: str, quantity: str | None
) -> None:
    """The exchange leaves an order with a fill alone: then one after the other, or nothing."""
    order_id = (await desk.resting()).client_order_id
    exchange.fault("accept_delayed_ms", ms=300, endpoint=REPLACE)
    change = asked(desk, order_id, new_price=D(NEW), new_quantity=D(quantity or "0.01"))
    await until(lambda: _claimed(desk, order_id))
    exchange.market("SELL", OLD, filled)

    result = await change

    if filled == "0.01":
        assert (result.success, result.status) == (False, FILLED)
        state = (await desk.until_closed(order_id)).state
        assert state is not None
        assert (state.quantity, state.price, state.revision) == (D("0.01"), D(OLD), 0)
    else:
        left = D(quantity or "0.01") - D(filled)
        assert (result.success, result.status) == (True, PART), result
        assert there(exchange)[-1] == ("NEW", D(NEW), left)
        assert await outcomes(desk, order_id) == [(2, 1, 2, ClaimOutcome.ACCEPTED)]
        exchange.market("SELL", NEW, str(left))
        assert (await desk.until_closed(order_id)).status is FILLED
    await booked(desk, exchange, order_id)


async def test_a_fill_that_reaches_the_new_total_ends_the_order(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("accept_delayed_ms", ms=300, endpoint=REPLACE)
    change = asked(desk, order_id, new_price=D(NEW), new_quantity=D("0.004"))
    await until(lambda: _claimed(desk, order_id))
    exchange.market("SELL", OLD, "0.006")

    result = await change

    assert (result.success, result.status) == (False, CANCELLED)
    assert "the new total is reached" in str(result.error)
    assert await booked(desk, exchange, order_id) == D("0.006")
    assert exchange.orders(status="NEW") == exchange.orders(status="PARTIALLY_FILLED") == []


async def test_the_new_order_trades_at_once(desk: Desk, exchange: Exchange) -> None:
    exchange.market("SELL", "30050", "0.004", "GTC")
    order_id = (await desk.resting()).client_order_id

    result = await desk.oms.modify_order(order_id, new_price=D(NEW), new_quantity=D("0.02"))

    assert (result.success, result.status) == (True, PART)
    assert await booked(desk, exchange, order_id) == D("0.004")
    exchange.market("SELL", NEW, "0.016")
    assert (await desk.until_closed(order_id)).status is FILLED
    assert await booked(desk, exchange, order_id) == D("0.02")


@pytest.mark.parametrize("tells", ["the stream first", "the answer alone"])
async def test_a_fill_of_the_new_order_before_its_answer_is_read(
    desk: Desk, exchange: Exchange, tells: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("reply_delayed_ms", ms=500, endpoint=REPLACE)
    if tells == "the answer alone":
        exchange.fault("stream_drop")
    change = asked(desk, order_id, new_price=D(NEW), new_quantity=D("0.02"))
    await until(lambda: _is_there(exchange, NEW))
    exchange.market("SELL", NEW, "0.012")

    result = await change

    assert result.success, result
    exchange.clear()
    exchange.disconnect()
    state = await desk.until(order_id, lambda state: state.filled_quantity)
    assert (state.filled_quantity, state.quantity, state.leg) == (D("0.012"), D("0.02"), 2)
    assert state.status is PART
    assert await booked(desk, exchange, order_id) == D("0.012")
    assert await desk.alarms(order_id) == []
    assert (await desk.names(order_id)).count("order_modified") == 1


@pytest.mark.parametrize("what", ["the old order", "the new order"])
@pytest.mark.parametrize("filled", ["0.004", "0.01"])
async def test_a_fill_while_nobody_knows_whether_it_was_replaced(
    desk: Desk, exchange: Exchange, what: str, filled: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order", count=1)
    is_new = what == "the new order"
    fate = "alive" if is_new else "dead"
    exchange.fault("reply_lost", count=1, endpoint=REPLACE, order=fate)
    if is_new:
        exchange.fault("stream_drop")
    change = asked(desk, order_id)
    doubted = await in_doubt(desk, order_id)
    assert (doubted.leg, doubted.price, doubted.status) == (1, D(OLD), ACCEPTED)
    exchange.market("SELL", NEW if is_new else OLD, filled)

    result = await change

    whole = filled == "0.01"
    assert result.success is (is_new or not whole), result
    if not is_new and not whole:
        assert there(exchange)[-1] == ("NEW", D(NEW), D("0.006"))
    if not whole:
        await desk.until(order_id, lambda state: state.filled_quantity == D(filled))
        assert (await desk.state(order_id)).price == D(NEW)
        await desk.cancel(order_id)
    closed = await desk.until_closed(order_id)
    assert closed.status is (FILLED if whole else CANCELLED)
    assert await booked(desk, exchange, order_id) == D(filled)


# Both halves


@pytest.mark.parametrize("code", [-1015, -2010])
async def test_the_old_order_is_cancelled_and_the_new_one_refused(
    desk: Desk, exchange: Exchange, code: int
) -> None:
    """Over the limit of unfilled orders it is sent again, alone; else the order ends."""
    order_id = (await desk.resting()).client_order_id
    exchange.fault("half_refused", code=code, endpoint=REPLACE)

    result = await desk.oms.modify_order(order_id, new_price=D(NEW), wait=20)

    if code == -1015:
        assert (result.success, result.status) == (True, ACCEPTED), result
        assert there(exchange)[-1] == ("NEW", D(NEW), D("0.01"))
        assert await outcomes(desk, order_id) == [(2, 1, 2, ClaimOutcome.ACCEPTED)]
    else:
        assert (result.success, result.status) == (False, CANCELLED)
        closed = (await desk.until_closed(order_id)).state
        assert closed is not None
        assert closed.reason_code is ReasonCode.REPLACE_FAILED
        assert await outcomes(desk, order_id) == [(2, 1, 1, ClaimOutcome.REJECTED)]
        assert await desk.alarms(order_id) == []


async def test_a_limit_leaves_the_old_order_until_there_is_room(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("rate_429", count=1, retry_after="1", endpoint=REPLACE)
    change = asked(desk, order_id)
    await until(lambda: _settled(desk, order_id, ClaimOutcome.NEVER_REACHED))
    assert there(exchange)[-1] == ("NEW", D(OLD), D("0.01"))

    assert (await change).success

    assert await outcomes(desk, order_id) == [(2, 1, 2, ClaimOutcome.ACCEPTED)]
    assert there(exchange)[-1] == ("NEW", D(NEW), D("0.01"))


async def test_what_the_exchange_refuses_at_the_door_leaves_the_order_as_it_was(
    desk: Desk, exchange: Exchange
) -> None:
    """Its rules have changed since we read them."""
    order_id = (await desk.resting()).client_order_id
    control = exchange.server.exchange.control
    control.symbol({"symbol": "BTCUSDT", "tick_size": "0.5"})
    try:
        result = await desk.oms.modify_order(order_id, new_price=D("30100.01"))
    finally:
        control.symbol({"symbol": "BTCUSDT", "tick_size": "0.01"})

    assert (result.success, result.status) == (False, ACCEPTED)
    assert "PRICE_FILTER" in str(result.error)
    state = await desk.state(order_id)
    assert (state.price, state.leg, state.pending) == (D(OLD), 1, Pending.NONE)
    assert there(exchange)[-1] == ("NEW", D(OLD), D("0.01"))
    again = await desk.oms.modify_order(order_id, new_price=D(NEW))
    assert again.success, again
    assert await outcomes(desk, order_id) == [(2, 1, 2, ClaimOutcome.ACCEPTED)]


async def test_an_order_that_the_exchange_has_cancelled_is_placed_anew(
    desk: Desk, exchange: Exchange
) -> None:
    """Its cancellation is not heard before the request."""
    order_id = (await desk.resting()).client_order_id
    exchange.fault("accept_delayed_ms", ms=300, endpoint=REPLACE)
    change = asked(desk, order_id)
    await until(lambda: _claimed(desk, order_id))
    exchange.cancel(exchange.orders(status="NEW")[-1])

    assert (await change).success

    assert there(exchange)[-1] == ("NEW", D(NEW), D("0.01"))
    assert (await desk.state(order_id)).leg == 2


# A cancel between


@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_a_cancel_while_nobody_knows_whether_it_was_replaced(
    desk: Desk, exchange: Exchange, order: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order", count=1)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint=REPLACE, order=order)
    change = asked(desk, order_id)
    await in_doubt(desk, order_id)

    cancelled = await desk.cancel(order_id, wait=20)

    assert cancelled.outcome is CancelOutcome.CANCELLED
    assert (await change).success is (order == "alive")
    assert (await desk.until_closed(order_id)).status is CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_cancel_does_not_wait_for_the_limit_that_the_replacement_waits_for(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("rate_429", count=1, retry_after="1", endpoint=REPLACE)
    change = asked(desk, order_id)
    await until(lambda: _settled(desk, order_id, ClaimOutcome.NEVER_REACHED))
    await desk.lift_pauses()

    cancelled = await desk.cancel(order_id)

    assert cancelled.outcome is CancelOutcome.CANCELLED
    assert not (await change).success
    closed = (await desk.until_closed(order_id)).state
    assert closed is not None
    assert (closed.status, closed.reason_code) == (CANCELLED, ReasonCode.CANCEL_REQUESTED)
    assert await outcomes(desk, order_id) == [(2, 1, 1, ClaimOutcome.NEVER_REACHED)]
    assert exchange.orders(status="NEW") == []


# The word of an operator


@pytest.mark.parametrize("order", ["alive", "dead"])
@pytest.mark.parametrize("verdict", ["adopt", "dead", "retry"])
async def test_a_verdict_on_a_replacement_in_doubt(
    desk: Desk, exchange: Exchange, verdict: str, order: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.fault("stream_drop")
    exchange.fault("http_503", endpoint="GET order")
    exchange.fault("rate_429", retry_after="0.05", endpoint="GET order")
    exchange.fault("reply_lost", count=1, endpoint=REPLACE, order=order)
    change = asked(desk, order_id)
    await in_doubt(desk, order_id)
    if verdict == "adopt":
        exchange.clear()
        await desk.lift_pauses()

    resolved = asyncio.create_task(
        desk.handle(order_id).execute_update(
            "resolve", {"verdict": verdict, "by": "ann", "reason": "a call", "wait_s": 20}
        )
    )
    await until(lambda: _named(desk, order_id, "order_resolved"))
    exchange.clear()
    await desk.lift_pauses()
    await resolved
    await change

    if order == "alive" and verdict != "adopt":
        # The operator was wrong. The stream has said nothing, so the next pass finds out.
        await asyncio.sleep(2.2)
        await desk.oms.reconcile(exchange.name)
    wrong = (order, verdict) == ("alive", "retry")
    if wrong:
        # Both sends live then: of which one has to be the order's nobody can say.
        closed = await desk.until_closed(order_id)
        assert closed.status is CANCELLED
        assert any("two sends" in alarm for alarm in await desk.alarms(order_id))
    else:
        expected = OLD if (order, verdict) == ("dead", "dead") else NEW
        state = await desk.until(order_id, lambda s: _is_quiet(s) and s.price == D(expected))
        assert state.leg == (1 if expected == OLD else 2)
        (live,) = exchange.orders(status="NEW")
        assert (str(live["orderId"]), D(live["price"])) == (state.exchange_order_id, state.price)
        assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_replacement_that_comes_after_its_proof_of_absence_carries_the_order(
    desk: Desk, exchange: Exchange
) -> None:
    """The exchange broke its own fence: it has cancelled the old order, so this one is it."""
    order_id = (await desk.resting(if_not_placed="reject")).client_order_id
    exchange.fault("accept_delayed_ms", ms=4000, ignore_fence=True, count=1, endpoint=REPLACE)
    result = await asked(desk, order_id)
    assert (result.success, result.status) == (False, ACCEPTED)

    state = await desk.until(order_id, lambda state: state.leg == 2)

    assert (state.price, state.status) == (D(NEW), ACCEPTED)
    assert there(exchange)[-1] == ("NEW", D(NEW), D("0.01"))
    assert "proved not to be placed" in (await desk.alarms(order_id))[0]
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED


async def test_an_order_is_replaced_again_and_again(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    for number in range(1, 4):
        result = await desk.oms.modify_order(order_id, new_price=D(f"3010{number}"))
        assert result.success
    assert await outcomes(desk, order_id) == [
        (leg, 1, 1, ClaimOutcome.ACCEPTED) for leg in (2, 3, 4)
    ]
    assert len(exchange.orders(status="NEW")) == 1


def _is_quiet(state: OrderState) -> bool:
    doubts = state.in_doubt_since is not None or state.exchange_order_id is None
    return state.status is ACCEPTED and state.pending is Pending.NONE and not doubts


async def _claimed(desk: Desk, order_id: str) -> bool:
    return len(await desk.store.claims_of(order_id)) > 1


async def _settled(desk: Desk, order_id: str, outcome: ClaimOutcome) -> bool:
    return (await desk.store.claims_of(order_id))[-1].outcome is outcome


async def _named(desk: Desk, order_id: str, name: str) -> bool:
    return name in await desk.names(order_id)


async def _is_there(exchange: Exchange, price: str) -> bool:
    return any(D(one["price"]) == D(price) for one in exchange.orders(status="NEW"))
