"""What a step has committed, and its workflow was never told: the update was lost, or the task."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.reconcile_messages import Finding, Outcome
from activities.store import ClaimOutcome
from tests.workflows.another_try import acknowledged, never_reached, sent_by_another, written
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import CancelOutcome, OrderStatus, Pending, ReasonCode
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, OrderState, utc_now

pytestmark = pytest.mark.temporal


@pytest.fixture(scope="module", autouse=True)
def nobody_else_asks() -> Iterator[None]:
    """The feed asks twice a minute for what it may have missed; here only the order's run asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.feed._CATCH_UP_S", 3600.0)
        yield


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

    await until(lambda: never_reached(desk, order_id))
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


async def its_run_has_no_doubt(desk: Desk, order_id: str) -> bool:
    known = await desk.handle(order_id).query("state", result_type=OrderState)
    assert known is not None
    return known.in_doubt_since is None and known.exchange_order_id is not None


@pytest.mark.parametrize("by", ["proof", "verdict"])
@pytest.mark.parametrize("leg", [1, 2])
async def test_a_repeated_task_knows_the_send_that_its_earlier_try_has_made(
    desk: Desk, exchange: Exchange, leg: int, by: str
) -> None:
    """Proved dead, sent again and acknowledged; the task's result is lost, and it is repeated.

    The order is no longer unseen then, so it is not sent again: but another send carries it.
    """
    desk.replaces_at_once(at_once=False)
    order = an_order()
    order_id = order.client_order_id
    exchange.fault("stream_drop")
    if leg > 1:
        await desk.oms.submit_order(order)
    exchange.fault("http_503", count=1, endpoint="POST order")
    for query in ("GET order", "GET allOrders"):
        exchange.fault("http_503", endpoint=query)
    if leg > 1:
        await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=0)
    else:
        await desk.orders.start(order)
    state = await desk.until(order_id, lambda s: s.in_doubt_since is not None and s.leg == leg)
    await desk.store.settle_claim(order_id, leg, 1, outcome=ClaimOutcome.NOT_PLACED)
    again = await sent_by_another(desk, state, leg=leg, generation=2)
    await acknowledged(desk, again, order_id, leg, 2)

    if by == "verdict":
        answer = await desk.oms.resolve_order(order_id, "retry", "it never came", by="ann")
        assert answer.success, answer
    exchange.clear("http_503")
    await until(lambda: its_run_has_no_doubt(desk, order_id))

    exchange.market("SELL", "30000", "0.004")
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert closed.state.filled_quantity == Decimal("0.004")
    assert exchange.orders(status="NEW") == []
    assert len(await desk.store.claims_of(order_id)) == leg + 1


# Orders whose run an operator has ended: who takes them up, and with what the new run knows.


async def sent_again(desk: Desk, exchange: Exchange, order: Order) -> OrderState:
    """The first send placed nothing, and the second rests: only its claim says which it is."""
    exchange.fault("http_503", count=1, endpoint="POST order")
    await desk.oms.submit_order(order)
    state = await desk.until(
        order.client_order_id,
        lambda s: s.status is OrderStatus.ACCEPTED and s.in_doubt_since is None,
    )
    assert len(await desk.store.claims_of(order.client_order_id)) == 2
    return state


async def is_running(desk: Desk, order_id: str) -> bool:
    described = await desk.handle(order_id).describe()
    return described.status is WorkflowExecutionStatus.RUNNING


async def found_by_a_pass(desk: Desk, order_id: str) -> list[Finding]:
    (report,) = await desk.oms.reconcile(desk.exchange.name)
    return [one for one in report.findings if one.order_id == order_id]


@pytest.mark.parametrize("call", ["cancel", "modify"])
async def test_a_call_takes_a_terminated_order_up_with_the_send_that_carries_it(
    desk: Desk, exchange: Exchange, call: str
) -> None:
    """Nothing else has begun a run of it: the call does, and names the second generation."""
    order = an_order()
    order_id = order.client_order_id
    first = await sent_again(desk, exchange, order)
    sent = exchange.requests()
    await desk.handle(order_id).terminate("an operator's mistake")

    if call == "modify":
        changed = await desk.oms.modify_order(order_id, new_price=Decimal(30100))
        assert changed.success, changed
        assert Decimal(exchange.orders(status="NEW")[-1]["price"]) == Decimal(30100)
    cancelled = await desk.cancel(order_id)

    assert cancelled.outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    there = exchange.orders(clientOrderId=str(first.exchange_client_id))
    assert [one["status"] for one in there] == ["CANCELED"]
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    assert exchange.requests() == sent


async def test_a_pass_takes_a_terminated_order_up_with_the_send_that_carries_it(
    desk: Desk, exchange: Exchange
) -> None:
    """A signal begins no run: it finds the one that the pass has begun."""
    order = an_order()
    order_id = order.client_order_id
    await sent_again(desk, exchange, order)
    sent = exchange.requests()
    await desk.handle(order_id).terminate("an operator's mistake")

    (finding,) = await found_by_a_pass(desk, order_id)

    assert (finding.kind, finding.outcome) == ("no_workflow", Outcome.MENDED)
    assert await is_running(desk, order_id)
    await desk.handle(order_id).signal("modify", {"new_price": "30100"})
    await desk.until(order_id, lambda s: s.price == Decimal(30100) and s.leg == 2)
    await desk.handle(order_id).signal("cancel", {})
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    assert exchange.orders(status="NEW") == []
    assert exchange.requests() == sent


async def test_a_pass_takes_up_an_order_that_ends_at_its_date(
    desk: Desk, exchange: Exchange
) -> None:
    """Nobody was there when its date came; the run that the pass begins ends it at once."""
    expire_at = utc_now() + timedelta(seconds=2)
    order_id = (await desk.resting(time_in_force="GTD", expire_at=expire_at)).client_order_id
    await desk.handle(order_id).terminate("an operator's mistake")

    async def has_come() -> bool:
        return utc_now() > expire_at

    await until(has_come)
    assert exchange.orders()[-1]["status"] == "NEW"

    (finding,) = await found_by_a_pass(desk, order_id)

    assert (finding.kind, finding.outcome) == ("no_workflow", Outcome.MENDED)
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    ended = (closed.status, closed.state.reason_code)
    assert ended == (OrderStatus.EXPIRED, ReasonCode.EXPIRY_REACHED)
    assert exchange.orders(status="NEW") == []


@pytest.mark.parametrize("how", ["terminated", "reset"])
async def test_a_run_that_takes_an_order_up_asks_what_has_become_of_it(
    desk: Desk, exchange: Exchange, how: str
) -> None:
    """The exchange has cancelled it after a fill, and no stream has said so."""
    order = an_order()
    order_id = order.client_order_id
    await desk.oms.submit_order(order)
    exchange.fault("stream_drop")
    exchange.market("SELL", "30000", "0.004")
    exchange.cancel(exchange.orders(status="PARTIALLY_FILLED")[-1])

    if how == "reset":
        await desk.reset(order_id)
    else:
        await desk.handle(order_id).terminate("an operator's mistake")
        await desk.oms.submit_order(order)

    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (OrderStatus.EXPIRED, Decimal("0.004"))


async def test_a_workflow_that_is_reset_knows_the_send_that_carries_its_order(
    desk: Desk, exchange: Exchange
) -> None:
    order = an_order()
    order_id = order.client_order_id
    await sent_again(desk, exchange, order)
    sent = exchange.requests()
    await desk.reset(order_id)

    changed = await desk.oms.modify_order(order_id, new_price=Decimal(30100))
    assert changed.success, changed
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED

    assert exchange.orders(status="NEW") == []
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    assert exchange.requests() == sent
