"""The execution feed goes on, whatever one order or one report does to it."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities import delivery
from activities.delivery import Delivery
from activities.store import Unreadable
from activities.store.inbox import report_key
from tests.workflows.desk import Desk, Exchange, until, working
from tests.workflows.test_fills import report
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.enums import OrderStatus
from trading.oms.errors import StoreUnavailable
from trading.oms.lifecycle import EventKind
from trading.oms.models import OrderState, utc_now
from trading.oms.order_workflow import workflow_id
from trading.oms.venue import ExecutionReport, VenueStatus

pytestmark = pytest.mark.temporal
FILLED = OrderStatus.FILLED
MORE_THAN_A_PAGE = 1100


async def test_a_wedged_order_with_a_thousand_reports_delays_nobody_else(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_ALARM_AFTER", timedelta(0))
    monkeypatch.setattr(delivery, "_RPC_TIMEOUT", timedelta(seconds=1))
    wedged = await desk.resting()
    await wedge(desk, wedged.client_order_id)
    await desk.store.inbox_add(
        [
            report(wedged.exchange_order_id, "0.000001", exchange.name, f"w-{number}")
            for number in range(MORE_THAN_A_PAGE)
        ]
    )
    texts = await until(lambda: desk.alarms(wedged.client_order_id))
    assert {alarm_of(text) for text in texts} == {Alarm.UNDELIVERED}

    exchange.market("SELL", "31000", "0.01", "GTC")
    busy = (await desk.submit(price="31000")).order_id
    resting = (await desk.resting(price="31000")).client_order_id
    exchange.market("SELL", "31000", "0.01")
    for order_id in (busy, resting):
        await desk.until_status(order_id, FILLED)

    # And once the cause is gone, the order has all of them, without any help.
    await desk.handle(wedged.client_order_id).terminate("the wedge is taken away")
    thousand = Decimal(MORE_THAN_A_PAGE) / 1_000_000
    await desk.until(wedged.client_order_id, lambda state: state.filled_quantity >= thousand)
    await until(lambda: waiting_is(desk))


async def test_a_report_that_cannot_be_read_is_kept_and_alarmed_and_the_others_go_on(
    desk: Desk, exchange: Exchange
) -> None:
    order = await desk.resting()
    order_id = order.client_order_id
    first = report(order.exchange_order_id, "0.001", exchange.name, "u-1")
    second = report(order.exchange_order_id, "0.009", exchange.name, "u-2")
    poisoned = kept_as(desk, first, '{"of": "a later version"}')
    await desk.store.inbox_add([second])

    await desk.until(order_id, lambda state: state.filled_quantity == Decimal("0.009"))
    texts = await until(lambda: desk.alarms(order_id))
    assert [alarm_of(text) for text in texts] == [Alarm.UNREADABLE_REPORT]
    assert f"report {poisoned} of the inbox" in texts[0]
    await until(lambda: waiting_is(desk, poisoned))
    [kept] = await desk.store.inbox_undelivered(exchange.name, "main")
    assert isinstance(kept, Unreadable)

    # And when another version can read it, it is delivered as ever.
    text = first.model_dump_json()
    execute(desk, "UPDATE execution_inbox SET report = ? WHERE id = ?", (text, poisoned))
    await desk.until_status(order_id, FILLED)


@pytest.mark.parametrize("lost", [0, 2], ids=["committed", "the-store-is-away"])
async def test_a_report_about_another_symbol_does_not_keep_an_order_from_its_own(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """It is dropped with an alarm, and not before the alarm is in the journal."""
    order = await desk.resting()
    order_id = order.client_order_id
    trade = report(order.exchange_order_id, "0.01", exchange.name, "s-1")
    strange = trade.model_copy(
        update={
            "symbol": "ETH/USDT",
            "exchange_client_id": order.exchange_client_id,
            "fills": (),
            "status": VenueStatus.CANCELLED,
        }
    )
    assert desk.runtime is not None
    store, left = desk.runtime.store, [lost]
    record = store.record

    async def lost_at_first(of: str, events: Any, *more: Any) -> Any:
        if events[0].kind is EventKind.ALARM and left[0]:
            left[0] -= 1
            raise StoreUnavailable("the line was cut")
        return await record(of, events, *more)

    monkeypatch.setattr(store, "record", lost_at_first)
    await desk.store.inbox_add([strange, trade])

    await desk.until_status(order_id, FILLED)
    texts = await until(lambda: desk.alarms(order_id))
    assert [alarm_of(text) for text in texts] == [Alarm.UNDELIVERED]
    assert "ETH/USDT" in texts[0]
    await until(lambda: waiting_is(desk))


@pytest.mark.parametrize("traded", ["0", "0.004"])
async def test_an_order_that_its_owner_reduces_at_the_exchange_is_reduced_here(
    desk: Desk, exchange: Exchange, traded: str
) -> None:
    """The report tells no fill that is not booked, and of a life that is known."""
    order = await desk.resting()
    order_id = order.client_order_id
    if Decimal(traded):
        exchange.market("SELL", "30000", traded)
        await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    reduced = said_of(order, VenueStatus.NEW, quantity="0.006", total=traded)
    await desk.store.inbox_add([reduced])

    after = await desk.until(order_id, lambda state: state.quantity == Decimal("0.006"))
    assert after.is_open


async def test_an_order_that_its_owner_reduces_to_what_has_traded_is_filled(
    desk: Desk, exchange: Exchange
) -> None:
    order = await desk.resting()
    order_id = order.client_order_id
    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    await desk.store.inbox_add(
        [said_of(order, VenueStatus.FILLED, quantity="0.004", total="0.004")]
    )

    after = await desk.until_status(order_id, FILLED)
    assert after.quantity == Decimal("0.004")


async def test_a_report_from_before_an_increase_of_ours_changes_nothing(
    desk: Desk, exchange: Exchange
) -> None:
    order = await desk.resting()
    order_id = order.client_order_id
    assert (await desk.oms.modify_order(order_id, new_quantity=Decimal("0.02"))).success
    larger = await desk.state(order_id)
    await desk.store.inbox_add([said_of(larger, VenueStatus.NEW, quantity="0.01", total="0")])

    await until(lambda: waiting_is(desk))
    assert (await desk.state(order_id)).quantity == Decimal("0.02")
    assert await desk.alarms(order_id) == []


async def test_two_orders_that_share_an_exchange_id_both_have_their_missed_fill(
    desk: Desk, exchange: Exchange
) -> None:
    """Binance counts its order ids per symbol, and what it lists as a trade has no client id."""
    btc = await desk.resting()
    exchange.next_order_id("ETHUSDT", str(btc.exchange_order_id))
    eth = await desk.resting(symbol="ETH/USDT", price="2000", quantity="0.1")
    assert btc.exchange_order_id == eth.exchange_order_id
    exchange.fault("stream_drop")
    exchange.market("SELL", "2000", "0.1", symbol="ETHUSDT")
    exchange.market("SELL", "30000", "0.01")
    exchange.clear()
    exchange.disconnect()  # A gap makes the feed ask for what it may have missed.

    for order in (eth, btc):
        await desk.until_status(order.client_order_id, FILLED)
        assert await desk.alarms(order.client_order_id) == []


async def test_an_error_in_one_delivery_delays_that_order_alone(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: a defect of ours included."""
    poisoned, healthy = await desk.resting(), await desk.resting()
    assert desk.runtime is not None
    store = desk.runtime.store
    standing = store.standing

    async def failing(order_id: str, fill_ids: list[str]) -> Any:
        if order_id == poisoned.client_order_id:
            raise ArithmeticError("a poisoned order")
        return await standing(order_id, fill_ids)

    monkeypatch.setattr(store, "standing", failing)
    exchange.market("SELL", "30000", "0.02")
    await desk.until_status(healthy.client_order_id, FILLED)
    assert (await desk.state(poisoned.client_order_id)).is_open

    monkeypatch.undo()
    await desk.until_status(poisoned.client_order_id, FILLED)


async def test_an_order_whose_alarm_cannot_be_recorded_delays_itself_alone(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is one of another version: this one can neither read it nor write to it."""
    poisoned, healthy = await desk.resting(), await desk.resting(price="29000")
    assert desk.runtime is not None
    store = desk.runtime.store
    standing, record, run = store.standing, store.record, Delivery.run
    refused: list[str] = []
    turns: list[Delivery] = []

    async def unreadable(order_id: str, fill_ids: list[str]) -> Any:
        if order_id == poisoned.client_order_id:
            raise ValueError("'adrift' is not a valid OrderStatus")
        return await standing(order_id, fill_ids)

    async def not_recorded(order_id: str, *arguments: Any) -> Any:
        if order_id == poisoned.client_order_id:
            refused.append(order_id)
            raise ValueError("'adrift' is not a valid OrderStatus")
        return await record(order_id, *arguments)

    async def counted(self: Delivery) -> None:
        turns.append(self)
        await run(self)

    async def is_tried_again() -> bool:
        return len(refused) > 2

    monkeypatch.setattr(delivery, "_ALARM_AFTER", timedelta(0))
    monkeypatch.setattr(store, "standing", unreadable)
    monkeypatch.setattr(store, "record", not_recorded)
    monkeypatch.setattr(Delivery, "run", counted)
    exchange.market("SELL", "30000", "0.01")
    await until(is_tried_again)
    exchange.market("SELL", "29000", "0.01")
    await desk.until_status(healthy.client_order_id, FILLED)
    assert turns == [], "the feed had to be begun again"
    assert (await desk.state(poisoned.client_order_id)).is_open

    monkeypatch.undo()
    await desk.until_status(poisoned.client_order_id, FILLED)


async def test_a_wedged_order_keeps_neither_a_worker_nor_a_caller_from_stopping(
    idle_desk: Desk,
) -> None:
    """Temporal's client hides a cancellation behind an error that invites to try again."""
    desk = idle_desk
    async with asyncio.timeout(30):
        async with working(desk):
            order = await desk.resting()
            order_id = order.client_order_id
            await wedge(desk, order_id)
            filled = report(order.exchange_order_id, "0.001", desk.exchange.name, "s-1")
            await desk.store.inbox_add([filled])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):  # Long enough for the feed to be at it, too.
                    await desk.cancel(order_id)
        async with working(desk):
            await desk.handle(order_id).terminate("the wedge is taken away")
            await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)


async def wedge(desk: Desk, order_id: str) -> None:
    """Put a workflow in the order's place that nobody works on."""
    await desk.handle(order_id).terminate("wedged by the test")
    await desk.client.start_workflow(
        "Order", {"resume": order_id}, id=workflow_id(order_id), task_queue="nobody-works-here"
    )


def said_of(
    order: OrderState, status: VenueStatus, *, quantity: str, total: str
) -> ExecutionReport:
    """What the exchange says of an order, without a fill."""
    return report(order.exchange_order_id, quantity, order.exchange, "none").model_copy(
        update={
            "exchange_client_id": order.exchange_client_id,
            "status": status,
            "quantity": Decimal(quantity),
            "cumulative_quantity": Decimal(total),
            "fills": (),
        }
    )


async def waiting_is(desk: Desk, *ids: int) -> bool:
    items = await desk.store.inbox_undelivered(desk.exchange.name, "main")
    return tuple(item.id for item in items) == ids


def kept_as(desk: Desk, kept: ExecutionReport, text: str) -> int:
    """Put a report into the inbox whose text is another; its number there."""
    row = {
        "key": report_key(kept),
        "exchange": kept.exchange,
        "account": kept.account,
        "symbol": kept.symbol,
        "exchange_order_id": kept.exchange_order_id,
        "report": text,
        "added_at": utc_now().isoformat(timespec="microseconds"),
    }
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = f"INSERT INTO execution_inbox ({names}) VALUES ({marks})"  # noqa: S608 - our names
    return execute(desk, statement, row)


def execute(desk: Desk, statement: str, values: Any) -> int:
    url = desk.settings.store_url.get_secret_value()
    with closing(sqlite3.connect(url.partition("///")[2], timeout=10)) as file, file:
        return file.execute(statement, values).lastrowid or 0
