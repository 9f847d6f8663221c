"""Writes `histories/*.json`: one history for each kind of life of an order.

Run it with a `temporal` program on the PATH after a change that is meant to change histories, and
commit what it writes under a new release's name; never overwrite the histories of a release that
has orders alive somewhere: they are what `test_replay.py` protects.

    python -m tests.replay.record_histories [folder]
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.workflows.desk import Desk, a_desk, an_order
from trading.oms.enums import OrderStatus
from trading.oms.routing.smart import RoutingStrategy
from workers import temporal_dev_server
from workers.temporal_server import running_dev_server

_PERSONAL = frozenset({"identity", "stackTrace", "binaryChecksum"})
HISTORIES = Path(__file__).parent / "histories"
REPLACE = "POST order/cancelReplace"
Life = Callable[[Desk], Awaitable[str]]


async def filled_at_once(desk: Desk) -> str:
    desk.exchange.market("SELL", "29000", "0.01", "GTC")
    return (await desk.submit()).order_id


async def filled_in_parts(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    for number in range(1, 5):
        desk.exchange.market("SELL", "30000", "0.0025")
        quantity = number * Decimal("0.0025")
        await desk.until(order_id, lambda state: state.filled_quantity >= quantity)  # noqa: B023
    return order_id


async def cancelled_half_filled(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    desk.exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    await desk.cancel(order_id)
    return order_id


async def cancelled_after_silence(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    desk.exchange.fault("http_503", count=3, endpoint="DELETE order")
    await desk.handle(order_id).cancel()
    return order_id


async def expired_immediately(desk: Desk) -> str:
    return (await desk.submit(time_in_force="IOC")).order_id


async def expired_at_its_date(desk: Desk) -> str:
    expire_at = datetime.now(UTC) + timedelta(seconds=4)
    return (await desk.resting(time_in_force="GTD", expire_at=expire_at)).client_order_id


async def rejected_by_the_exchange(desk: Desk) -> str:
    return (await desk.submit(side="sell", quantity="290")).order_id


async def denied(desk: Desk) -> str:
    return (await desk.submit(price="30000.001")).order_id


async def refused_input(desk: Desk) -> str:
    order = an_order()
    order_id = order.client_order_id
    await desk.client.start_workflow(
        "Order", {"order": {}}, id=f"order-{order_id}", task_queue=desk.task_queue
    )
    return order_id


async def modified_in_both_ways(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    await desk.oms.modify_order(order_id, new_quantity=Decimal("0.008"))
    await desk.oms.modify_order(order_id, new_price=Decimal(30100))
    await desk.handle(order_id).signal("modify", ["nonsense"])
    await desk.cancel(order_id)
    return order_id


async def modified_in_doubt(desk: Desk) -> str:
    """The new leg that follows the counted old one."""
    order_id = await half_filled(desk)
    desk.exchange.fault("stream_drop")
    desk.exchange.fault("reply_lost", count=1, endpoint="POST order")
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
    await desk.cancel(order_id)
    return order_id


async def modified_and_sent_again(desk: Desk) -> str:
    order_id = await half_filled(desk)
    desk.exchange.fault("http_503", count=1, endpoint="POST order")
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
    await desk.cancel(order_id)
    return order_id


async def replaced_in_one_request(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    await desk.oms.modify_order(order_id, new_price=Decimal(30100))
    desk.exchange.fault("half_refused", count=1, endpoint=REPLACE)
    await desk.oms.modify_order(order_id, new_price=Decimal(30200), wait=20)
    await desk.cancel(order_id)
    return order_id


async def replaced_in_doubt(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    desk.exchange.fault("stream_drop")
    desk.exchange.fault("reply_lost", count=1, endpoint=REPLACE)
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
    desk.exchange.fault("reply_lost", count=1, endpoint=REPLACE, order="dead")
    await desk.oms.modify_order(order_id, new_price=Decimal(30200), wait=20)
    await desk.cancel(order_id)
    return order_id


async def replaced_after_a_fill(desk: Desk) -> str:
    """The exchange has a fill of which nobody has heard: it leaves the old order alone."""
    order_id = (await desk.resting()).client_order_id
    desk.exchange.fault("stream_delay_ms", ms=300, event="executionReport")
    desk.exchange.market("SELL", "30000", "0.004")
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
    await desk.cancel(order_id)
    return order_id


async def replaced_after_a_wait(desk: Desk) -> str:
    """For more than a second nobody knows whether the old order has ended."""
    desk.replaces_at_once(at_once=False)
    order_id = (await desk.resting()).client_order_id
    desk.exchange.fault("http_503", endpoint="DELETE order")
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=1.5)
    desk.exchange.clear()
    await desk.until(order_id, lambda state: state.leg == 2 and state.exchange_order_id is not None)
    await desk.cancel(order_id)
    desk.replaces_at_once(at_once=True)
    return order_id


async def half_filled(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    desk.exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    return order_id


async def found_after_doubt(desk: Desk) -> str:
    desk.exchange.fault("stream_drop")
    desk.exchange.fault("reply_lost", count=1, endpoint="POST order")
    order_id = (await desk.submit()).order_id
    await desk.until_status(order_id, OrderStatus.ACCEPTED)
    await desk.cancel(order_id)
    return order_id


async def sent_again_after_doubt(desk: Desk) -> str:
    desk.exchange.fault("http_503", count=1, endpoint="POST order")
    order_id = (await desk.submit()).order_id
    await desk.until_status(order_id, OrderStatus.ACCEPTED)
    await desk.cancel(order_id)
    return order_id


async def not_placed(desk: Desk) -> str:
    desk.exchange.fault("http_503", count=1, endpoint="POST order")
    return (await desk.submit(time_in_force="IOC")).order_id


async def cancelled_in_doubt(desk: Desk) -> str:
    desk.exchange.fault("http_503", count=1, endpoint="POST order")
    order_id = (await desk.submit()).order_id
    await desk.cancel(order_id, wait=20)
    return order_id


async def sent_after_a_pause(desk: Desk) -> str:
    desk.exchange.fault("rate_429", count=2, retry_after="0.1", endpoint="POST order")
    order_id = (await desk.submit()).order_id
    await desk.cancel(order_id)
    return order_id


async def taken_up_again(desk: Desk) -> str:
    order_id = (await desk.resting()).client_order_id
    await desk.handle(order_id).terminate("an operator's mistake")
    desk.exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    await desk.cancel(order_id)
    return order_id


LIVES: tuple[Life, ...] = (
    filled_at_once,
    filled_in_parts,
    cancelled_half_filled,
    cancelled_after_silence,
    expired_immediately,
    expired_at_its_date,
    rejected_by_the_exchange,
    denied,
    refused_input,
    modified_in_both_ways,
    modified_in_doubt,
    modified_and_sent_again,
    replaced_in_one_request,
    replaced_in_doubt,
    replaced_after_a_fill,
    replaced_after_a_wait,
    found_after_doubt,
    sent_again_after_doubt,
    not_placed,
    cancelled_in_doubt,
    sent_after_a_pause,
    taken_up_again,
)


async def split(desk: Desk) -> str:
    """A split order: one exchange has most of it, the other a little at a better price."""
    first, second = desk.exchanges
    first.market("SELL", "29000", "0.006", "GTC")
    second.market("SELL", "29500", "0.002", "GTC")
    order_id = (await desk.submit(quantity="0.02")).order_id
    wanted = Decimal("0.008")
    await desk.until(order_id, lambda state: state.filled_quantity == wanted)
    return order_id


async def split_and_cancelled(desk: Desk) -> str:
    order_id = await split(desk)
    await desk.oms.modify_order(order_id, new_price=Decimal(30100), wait=20)
    await desk.cancel(order_id)
    return order_id


async def split_and_changed(desk: Desk) -> str:
    """More is a new leg, less ends it again."""
    order_id = await split(desk)
    for quantity in ("0.03", "0.019"):
        result = await desk.oms.modify_order(order_id, new_quantity=Decimal(quantity), wait=20)
        assert result.error is None, result
        new_leg = f"{order_id}.leg3"
        await desk.until(new_leg, lambda s: s.exchange_order_id is not None or s.is_terminal)
    await desk.cancel(order_id)
    return order_id


async def split_and_filled_by_leg(desk: Desk) -> str:
    """The history of a leg."""
    leg_id = f"{await split(desk)}.leg1"
    desk.exchange.market("SELL", "30000", "0.012")
    return leg_id


async def split_and_routed_again(desk: Desk) -> str:
    first, second = desk.exchanges
    first.market("SELL", "29000", "0.006", "GTC")
    second.market("SELL", "29500", "0.02", "GTC")
    first.fault("symbol_status", symbol="BTCUSDT", status="HALT")
    return (await desk.submit(quantity="0.02")).order_id


SPLIT_LIVES: tuple[Life, ...] = (
    split_and_cancelled,
    split_and_changed,
    split_and_filled_by_leg,
    split_and_routed_again,
)
"""Over two exchanges."""


async def filled_in_many_parts(desk: Desk) -> str:
    """On a server that finds the history long: the run that goes on in a new one."""
    order_id = (await desk.resting(quantity="0.1")).client_order_id
    for number in range(1, 11):
        desk.exchange.market("SELL", "30000", "0.001")
        quantity = number * Decimal("0.001")
        await desk.until(order_id, lambda state: state.filled_quantity >= quantity)  # noqa: B023
    await desk.cancel(order_id)
    return order_id


LONG_LIVES: tuple[Life, ...] = (filled_in_many_parts,)
"""Their first runs."""
LONG = {"limit.historyCount.suggestContinueAsNew": "16"}


async def record(folder: Path) -> None:
    """Live every life once, against a server of its own, and write down its history."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        async with running_dev_server(_say, ui=False) as server:
            client = await server.connect(data_converter=pydantic_data_converter)
            one, two = f"sqlite:///{scratch}/one.sqlite3", f"sqlite:///{scratch}/two.sqlite3"
            async with a_desk(client, one) as desk:
                await _live(desk, LIVES, folder)
            splits = RoutingStrategy.SPLIT
            async with a_desk(client, two, exchanges=2, routing=splits) as desk:
                await _live(desk, SPLIT_LIVES, folder)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in LONG.items():
                patch.setitem(temporal_dev_server.DYNAMIC_CONFIG, name, value)
            async with running_dev_server(_say, ui=False) as server:
                client = await server.connect(data_converter=pydantic_data_converter)
                async with a_desk(client, f"sqlite:///{scratch}/long.sqlite3") as desk:
                    await _live(desk, LONG_LIVES, folder)


async def _live(desk: Desk, lives: tuple[Life, ...], folder: Path) -> None:
    for life in lives:
        await asyncio.sleep(1.1 * len(desk.exchanges[1:]))  # Books are used again for a second.
        order_id = await life(desk)
        await _closed(desk, order_id)
        for exchange in desk.exchanges:
            exchange.tidy()
        name = life.__name__
        handle = desk.handle(order_id)
        if life in LONG_LIVES:
            info = (await handle.describe()).raw_description.workflow_execution_info
            handle = desk.client.get_workflow_handle(handle.id, run_id=info.first_run_id)
        history = await handle.fetch_history()
        text = json.dumps(_impersonal(json.loads(history.to_json())), indent=1)
        (folder / f"{name}.json").write_text(text + "\n")
        _say(f"{name}: {len(history.events)} events")


def _impersonal(value: Any) -> Any:
    """Without the names of machines, processes and folders."""
    if isinstance(value, list):
        return [_impersonal(item) for item in value]
    if isinstance(value, dict):
        if value.get("kind") == "TASK_QUEUE_KIND_STICKY":
            value = {**value, "name": "sticky"}
        return {k: _impersonal(v) for k, v in value.items() if k not in _PERSONAL}
    return value


async def _closed(desk: Desk, order_id: str) -> None:
    while True:
        described = await desk.handle(order_id).describe()
        if described.close_time is not None:
            return
        await asyncio.sleep(0.05)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a script


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]) if len(sys.argv) > 1 else HISTORIES))
    os._exit(0)
