"""Reconciliation against a real exchange and a real server: what differs is put right."""

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    ScheduleHandle,
    ScheduleOverlapPolicy,
    WorkflowExecutionStatus,
)
from temporalio.service import RPCError, RPCStatusCode

from activities import account_pictures
from activities.order_door import OrderDoor
from activities.reconcile_messages import Finding, Outcome, ReconcileReport
from activities.store import TradingState
from activities.store.engine import store_url
from activities.store.schema import execution_inbox
from tests.workflows.desk import Desk, Exchange, a_desk, an_order, until, working
from tests.workflows.elsewhere import place_by_hand, place_elsewhere
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.enums import OrderStatus, ReasonCode
from trading.oms.errors import ExchangeUnavailable, InvalidOrder
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now
from trading.oms.reconciliation import ExchangePicture
from trading.oms.venue import ExecutionReport, IExecutionConnector, OrderList, OrderRef
from workers.order_marks import newest_orders
from workers.schedules import keep_schedules, last_marks, schedule_id

pytestmark = pytest.mark.temporal
SETTLED_S = 2.2
"""What was touched a moment ago is left to the next pass."""


@pytest.fixture(scope="module", autouse=True)
def nobody_else_asks() -> Iterator[None]:
    """The feed asks twice a minute for what it may have missed; here that is left to the pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.feed._CATCH_UP_S", 3600.0)
        yield


async def one_pass(desk: Desk, *, dry_run: bool = False) -> ReconcileReport:
    (report,) = await desk.oms.reconcile(desk.exchange.name, dry_run=dry_run)
    return report


def about(report: ReconcileReport, state: OrderState) -> list[Finding]:
    return [one for one in report.findings if one.order_id == state.client_order_id]


async def noted_as_withheld(desk: Desk, state: OrderState) -> bool:
    """Whether the newest pass, or one made now, has noted that fills of the order are missing."""
    (newest,) = await desk.store.upkeep.reports(desk.exchange.name, "main", limit=1)
    findings = about(ReconcileReport.model_validate(newest), state)
    if any(one.kind == "withheld_fills" for one in findings):
        return True
    await asyncio.sleep(SETTLED_S)
    findings = about(await one_pass(desk), state)
    return any(one.kind == "withheld_fills" for one in findings)


async def test_an_end_that_nobody_told_us_of_is_found(desk: Desk, exchange: Exchange) -> None:
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[0])
    await asyncio.sleep(SETTLED_S)

    dry = await one_pass(desk, dry_run=True)
    assert [one.outcome for one in about(dry, state)] == [Outcome.LEFT]
    assert (await desk.state(state.client_order_id)).status is OrderStatus.ACCEPTED

    report = await one_pass(desk)
    (finding,) = about(report, state)
    assert (finding.kind, finding.outcome) == ("missing_at_exchange", Outcome.MENDED)
    assert (await desk.state(state.client_order_id)).status is OrderStatus.EXPIRED
    assert about(await one_pass(desk), state) == []
    kept = await desk.store.upkeep.reports(desk.exchange.name, "main", limit=3)
    assert [about(ReconcileReport.model_validate(one), state) for one in kept] == [
        [], [finding], about(dry, state),
    ]  # fmt: skip


async def test_an_order_is_not_missed_in_a_list_that_cannot_be_read_whole(
    desk: Desk, exchange: Exchange
) -> None:
    await desk.resting()
    ended, there = await desk.resting(price="29000"), await desk.resting(price="28000")
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(price="29000.00000000")[0])
    exchange.fault("row_garbled", endpoint="GET openOrders")
    await asyncio.sleep(SETTLED_S)

    report = await one_pass(desk)
    assert any("cannot be read" in text and "status" in text for text in report.failed)
    assert [one for one in report.findings if one.kind == "missing_at_exchange"] == []
    assert report.looked_at["orders_there"] == 1

    exchange.clear("row_garbled")
    (finding,) = about(await one_pass(desk), ended)
    assert (finding.kind, finding.outcome) == ("missing_at_exchange", Outcome.MENDED)
    assert (await desk.cancel(there.client_order_id)).success


async def test_an_order_whose_row_cannot_be_read_keeps_no_other_from_being_looked_after(
    desk: Desk, exchange: Exchange
) -> None:
    """A worker of a newer version has written it, beside one that is not replaced yet."""
    there = await desk.resting(price="28000")
    ended = await desk.resting(price="29000")
    filled = await desk.resting(price="30000")
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(clientOrderId=str(ended.exchange_client_id))[0])
    exchange.market("SELL", "30000", "0.004")
    await asyncio.sleep(SETTLED_S)
    given = "UPDATE orders SET reason_code = ? WHERE client_order_id = ?"
    change(desk, given, "of_tomorrow", there.client_order_id)
    asked = "UPDATE orders SET order_json = json_set(order_json, '$.of_tomorrow', 1)"
    change(desk, f"{asked} WHERE client_order_id = ?", filled.client_order_id)

    report = await one_pass(desk)

    assert [one.outcome for one in about(report, ended)] == [Outcome.MENDED]
    assert {one.outcome for one in about(report, filled)} == {Outcome.MENDED}
    assert (await desk.state(filled.client_order_id)).filled_quantity == Decimal("0.004")
    assert about(report, there) == []
    (failed,) = report.failed
    assert there.client_order_id in failed
    assert "of_tomorrow" in failed
    change(
        desk,
        "UPDATE orders SET reason_code = NULL WHERE client_order_id = ?",
        there.client_order_id,
    )
    assert (await desk.cancel(there.client_order_id)).success


async def test_a_fill_that_nobody_told_us_of_is_found(desk: Desk, exchange: Exchange) -> None:
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.market("SELL", "29000", "0.004")
    await asyncio.sleep(SETTLED_S)

    await one_pass(desk)

    after = await desk.until(state.client_order_id, lambda s: s.filled_quantity)
    assert (after.status, after.filled_quantity) == (
        OrderStatus.PARTIALLY_FILLED,
        Decimal("0.004"),
    )


async def test_an_order_that_was_replaced_and_then_reduced_in_place_differs_in_nothing(
    desk: Desk, exchange: Exchange
) -> None:
    state = await desk.resting()
    order_id = state.client_order_id
    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    assert (await desk.oms.modify_order(order_id, new_price=Decimal(30100))).success
    assert (await desk.oms.modify_order(order_id, new_quantity=Decimal("0.007"))).success
    assert (await desk.state(order_id)).leg == 2
    assert [o["origQty"] for o in exchange.orders(status="NEW")] == ["0.00300000"]
    await asyncio.sleep(SETTLED_S)

    assert about(await one_pass(desk), state) == []
    assert await desk.alarms(order_id) == []


async def test_the_fills_of_an_order_declared_dead_are_found(
    desk: Desk, exchange: Exchange
) -> None:
    for query in ("GET order", "GET allOrders"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", order="alive", count=1, endpoint="POST order")
    order_id = (await desk.submit()).order_id
    await desk.oms.resolve_order(order_id, "dead", "a mistake", by="ann")
    exchange.market("SELL", "29000", "0.01")
    exchange.clear()
    await asyncio.sleep(SETTLED_S)

    await one_pass(desk)

    revived = await desk.until_status(order_id, OrderStatus.FILLED)
    assert revived.remaining_quantity == 0


async def test_fills_that_the_exchange_counts_and_does_not_list_are_inferred_and_replaced(
    desk: Desk, exchange: Exchange
) -> None:
    state = await desk.resting()
    order_id = state.client_order_id
    exchange.fault("stream_drop")
    exchange.fault("rest_lag_ms", ms=3_600_000, endpoint="GET myTrades")
    exchange.market("SELL", "29000", "0.004")
    exchange.market("SELL", "29000", "0.006")
    await asyncio.sleep(SETTLED_S)

    first = await one_pass(desk)
    assert "inferred_fill" not in {one.kind for one in about(first, state)}
    assert (await desk.state(order_id)).filled_quantity == 0
    await until(lambda: noted_as_withheld(desk, state))
    (finding,) = [f for f in about(await one_pass(desk), state) if f.kind == "inferred_fill"]

    assert finding.outcome is Outcome.ALARMED
    filled = await desk.until_status(order_id, OrderStatus.FILLED)
    assert (filled.inferred_quantity, filled.fees) == (Decimal("0.01"), Decimal(0))
    assert filled.filled_notional == Decimal("0.01") * 30000
    assert Alarm.INFERRED_FILL in {alarm_of(text) for text in await desk.alarms(order_id)}
    (inferred,) = await desk.store.fills(order_id)
    assert (inferred.inferred, inferred.price) == (True, Decimal(30000))
    held = await desk.store.risk.book(exchange.name, "main")

    exchange.clear()
    await one_pass(desk)

    replaced = await desk.until(order_id, lambda s: not s.inferred_quantity)
    booked = await desk.store.fills(order_id)
    real = [fill for fill in booked if not fill.inferred]
    trades = exchange.trades_of(str(replaced.exchange_order_id))
    assert sorted(fill.trade_id or "" for fill in real) == sorted(str(t["id"]) for t in trades)
    assert sum(fill.quantity for fill in booked) == replaced.filled_quantity == Decimal("0.01")
    assert replaced.filled_notional == filled.filled_notional
    assert replaced.fees_by_currency == {
        **dict.fromkeys(filled.fees_by_currency, 0),
        real[0].fee_currency: sum(fill.fee for fill in real),
    }
    assert (replaced.status, replaced.remaining_quantity) == (OrderStatus.FILLED, Decimal(0))
    after = await desk.store.risk.book(exchange.name, "main")
    fees = sum(fill.fee for fill in real if fill.fee_currency == "BTC")
    assert after.position("BTC/USDT") == held.position("BTC/USDT") - fees
    assert len(await desk.alarms(order_id)) == len(set(await desk.alarms(order_id)))
    assert (await desk.until_closed(order_id)).status is OrderStatus.FILLED


async def test_an_order_that_cannot_be_asked_after_hides_no_fills_of_another(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting = [await desk.resting(), await desk.resting()]
    silent, other = sorted(resting, key=lambda state: state.client_order_id)
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[exchange.name, "main"]
    find_order = connector.find_order

    async def silent_about_one(ref: OrderRef) -> ExecutionReport | None:
        if ref.exchange_client_id == silent.exchange_client_id:
            raise ExchangeUnavailable("nobody answers")
        return await find_order(ref)

    monkeypatch.setattr(connector, "find_order", silent_about_one)
    exchange.fault("stream_drop")
    exchange.fault("rest_lag_ms", ms=3_600_000, endpoint="GET myTrades")
    exchange.market("SELL", "29000", "0.02")
    await asyncio.sleep(SETTLED_S)

    await one_pass(desk)
    await until(lambda: noted_as_withheld(desk, other))
    (newest,) = await desk.store.upkeep.reports(exchange.name, "main", limit=1)
    failed = ReconcileReport.model_validate(newest).failed
    text = f"withheld fills of order {silent.client_order_id}: nobody answers"
    assert text in failed


async def test_an_account_that_nobody_has_is_named_with_those_that_there_are(desk: Desk) -> None:
    """A misspelt name is no reconciliation that has found nothing."""
    own = f"{desk.exchange.name}/main"
    for exchange, account in (("nowhere", ""), ("", "nobody")):
        named = re.escape(f"{exchange or '*'}/{account or '*'}")
        with pytest.raises(InvalidOrder, match=f"^this worker has no account {named}; .*{own}"):
            await desk.oms.reconcile(exchange, account)
    with pytest.raises(InvalidOrder, match="exchange: is 'no where'; must be 1 to 32 of"):
        await desk.oms.reconcile("no where")
    (report,) = await desk.oms.reconcile("", "main", dry_run=True)
    assert report.exchange == desk.exchange.name


async def test_an_order_without_a_workflow_is_taken_up_again(desk: Desk) -> None:
    state = await desk.resting()
    await desk.handle(state.client_order_id).terminate("an operator's slip")

    report = await one_pass(desk)

    assert [(one.kind, one.outcome) for one in about(report, state)] == [
        ("no_workflow", Outcome.MENDED)
    ]
    result = await desk.cancel(state.client_order_id)
    assert result.success


@pytest.mark.parametrize("named", ["exchange", "account", ""], ids=lambda name: name or "nothing")
async def test_an_order_that_was_only_admitted_is_taken_up_by_whoever_looks(
    desk: Desk, named: str
) -> None:
    where = {"exchange": desk.exchange.name, "account": "main"}
    order = an_order(**{name: where[name] for name in where if name == named})
    await desk.store.admit(order)  # Its workflow was terminated before it chose the account.

    report = await one_pass(desk)

    found = [one for one in report.findings if one.order_id == order.client_order_id]
    assert [(one.kind, one.outcome) for one in found] == [("no_workflow", Outcome.MENDED)]
    await desk.until_status(order.client_order_id, OrderStatus.ACCEPTED)


async def test_an_order_that_ends_during_the_pass_does_not_lack_a_workflow(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await desk.resting()
    order_id = state.client_order_id
    is_running = OrderDoor.is_running

    async def later(door: OrderDoor, asked: str) -> bool:
        if asked == order_id:
            await desk.cancel(order_id)
            await desk.until_closed(order_id)
        return await is_running(door, asked)

    monkeypatch.setattr(OrderDoor, "is_running", later)
    report = await one_pass(desk)

    assert [one for one in about(report, state) if one.kind == "no_workflow"] == []


async def test_an_order_that_ends_after_the_exchange_was_asked_is_not_alive_after_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await desk.resting()
    order_id = state.client_order_id
    await asyncio.sleep(SETTLED_S)
    run_id = (await desk.handle(order_id).describe()).run_id
    asked = account_pictures.exchange_picture

    async def and_then_it_ends(connector: IExecutionConnector) -> ExchangePicture:
        found = await asked(connector)
        await desk.cancel(order_id)
        await desk.until_closed(order_id)
        return found

    monkeypatch.setattr(account_pictures, "exchange_picture", and_then_it_ends)
    report = await one_pass(desk)

    assert about(report, state) == []
    assert (await desk.handle(order_id).describe()).run_id == run_id


async def test_a_send_under_way_is_not_missing_at_the_exchange(
    temporal_client: Client, sqlite_url: str
) -> None:
    async with a_desk(temporal_client, sqlite_url, timeout_ms=8000) as desk:
        desk.exchange.fault(
            "accept_delayed_ms", ms=5000, ignore_fence=True, count=1, endpoint="POST order"
        )
        order = an_order()
        submitting = asyncio.create_task(desk.oms.submit_order(order))
        await desk.until_status(order.client_order_id, OrderStatus.SUBMITTED)
        await asyncio.sleep(SETTLED_S)

        report = await one_pass(desk)

        assert [one.kind for one in report.findings] == []
        assert (await submitting).status is OrderStatus.ACCEPTED
        assert await desk.alarms(order.client_order_id) == []


async def test_a_difference_that_the_exchange_cannot_be_asked_about_is_left_to_the_next_pass(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[0])
    await asyncio.sleep(SETTLED_S)
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[desk.exchange.name, "main"]
    lists = [await connector.open_orders()]

    async def once(*_: object) -> OrderList:
        if not lists:
            raise ExchangeUnavailable("no answer to the query")
        return lists.pop()

    async def never(*_: object) -> None:
        raise ExchangeUnavailable("no answer to the query")

    with monkeypatch.context() as away:
        away.setattr(connector, "open_orders", once)
        away.setattr(connector, "find_order", never)
        report = await one_pass(desk)
    (finding,) = about(report, state)
    assert (finding.kind, finding.outcome) == ("missing_at_exchange", Outcome.LEFT)
    assert "order_alarm" not in await desk.names(state.client_order_id)

    (finding,) = about(await one_pass(desk), state)
    assert finding.outcome is Outcome.MENDED


async def test_a_workflow_that_does_not_know_that_its_order_has_ended_is_told(
    desk: Desk, exchange: Exchange
) -> None:
    """The step was committed, and its result lost together with the Temporal server."""
    state = await desk.resting()
    ended = LifecycleEvent(kind=EventKind.EXPIRED, at=utc_now(), leg=state.leg)
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[-1])
    await desk.store.record(state.client_order_id, [ended])
    described = await desk.handle(state.client_order_id).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    await asyncio.sleep(SETTLED_S)

    report = await one_pass(desk)

    assert [(one.kind, one.outcome) for one in about(report, state)] == [
        ("ended_unknown", Outcome.MENDED)
    ]
    assert (await desk.until_closed(state.client_order_id)).status is OrderStatus.EXPIRED


async def test_an_order_that_was_never_sent_is_not_sent_late(
    desk: Desk, exchange: Exchange
) -> None:
    """It has no `send_by`, and neither reconciliation nor its trader's repetition sends it."""
    made = utc_now() - timedelta(minutes=5)
    swept, repeated = an_order(created_at=made), an_order(created_at=made)
    for order in (swept, repeated):
        await desk.store.admit(order)
    routed = LifecycleEvent(
        kind=EventKind.ROUTED, at=utc_now(), exchange=exchange.name, account="main"
    )
    await desk.store.record(swept.client_order_id, [routed])
    sent = exchange.requests()

    await one_pass(desk)
    again = await desk.oms.submit_order(repeated)

    ended = await desk.until_status(swept.client_order_id, OrderStatus.REJECTED)
    assert ended.reason_code is again.reason_code is ReasonCode.SEND_BY_PASSED
    assert exchange.requests() == sent


async def test_somebody_elses_order_is_recorded_and_never_touched(
    desk: Desk, exchange: Exchange
) -> None:
    await place_elsewhere(desk, "by-hand-1")

    report = await one_pass(desk)

    assert Outcome.RECORDED in {one.outcome for one in report.findings}
    (known,) = [o for o in await desk.store.open_orders() if o.exchange_client_id == "by-hand-1"]
    assert (known.status, known.quantity) == (OrderStatus.ACCEPTED, Decimal("0.02"))
    assert [o["status"] for o in exchange.orders(clientOrderId="by-hand-1")] == ["NEW"]

    await one_pass(desk)
    (alarm,) = await desk.alarms(known.client_order_id)  # Once, not in every pass.
    assert alarm_of(alarm) is Alarm.EXTERNAL_ORDER

    exchange.market("SELL", "29000", "0.02")
    await desk.until_status(known.client_order_id, OrderStatus.FILLED)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "forgotten"])
async def test_somebody_elses_order_without_a_client_id_ends_too(
    temporal_client: Client, sqlite_url: str, *, listed: bool
) -> None:
    """It was cancelled on the exchange's page while nobody listened."""
    async with a_desk(temporal_client, sqlite_url, protocols=("kraken",)) as desk:
        await place_by_hand(desk)
        await one_pass(desk)
        (known,) = await desk.store.open_orders()
        assert (known.exchange_client_id, known.status) == (None, OrderStatus.ACCEPTED)
        desk.exchange.fault("stream_drop")
        (there,) = desk.exchange.orders(status="NEW")
        desk.exchange.cancel(there)
        if not listed:
            desk.exchange.forget(there)
        await asyncio.sleep(SETTLED_S)

        report = await one_pass(desk)

        assert [(one.kind, one.outcome) for one in about(report, known)] == [
            ("missing_at_exchange", Outcome.MENDED)
        ]
        assert not (await desk.state(known.client_order_id)).is_open
        assert await one_pass(desk) is not None
        (alarm,) = await desk.alarms(known.client_order_id)
        assert alarm_of(alarm) is Alarm.EXTERNAL_ORDER


async def test_what_the_inbox_delivered_long_ago_is_forgotten(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = (await desk.resting()).client_order_id
    exchange.market("SELL", "30000", "0.01")
    await desk.until_closed(order_id)

    async def kept() -> int:
        count = sa.select(sa.func.count()).select_from(execution_inbox)
        return await desk.store._read(lambda c: int(c.execute(count).scalar_one()))

    await one_pass(desk)
    assert await kept() > 0
    monkeypatch.setattr("activities.reconciling._INBOX_KEPT", timedelta(0))
    await one_pass(desk)
    assert await kept() == 0


async def test_an_order_with_our_mark_that_the_store_does_not_know_is_recovered(
    desk: Desk, exchange: Exchange
) -> None:
    lost = exchange_client_id(desk.settings.deployment, "an-order-of-a-lost-store", 1, 1)
    await place_elsewhere(desk, lost)

    report = await one_pass(desk)

    order_id = f"recovered-{lost}"
    assert ("unknown_here", Outcome.ALARMED) in {(f.kind, f.outcome) for f in report.findings}
    assert (await desk.state(order_id)).status is OrderStatus.ACCEPTED
    assert any("recovered" in alarm for alarm in await desk.alarms(order_id))
    assert len(exchange.orders(status="NEW")) == 1
    assert (await desk.cancel(order_id)).success


@pytest.mark.parametrize("trouble", ["cut off", "halted"])
async def test_a_lost_order_of_ours_is_recovered_whatever_would_refuse_its_send(
    desk: Desk, exchange: Exchange, trouble: str
) -> None:
    """The try before had admitted it only; or a restored store has halted everything."""
    lost = exchange_client_id(desk.settings.deployment, f"lost: {trouble}", 1, 1)
    order_id = f"recovered-{lost}"
    await place_elsewhere(desk, lost)
    if trouble == "halted":
        await desk.store.set_trading_state("all", TradingState.HALTED, by="ann")
    else:
        await admitted_and_denied(desk, order_id)

    await one_pass(desk)
    await desk.store.set_trading_state("all", TradingState.ACTIVE, by="ann")

    state = await desk.until_status(order_id, OrderStatus.ACCEPTED)
    (there,) = exchange.orders(clientOrderId=lost)
    assert (there["status"], state.exchange_order_id) == ("NEW", str(there["orderId"]))
    alarms = [alarm_of(text) for text in await desk.alarms(order_id)]
    assert alarms.count(Alarm.RECOVERED) == 1
    assert (await desk.cancel(order_id)).success


async def admitted_and_denied(desk: Desk, order_id: str) -> None:
    """The first pass died before its claim, and the next one's look at the workflows began one."""
    order = an_order(
        client_order_id=order_id,
        exchange=desk.exchange.name,
        account="main",
        quantity="0.02",
        price="29000",
        send_by=datetime.fromtimestamp(0, UTC),
    )
    await desk.store.admit(order)
    await OrderDoor(desk.client, desk.task_queue).take_up_again(order_id)
    await desk.until_status(order_id, OrderStatus.REJECTED)


async def test_a_query_that_fails_is_no_observation(desk: Desk, exchange: Exchange) -> None:
    """The order has ended there; a list that did not come must not say so."""
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[0])
    await asyncio.sleep(SETTLED_S)
    for query in ("GET openOrders", "GET myTrades"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)

    report = await one_pass(desk)

    failed = sorted(text.partition(":")[0] for text in report.failed)
    assert failed == ["fills of BTC/USDT", "open orders"]
    assert about(report, state) == []
    assert "orders_there" not in report.looked_at
    assert (await desk.state(state.client_order_id)).status is OrderStatus.ACCEPTED


async def test_an_order_that_was_touched_a_moment_ago_is_left_to_the_next_pass(
    desk: Desk, exchange: Exchange
) -> None:
    """What its workflow is doing with it may be on its way: two views of one moment disagree."""
    state = await desk.resting()
    exchange.fault("stream_drop")
    exchange.cancel(exchange.orders(status="NEW")[0])

    assert about(await one_pass(desk), state) == []
    assert (await desk.state(state.client_order_id)).status is OrderStatus.ACCEPTED
    await asyncio.sleep(SETTLED_S)
    (finding,) = about(await one_pass(desk), state)
    assert finding.outcome is Outcome.MENDED


async def test_a_balance_that_no_fill_explains_lets_the_account_reduce_only(
    desk: Desk, exchange: Exchange
) -> None:
    """Nobody told us of it: the stream was away."""
    filled = (await desk.resting()).client_order_id
    await one_pass(desk)
    exchange.market("SELL", "29000", "0.01")
    await desk.until_status(filled, OrderStatus.FILLED)
    exchange.fault("stream_drop")
    exchange.deposit("ETH", "-0.5")
    assert [one for one in (await one_pass(desk)).findings if one.outcome is Outcome.ALARMED] == []
    exchange.deposit("ETH", "-300")

    dry = await one_pass(desk, dry_run=True)
    (finding,) = [one for one in dry.findings if one.kind == "balance_drift"]
    assert finding.outcome is Outcome.LEFT
    report = await one_pass(desk)

    (finding,) = [one for one in report.findings if one.kind == "balance_drift"]
    assert (finding.symbol, finding.outcome) == ("ETH", Outcome.ALARMED)
    assert finding.numbers["missing_here"] == -300
    assert alarm_of(finding.message) is Alarm.BALANCE_DRIFT
    scope = f"account:{exchange.name}/main"
    assert (await desk.store.trading_states())[scope] is TradingState.REDUCING
    assert (await desk.submit()).reason_code is ReasonCode.NOT_REDUCING
    assert (await desk.submit(side="sell", price="90000")).status is OrderStatus.ACCEPTED
    again = await one_pass(desk)
    assert [one for one in again.findings if one.kind == "balance_drift"] == []


async def test_what_an_order_holds_is_mended_and_doubt_releases_nothing(
    desk: Desk, exchange: Exchange
) -> None:
    forgotten = await desk.resting()
    for query in ("GET order", "GET allOrders"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", order="dead", count=1, endpoint="POST order")
    doubtful = await desk.submit()
    assert doubtful.in_doubt
    both = [held_by(desk, one) for one in (forgotten.client_order_id, doubtful.order_id)]
    findings: list[Finding] = []
    while not findings:  # The worker's watch of the account mends too, and may come first.
        change(desk, "DELETE FROM reservations WHERE order_id = ?", forgotten.client_order_id)
        findings = about(await one_pass(desk), forgotten)

    (finding,) = findings
    assert (finding.kind, finding.outcome) == ("reservation", Outcome.MENDED)
    after = [held_by(desk, one) for one in (forgotten.client_order_id, doubtful.order_id)]
    assert after == both == [(Decimal("0.01") * 30000, True)] * 2


async def test_a_schedule_reconciles_and_stays_paused_when_a_worker_starts(desk: Desk) -> None:
    settings = desk.settings.model_copy(update={"reconcile_s": 3600})
    accounts = [(desk.exchange.name, "main")]
    handle = desk.client.get_schedule_handle(schedule_id(*accounts[0]))
    await keep_schedules(desk.client, settings, accounts)
    try:

        async def has_run() -> bool:
            return bool((await handle.describe()).info.recent_actions)

        await until(has_run)
        assert (await handle.describe()).schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
        await handle.pause()
        await keep_schedules(desk.client, settings, accounts)
        assert (await handle.describe()).schedule.state.paused
    finally:
        await delete(handle)


async def test_a_restored_store_stops_all_sending_until_it_is_resumed(desk: Desk) -> None:
    settings = desk.settings.model_copy(update={"reconcile_s": 3600})
    handle = desk.client.get_schedule_handle(schedule_id(desk.exchange.name, "main"))
    await keep_schedules(desk.client, settings, [(desk.exchange.name, "main")])
    try:
        await first_run(desk, handle)
        change(desk, "UPDATE meta SET value = ? WHERE name = 'epoch'", "another-store")

        async def halted() -> bool:
            # The schedule knows the end of its last run some moments later.
            await handle.trigger()
            await asyncio.sleep(0.5)
            return (await desk.store.trading_state()).value == "halted"

        await until(halted, 40)
        denied = await desk.submit()
        assert denied.reason_code is ReasonCode.TRADING_HALTED

        await desk.oms.resume("it is the right one", by="ann")
        assert (await desk.submit()).status is OrderStatus.ACCEPTED
    finally:
        await delete(handle)


async def test_a_store_restored_from_a_backup_sends_nothing_when_a_worker_starts(
    idle_desk: Desk, tmp_path: Path
) -> None:
    """The workers stop, the database of some time ago is put back, the workers start."""
    desk = idle_desk
    desk.settings = desk.settings.model_copy(update={"reconcile_s": 3600})
    handle = desk.client.get_schedule_handle(schedule_id(desk.exchange.name, "main"))
    file = Path(store_url(desk.settings.store_url.get_secret_value()).database or "")
    backup = tmp_path / "backup.sqlite3"
    try:
        async with working(desk):
            await desk.resting()
            copy_database(file, backup)
            await desk.resting()
            await pass_is_made(desk, handle)
        copy_database(backup, file)
        sent = desk.exchange.requests()
        order = an_order()
        await desk.orders.start(order)

        async with working(desk):
            ended = await desk.until_status(order.client_order_id, OrderStatus.REJECTED)

        assert ended.reason_code is ReasonCode.TRADING_HALTED
        assert desk.exchange.requests() == sent
    finally:
        await delete(handle)


@pytest.mark.parametrize(
    "since", ["an order rests", "a new one has ended", "a known one has ended"]
)
async def test_a_backup_younger_than_the_last_pass_sends_nothing_either(
    idle_desk: Desk, tmp_path: Path, since: str
) -> None:
    """Temporal knows an order that the store does not, or more of it. Resumed, it stays so."""
    desk = idle_desk
    file = Path(store_url(desk.settings.store_url.get_secret_value()).database or "")
    backup = tmp_path / "backup.sqlite3"
    async with working(desk):
        order = await desk.resting()
        copy_database(file, backup)
        if since != "a known one has ended":
            order = await desk.resting()
        if since != "an order rests":
            await desk.cancel(order.client_order_id)
            await desk.until_closed(order.client_order_id)

    async def is_listed() -> bool:
        marks = await newest_orders(desk.client, desk.task_queue)
        ended = since != "an order rests"
        return any((m.order_id, m.sequence > 0) == (order.client_order_id, ended) for m in marks)

    await until(is_listed)
    async with working(desk):
        assert await desk.store.trading_states() == {}, "the store is as it was"
    copy_database(backup, file)

    async with working(desk):
        assert (await desk.submit()).reason_code is ReasonCode.TRADING_HALTED
        assert await desk.store.trading_states() == {"all": TradingState.HALTED}
    await desk.store.set_trading_state("all", TradingState.ACTIVE, by="ann")
    async with working(desk):
        assert (await desk.submit(price="25000")).status is OrderStatus.ACCEPTED


def copy_database(source: Path, target: Path) -> None:
    """As a backup tool does it, with whatever is in the log of the source."""
    with (
        contextlib.closing(sqlite3.connect(source)) as there,
        contextlib.closing(sqlite3.connect(target)) as here,
    ):
        there.backup(here)


async def pass_is_made(desk: Desk, handle: ScheduleHandle) -> None:
    """One more pass is made and Temporal has its result."""
    await first_run(desk, handle)

    async def sees_the_store_as_it_is() -> bool:
        marks = await last_marks(desk.client, [(desk.exchange.name, "main")])
        head = await desk.store.head()
        if any(mark.head == head for mark in marks):
            return True
        await handle.trigger()
        await asyncio.sleep(0.5)
        return False

    await until(sees_the_store_as_it_is, 20)


async def delete(handle: ScheduleHandle) -> None:
    """Delete the schedule and wait until its name is free for the next test."""
    await handle.delete()

    async def gone() -> bool:
        try:
            await handle.describe()
        except RPCError as error:
            return error.status is RPCStatusCode.NOT_FOUND
        return False

    await until(gone)


async def first_run(desk: Desk, handle: ScheduleHandle) -> None:
    """Wait for the end of the schedule's first run."""

    async def started() -> bool:
        if (await handle.describe()).info.recent_actions:
            return True
        await handle.trigger()
        await asyncio.sleep(0.5)
        return False

    await until(started)
    action = (await handle.describe()).info.recent_actions[0].action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    await desk.client.get_workflow_handle(action.workflow_id).result()


def store_file(desk: Desk) -> contextlib.closing[sqlite3.Connection]:
    """The store's file, past the store."""
    file = desk.settings.store_url.get_secret_value().partition("///")[2]
    return contextlib.closing(sqlite3.connect(file))


def held_by(desk: Desk, order_id: str) -> tuple[Decimal, bool] | None:
    """How much of the quote asset an order reserved and whether it still does, as stored."""
    query = "SELECT quote_amount, is_open FROM reservations WHERE order_id = ?"
    with store_file(desk) as connection:
        row = connection.execute(query, (order_id,)).fetchone()
    return row and (Decimal(row[0]), bool(row[1]))


def change(desk: Desk, statement: str, *values: str) -> None:
    """Change the store behind everybody's back."""
    with store_file(desk) as connection:
        connection.execute(statement, values)
        connection.commit()
