"""Orders that live long go on in a new run before the server's limits are reached."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.enums import CancelOutcome, IfNotPlaced, OrderStatus, Pending
from workers import temporal_dev_server
from workers.temporal_server import running_dev_server

pytestmark = pytest.mark.temporal
ACCEPTED, CANCELLED = OrderStatus.ACCEPTED, OrderStatus.CANCELLED
PART = OrderStatus.PARTIALLY_FILLED
LIMITS = {"limit.historyCount.suggestContinueAsNew": "16", "history.maxTotalUpdates": "20"}
_STEP = Decimal("0.001")
_TIMES = 30


@pytest.fixture(scope="module")
async def long_lived(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Desk]:
    """A desk on a server that finds a history of sixteen events long, and takes twenty updates."""
    url = f"sqlite:///{tmp_path_factory.mktemp('long') / 'store.sqlite3'}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIMITS.items():
            patch.setitem(temporal_dev_server.DYNAMIC_CONFIG, name, value)
        async with running_dev_server(lambda _line: None, ui=False) as server:
            client = await server.connect(data_converter=pydantic_data_converter)
            async with a_desk(client, url) as desk:
                yield desk


async def test_a_long_history_goes_on_in_a_new_run_without_losing_a_message(
    long_lived: Desk,
) -> None:
    desk = long_lived
    expire_at = datetime.now(UTC).replace(year=2100)
    order = await desk.resting(quantity="0.1", time_in_force="GTD", expire_at=expire_at)
    order_id = order.client_order_id
    first_run = (await desk.handle(order_id).describe()).run_id

    for number in range(1, 51):
        desk.exchange.market("SELL", "30000", "0.001")
        if number % 10 == 0:
            await desk.oms.modify_order(order_id, new_quantity=Decimal("0.2") - number * _STEP)
            await desk.handle(order_id).signal("modify", {"new_price": 0})
    state = await desk.until(order_id, lambda state: state.filled_quantity == Decimal("0.05"))

    assert (await desk.handle(order_id).describe()).run_id != first_run
    assert (state.status, state.quantity) == (PART, Decimal("0.2") - 50 * _STEP)
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    names = await desk.names(order_id)
    assert names.count("order_fill") == 50
    assert names.count("order_message_refused") == 5
    assert desk.exchange.orders(status="PARTIALLY_FILLED") == []


async def test_doubt_and_a_pending_cancel_go_on_in_the_new_run(long_lived: Desk) -> None:
    desk, exchange = long_lived, long_lived.exchange
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    exchange.fault("rate_429", retry_after="0.01", endpoint="GET order", count=9)
    result = await desk.submit(if_not_placed=IfNotPlaced.REJECT)
    await desk.cancel(result.order_id, wait=0)
    exchange.clear("rate_429")

    closed = await desk.until_closed(result.order_id)

    assert closed.status is CANCELLED
    assert exchange.orders(status="NEW") == []
    exchange.tidy()


async def test_a_send_that_never_reaches_the_exchange_goes_on_in_the_new_run(
    long_lived: Desk,
) -> None:
    desk, exchange = long_lived, long_lived.exchange
    exchange.fault("rate_429", retry_after="0.01", endpoint="POST order", count=3)
    order = an_order()
    order_id = order.client_order_id
    await desk.orders.start(order)
    first_run = (await desk.handle(order_id).describe()).run_id

    state = await desk.until_status(order_id, ACCEPTED)

    assert (await desk.handle(order_id).describe()).run_id != first_run

    assert state.pending is Pending.NONE
    assert len(exchange.orders(status="NEW")) == 1
    assert (await desk.cancel(order_id)).success


async def test_an_order_that_hears_of_nothing_but_fills_goes_on_in_a_new_run(
    long_lived: Desk,
) -> None:
    """Each is an update, whose caller has its answer after the loop has gone to sleep."""
    desk = long_lived
    order_id = (await desk.resting(quantity="0.1")).client_order_id
    first_run = await _run_of(desk, order_id)

    for number in range(1, _TIMES + 1):
        desk.exchange.market("SELL", "30000", "0.001")
        await _filled(desk, order_id, number)

    assert await _run_of(desk, order_id) != first_run
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert (await desk.names(order_id)).count("order_fill") == _TIMES


async def test_an_order_that_is_changed_time_and_again_goes_on_in_a_new_run(
    long_lived: Desk,
) -> None:
    desk = long_lived
    order_id = (await desk.resting(quantity="0.1")).client_order_id
    first_run = await _run_of(desk, order_id)

    for number in range(1, _TIMES + 1):
        changed = await desk.oms.modify_order(order_id, new_price=Decimal(29000) + number)
        assert changed.success, changed

    assert await _run_of(desk, order_id) != first_run
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    (last,) = desk.exchange.orders(status="CANCELED")[-1:]
    assert Decimal(last["price"]) == 29000 + _TIMES


async def test_an_ended_order_stays_until_its_fills_are_known(long_lived: Desk) -> None:
    desk, exchange = long_lived, long_lived.exchange
    order_id = (await desk.resting(quantity="0.1")).client_order_id
    for number in range(1, 6):
        exchange.market("SELL", "30000", "0.001")
        await _filled(desk, order_id, number)
    exchange.fault("stream_drop")
    exchange.fault("rate_429", retry_after="0.01", endpoint="GET myTrades", count=2)
    exchange.market("SELL", "30000", "0.003")

    await desk.handle(order_id).signal("cancel")
    closed = await desk.until_closed(order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (CANCELLED, 8 * _STEP)
    exchange.tidy()


async def test_a_replacement_that_stays_in_doubt_goes_on_in_a_new_run(long_lived: Desk) -> None:
    """Each look costs some ten events, and nothing bounds how long there is no answer."""
    desk, exchange = long_lived, long_lived.exchange
    order_id = (await desk.resting()).client_order_id
    first_run = await _run_of(desk, order_id)

    await _replaced_in_doubt(desk, order_id)
    await until(lambda: _is_in_another_run(desk, order_id, first_run))
    exchange.clear()
    await desk.lift_pauses()

    state = await desk.until(order_id, lambda s: s.in_doubt_since is None)
    assert (state.status, state.price) == (ACCEPTED, Decimal(30100))
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []


async def test_a_cancel_that_waits_for_a_doubt_is_not_left_behind(long_lived: Desk) -> None:
    """The wish is the run's alone until the doubt has ended."""
    desk, exchange = long_lived, long_lived.exchange
    order_id = (await desk.resting()).client_order_id
    await _replaced_in_doubt(desk, order_id)

    await desk.handle(order_id).signal("cancel")
    await until(lambda: _is_long(desk, order_id))
    exchange.clear()
    await desk.lift_pauses()

    assert (await desk.until_closed(order_id)).status is CANCELLED
    assert exchange.orders(status="NEW") == []


async def _replaced_in_doubt(desk: Desk, order_id: str) -> None:
    """The exchange has carried the change out, and nobody can hear or ask what became of it."""
    exchange = desk.exchange
    exchange.fault("reply_lost", order="alive", count=1, endpoint="POST order/cancelReplace")
    exchange.fault("stream_drop")
    for query in ("GET order", "GET allOrders", "GET myTrades"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)
    await desk.handle(order_id).signal("modify", {"new_price": "30100"})
    await desk.until(order_id, lambda state: state.in_doubt_since is not None)


async def _is_long(desk: Desk, order_id: str) -> bool:
    return len(await desk.history(order_id)) > 50


async def _filled(desk: Desk, order_id: str, number: int) -> None:
    await desk.until(order_id, lambda state: state.filled_quantity == number * _STEP)


async def _run_of(desk: Desk, order_id: str) -> str:
    return str((await desk.handle(order_id).describe()).run_id)


async def _is_in_another_run(desk: Desk, order_id: str, run: str) -> bool:
    return await _run_of(desk, order_id) != run
