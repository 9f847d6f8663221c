"""Orders from other languages, the Temporal CLI and the web UI: JSON, well formed or not."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from tests.workflows.desk import Desk, Exchange, an_order, plain, until
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.models import Order, OrderState
from trading.oms.order_workflow import workflow_id
from workers.temporal_program import find_temporal

pytestmark = pytest.mark.temporal
ORDER = {"symbol": "BTC/USDT", "side": "buy", "order_type": "limit", "price": "30000"}
ONE = {**ORDER, "quantity": "0.01", "client_order_id": "x"}


async def cli(desk: Desk, *arguments: str) -> str:
    """Run the real `temporal` program against the server of the tests."""
    program = (await find_temporal(print)).path
    address = desk.client.service_client.config.target_host
    process = await asyncio.create_subprocess_exec(
        program, *arguments, "--address", address,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def raw(data: bytes, encoding: str = "json/plain") -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding.encode()}, data=data))


@pytest.mark.parametrize("numbers", ["as text", "as numbers"])
async def test_an_order_of_the_temporal_cli_lives_the_same_life(
    desk: Desk, exchange: Exchange, numbers: str
) -> None:
    order_id = an_order().client_order_id
    values = '"price": "30000.10", "quantity": "0.010000"'
    if numbers == "as numbers":
        values = '"price": 30000.10, "quantity": 0.010000'
    text = (
        f'{{"order": {{"client_order_id": "{order_id}", "symbol": "BTC/USDT", "side": "BUY", '
        f'"order_type": "LIMIT", {values}}}}}'
    )

    await cli(
        desk, "workflow", "start", "--type", "Order", "--workflow-id", f"order-{order_id}",
        "--task-queue", desk.task_queue, "--input", text,
    )  # fmt: skip
    state = await desk.until_status(order_id, OrderStatus.ACCEPTED)
    await cli(
        desk, "workflow", "update", "execute", "--name", "modify",
        "--workflow-id", f"order-{order_id}", "--input", '{"new_quantity": 0.006}',
    )  # fmt: skip
    exchange.market("SELL", "30000", "0.002")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    await cli(desk, "workflow", "signal", "--name", "cancel", "--workflow-id", f"order-{order_id}")

    assert (state.price, state.quantity) == (Decimal("30000.1"), Decimal("0.01"))
    closed = await desk.until_closed(order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.filled_quantity) == (
        OrderStatus.CANCELLED, Decimal("0.002"),
    )  # fmt: skip
    assert closed.state.quantity == Decimal("0.006")


MALFORMED: dict[str, tuple[list[Any], str]] = {
    "not JSON": ([raw(b"{order")], "not JSON"),
    "not text": ([raw(b"\xff\xfe\x00\x01")], "payload"),
    "nothing": ([raw(b"")], '"order" and "resume"'),
    "no input": ([], "0 inputs"),
    "two inputs": ([{"order": ONE}, {"order": ONE}], "2 inputs"),
    "two that cannot be read": ([raw(b"{"), raw(b"", "from/mars")], "2 inputs"),
    "an array": ([[{"order": ONE}]], "JSON list"),
    "a text": (["order"], "JSON str"),
    "null": ([None], '"order" and "resume"'),
    "an empty object": ([{}], '"order" and "resume"'),
    "both": ([{"order": ONE, "resume": "x"}], '"order" and "resume"'),
    "an unknown version": ([{"version": 2, "order": ONE}], "version"),
    "an unknown field": ([{"order": {**ONE, "stop_loss": 1}}], "order.stop_loss"),
    "an unknown field outside": ([{"order": ONE, "foo": 1}], "foo"),
    "a strange field": ([raw(b'{"\\ud800": 1}')], "the name of a field"),
    "a missing field": ([{"order": ORDER}], "order.quantity"),
    "a wrong type": ([{"order": {**ONE, "quantity": {"a": 1}}}], "order.quantity"),
    "a bool": ([{"order": {**ONE, "quantity": True}}], "order.quantity"),
    "an unknown side": ([{"order": {**ONE, "side": "hold"}}], "order.side"),
    "a negative": ([{"order": {**ONE, "quantity": "-1"}}], "order.quantity"),
    "NaN": ([raw(b'{"order": {"quantity": NaN}}')], "NaN"),
    "NaN as text": ([{"order": {**ONE, "quantity": "NaN"}}], "order.quantity"),
    "infinite": ([raw(b'{"order": {"quantity": -Infinity}}')], "Infinity"),
    "a huge number": ([raw(b'{"order": {"quantity": 1e400}}')], "order.quantity"),
    "an absurd exponent": ([raw(b'{"order": {"quantity": 1e9999999999999999999}}')], "payload"),
    "many digits": ([raw(b'{"order": {"quantity": ' + b"9" * 5000 + b"}}")], "order.quantity"),
    "too many decimals": ([{"order": {**ONE, "quantity": "0." + "1" * 30}}], "order.quantity"),
    "too deep": ([raw(b"[" * 30_000 + b"]" * 30_000)], "payload"),
    "too large": ([{"order": {**ONE, "metadata": {"a": "x" * 70_000}}}], "70"),
    "a naive time": ([{"order": {**ONE, "send_by": "2026-01-01T00:00:00"}}], "order.send_by"),
    "a surrogate": ([raw(json.dumps({"order": {**ONE, "strategy_id": "\ud800"}}).encode())],
                    "order.strategy_id"),
    "metadata that cannot be stored": (
        [raw(json.dumps({"order": {**ONE, "metadata": {"a": "\ud800"}}}).encode())],
        "order.metadata",
    ),
    "binary": ([raw(b"\x00\x01\x02", "binary/plain")], "not JSON"),
    "an unknown encoding": ([raw(b"{}", "from/mars")], '"order" and "resume"'),
    "an unknown order to resume": ([{"resume": "nobody-knows-it"}], "nobody-knows-it"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_malformed_input_ends_at_once_with_a_message_that_names_it(
    desk: Desk, exchange: Exchange, case: str
) -> None:
    inputs, words = MALFORMED[case]
    order_id = an_order().client_order_id
    head, sent = await desk.store.head(), exchange.requests()

    handle = await desk.client.start_workflow(
        "Order", args=inputs, id=workflow_id(order_id), task_queue=desk.task_queue
    )
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    messages = [str(caught.value.cause), str(getattr(caught.value.cause, "cause", ""))]
    assert words in " ".join(messages), messages
    assert (await desk.store.head(), exchange.requests()) == (head, sent)


async def test_an_id_that_a_malformed_start_has_used_is_free_for_an_order(desk: Desk) -> None:
    order = an_order()
    handle = await desk.client.start_workflow(
        "Order", {}, id=workflow_id(order.client_order_id), task_queue=desk.task_queue
    )
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    result = await desk.oms.submit_order(order)

    assert (result.success, result.status) == (True, OrderStatus.ACCEPTED)


async def test_an_order_without_an_id_has_that_of_its_workflow_in_every_try(
    desk: Desk, exchange: Exchange
) -> None:
    """An id made up by its first task would be another one when that is repeated."""
    order_id, sent = f"my-{an_order().client_order_id}", exchange.requests()
    values = {**ORDER, "quantity": "0.01", "metadata": {"why": "so"}}
    handle = await desk.client.start_workflow(
        "Order", {"order": values}, id=f"order-{order_id}", task_queue=desk.task_queue
    )
    state = await desk.until_status(order_id, OrderStatus.ACCEPTED)
    first_run = handle.first_execution_run_id

    await desk.reset(order_id)

    await until(lambda: _goes_on(desk, order_id, str(first_run)))
    (there,) = exchange.orders(status="NEW")
    assert str(there["orderId"]) == state.exchange_order_id
    exchange.market("SELL", "30000", "0.01")
    closed = await desk.until_closed(order_id)
    assert (closed.order_id, closed.status) == (order_id, OrderStatus.FILLED)
    assert exchange.requests() == sent + 1
    names = await desk.names(order_id)
    assert (names.count("order_created"), names.count("order_fill")) == (1, 1)
    again = await desk.oms.submit_order(
        Order.model_validate({**values, "client_order_id": order_id})
    )
    assert (again.success, again.status) == (True, OrderStatus.FILLED)


@pytest.mark.parametrize(
    ("own", "named", "words"),
    [
        ("x", "order-y", ("'x'", "'order-y'", "order-<client_order_id>")),
        ("x", "x", ("'x'", "'x'", "order-<client_order_id>")),
        (None, "y", ("'y'", "order-<client_order_id>")),
        (None, "order-a b", ("client_order_id", "'a b'")),
        (None, "order-", ("client_order_id", "''")),
    ],
    ids=["another id", "no prefix", "no id and no prefix", "no id and a blank", "no id at all"],
)
async def test_an_order_under_another_id_than_its_workflows_is_refused_with_both(
    desk: Desk, exchange: Exchange, own: str | None, named: str, words: tuple[str, ...]
) -> None:
    values = {**ORDER, "quantity": "0.01"} | ({"client_order_id": own} if own else {})
    head, sent = await desk.store.head(), exchange.requests()

    handle = await desk.client.start_workflow(
        "Order", {"order": values}, id=named, task_queue=desk.task_queue
    )
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "InvalidOrder"
    assert all(word in cause.message for word in words), cause.message
    assert (await desk.store.head(), exchange.requests()) == (head, sent)


async def _goes_on(desk: Desk, order_id: str, first_run: str) -> bool:
    """Whether another run than the first knows the order, and has sent what it would send."""
    handle = desk.handle(order_id)
    state = await handle.query("state", result_type=OrderState)
    return state is not None and (await handle.describe()).run_id != first_run


BAD_PAYLOADS: dict[str, list[Any]] = {
    "an array": [[]],
    "an unknown field": [{"why": "so"}],
    "not JSON": [raw(b"{")],
    "not text": [raw(b"\xff\xff")],
    "a strange field": [raw(b'{"\\ud800": 1}')],
    "a strange text": [raw(b'{"reason": "\\ud800", "new_price": "\\ud800"}')],
    "an absurd exponent": [raw(b'{"wait_s": 1e9999999999999999999}')],
    "two inputs": [{}, {}],
    "two that cannot be read": [raw(b"{"), raw(b"", "from/mars")],
    "binary": [raw(b"\x00", "binary/plain")],
}


@pytest.mark.parametrize("signal", ["cancel", "modify"])
async def test_malformed_signals_are_journalled_and_the_order_goes_on(
    desk: Desk, exchange: Exchange, signal: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    handle = desk.handle(order_id)

    for inputs in BAD_PAYLOADS.values():
        await handle.signal(signal, args=inputs)
    await handle.signal("Cancel", {"reason": "no such signal"})

    await until(lambda: _refused(desk, order_id, len(BAD_PAYLOADS) + 1))
    reasons = [
        str((entry.details or {}).get("reason"))
        for entry in await desk.journal(order_id)
        if entry.name == "order_message_refused"
    ]
    assert reasons[-1].startswith("Cancel signal: ")
    assert all(reason.startswith(f"{signal} signal: ") for reason in reasons[:-1])
    assert (await desk.state(order_id)).is_open
    assert (await desk.cancel(order_id)).success


@pytest.mark.parametrize("update", ["cancel", "modify", "outcome", "executions"])
async def test_malformed_updates_are_refused_without_a_trace(
    desk: Desk, exchange: Exchange, update: str
) -> None:
    order_id = (await desk.resting()).client_order_id
    handle = desk.handle(order_id)
    before = await desk.history(order_id)

    for inputs in BAD_PAYLOADS.values():
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(update, args=inputs)
    with pytest.raises(WorkflowUpdateFailedError, match="no_such"):
        await _named(handle.execute_update("no_such", {}))

    assert await desk.history(order_id) == before
    assert (await desk.cancel(order_id)).success


async def _named(call: Any) -> None:
    """An update's failure says in its cause what is wrong."""
    try:
        await call
    except WorkflowUpdateFailedError as error:
        error.args = (str(error.cause),)
        raise


async def _refused(desk: Desk, order_id: str, times: int) -> bool:
    return (await desk.names(order_id)).count("order_message_refused") == times


async def test_a_first_cancel_that_means_another_order_does_not_keep_this_one_from_being_sent(
    desk: Desk, exchange: Exchange
) -> None:
    order = an_order()
    order_id = order.client_order_id

    await desk.client.start_workflow(
        "Order",
        {"order": plain(order)},
        id=workflow_id(order_id),
        task_queue=desk.task_queue,
        start_signal="cancel",
        start_signal_args=[{"symbol": "ETH/USDT"}],
    )

    state = await desk.until_status(order_id, OrderStatus.ACCEPTED)
    assert state.exchange_order_id in {str(one["orderId"]) for one in exchange.orders(status="NEW")}
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert "order_message_refused" in await desk.names(order_id)
