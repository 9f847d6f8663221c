"""An operator's verdict on an order in doubt, and two generations that were alive after all."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from activities.look_up import OrderLookUp
from activities.store import TradingState
from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.commands import ResolveRequest
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy, Verdict
from trading.oms.errors import InvalidOrder, OrderNotFound
from trading.oms.identity import exchange_client_id
from trading.oms.models import OrderState

pytestmark = pytest.mark.temporal
QUERIES = ("GET order", "GET allOrders", "GET openOrders")


@pytest.fixture(scope="module", autouse=True)
def no_look_by_the_clock() -> Iterator[None]:
    """The feed would ask an exchange that cannot be asked, and be told to pause, twice a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.feed._CATCH_UP_S", 3600.0)
        yield


def blind(exchange: Exchange) -> None:
    """Nobody can see what the exchange has: no query answers, no report comes."""
    for query in QUERIES:
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)
    exchange.fault("stream_drop")


async def in_doubt(desk: Desk, exchange: Exchange, *, order: str = "alive") -> OrderState:
    blind(exchange)
    exchange.fault("reply_lost", order=order, count=1, endpoint="POST order")
    result = await desk.submit()
    assert result.in_doubt
    assert result.state is not None
    return result.state


async def test_adopt_takes_what_the_exchange_has(desk: Desk, exchange: Exchange) -> None:
    doubted = await in_doubt(desk, exchange)
    await until(lambda: _looked(exchange, 4))  # The next look-up by itself is a while off.
    exchange.clear()

    result = await desk.oms.resolve_order(
        doubted.client_order_id, "adopt", "seen on their page", by="ann"
    )

    assert (result.success, result.in_doubt, result.status) == (True, False, OrderStatus.ACCEPTED)
    (entry,) = [e for e in await desk.journal(result.order_id) if e.name == "order_resolved"]
    assert dict(entry.details or {}) == {
        "verdict": "adopt", "by": "ann", "reason": "seen on their page",
    }  # fmt: skip


async def test_adopt_of_what_is_not_there_leaves_the_order_in_doubt(
    desk: Desk, exchange: Exchange
) -> None:
    doubted = await in_doubt(desk, exchange)

    result = await desk.oms.resolve_order(doubted.client_order_id, Verdict.ADOPT, "try", by="ann")

    assert (result.success, result.in_doubt) == (False, True), result
    assert "-1003" in (result.error or "")


async def test_a_dead_order_ends_in_error_and_proof_of_life_revives_it(
    desk: Desk, exchange: Exchange
) -> None:
    doubted = await in_doubt(desk, exchange)
    order_id = doubted.client_order_id

    result = await desk.oms.resolve_order(order_id, "dead", "they say they have none", by="bob")

    assert (result.status, result.rejected_by) == (OrderStatus.ERROR, RejectedBy.OMS)
    assert result.reason_code is ReasonCode.OPERATOR_DEAD
    assert result.error == "declared dead by bob: they say they have none"
    assert any("declared_dead" in alarm for alarm in await desk.alarms(order_id))
    assert (await desk.until_closed(order_id)).status is OrderStatus.ERROR

    exchange.clear()
    exchange.market("SELL", "29000", "0.01")
    revived = await desk.until_status(order_id, OrderStatus.FILLED)
    assert revived.remaining_quantity == 0
    assert any("revives" in alarm for alarm in await desk.alarms(order_id))
    (claim,) = await desk.store.claims_of(order_id)
    assert claim.outcome == "accepted"


async def test_a_forgotten_order_ends_although_its_fills_were_due_during_the_look(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = (await forgotten(desk, exchange)).client_order_id
    await desk.handle(order_id).terminate("an operator's slip")
    await desk.cancel(order_id, wait=0.3)
    look = OrderLookUp._look

    async def slow(self: OrderLookUp, *arguments: Any) -> Any:
        await asyncio.sleep(2.5)
        return await look(self, *arguments)

    monkeypatch.setattr(OrderLookUp, "_look", slow)

    result = await desk.oms.resolve_order(order_id, "dead", "their desk has none", by="bob")

    assert result.status is OrderStatus.CANCELLED
    assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED


async def test_retry_sends_the_next_generation_once(desk: Desk, exchange: Exchange) -> None:
    doubted = await in_doubt(desk, exchange, order="dead")
    order_id = doubted.client_order_id

    result = await desk.oms.resolve_order(order_id, "retry", "their desk confirmed", by="ann")

    # The exchange may still ask for the pause that kept the look-ups away.
    assert result.success
    await desk.until_status(order_id, OrderStatus.ACCEPTED)
    (there,) = exchange.orders(status="NEW")
    assert there["clientOrderId"] == exchange_client_id(desk.settings.deployment, order_id, 1, 2)
    names = await desk.names(order_id)
    assert names.index("order_resolved") < names.index("order_resent")


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        ("dead", "the exchange has the order"),
        ("retry", "the order is accepted and not in doubt"),
    ],
)
async def test_an_order_that_the_exchange_has_can_be_neither_dead_nor_sent_again(
    desk: Desk, verdict: str, error: str
) -> None:
    state = await desk.resting()

    result = await desk.oms.resolve_order(state.client_order_id, verdict, "a slip", by="ann")

    assert (result.success, result.status) == (False, OrderStatus.ACCEPTED)
    assert result.error == error
    names = await desk.names(state.client_order_id)
    assert "order_message_refused" in names
    assert "order_resolved" not in names


async def test_an_ended_order_cannot_be_resolved(desk: Desk) -> None:
    state = await desk.resting()
    assert (await desk.cancel(state.client_order_id)).success

    result = await desk.oms.resolve_order(state.client_order_id, "dead", "a slip", by="ann")

    assert result.error == "the order is cancelled and not in doubt"


async def forgotten(desk: Desk, exchange: Exchange) -> OrderState:
    """An order that rested, ended while nobody listened, and is in no record any more."""
    state = await desk.resting()
    exchange.fault("stream_drop")
    [there] = exchange.orders(clientOrderId=str(state.exchange_client_id))
    exchange.cancel(there)
    exchange.forget(there)
    return state


@pytest.mark.parametrize("taken_up_again", [False, True])
async def test_a_confirmed_order_that_the_exchange_has_forgotten_can_be_declared_dead(
    desk: Desk, exchange: Exchange, *, taken_up_again: bool
) -> None:
    state = await forgotten(desk, exchange)
    order_id = state.client_order_id
    if taken_up_again:
        await desk.handle(order_id).terminate("an operator's slip")
    cancelled = await desk.cancel(order_id, wait=0.5)
    assert (cancelled.success, cancelled.outcome) == (False, CancelOutcome.PENDING)
    adopted = await desk.oms.resolve_order(order_id, "adopt", "is it there?", by="ann")
    assert (adopted.success, adopted.error) == (False, "the exchange has no such order")

    result = await desk.oms.resolve_order(order_id, "dead", "their desk has none", by="bob")

    assert (result.success, result.status) == (True, OrderStatus.CANCELLED)
    await desk.until_closed(order_id)
    ended = await desk.state(order_id)
    assert (ended.rejected_by, ended.reason_code) == (RejectedBy.OMS, ReasonCode.OPERATOR_DEAD)
    names = await desk.names(order_id)
    assert names.index("order_resolved") < names.index("order_cancelled")
    (alarm,) = await desk.alarms(order_id)
    assert alarm_of(alarm) is Alarm.DECLARED_DEAD


async def test_a_confirmed_order_is_not_dead_while_the_exchange_does_not_answer(
    desk: Desk, exchange: Exchange
) -> None:
    state = await desk.resting()
    blind(exchange)

    result = await desk.oms.resolve_order(state.client_order_id, "dead", "a guess", by="ann")

    assert (result.success, result.status) == (False, OrderStatus.ACCEPTED)
    assert "-1003" in (result.error or "")


async def test_adopt_of_a_confirmed_order_takes_the_end_that_nobody_told_us_of(
    desk: Desk, exchange: Exchange
) -> None:
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[0])

    result = await desk.oms.resolve_order(state.client_order_id, "adopt", "look again", by="ann")

    assert result.status is OrderStatus.EXPIRED
    assert "order_resolved" in await desk.names(state.client_order_id)


async def test_a_verdict_without_reason_author_or_sense_is_refused(desk: Desk) -> None:
    state = await desk.resting()
    for wrong in ({"reason": " "}, {"verdict": "alive"}, {"by": "b" * 101}):
        given: dict[str, Any] = {"verdict": "dead", "reason": "why", "by": "ann", **wrong}
        with pytest.raises(InvalidOrder):
            await desk.oms.resolve_order(state.client_order_id, **given)
    with pytest.raises(WorkflowUpdateFailedError):
        await desk.handle(state.client_order_id).execute_update(
            "resolve", {"verdict": "dead", "reason": "why"}
        )


async def test_a_verdict_on_an_unknown_order_says_so(desk: Desk) -> None:
    with pytest.raises(OrderNotFound):
        await desk.oms.resolve_order("nobody-knows-it", "dead", "why")


async def test_a_verdict_can_come_as_a_signal(desk: Desk, exchange: Exchange) -> None:
    doubted = await in_doubt(desk, exchange)
    request = ResolveRequest(verdict=Verdict.DEAD, reason="from the web page", by="ann")

    await desk.handle(doubted.client_order_id).signal("resolve", request)

    await desk.until_status(doubted.client_order_id, OrderStatus.ERROR)


async def test_an_order_in_doubt_whose_workflow_was_terminated_can_be_resolved(
    desk: Desk, exchange: Exchange
) -> None:
    doubted = await in_doubt(desk, exchange)
    await desk.handle(doubted.client_order_id).terminate("an operator's slip")
    exchange.clear()

    result = await desk.oms.resolve_order(doubted.client_order_id, "adopt", "it is there", by="ann")

    assert result.status in {OrderStatus.ACCEPTED, OrderStatus.SUBMITTED}
    await desk.until_status(doubted.client_order_id, OrderStatus.ACCEPTED)


async def test_after_two_generations_were_alive_nothing_is_sent_again_on_the_account(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.fault(
        "accept_delayed_ms", ms=4500, ignore_fence="true", count=1, endpoint="POST order"
    )
    order = an_order()
    await desk.oms.submit_order(order)
    scope = f"resend:{exchange.name}/main"

    async def stopped() -> bool:
        return (await desk.store.trading_states()).get(scope) is TradingState.HALTED

    await until(stopped, 20)
    await until(lambda: _one_rests(exchange))
    assert (await desk.cancel(order.client_order_id)).success
    assert exchange.orders(status="NEW") == []

    exchange.fault("reply_lost", order="dead", count=1, endpoint="POST order")
    again = await desk.submit()
    ended = await desk.until_status(again.order_id, OrderStatus.REJECTED)
    assert ended.reason_code is ReasonCode.RESENDING_STOPPED

    await desk.oms.allow_resending(exchange.name, "main", "they have explained it", by="ann")
    exchange.fault("reply_lost", order="dead", count=1, endpoint="POST order")
    last = await desk.submit()
    assert (await desk.until_status(last.order_id, OrderStatus.ACCEPTED)).exchange_order_id


async def _one_rests(exchange: Exchange) -> bool:
    return [order["status"] for order in exchange.orders()[-2:]].count("NEW") == 1


async def _looked(exchange: Exchange, times: int) -> bool:
    return exchange.hits("rate_429") >= times
