"""Sources of one exchange that disagree: a trade of an order that no list has."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client

from activities.foreign_orders import ForeignOrders
from activities.store import OrderFilter
from tests.workflows.desk import Desk, Exchange, a_desk, an_order, until
from tests.workflows.elsewhere import place_elsewhere
from tests.workflows.test_fills import report
from trading.oms.enums import IfNotPlaced, OrderStatus
from trading.oms.models import OrderState

pytestmark = pytest.mark.temporal
LISTS = ("GET order", "GET allOrders", "GET openOrders")
SETTLED_S = 2.2
"""A trade of a moment ago is left to the next pass."""


@pytest.fixture(scope="module", autouse=True)
def nobody_else_asks() -> Iterator[None]:
    """The feed asks twice a minute for what it may have missed, and would find it first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.feed._CATCH_UP_S", 3600.0)
        yield


@pytest.fixture
async def own_desk(temporal_client: Client, sqlite_url: str) -> AsyncIterator[Desk]:
    """Its exchange has seen no order yet, and its connector waits long for an answer."""
    async with a_desk(temporal_client, sqlite_url, timeout_ms=9500) as desk:
        yield desk


def hide_orders(exchange: Exchange) -> None:
    """Trades are listed at once, orders in an hour; and the stream says nothing."""
    for query in LISTS:
        exchange.fault("rest_lag_ms", ms=3_600_000, endpoint=query)
    exchange.fault("stream_drop")


async def external(desk: Desk) -> list[OrderState]:
    """What the store has of somebody else's orders."""
    return await desk.store.orders(OrderFilter(external=True))


async def test_a_row_of_somebody_elses_order_does_not_explain_a_trade_to_a_look_up(
    own_desk: Desk,
) -> None:
    """A sweep may have made it of that very trade, which is of the order that is looked for."""
    desk, exchange = own_desk, own_desk.exchange
    hide_orders(exchange)
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    order_id = (await desk.submit(if_not_placed=IfNotPlaced.REJECT)).order_id
    exchange.market("SELL", "30000", "0.004")
    (there,) = exchange.orders()
    (traded,) = exchange.trades_of(there["orderId"])
    trade = report(str(there["orderId"]), "0.004", exchange.name, str(traded["id"]))
    assert await ForeignOrders(desk.store).record(trade)

    async def is_told_twice() -> list[str]:
        told = [text for text in await desk.oms.fetch_doubt(order_id) if "disagree" in text]
        return told if len(told) > 1 else []

    told = await until(is_told_twice)
    words = f"not yet: the sources disagree: there are trades of order {there['orderId']}"
    assert all(words in text for text in told), told
    state = await desk.state(order_id)
    assert (state.status, state.in_doubt_since is None) == (OrderStatus.SUBMITTED, False)

    exchange.clear()
    found = await desk.until(order_id, lambda state: state.in_doubt_since is None)
    assert (found.is_open, found.exchange_order_id) == (True, str(there["orderId"]))


LOST: dict[str, Any] = {"kind": "reply_lost"}
LATE: dict[str, Any] = {"kind": "reply_delayed_ms", "ms": 8500}


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("POST order", LOST),
        ("POST order", LATE),
        ("POST order/cancelReplace", LOST),
        ("POST order/cancelReplace", LATE),
        ("POST order of a change", LATE),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
async def test_a_trade_that_may_be_of_a_send_without_an_answer_is_left_to_the_next_pass(
    own_desk: Desk, endpoint: str, fault: dict[str, Any]
) -> None:
    desk, exchange = own_desk, own_desk.exchange
    order = an_order()
    order_id = order.client_order_id
    is_change = endpoint != "POST order"
    if is_change:
        await desk.oms.submit_order(order)
        desk.replaces_at_once(at_once=endpoint == "POST order/cancelReplace")
    exchange.fault(**fault, count=1, endpoint=endpoint.removesuffix(" of a change"))
    hide_orders(exchange)
    if is_change:
        await desk.handle(order_id).signal("modify", {"new_price": "30100"})
    else:
        await desk.orders.start(order)
    await until(lambda: has_orders(exchange, 2 if is_change else 1))
    newest = str(exchange.orders()[-1]["orderId"])
    exchange.market("SELL", "30000", "0.004")
    if fault is LOST:
        await desk.until(order_id, lambda state: state.in_doubt_since)
    await asyncio.sleep(SETTLED_S)

    await one_pass(desk)
    assert (await external(desk), await swept(desk)) == ([], None)

    exchange.clear()
    await desk.until(order_id, lambda state: state.exchange_order_id == newest)
    await one_pass(desk)
    found = await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    assert found.filled_quantity == Decimal("0.004")
    assert await external(desk) == []


async def test_a_trade_is_left_to_the_next_pass_while_a_row_of_the_list_cannot_be_read(
    own_desk: Desk,
) -> None:
    desk, exchange = own_desk, own_desk.exchange
    await place_and_trade_elsewhere(desk)
    exchange.fault("row_garbled", endpoint="GET allOrders")

    await one_pass(desk)
    assert (await external(desk), await swept(desk)) == ([], None)

    exchange.clear()
    await one_pass(desk)
    (known,) = await external(desk)
    assert known.filled_quantity == Decimal("0.02")
    assert await swept(desk) is not None


async def test_a_trade_that_is_of_no_send_of_ours_is_recorded_as_somebody_elses(
    own_desk: Desk,
) -> None:
    """Although its order is in no list: nothing of ours on the symbol waits for an answer."""
    desk, exchange = own_desk, own_desk.exchange
    await place_and_trade_elsewhere(desk)
    hide_orders(exchange)

    await one_pass(desk)
    (known,) = await external(desk)
    assert (known.exchange_order_id, known.filled_quantity) == (
        str(exchange.orders()[0]["orderId"]), Decimal("0.02"),
    )  # fmt: skip
    assert await swept(desk) is not None


async def place_and_trade_elsewhere(desk: Desk) -> None:
    """Somebody else's order trades; one of ours, which rests, is why the symbol is looked at."""
    desk.exchange.fault("stream_drop")
    await place_elsewhere(desk, "by-hand-1")
    desk.exchange.market("SELL", "29000", "0.02")
    await desk.resting(price="28000")
    await asyncio.sleep(SETTLED_S)


async def one_pass(desk: Desk) -> None:
    (made,) = await desk.oms.reconcile(desk.exchange.name)
    assert made.failed == () or "cannot be read" in made.failed[0], made.failed


async def swept(desk: Desk) -> str | None:
    """Up to which trade the sweep has been."""
    return await desk.store.cursor(f"swept:{desk.exchange.name}:main:BTC/USDT")


async def has_orders(exchange: Exchange, number: int) -> bool:
    return len(exchange.orders()) == number
