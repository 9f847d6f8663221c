"""What a step has committed, and its workflow was never told: the update was lost, or the task."""

import pytest

from activities.store import ClaimOutcome
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import OrderStatus, Pending
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now

pytestmark = pytest.mark.temporal


async def look_into_the_store(desk: Desk, order_id: str) -> None:
    """What reconciliation asks of a workflow that may have missed something."""
    await desk.handle(order_id).execute_update("executions", {"reports": []})


@pytest.mark.parametrize("kinds", [["MODIFY_REQUESTED"], ["MODIFY_REQUESTED", "REPLACE_STARTED"]])
async def test_a_modification_that_was_interrupted_is_ended_and_the_order_goes_on(
    desk: Desk, exchange: Exchange, kinds: list[str]
) -> None:
    """With the old leg cancelled by it, the order is cancelled: the exchange has nothing more."""
    state = await desk.resting()
    order_id = state.client_order_id
    begun = [LifecycleEvent(kind=EventKind[kind], at=utc_now(), leg=1) for kind in kinds]
    await desk.store.record(order_id, begun)
    if "REPLACE_STARTED" in kinds:
        exchange.fault("stream_drop")
        exchange.cancel(exchange.orders(status="NEW")[-1])

    await look_into_the_store(desk, order_id)

    after = await desk.until(order_id, lambda s: s.pending is Pending.NONE and not s.replacing)
    if "REPLACE_STARTED" in kinds:
        assert (await desk.until_closed(order_id)).status is OrderStatus.EXPIRED
    else:
        assert after.status is OrderStatus.ACCEPTED
        assert (await desk.cancel(order_id)).success


async def test_a_cancel_that_was_interrupted_is_carried_out(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id
    asked = LifecycleEvent(kind=EventKind.CANCEL_REQUESTED, at=utc_now(), leg=1)
    await desk.store.record(order_id, [asked])

    await look_into_the_store(desk, order_id)

    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_cancel_does_not_end_an_order_whose_send_another_process_has_claimed(
    desk: Desk, exchange: Exchange
) -> None:
    """The workflow waits to send again; the task that it repeats has claimed and only stalled."""
    exchange.fault("rate_429", retry_after="4", endpoint="POST order", count=1)
    order = an_order()
    order_id = order.client_order_id
    await desk.orders.start(order)

    async def never_reached() -> bool:
        claims = await desk.store.claims_of(order_id)
        return bool(claims) and claims[0].outcome is ClaimOutcome.NEVER_REACHED

    await until(never_reached)
    (claim,) = await desk.store.claims_of(order_id)
    again = await desk.store.reclaim(
        order_id, 1, 1, stamp=1, request=claim.request, claimant="the other"
    )
    assert again.won

    await desk.cancel(order_id)
    await desk.until_status(order_id, OrderStatus.CANCELLED)

    names = await desk.names(order_id)
    assert "order_in_doubt" in names, names
    assert names.index("order_in_doubt") < names.index("order_cancelled")

    (claim,) = await desk.store.claims_of(order_id)
    assert claim.outcome is ClaimOutcome.NOT_PLACED
