"""What a step has committed, and its workflow was never told: the update was lost, or the task."""

import pytest

from activities.store import Claim, ClaimOutcome
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import OrderStatus, Pending
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now

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


async def sent_by_another(desk: Desk, state: OrderState, leg: int, generation: int) -> Claim:
    """The task that the workflow's repeats has claimed this send; nothing is written yet."""
    assert desk.runtime is not None
    parts, order_id = desk.runtime.parts, state.client_order_id
    first = (await desk.store.claims_of(order_id))[0].request
    now = parts.connectors[first.exchange, first.account].exchange_now()
    request = first.model_copy(
        update={
            "exchange_client_id": exchange_client_id(parts.deployment, order_id, leg, generation),
            "timestamp_ms": int(now.timestamp() * 1000),
        }
    )
    kind = EventKind.LEG_STARTED if leg > 1 else EventKind.RESENT
    started = LifecycleEvent(
        kind=kind,
        at=utc_now(),
        leg=leg,
        exchange_client_id=request.exchange_client_id,
        revision=leg - 1,
    )
    claim = await desk.store.claim_send(
        order_id, leg, generation, request, claimant="the other", events=[started]
    )
    assert claim.won
    return claim


async def written(desk: Desk, claim: Claim) -> None:
    """The other has written it, and nobody has read its answer."""
    assert desk.runtime is not None
    request = claim.request
    await desk.runtime.parts.connectors[request.exchange, request.account].place(request)


@pytest.mark.parametrize("if_not_placed", ["resend", "reject"])
@pytest.mark.parametrize("second_leg", ["lives", "was never written", "never reached it"])
async def test_the_second_leg_of_an_interrupted_replacement_is_not_forgotten(
    desk: Desk, exchange: Exchange, second_leg: str, if_not_placed: str
) -> None:
    """Its update was lost after the claim. Alive it is adopted, dead sent again, or ends it."""
    exchange.fault("stream_drop")
    state = await desk.resting(if_not_placed=if_not_placed)
    order_id = state.client_order_id
    begun = [
        LifecycleEvent(kind=kind, at=utc_now(), leg=1)
        for kind in (EventKind.MODIFY_REQUESTED, EventKind.REPLACE_STARTED)
    ]
    await desk.store.record(order_id, begun)
    exchange.cancel(exchange.orders(status="NEW")[-1])
    claim = await sent_by_another(desk, state, leg=2, generation=1)
    if second_leg == "lives":
        await written(desk, claim)
    elif second_leg == "never reached it":
        await desk.store.settle_claim(order_id, 2, 1, outcome=ClaimOutcome.NEVER_REACHED)

    await look_into_the_store(desk, order_id)

    if second_leg == "was never written" and if_not_placed == "reject":
        closed = await desk.until_closed(order_id)
        assert closed.status is OrderStatus.CANCELLED
        assert "order_in_doubt" in await desk.names(order_id)
    else:
        after = await desk.until(order_id, lambda s: s.exchange_order_id is not None)
        assert (after.leg, after.status, after.pending) == (2, OrderStatus.ACCEPTED, Pending.NONE)
        (there,) = exchange.orders(status="NEW")
        assert after.exchange_order_id == str(there["orderId"])
        generation = 2 if second_leg == "was never written" else 1
        assert (await desk.store.claims_of(order_id))[-1].key[1:] == (2, generation)
        assert (await desk.cancel(order_id)).success
    assert exchange.orders(status="NEW") == []


async def test_the_proof_about_the_first_send_does_not_end_an_order_that_was_sent_again(
    desk: Desk, exchange: Exchange
) -> None:
    """The task that this one repeats has sent it again; the cancel has to find that order."""
    exchange.fault("stream_drop")
    exchange.fault("http_503", count=1, endpoint="POST order")
    blind = [("http_503", "GET order"), ("http_503", "GET allOrders")]
    for kind, endpoint in blind:
        exchange.fault(kind, endpoint=endpoint)
    result = await desk.submit()
    order_id = result.order_id
    assert result.in_doubt
    again = await sent_by_another(desk, await desk.state(order_id), leg=1, generation=2)
    await written(desk, again)
    (there,) = exchange.orders(status="NEW")
    await desk.handle(order_id).signal("cancel", {})
    await desk.until(order_id, lambda state: state.pending is Pending.CANCEL)

    exchange.clear("http_503")
    closed = await desk.until_closed(order_id)

    assert closed.status is OrderStatus.CANCELLED
    assert exchange.orders(status="NEW") == []
    assert closed.state is not None
    assert closed.state.exchange_order_id == str(there["orderId"])
    first, second = await desk.store.claims_of(order_id)
    outcomes = (first.outcome, second.outcome)
    assert outcomes == (ClaimOutcome.NOT_PLACED, ClaimOutcome.ACCEPTED)
