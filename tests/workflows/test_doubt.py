"""Sends without a known outcome: what is found is adopted, what is absent is proved so first."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from activities import look_up
from activities.booking import Booking
from activities.look_up import OrderLookUp
from activities.messages import Booked, LookUp, Sighting
from tests.workflows.desk import Desk, Exchange, an_order, until, working
from trading.oms.enums import CancelOutcome, IfNotPlaced, OrderStatus, ReasonCode, RejectedBy
from trading.oms.models import OrderState

pytestmark = pytest.mark.temporal
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
REJECTED, CANCELLED = OrderStatus.REJECTED, OrderStatus.CANCELLED
ALIVE: list[dict[str, Any]] = [
    {"kind": "reply_lost"},
    {"kind": "http_503", "order": "alive"},
    {"kind": "code_-1006", "order": "alive"},
    {"kind": "code_-1007", "order": "alive"},
    {"kind": "garbled"},
    {"kind": "garbled", "how": "empty"},
    {"kind": "garbled", "how": "missing", "fields": ["orderId"]},
    {"kind": "reply_delayed_ms", "ms": 1900},
]
DEAD: list[dict[str, Any]] = [
    {"kind": "reply_lost", "order": "dead"},
    {"kind": "http_503"},
    {"kind": "code_-1007"},
]


def named(fault: dict[str, Any]) -> str:
    return "-".join(str(value) for value in fault.values())


def strike(exchange: Exchange, fault: dict[str, Any], **more: Any) -> None:
    options = {"count": 1, "endpoint": "POST order", **fault, **more}
    exchange.fault(options.pop("kind"), **options)


@pytest.mark.parametrize("stream", [True, False], ids=["", "deaf stream"])
@pytest.mark.parametrize("fault", ALIVE, ids=named)
async def test_an_order_that_lives_is_found_and_adopted(
    desk: Desk, exchange: Exchange, fault: dict[str, Any], *, stream: bool
) -> None:
    if not stream:
        exchange.fault("stream_drop")
    strike(exchange, fault)

    result = await desk.submit()
    state = await desk.until_status(result.order_id, ACCEPTED)

    assert result.success
    (there,) = exchange.orders(status="NEW")
    assert state.exchange_order_id == str(there["orderId"])
    assert (state.in_doubt_since, exchange.requests() >= 1) == (None, True)
    names = await desk.names(result.order_id)
    assert names.count("order_in_doubt") == names.count("order_doubt_ended") <= 1
    (claim,) = await desk.store.claims_of(result.order_id)
    await until(lambda: _settled(desk, result.order_id))
    assert claim.key.generation == 1


@pytest.mark.parametrize("kind", ["market", "limit"])
async def test_fills_of_an_adopted_order_are_booked(
    desk: Desk, exchange: Exchange, kind: str
) -> None:
    exchange.market("SELL", "29000", "0.004", "GTC")
    exchange.market("SELL", "29500", "0.006", "GTC")
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order")

    result = await desk.submit(order_type=kind)
    closed = await desk.until_closed(result.order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.average_fill_price) == (FILLED, Decimal(29300))
    assert len(await desk.store.fills(result.order_id)) == 2
    assert len(exchange.orders(clientOrderId=str(closed.state.exchange_client_id))) == 1


@pytest.mark.parametrize("fault", DEAD, ids=named)
async def test_a_resting_order_that_was_not_placed_is_sent_again_once(
    desk: Desk, exchange: Exchange, fault: dict[str, Any]
) -> None:
    strike(exchange, fault)
    before = exchange.requests()

    result = await desk.submit()
    assert result.in_doubt
    state = await desk.until_status(result.order_id, ACCEPTED)

    assert exchange.requests() == before + 2
    (there,) = exchange.orders(status="NEW")
    assert there["clientOrderId"] == state.exchange_client_id
    claims = await desk.store.claims_of(result.order_id)
    assert [(claim.key.generation, str(claim.outcome)) for claim in claims] == [
        (1, "not_placed"), (2, "accepted"),
    ]  # fmt: skip
    assert (await desk.names(result.order_id)).count("order_resent") == 1
    await desk.cancel(result.order_id)
    assert exchange.orders(status="NEW") == []


@pytest.mark.parametrize(
    "fields",
    [{"order_type": "market"}, {"time_in_force": "IOC"}, {"if_not_placed": "reject"}],
    ids=lambda fields: next(iter(fields.values())),
)
async def test_an_immediate_order_that_was_not_placed_is_not_sent_later(
    desk: Desk, exchange: Exchange, fields: dict[str, str]
) -> None:
    exchange.market("SELL", "29000", "1", "GTC")
    exchange.fault("http_503", count=1, endpoint="POST order")
    before = exchange.requests()

    result = await desk.submit(**fields)
    closed = await desk.until_closed(result.order_id)

    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (REJECTED, ReasonCode.NOT_PLACED)
    assert closed.rejected_by is RejectedBy.OMS
    assert exchange.requests() == before + 1


async def test_a_late_acceptance_within_the_fence_is_waited_for(
    desk: Desk, exchange: Exchange
) -> None:
    """The reply is lost at once, and the order appears only a while after that."""
    exchange.fault("stream_drop")
    exchange.fault("rest_lag_ms", ms=400)
    exchange.fault("reply_lost", count=1, endpoint="POST order")

    result = await desk.submit()
    state = await desk.until_status(result.order_id, ACCEPTED)

    assert len(exchange.orders(status="NEW")) == 1
    assert state.exchange_client_id == exchange.orders(status="NEW")[0]["clientOrderId"]


async def test_an_order_that_appears_soon_after_its_deadline_was_never_taken_for_dead(
    own_desk: Desk,
) -> None:
    """An exchange may take in time what it shows only a while later, as its record says."""
    desk, exchange = own_desk, own_desk.exchange
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[exchange.name, "main"]
    longer = {"processing_bound_ms": 4000}
    connector.capabilities = connector.capabilities.model_copy(update=longer)
    exchange.fault("accept_delayed_ms", ms=2600, ignore_fence=True, count=1, endpoint="POST order")

    result = await desk.submit(if_not_placed="reject")
    await desk.until_status(result.order_id, ACCEPTED)

    names = await desk.names(result.order_id)
    assert "order_in_doubt" in names
    assert "order_rejected" not in names
    assert await desk.alarms(result.order_id) == []


async def test_a_duplicate_answer_is_evidence_that_the_order_lives(
    desk: Desk, exchange: Exchange
) -> None:
    """The claim was never settled (a crash), and the same request is written once more."""
    order_id = (await desk.resting()).client_order_id
    (claim,) = await desk.store.claims_of(order_id)
    assert desk.runtime is not None
    connector = desk.runtime.parts.connectors[exchange.name, "main"]

    with pytest.raises(Exception, match="Duplicate order"):
        await connector.place(
            claim.request.model_copy(
                update={"timestamp_ms": int(connector.exchange_now().timestamp() * 1000)}
            )
        )
    assert len(exchange.orders(status="NEW")) == 1


async def test_a_doubt_says_what_was_asked_and_answered_so_far(
    idle_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the query, in the web UI's details, and at the command line; no more once it has ended."""
    # The feed's own look at the open orders, twice a minute, would end the doubt.
    monkeypatch.setattr("activities.feed._CATCH_UP_S", 3600.0)
    async with working(idle_desk):
        await _is_told_of(idle_desk, idle_desk.exchange)


async def _is_told_of(desk: Desk, exchange: Exchange) -> None:
    for query in ("GET order", "GET allOrders", "GET openOrders"):
        exchange.fault("rate_429", retry_after="0.1", endpoint=query)
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", order="alive", count=1, endpoint="POST order")
    order_id = (await desk.submit()).order_id

    async def is_asked_twice() -> list[str]:
        told = await desk.oms.fetch_doubt(order_id)
        return told if len(told) > 2 else []

    asked, *answers = await until(is_asked_twice)
    assert re.fullmatch(r"asked \d+ times for leg 1 generation 1", asked)
    answered = re.compile(r"\d\d:\d\d:\d\d no observation: -1003")
    assert all(answered.match(answer) for answer in answers)
    details = await _details(desk, order_id)
    assert "**IN DOUBT since " in details
    assert answered.search(details)
    # By the time that the command has started, the newest answers may be others.
    told, text = await asyncio.gather(_shown(desk, order_id, "--json"), _shown(desk, order_id))
    assert answered.match(json.loads(told)["doubt"][-1])
    assert answered.search(text)

    exchange.clear()
    # The longer it was in doubt, the longer the pause before the next look: up to 30 s.
    await desk.until(order_id, lambda state: state.status is ACCEPTED, within_s=45)

    async def has_ended() -> bool:
        """The store has the end a moment before the workflow has it."""
        told = await desk.oms.fetch_doubt(order_id)
        return not told and "IN DOUBT" not in await _details(desk, order_id)

    await until(has_ended)
    assert json.loads(await _shown(desk, order_id, "--json"))["doubt"] == []


async def _details(desk: Desk, order_id: str) -> str:
    """What the web UI shows of the workflow."""
    shown = await desk.handle(order_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return str(shown.current_details)


async def _shown(desk: Desk, order_id: str, *options: str) -> str:
    """What `oms show` prints."""
    command = [sys.executable, "-c", "from trading.oms.cli import main; main()", "show"]
    process = await asyncio.create_subprocess_exec(
        *command,
        order_id,
        *options,
        env={
            **os.environ,
            "OMS_STORE_URL": desk.settings.store_url.get_secret_value(),
            "TEMPORAL_ADDRESS": desk.client.service_client.config.target_host,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_a_cancel_in_doubt_is_answered_when_there_is_certainty(
    desk: Desk, exchange: Exchange, order: str
) -> None:
    exchange.fault("stream_drop")
    exchange.fault("rest_lag_ms", ms=300)
    exchange.fault("reply_lost", count=1, endpoint="POST order", order=order)
    before = exchange.requests()
    result = await desk.submit()

    first = await desk.cancel(result.order_id, wait=0)
    second = await desk.cancel(result.order_id, wait=20)

    assert first.outcome in {CancelOutcome.IN_DOUBT, CancelOutcome.CANCELLED}
    assert (second.success, second.outcome) == (True, CancelOutcome.CANCELLED)
    closed = await desk.until_closed(result.order_id)
    assert closed.state is not None
    assert (closed.status, closed.state.reason_code) == (CANCELLED, ReasonCode.CANCEL_REQUESTED)
    assert exchange.requests() == before + 1
    assert exchange.orders(status="NEW") == []


async def test_a_look_up_that_fails_is_no_observation(desk: Desk, exchange: Exchange) -> None:
    exchange.fault("stream_drop")
    exchange.fault("reply_lost", count=1, endpoint="POST order")
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET order")

    result = await desk.submit()
    await until(lambda: _struck(exchange, "rate_429", 2))
    assert (await desk.state(result.order_id)).in_doubt_since is not None
    exchange.clear("rate_429")
    state = await desk.until_status(result.order_id, ACCEPTED)

    assert state.exchange_order_id == str(exchange.orders(status="NEW")[0]["orderId"])


async def test_absence_needs_both_sources(desk: Desk, exchange: Exchange) -> None:
    exchange.fault("stream_drop")
    exchange.fault("http_503", count=1, endpoint="POST order")
    exchange.fault("rate_429", retry_after="0.1", endpoint="GET allOrders")

    result = await desk.submit(if_not_placed="reject")
    await until(lambda: _struck(exchange, "rate_429", 3))
    still = await desk.state(result.order_id)
    exchange.clear("rate_429")
    closed = await desk.until_closed(result.order_id)

    assert still.in_doubt_since is not None
    assert closed.status is REJECTED


async def test_an_order_that_appears_after_the_verdict_is_revived(
    desk: Desk, exchange: Exchange
) -> None:
    """The exchange broke its own fence: the order was proved absent, and came all the same."""
    exchange.fault("accept_delayed_ms", ms=2600, ignore_fence=True, count=1, endpoint="POST order")

    result = await desk.submit(if_not_placed="reject")
    rejected = await desk.until_closed(result.order_id)
    assert rejected.state is not None
    assert rejected.state.reason_code is ReasonCode.NOT_PLACED
    revived = await desk.until(result.order_id, lambda state: state.status is ACCEPTED)

    assert await desk.alarms(result.order_id)
    assert revived.exchange_order_id == str(exchange.orders(status="NEW")[0]["orderId"])
    exchange.market("SELL", "30000", "0.01")
    assert (await desk.until_status(result.order_id, FILLED)).filled_quantity == Decimal("0.01")


async def test_of_two_sends_that_live_after_all_the_newer_is_cancelled(own_desk: Desk) -> None:
    """The exchange broke its own fence after the order was sent again."""
    desk, exchange = own_desk, own_desk.exchange
    exchange.fault("accept_delayed_ms", ms=3000, ignore_fence=True, count=1, endpoint="POST order")
    result = await desk.submit()
    second = await desk.until_status(result.order_id, ACCEPTED)

    first = await desk.until(
        result.order_id, lambda s: s.exchange_client_id != second.exchange_client_id
    )
    await until(lambda: _ended(exchange, 1))

    newer, older = sorted(exchange.orders()[-2:], key=lambda order: order["status"])
    assert (newer["clientOrderId"], newer["status"]) == (second.exchange_client_id, "CANCELED")
    assert (older["clientOrderId"], older["status"]) == (first.exchange_client_id, "NEW")
    assert await _alarmed(desk, result.order_id)
    exchange.market("SELL", "30000", "0.004")
    await desk.until(result.order_id, lambda s: s.filled_quantity == Decimal("0.004"))
    changed = await desk.oms.modify_order(result.order_id, new_quantity=Decimal("0.008"))
    assert changed.success, changed
    assert (await desk.cancel(result.order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    closed = await desk.until_closed(result.order_id)
    assert closed.state is not None
    assert closed.state.exchange_order_id == str(older["orderId"])


async def test_the_older_of_two_sends_is_found_again_by_the_next_run(own_desk: Desk) -> None:
    desk, exchange = own_desk, own_desk.exchange
    exchange.fault("accept_delayed_ms", ms=3000, ignore_fence=True, count=1, endpoint="POST order")
    order = an_order()
    await desk.oms.submit_order(order)
    order_id = order.client_order_id
    second = await desk.until_status(order_id, ACCEPTED)
    await desk.until(order_id, lambda s: s.exchange_client_id != second.exchange_client_id)
    await until(lambda: _ended(exchange, 1))
    await desk.handle(order_id).terminate("a slip")

    await desk.oms.submit_order(order)
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    await desk.until_closed(order_id)


async def test_a_step_that_is_repeated_after_its_commit_knows_which_send_carries_the_order(
    own_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has taken the older one for the order's, and nobody was told."""
    desk, exchange = own_desk, own_desk.exchange
    untold: list[Booked] = []
    book = Booking.book

    async def lost_once(self: Booking, *arguments: Any, **options: Any) -> Booked:
        booked = await book(self, *arguments, **options)
        if booked.carrier is not None and not untold:
            untold.append(booked)
            msg = "the worker is killed between the commit and its answer"
            raise OSError(msg)
        return booked

    monkeypatch.setattr(Booking, "book", lost_once)
    exchange.fault("accept_delayed_ms", ms=3000, ignore_fence=True, count=1, endpoint="POST order")
    result = await desk.submit()
    second = await desk.until_status(result.order_id, ACCEPTED)

    await until(lambda: _ended(exchange, 1))
    assert untold
    (older,) = exchange.orders(status="NEW")
    assert older["clientOrderId"] != second.exchange_client_id
    assert (await desk.cancel(result.order_id)).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    await desk.until_closed(result.order_id)


@pytest.mark.parametrize("how", ["terminated", "reset"])
async def test_a_stray_that_lives_is_known_to_the_next_run(own_desk: Desk, how: str) -> None:
    """Nothing but the store tells it: the reports of the older one were taken before."""
    desk, exchange = own_desk, own_desk.exchange
    exchange.fault("accept_delayed_ms", ms=3000, ignore_fence=True, count=1, endpoint="POST order")
    exchange.fault("http_503", endpoint="DELETE order")
    order = an_order()
    order_id = order.client_order_id
    await desk.oms.submit_order(order)
    second = await desk.until_status(order_id, ACCEPTED)
    await desk.until(order_id, lambda s: s.exchange_client_id != second.exchange_client_id)
    if how == "reset":
        await desk.reset(order_id)
    else:
        await desk.handle(order_id).terminate("a slip")
        await desk.oms.submit_order(order)
    exchange.clear()

    await until(lambda: _ended(exchange, 1))
    (older,) = exchange.orders(status="NEW")
    assert older["clientOrderId"] != second.exchange_client_id
    assert (await desk.cancel(order_id)).outcome is CancelOutcome.CANCELLED
    await desk.until_closed(order_id)


@pytest.fixture
async def own_desk(idle_desk: Desk) -> AsyncIterator[Desk]:
    """Late reports of a stray stop resending on its account: other tests have another one."""
    async with working(idle_desk):
        yield idle_desk


@pytest.mark.parametrize(
    ("when", "filled"), [("before", "0.01"), ("meanwhile", "0.004"), ("meanwhile", "0.01")]
)
async def test_two_sends_that_live_are_both_cancelled_once_the_newer_has_traded(
    own_desk: Desk, filled: str, when: str
) -> None:
    """Before the older one is seen, or before the newer one can be cancelled."""
    desk, exchange = own_desk, own_desk.exchange
    exchange.fault("accept_delayed_ms", ms=3000, ignore_fence=True, count=1, endpoint="POST order")
    exchange.fault("http_503", endpoint="DELETE order")
    result = await desk.submit()
    second = await desk.until_status(result.order_id, ACCEPTED)
    if when == "before":
        exchange.market("SELL", "30000", filled)
        await desk.until(result.order_id, lambda s: s.filled_quantity == Decimal(filled))
    else:
        await desk.until(
            result.order_id, lambda s: s.exchange_client_id != second.exchange_client_id
        )
        exchange.market("SELL", "30000", filled)
    await until(lambda: _placed(exchange, second))
    exchange.clear()

    await until(lambda: _ended(exchange, 2), 20)
    executed = sum(Decimal(order["executedQty"]) for order in exchange.orders()[-2:])
    assert executed == Decimal(filled)
    state = await desk.until(
        result.order_id, lambda s: s.filled_quantity == executed and not s.is_open
    )
    assert state.status in {CANCELLED, FILLED}
    await until(lambda: _alarmed(desk, result.order_id))
    await desk.until_closed(result.order_id)


async def _placed(exchange: Exchange, second: OrderState) -> bool:
    """The older one has come too."""
    return second.exchange_client_id in {o["clientOrderId"] for o in exchange.orders()[-2:-1]}


async def _settled(desk: Desk, order_id: str) -> bool:
    return all(claim.outcome is not None for claim in await desk.store.claims_of(order_id))


async def _struck(exchange: Exchange, kind: str, times: int) -> bool:
    return exchange.hits(kind) >= times


async def _ended(exchange: Exchange, number: int) -> bool:
    ours = exchange.orders()[-2:]
    return sum(order["status"] in {"CANCELED", "FILLED"} for order in ours) == number


async def _alarmed(desk: Desk, order_id: str) -> bool:
    return any("two sends of leg" in alarm for alarm in await desk.alarms(order_id))


async def test_a_look_up_whose_worker_falls_silent_is_begun_again_by_another(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process must not keep an order in doubt until the look-up's own time is over."""
    looks: list[LookUp] = []
    look = OrderLookUp._look

    async def silent_once(self: OrderLookUp, at: LookUp, *rest: Any) -> Sighting:
        looks.append(at)
        if len(looks) == 1:
            await asyncio.Event().wait()
        return await look(self, at, *rest)

    @contextlib.asynccontextmanager
    async def no_heartbeats() -> AsyncIterator[None]:
        yield

    exchange.fault("stream_drop")
    strike(exchange, {"kind": "reply_lost"})
    with monkeypatch.context() as patched:
        patched.setattr(look_up, "beating", no_heartbeats)
        monkeypatch.setattr(OrderLookUp, "_look", silent_once)
        result = await desk.submit()
        await until(lambda: _is_true(looks))

    await desk.until(result.order_id, lambda state: state.status is ACCEPTED, within_s=10)
    assert len(looks) > 1


async def _is_true(value: object) -> bool:
    return bool(value)


async def test_an_order_is_not_taken_for_dead_while_a_row_of_the_list_cannot_be_read(
    desk: Desk, exchange: Exchange
) -> None:
    await desk.resting(price="29000")
    exchange.fault("row_garbled", endpoint="GET allOrders")
    exchange.fault("http_503", count=1, endpoint="POST order")
    result = await desk.submit(if_not_placed=IfNotPlaced.REJECT)
    await until(lambda: _has_struck(exchange, "row_garbled", 3))
    assert (await desk.state(result.order_id)).in_doubt_since is not None

    exchange.clear("row_garbled")
    ended = await desk.until_status(result.order_id, REJECTED)
    assert ended.reason_code is ReasonCode.NOT_PLACED


async def _has_struck(exchange: Exchange, kind: str, times: int) -> bool:
    return exchange.hits(kind) >= times
