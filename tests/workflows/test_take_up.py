"""An operator terminates or resets an order's workflow in the middle of a step: it goes on."""

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from activities.store import ClaimOutcome
from tests.workflows.another_try import never_reached
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, OrderState, utc_now
from trading.oms.venue import OrderRequest

pytestmark = pytest.mark.temporal
ACCEPTED, CANCELLED = OrderStatus.ACCEPTED, OrderStatus.CANCELLED
Step = Callable[[Desk, Exchange, Order], Awaitable[None]]


async def in_doubt_alive(desk: Desk, exchange: Exchange, order: Order) -> None:
    exchange.fault("stream_drop")
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order", count=1)
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    await desk.orders.start(order)
    await desk.until(order.client_order_id, lambda state: state.in_doubt_since is not None)


async def in_doubt_dead(desk: Desk, exchange: Exchange, order: Order) -> None:
    exchange.fault("http_503", count=1, endpoint="POST order")
    await desk.orders.start(order)
    await desk.until(order.client_order_id, lambda state: state.in_doubt_since is not None)


async def waiting_to_send(desk: Desk, exchange: Exchange, order: Order) -> None:
    exchange.fault("rate_429", count=1, retry_after="20", endpoint="POST order")
    await desk.orders.start(order)
    await until(lambda: never_reached(desk, order.client_order_id))


async def reducing(desk: Desk, exchange: Exchange, order: Order) -> None:
    await desk.oms.submit_order(order)
    exchange.fault("http_503", endpoint="PUT order/amend/keepPriority")
    await desk.oms.modify_order(order.client_order_id, new_quantity=Decimal("0.006"), wait=0)
    await desk.until(order.client_order_id, lambda state: state.pending is Pending.MODIFY)


async def replacing(desk: Desk, exchange: Exchange, order: Order) -> None:
    desk.replaces_at_once(at_once=False)
    await desk.oms.submit_order(order)
    exchange.fault("http_503", endpoint="DELETE order")
    await desk.oms.modify_order(order.client_order_id, new_price=Decimal(30100), wait=0)
    await desk.until(order.client_order_id, lambda state: state.replacing)


async def new_leg_in_doubt(desk: Desk, exchange: Exchange, order: Order) -> None:
    desk.replaces_at_once(at_once=False)
    await desk.oms.submit_order(order)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order", count=1)
    await desk.oms.modify_order(order.client_order_id, new_price=Decimal(30100), wait=0)
    await desk.until(order.client_order_id, lambda state: state.in_doubt_since is not None)


async def new_leg_waiting(desk: Desk, exchange: Exchange, order: Order) -> None:
    desk.replaces_at_once(at_once=False)
    await desk.oms.submit_order(order)
    exchange.fault("rate_429", count=1, retry_after="20", endpoint="POST order")
    await desk.oms.modify_order(order.client_order_id, new_price=Decimal(30100), wait=0)
    await until(lambda: never_reached(desk, order.client_order_id))


async def replaced_in_doubt(
    desk: Desk, exchange: Exchange, order: Order, how: str = "alive"
) -> None:
    """The exchange has done both halves, or neither; nobody knows."""
    await desk.oms.submit_order(order)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order/cancelReplace", order=how)
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order", count=1)
    await desk.oms.modify_order(order.client_order_id, new_price=Decimal(30100), wait=0)
    await desk.until(order.client_order_id, lambda state: state.in_doubt_since is not None)


async def not_replaced_in_doubt(desk: Desk, exchange: Exchange, order: Order) -> None:
    await replaced_in_doubt(desk, exchange, order, "dead")


async def replacement_waiting(desk: Desk, exchange: Exchange, order: Order) -> None:
    await desk.oms.submit_order(order)
    exchange.fault("rate_429", count=1, retry_after="20", endpoint="POST order/cancelReplace")
    await desk.oms.modify_order(order.client_order_id, new_price=Decimal(30100), wait=0)
    await until(lambda: never_reached(desk, order.client_order_id))


def is_quiet(state: OrderState) -> bool:
    """It rests, nothing is asked for and nothing in doubt."""
    doubts = state.in_doubt_since is not None or state.exchange_order_id is None
    return state.status is ACCEPTED and state.pending is Pending.NONE and not doubts


STEPS: list[Step] = [
    in_doubt_alive, in_doubt_dead, waiting_to_send, reducing, replacing, new_leg_in_doubt,
    new_leg_waiting, replaced_in_doubt, not_replaced_in_doubt, replacement_waiting,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_an_order_terminated_in_the_middle_of_a_step_goes_on_and_can_be_cancelled(
    desk: Desk, exchange: Exchange, step: Step
) -> None:
    order = an_order()
    order_id = order.client_order_id
    await step(desk, exchange, order)
    await desk.handle(order_id).terminate("in the middle")
    exchange.clear()
    await desk.lift_pauses()

    again = await desk.oms.submit_order(order)
    state = await desk.until(order_id, is_quiet)

    async def run_knows() -> bool:
        """The store may have the news a moment before the run that was taken up."""
        known = await desk.handle(order_id).query("state", result_type=OrderState)
        return known is not None and is_quiet(known)

    await until(run_knows)
    assert again.success
    (there,) = exchange.orders(status="NEW")
    assert Decimal(there["origQty"]) == state.quantity
    assert Decimal(there["price"]) == state.price
    changed = await desk.oms.modify_order(order_id, new_price=Decimal(30200))
    assert changed.success, changed
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_pending_cancel_is_carried_out_by_the_next_run(
    desk: Desk, exchange: Exchange
) -> None:
    order = an_order()
    await desk.oms.submit_order(order)
    exchange.fault("http_503", endpoint="DELETE order")
    await desk.cancel(order.client_order_id, wait=0.2)
    await desk.handle(order.client_order_id).terminate("in the middle")
    exchange.clear()

    await desk.oms.submit_order(order)

    assert (await desk.until_closed(order.client_order_id)).status is CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_resend_that_was_interrupted_is_carried_out_once(
    desk: Desk, exchange: Exchange
) -> None:
    """The verdict was committed, the next generation was not claimed."""
    order = an_order()
    order_id = order.client_order_id
    await in_doubt_dead(desk, exchange, order)
    await desk.handle(order_id).terminate("in the middle")
    await desk.store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED)

    await desk.oms.submit_order(order)
    await desk.until_status(order_id, ACCEPTED)

    assert len(exchange.orders(status="NEW")) == 1
    assert [claim.key.generation for claim in await desk.store.claims_of(order_id)] == [1, 2]


async def test_a_claim_of_a_sender_that_said_nothing_is_looked_up(
    desk: Desk, exchange: Exchange
) -> None:
    """The process died between its claim and the answer; nothing reached the exchange."""
    order = an_order()
    order_id = order.client_order_id
    await desk.store.admit(order)
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[exchange.name, "main"]
    request = OrderRequest(
        exchange=exchange.name,
        account="main",
        symbol=order.symbol,
        exchange_client_id=exchange_client_id(desk.settings.deployment, order_id, 1, 1),
        side=order.side,
        order_type=order.order_type,
        quantity=order.quantity,
        price=order.price,
        timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
        window_ms=600,
    )
    routed = LifecycleEvent(
        kind=EventKind.ROUTED, at=utc_now(), exchange=exchange.name, account="main"
    )
    await desk.store.claim_send(order_id, 1, 1, request, claimant="a dead process", before=[routed])
    before = exchange.requests()

    result = await desk.oms.submit_order(order)
    state = await desk.until_status(order_id, ACCEPTED)

    assert result.in_doubt
    assert exchange.requests() == before + 1
    assert state.exchange_client_id == exchange.orders(status="NEW")[0]["clientOrderId"]


async def test_a_workflow_that_is_reset_to_its_start_sends_nothing_twice(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await desk.resting()).client_order_id
    sent = exchange.requests()
    await desk.reset(order_id)

    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED

    assert exchange.requests() == sent
    assert (await desk.until_closed(order_id)).status is CANCELLED


async def test_an_amendment_that_somebody_made_at_the_exchange_does_not_keep_the_order_open(
    desk: Desk, exchange: Exchange
) -> None:
    order = await desk.resting()
    (there,) = exchange.orders(status="NEW")
    engine = exchange.server.exchange.engine
    (mine,) = [one for one in engine.orders if one.id == int(there["orderId"])]
    engine.amend(mine, Decimal("0.004"))

    exchange.market("SELL", "30000", "0.004")
    closed = await desk.until_closed(order.client_order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.quantity) == (OrderStatus.FILLED, Decimal("0.004"))
