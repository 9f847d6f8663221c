"""Whatever is sent to an order's workflow: answered in words or journalled, and the order lives on.

Drawn by hypothesis, against a real server and both databases; the long run is that of
`tests/fuzz` with this file.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Account, CancelAllWish
from activities.reconcile_messages import ReconcileRequest
from tests.fuzz.hostile import (
    ACCOUNT,
    CANCEL,
    CANCEL_ALL,
    FILL,
    IS_LONG,
    MODIFY,
    OUTCOME,
    RECONCILE,
    REPORT,
    RESOLVE,
    anything,
    as_bytes,
    changed,
)
from tests.workflows.desk import Desk, a_desk
from trading.oms.commands import CancelRequest, ModifyRequest, ResolveRequest, decode
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.errors import InvalidOrder
from workflows.steps import io_queue

pytestmark = pytest.mark.temporal
MESSAGES = 10
few = settings(
    max_examples=100 if IS_LONG else 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BATCH = {"reports": [REPORT]}
KINDS = {"cancel": CANCEL, "modify": MODIFY, "resolve": RESOLVE}
DOORS: dict[str, dict[str, Any]] = {
    **KINDS,
    "outcome": OUTCOME,
    "executions": BATCH,
    "leg": {"a": 1},
}
ENCODINGS = ["json/plain", "binary/plain", "binary/null", "json/protobuf", "from/mars", ""]


class Message(NamedTuple):
    """What is sent: a signal, an update or a query, under a name, with any number of inputs."""

    way: str
    name: str
    inputs: list[RawValue]

    @property
    def is_valid_cancel(self) -> bool:
        """Then it is no hostile message: it cancels."""
        if self.name != "cancel" or len(self.inputs) > 1:
            return False
        try:
            given = decode(self.inputs[0].payload.data if self.inputs else b"", CancelRequest)
        except InvalidOrder:
            return False
        return given.exchange is None and given.symbol in {None, "BTC/USDT"}

    @property
    def is_valid_wish(self) -> bool:
        """A modification or a verdict that an order may take or refuse by its own rules."""
        models: dict[str, type[BaseModel]] = {"modify": ModifyRequest, "resolve": ResolveRequest}
        model = models.get(self.name)
        if model is None or len(self.inputs) != 1:
            return False
        try:
            decode(self.inputs[0].payload.data, model)
        except InvalidOrder:
            return False
        return True


def raw(data: bytes, encoding: str) -> RawValue:
    metadata = {"encoding": encoding.encode()} if encoding else {}
    return RawValue(Payload(metadata=metadata, data=data))


def payloads(base: dict[str, Any]) -> st.SearchStrategy[RawValue]:
    data = (
        st.binary(max_size=100)
        | anything.map(as_bytes)
        | changed(base).map(as_bytes)
        | st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
        | st.sampled_from([b'{"reason":"\\u0000"}', b'{"\\u0000":1}', b'{"exchange":"\\u0000"}'])
        | st.sampled_from([b'{"reason":"\\ud800"}', b'{"\\ud800":1}', b'{"exchange":"\\ud800"}'])
    )
    return st.builds(raw, data, st.sampled_from(ENCODINGS))


def reports() -> st.SearchStrategy[RawValue]:
    """Batches that are nearly right, or right and absurd."""
    fills = st.lists(changed(FILL), min_size=1, max_size=2)
    one = changed(REPORT) | fills.map(lambda found: {**REPORT, "fills": found})
    batch = st.lists(one, max_size=2).map(lambda found: raw(as_bytes({"reports": found}), ""))
    return batch | payloads(BATCH)


def inputs_of(name: str) -> st.SearchStrategy[list[RawValue]]:
    one = reports() if name == "executions" else payloads(DOORS.get(name, CANCEL))
    return st.lists(one, max_size=3) | st.lists(one, min_size=1, max_size=1)


names = st.sampled_from([*DOORS, "Cancel", "order", "state", "__stack_trace"]) | st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=12
)
messages = st.tuples(st.sampled_from(["signal", "update", "query"]), names).flatmap(
    lambda two: st.builds(Message, st.just(two[0]), st.just(two[1]), inputs_of(two[1]))
)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
async def hostile_desk(
    request: pytest.FixtureRequest,
    temporal_client: Client,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Desk]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'store.sqlite3'}"
    else:
        server = request.getfixturevalue("postgres_server")
        server.psql("CREATE DATABASE hostile;")
        url = server.get_uri(database="hostile", driver="asyncpg")
    async with a_desk(temporal_client, url) as desk:
        yield desk
    if request.param == "postgres":
        server.psql("DROP DATABASE hostile WITH (FORCE);")


def assert_is_in_words(refusal: WorkflowUpdateFailedError) -> None:
    assert str(refusal.cause).encode()


async def deliver(desk: Desk, order_id: str, message: Message) -> None:
    """Send it; what comes back is an answer, or a refusal in words."""
    handle = desk.handle(order_id)
    rpc_timeout = timedelta(seconds=10)
    try:
        if message.way == "signal":
            await handle.signal(message.name, args=message.inputs, rpc_timeout=rpc_timeout)
        elif message.way == "update":
            async with asyncio.timeout(10):
                await handle.execute_update(message.name, args=message.inputs)
        else:
            await handle.query(message.name, args=message.inputs, rpc_timeout=rpc_timeout)
    except WorkflowUpdateFailedError as refusal:
        assert_is_in_words(refusal)
    except (WorkflowQueryFailedError, WorkflowQueryRejectedError):
        pass
    except RPCError as refusal:
        # The server has its own rules for names; it never says that the workflow is stuck.
        if refusal.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise


@few
@given(many=st.lists(messages, min_size=1, max_size=MESSAGES))
async def test_an_order_lives_on_whatever_it_is_sent(
    hostile_desk: Desk, many: list[Message]
) -> None:
    desk = hostile_desk
    order_id = (await desk.resting()).client_order_id
    try:
        for message in many:
            if not message.is_valid_cancel and not message.is_valid_wish:
                await deliver(desk, order_id, message)
        async with asyncio.timeout(10):
            assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
        async with asyncio.timeout(10):
            assert (await desk.until_closed(order_id)).status is OrderStatus.CANCELLED
    except BaseException:
        await desk.handle(order_id).terminate("the test has failed")
        desk.exchange.tidy()
        raise


LIES: dict[str, dict[str, Any]] = {
    "of another exchange": REPORT,
    "of another symbol": {**REPORT, "exchange": "", "symbol": "ETH/USDT"},
    "of an order that is not ours": {**REPORT, "exchange": "", "cumulative_quantity": "9"},
    "with a fill of nothing": {**REPORT, "exchange": "", "fills": [{**FILL, "quantity": "0"}]},
    "with a fill that takes back": {
        **REPORT, "exchange": "", "fills": [{**FILL, "exchange": "", "quantity": "-1"}],
    },
    "with a name that no column holds": {**REPORT, "exchange": "x" * 33},
    "with half a character": {**REPORT, "exchange": "", "reason": "\ud800"},
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
async def test_a_report_that_is_not_about_the_order_changes_nothing(
    hostile_desk: Desk, lie: str
) -> None:
    desk, state = hostile_desk, await hostile_desk.resting()
    order_id = state.client_order_id
    told = json.dumps({"reports": [LIES[lie]]}).replace(
        '"exchange": ""', f'"exchange": "{state.exchange}"'
    )
    before = await desk.names(order_id)

    message = Message("update", "executions", [raw(told.encode(), "json/plain")])
    await deliver(desk, order_id, message)

    assert await desk.names(order_id) == before
    assert (await desk.state(order_id)).exchange_order_id == state.exchange_order_id
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED


STARTS: dict[str, dict[str, Any]] = {
    "Reconcile": RECONCILE,
    "AccountFeed": ACCOUNT,
    "DeadMan": ACCOUNT,
    "CancelAll": CANCEL_ALL,
}
TAKEN: dict[str, type[BaseModel]] = {"Reconcile": ReconcileRequest, "CancelAll": CancelAllWish}


def is_taken(name: str, inputs: list[RawValue]) -> bool:
    """Whether the workflow has what it needs to run."""
    try:
        return len(inputs) == 1 and bool(decode(inputs[0].payload.data, TAKEN.get(name, Account)))
    except InvalidOrder:
        return False


@pytest.mark.parametrize("name", STARTS)
async def test_two_inputs_that_cannot_be_read_are_two_inputs(hostile_desk: Desk, name: str) -> None:
    handle = await hostile_desk.client.start_workflow(
        name,
        args=[raw(b"{", "json/plain"), raw(b"", "json/plain")],
        id=f"hostile-{uuid.uuid4().hex}",
        task_queue=io_queue(hostile_desk.task_queue),
    )
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert "2 inputs" in str(caught.value.cause)


NO_INPUT = [b"", b"{", b"[]", b"null", b"1", b"\xff", b"{}", b'{"exchange":"x","account":1}']


@pytest.mark.parametrize("name", STARTS)
async def test_a_workflow_ends_with_words_whatever_it_is_given_instead(
    hostile_desk: Desk, name: str
) -> None:
    """A typed parameter would repeat the task of what it cannot read for ever."""
    given_instead = [raw(data, "json/plain") for data in NO_INPUT]
    hostile = [one for one in given_instead if not is_taken(name, [one])]  # Reconcile takes {}.
    assert len(hostile) > len(NO_INPUT) / 2

    words = await asyncio.gather(*(failure_of(hostile_desk, name, [one]) for one in hostile))

    assert all(words)


NO_NAMES = [
    "x" * 33, "x" * 500, "x" * 60_000, "a b", "a/b", "a\n", "\x00", "\ud800", "é", "😀", None, 1,
    ["x"], {"a": "x"},
]  # fmt: skip
"""What no account and no exchange can be called; the empty text stands for all, or is no name."""


@pytest.mark.parametrize("field", ["exchange", "account"])
@pytest.mark.parametrize("name", STARTS)
async def test_a_name_that_no_account_can_have_is_refused_with_what_is_allowed(
    hostile_desk: Desk, name: str, field: str
) -> None:
    """A name goes into summaries: one that is too long there would repeat its task for ever."""
    values = [*NO_NAMES] if name == "Reconcile" else [*NO_NAMES, ""]

    async def refusal(value: Any) -> str:
        given_input = raw(json.dumps({**STARTS[name], field: value}).encode(), "json/plain")
        return await failure_of(hostile_desk, name, [given_input])

    refusals = await asyncio.gather(*map(refusal, values))

    for value, words in zip(values, refusals, strict=True):
        assert words.startswith(f"{field}: is {str(value)[:80]!r}; "), words
        assert "must be" in words or "should be a valid string" in words, words
        assert len(words) < 1000


async def failure_of(desk: Desk, name: str, inputs: list[RawValue]) -> str:
    """With which words the workflow ends, at once, that was started with these inputs."""
    handle = await desk.client.start_workflow(
        name, args=inputs, id=f"hostile-{uuid.uuid4().hex}", task_queue=io_queue(desk.task_queue)
    )
    try:
        async with asyncio.timeout(10):
            with pytest.raises(WorkflowFailureError) as caught:
                await handle.result()
    except BaseException:
        await handle.terminate("the test has failed")
        raise
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message


@pytest.mark.parametrize("name", STARTS)
@few
@given(data=st.data())
async def test_a_workflow_ends_at_once_with_words_where_its_input_is_none(
    hostile_desk: Desk, name: str, data: st.DataObject
) -> None:
    one = payloads(STARTS[name])
    inputs = data.draw(st.lists(one, max_size=3) | st.lists(one, min_size=1, max_size=1))
    if not is_taken(name, inputs):
        assert await failure_of(hostile_desk, name, inputs)
