"""Requests that meet what a lost task has done: the store is a leg, or a send, ahead of the run."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from activities.store import ClaimOutcome
from tests.workflows.another_try import (
    acknowledged,
    never_reached,
    sent_by_another,
    sent_once_more,
    written,
)
from tests.workflows.desk import Desk, Exchange, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now

pytestmark = pytest.mark.temporal
LOST, OTHER = Decimal(30100), Decimal(30200)


@pytest.fixture(scope="module", autouse=True)
def nobody_else_asks() -> Iterator[None]:
    """The feed asks twice a minute for what it may have missed; here only the order's run asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.feed._CATCH_UP_S", 3600.0)
        yield


async def replaced_by_a_lost_task(
    desk: Desk, exchange: Exchange, *, is_answered: bool = True
) -> OrderState:
    """The order rests on its second leg at another price; its run knows the first one alone."""
    exchange.fault("stream_drop")
    state = await desk.resting()
    order_id = state.client_order_id
    kinds = (EventKind.MODIFY_REQUESTED, EventKind.REPLACE_STARTED)
    begun = [LifecycleEvent(kind=kind, at=utc_now(), leg=1) for kind in kinds]
    await desk.store.record(order_id, begun)
    exchange.cancel(exchange.orders(status="NEW")[-1])
    claim = await sent_by_another(desk, state, leg=2, generation=1, price=LOST)
    if not is_answered:
        await written(desk, claim)
        return await desk.state(order_id)
    await acknowledged(desk, claim, order_id, 2, 1)
    changed = LifecycleEvent(kind=EventKind.MODIFIED, at=utc_now(), leg=2, revision=1, price=LOST)
    await desk.store.record(order_id, [changed])
    return await desk.state(order_id)


async def known_to_its_run(desk: Desk, order_id: str) -> OrderState:
    known: OrderState | None = await desk.handle(order_id).query("state", result_type=OrderState)
    assert known is not None
    return known


@pytest.mark.parametrize("is_answered", [True, False], ids=["known", "in doubt"])
async def test_a_cancel_ends_the_leg_that_a_lost_task_has_sent(
    desk: Desk, exchange: Exchange, *, is_answered: bool
) -> None:
    """The leg that the run knows is dead, which is not the end of the order."""
    state = await replaced_by_a_lost_task(desk, exchange, is_answered=is_answered)
    order_id = state.client_order_id
    assert (await known_to_its_run(desk, order_id)).leg == 1

    cancelled = await desk.cancel(order_id)

    assert cancelled.outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.leg) == (OrderStatus.CANCELLED, 2)


@pytest.mark.parametrize(
    "wish", [{"new_price": OTHER}, {"new_quantity": Decimal("0.02")}], ids=["price", "quantity"]
)
async def test_a_modification_is_not_answered_with_what_a_lost_one_has_done(
    desk: Desk, exchange: Exchange, wish: dict[str, Any]
) -> None:
    order_id = (await replaced_by_a_lost_task(desk, exchange)).client_order_id

    refused = await desk.oms.modify_order(order_id, **wish)

    assert (refused.success, refused.status) == (False, OrderStatus.ACCEPTED)
    assert "changed meanwhile" in str(refused.error)
    state = await desk.state(order_id)
    assert (state.price, state.leg, state.pending) == (LOST, 2, Pending.NONE)
    assert [Decimal(one["price"]) for one in exchange.orders(status="NEW")] == [LOST]
    assert (await desk.oms.modify_order(order_id, **wish)).success
    state = await desk.state(order_id)
    assert (state.leg, state.price, state.quantity) == (
        3, wish.get("new_price", LOST), wish.get("new_quantity", state.quantity),
    )  # fmt: skip
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_modification_that_a_lost_task_has_carried_out_is_a_success(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = (await replaced_by_a_lost_task(desk, exchange)).client_order_id

    assert (await desk.oms.modify_order(order_id, new_price=LOST)).success

    assert len(exchange.orders(status="NEW")) == 1
    assert (await desk.state(order_id)).leg == 2


@pytest.mark.parametrize("is_answered", [True, False], ids=["known", "in doubt"])
async def test_a_replacement_that_an_earlier_try_has_sent_again_does_not_end_as_cancelled(
    desk: Desk, exchange: Exchange, *, is_answered: bool
) -> None:
    """Proved dead, sent again, and the task repeated: with a cancel it has to find that order."""
    desk.replaces_at_once(at_once=False)
    exchange.fault("stream_drop")
    order_id = (await desk.resting()).client_order_id
    exchange.fault("http_503", count=1, endpoint="POST order")
    for query in ("GET order", "GET allOrders"):
        exchange.fault("http_503", endpoint=query)
    await desk.oms.modify_order(order_id, new_price=LOST, wait=0)
    state = await desk.until(order_id, lambda s: s.in_doubt_since is not None and s.leg == 2)
    await desk.store.settle_claim(order_id, 2, 1, outcome=ClaimOutcome.NOT_PLACED)
    again = await sent_by_another(desk, state, leg=2, generation=2)
    if is_answered:
        await acknowledged(desk, again, order_id, 2, 2)
    else:
        await written(desk, again)
    (there,) = exchange.orders(status="NEW")
    await desk.handle(order_id).signal("cancel", {})

    exchange.clear("http_503")
    closed = await desk.until_closed(order_id)

    assert closed.state is not None
    assert closed.status is OrderStatus.CANCELLED
    assert closed.state.exchange_order_id == str(there["orderId"])
    assert exchange.orders(status="NEW") == []


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "not written"])
async def test_a_replacement_that_waits_and_was_sent_by_another_does_not_end_as_cancelled(
    desk: Desk, exchange: Exchange, *, is_written: bool
) -> None:
    """The run waits for room to send it; the task that it repeats has claimed it once more."""
    desk.replaces_at_once(at_once=False)
    exchange.fault("stream_drop")
    order_id = (await desk.resting()).client_order_id
    exchange.fault("rate_429", count=1, retry_after="30", endpoint="POST order")
    await desk.oms.modify_order(order_id, new_price=LOST, wait=0)

    await until(lambda: never_reached(desk, order_id))
    await desk.lift_pauses()
    await sent_once_more(desk, order_id, 2, is_written=is_written)

    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED

    names = await desk.names(order_id)
    assert names.index("order_in_doubt") < names.index("order_cancelled")
    assert exchange.orders(status="NEW") == []
    claim = (await desk.store.claims_of(order_id))[-1]
    assert claim.outcome is (ClaimOutcome.ACCEPTED if is_written else ClaimOutcome.NOT_PLACED)
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
