"""Faults on demand, and the fence: what the exchange does when things go wrong."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.sandbox.conftest import Raw, Start

WAIT_S = 5.0


class UserStream:
    """Alice's events, as they come."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def next(self, kind: str = "executionReport") -> dict[str, Any]:
        """The next event of this type."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self._socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise ConnectionError("the stream is closed")
                event: dict[str, Any] = json.loads(message.data)["event"]
                if event["e"] == kind:
                    return event

    async def executions(self, count: int) -> list[str]:
        return [(await self.next())["x"] for _ in range(count)]


@pytest.fixture
async def stream(raw: Raw) -> AsyncIterator[UserStream]:
    params = {"apiKey": "alice", "timestamp": time.time_ns() // 1_000_000}
    signature = hmac.new(b"a-secret", urlencode(params).encode(), hashlib.sha256).hexdigest()
    async with raw.session.ws_connect(f"{raw.url}/ws-api/v3") as socket:
        await socket.send_json(
            {
                "id": 1,
                "method": "userDataStream.subscribe.signature",
                "params": {**params, "signature": signature},
            }
        )
        answer = await asyncio.wait_for(socket.receive_json(), WAIT_S)
        assert answer["result"] == {"subscriptionId": 0}
        yield UserStream(socket)


async def orders(raw: Raw) -> list[str]:
    return [order["status"] for order in (await raw.ledger())["orders"]]


@pytest.mark.parametrize(("fate", "placed"), [("alive", ["NEW"]), ("dead", [])])
async def test_a_lost_reply_leaves_the_order_alive_or_dead(
    raw: Raw, fate: str, placed: list[str]
) -> None:
    await raw.fault("reply_lost", count=1, order=fate)
    if fate == "alive":
        with pytest.raises(aiohttp.ClientError):
            await raw.order()
    else:
        with pytest.raises(aiohttp.ClientError):
            await raw.order()
    assert await orders(raw) == placed
    assert (await raw.order())[0] == 200


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("code_-1006", 500, -1006), ("code_-1007", 504, -1007), ("code_-1008", 503, -1008)],
)
@pytest.mark.parametrize(("fate", "placed"), [("alive", ["NEW"]), ("dead", [])])
async def test_an_unknown_outcome_leaves_the_order_alive_or_dead(
    raw: Raw, kind: str, status: int, code: int, fate: str, placed: list[str]
) -> None:
    await raw.fault(kind, count=1, order=fate)
    found, body = await raw.order()
    assert (found, body["code"]) == (status, code)
    assert await orders(raw) == placed


async def test_http_503_has_no_json(raw: Raw) -> None:
    await raw.fault("http_503", count=1, order="alive")
    with pytest.raises(json.JSONDecodeError):
        await raw.order()
    assert await orders(raw) == ["NEW"]


async def test_a_reply_can_be_late(raw: Raw) -> None:
    await raw.fault("reply_delayed_ms", count=1, ms=150)
    placing = asyncio.ensure_future(raw.order())
    await asyncio.sleep(0.07)
    assert await orders(raw) == ["NEW"]
    assert not placing.done()
    assert (await placing)[0] == 200


async def test_a_request_that_waits_longer_than_its_window_is_refused_before_the_engine(
    raw: Raw,
) -> None:
    await raw.fault("accept_delayed_ms", count=1, ms=150)
    status, body = await raw.order(recvWindow=100)
    assert (status, body["code"]) == (400, -1021)
    assert await orders(raw) == []
    _, counts = await raw.send("GET", "/api/v3/rateLimit/order")
    assert counts[0]["count"] == 1, "the second refusal still counts as an order"


async def test_a_request_that_waits_within_its_window_is_accepted(raw: Raw) -> None:
    await raw.fault("accept_delayed_ms", count=1, ms=50)
    assert (await raw.order(recvWindow=2000))[0] == 200


async def test_a_delay_inside_the_engine_ignores_the_fence(raw: Raw) -> None:
    await raw.fault("accept_delayed_ms", count=1, ms=150, ignore_fence=True)
    assert (await raw.order(recvWindow=100))[0] == 200


async def test_beyond_the_processing_bound_the_answer_is_a_timeout_and_the_order_may_come(
    start: Start, session: aiohttp.ClientSession
) -> None:
    raw = Raw((await start(processing_bound_ms=50)).url, session)
    await raw.fault("accept_delayed_ms", count=1, ms=150)
    status, body = await raw.order()
    assert (status, body["code"]) == (504, -1007)
    assert await orders(raw) == []
    await asyncio.sleep(0.2)
    assert await orders(raw) == ["NEW"]


async def test_a_small_fence_refuses_larger_windows_and_late_requests(
    start: Start, session: aiohttp.ClientSession
) -> None:
    raw = Raw((await start(max_recv_window_ms=300)).url, session)
    assert (await raw.order(recvWindow=301))[1]["code"] == -1102
    stamp = time.time_ns() // 1_000_000
    assert (await raw.order(timestamp=stamp, recvWindow=300))[0] == 200
    await asyncio.sleep(0.32)
    assert (await raw.order(timestamp=stamp, recvWindow=300))[1]["code"] == -1021


@pytest.mark.parametrize(("kind", "status"), [("rate_429", 429), ("ban_418", 418)])
async def test_limits_can_be_pretended(raw: Raw, kind: str, status: int) -> None:
    await raw.fault(kind, count=1, retry_after=30)
    found, body = await raw.order()
    assert (found, body["code"], raw.last_headers["Retry-After"]) == (status, -1003, "30")
    assert await orders(raw) == []
    if kind == "ban_418":
        assert (await raw.plain("GET", "/api/v3/time"))[0] == 418
        await raw.control("faults", clear="ban_418")
    assert (await raw.order())[0] == 200


@pytest.mark.parametrize("how", ["malformed", "truncated", "empty"])
async def test_an_answer_can_be_no_json(raw: Raw, how: str) -> None:
    await raw.fault("garbled", count=1, how=how)
    if how == "empty":
        assert await raw.order() == (200, None)
    else:
        with pytest.raises(json.JSONDecodeError):
            await raw.order()
    assert await orders(raw) == ["NEW"]


async def test_an_answer_can_be_null_or_lack_fields(raw: Raw) -> None:
    await raw.fault("garbled", count=1, how="null")
    assert await raw.order() == (200, None)
    await raw.fault("garbled", count=1, how="missing", fields=["orderId"])
    _, body = await raw.order()
    assert "orderId" not in body
    assert body["status"] == "NEW"


async def test_queries_can_lag_behind(raw: Raw) -> None:
    _, order = await raw.order(newClientOrderId="mine")
    await raw.fault("rest_lag_ms", ms=200)
    query = {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
    assert (await raw.send("GET", "/api/v3/order", **query))[1]["code"] == -2013
    assert await raw.send("GET", "/api/v3/openOrders", symbol="BTCUSDT") == (200, [])
    assert await raw.send("GET", "/api/v3/allOrders", symbol="BTCUSDT") == (200, [])
    await asyncio.sleep(0.2)
    assert (await raw.send("GET", "/api/v3/order", **query))[1]["orderId"] == order["orderId"]


async def test_a_skewed_clock_refuses_and_says_so(raw: Raw) -> None:
    await raw.fault("clock_skew_ms", ms=-10_000)
    assert (await raw.order())[1]["code"] == -1021
    _, server_time = await raw.plain("GET", "/api/v3/time")
    assert server_time["serverTime"] < time.time_ns() // 1_000_000 - 9000
    assert (await raw.order(timestamp=server_time["serverTime"]))[0] == 200


async def test_a_halted_symbol_takes_no_orders_and_cancel_only_takes_cancels(raw: Raw) -> None:
    _, order = await raw.order()
    cancel = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    await raw.fault("symbol_status", symbol="BTCUSDT", status="HALT")
    assert (await raw.order())[1] == {"code": -2010, "msg": "Market is closed."}
    assert (await raw.send("DELETE", "/api/v3/order", **cancel))[1]["code"] == -2011
    await raw.fault("symbol_status", symbol="BTCUSDT", status="CANCEL_ONLY")
    assert (await raw.order())[1]["code"] == -2010
    assert (await raw.send("DELETE", "/api/v3/order", **cancel))[0] == 200
    _, info = await raw.plain("GET", "/api/v3/exchangeInfo?symbol=BTCUSDT")
    assert info["symbols"][0]["status"] == "CANCEL_ONLY"
    await raw.control("faults", clear="all")
    assert (await raw.order())[0] == 200


async def test_filters_can_change_while_it_runs(raw: Raw) -> None:
    await raw.control("symbol", symbol="BTCUSDT", min_notional="1000", max_num_orders=1)
    assert (await raw.order())[1]["msg"] == "Filter failure: NOTIONAL"
    assert (await raw.order(quantity="0.1"))[0] == 200
    assert (await raw.order(quantity="0.1"))[1]["msg"] == "Filter failure: MAX_NUM_ORDERS"


async def test_the_stream_tells_an_orders_life(raw: Raw, stream: UserStream) -> None:
    await raw.order(newClientOrderId="mine", quantity="0.02")
    new = await stream.next()
    assert (new["x"], new["c"], new["C"], new["q"]) == ("NEW", "mine", "", "0.02000000")
    position = await stream.next("outboundAccountPosition")
    assert position["B"] == [{"a": "USDT", "f": "999220.00000000", "l": "780.00000000"}]
    await raw.market("SELL", "39000", "0.005")
    trade = await stream.next()
    assert (trade["x"], trade["X"], trade["l"], trade["z"], trade["m"], trade["n"]) == (
        "TRADE",
        "PARTIALLY_FILLED",
        "0.00500000",
        "0.00500000",
        True,
        "0.00000500",
    )
    await raw.send(
        "DELETE",
        "/api/v3/order",
        symbol="BTCUSDT",
        origClientOrderId="mine",
        newClientOrderId="gone",
    )
    cancelled = await stream.next()
    assert (cancelled["x"], cancelled["c"], cancelled["C"]) == ("CANCELED", "gone", "mine")


async def test_the_exchange_may_cancel_of_its_own_accord(raw: Raw, stream: UserStream) -> None:
    await raw.order(newClientOrderId="mine")
    await stream.next()
    await raw.fault("unsolicited_cancel", account="alice", symbol="BTCUSDT", client_order_id="mine")
    event = await stream.next()
    assert (event["x"], event["X"], event["eR"], event["c"]) == (
        "EXPIRED",
        "EXPIRED",
        "EXCHANGE_CANCELED",
        "mine",
    )


async def test_an_ioc_remainder_expires_with_a_reason(raw: Raw, stream: UserStream) -> None:
    await raw.order(timeInForce="IOC")
    assert (await stream.next())["x"] == "NEW"
    assert (await stream.next())["eR"] == "UNFILLED_IOC_QUANTITY_EXPIRED"


async def test_a_half_failed_replace_tells_a_rejection(raw: Raw, stream: UserStream) -> None:
    await raw.order(newClientOrderId="old")
    await raw.send(
        "POST",
        "/api/v3/order/cancelReplace",
        symbol="BTCUSDT",
        side="BUY",
        type="LIMIT",
        timeInForce="GTC",
        quantity="100",
        price="39000",
        newClientOrderId="new",
        cancelOrigClientOrderId="old",
        cancelReplaceMode="STOP_ON_FAILURE",
    )
    assert await stream.executions(2) == ["NEW", "CANCELED"]
    event = await stream.next()
    assert (event["x"], event["r"], event["c"]) == ("REJECTED", "INSUFFICIENT_BALANCES", "new")


async def test_an_amendment_is_told_with_both_client_ids(raw: Raw, stream: UserStream) -> None:
    _, order = await raw.order(newClientOrderId="mine")
    await stream.next()
    await raw.send(
        "PUT",
        "/api/v3/order/amend/keepPriority",
        symbol="BTCUSDT",
        orderId=order["orderId"],
        newQty="0.005",
        newClientOrderId="mine2",
    )
    event = await stream.next()
    assert (event["x"], event["X"], event["C"], event["c"], event["q"]) == (
        "REPLACED",
        "NEW",
        "mine",
        "mine2",
        "0.00500000",
    )


async def test_events_can_come_twice(raw: Raw, stream: UserStream) -> None:
    await raw.fault("stream_duplicate", count=1, event="NEW")
    await raw.order()
    assert await stream.next() == await stream.next()


async def test_events_can_be_dropped(raw: Raw, stream: UserStream) -> None:
    await raw.fault("stream_drop", count=1, event="TRADE")
    await raw.order()
    await raw.market("SELL", "39000", "0.004")
    await raw.market("SELL", "39000", "0.006")
    await stream.next()
    trade = await stream.next()
    assert (trade["l"], trade["z"]) == ("0.00600000", "0.01000000")


async def test_events_can_come_in_the_wrong_order(raw: Raw, stream: UserStream) -> None:
    await raw.fault("stream_reorder", count=1, event="NEW")
    await raw.order()
    await raw.fault("stream_drop", event="outboundAccountPosition")
    await raw.market("SELL", "39000", "0.01")
    events = [await stream.next() for _ in range(2)]
    assert {event["x"] for event in events} == {"NEW", "TRADE"}


async def test_events_can_be_late(raw: Raw, stream: UserStream) -> None:
    await raw.fault("stream_delay_ms", count=1, ms=200, event="NEW")
    started = time.monotonic()
    await raw.order()
    await raw.market("SELL", "39000", "0.01")
    assert await stream.executions(2) == ["TRADE", "NEW"]
    assert time.monotonic() - started >= 0.2


async def test_a_disconnected_stream_is_not_replayed(raw: Raw, stream: UserStream) -> None:
    await raw.fault("stream_disconnect", count=1, account="alice")
    await raw.order()
    with pytest.raises(ConnectionError):
        await stream.next()
    _, found = await raw.send("GET", "/api/v3/openOrders", symbol="BTCUSDT")
    assert len(found) == 1


async def test_a_stream_can_be_cut_at_once(raw: Raw, stream: UserStream) -> None:
    assert await raw.control("disconnect", account="alice") == {"disconnected": 1}
    with pytest.raises(ConnectionError):
        await stream.next()


async def test_faults_may_be_limited_to_an_account_a_symbol_and_an_endpoint(raw: Raw) -> None:
    await raw.fault("code_-1007", account="bob")
    await raw.fault("code_-1007", symbol="ETHUSDT")
    await raw.fault("code_-1007", endpoint="DELETE /api/v3/order")
    assert (await raw.order())[0] == 200
    raw.key = "bob"
    assert (await raw.order())[1]["code"] == -1007


async def test_a_fault_of_some_probability_is_repeatable_by_its_seed(raw: Raw) -> None:
    async def pattern() -> list[int]:
        await raw.control("faults", clear="all")
        await raw.fault("code_-1008", probability="0.5", seed=7)
        return [(await raw.order(quantity="0.001"))[0] for _ in range(12)]

    first = await pattern()
    assert first == await pattern()
    assert set(first) == {200, 503}


async def test_wrong_faults_are_refused_with_what_is_allowed(raw: Raw) -> None:
    wrong: list[Any] = [
        {"fault": "meteor"},
        {"fault": "reply_delayed_ms"},
        {"fault": "reply_delayed_ms", "ms": -5},
        {"fault": "reply_lost", "order": "undead"},
        {"fault": "reply_lost", "probability": "2"},
        {"fault": "clock_skew_ms", "ms": "1e9"},
        {"fault": "symbol_status", "symbol": "BTCUSDT", "status": "ASLEEP"},
        {"fault": "unsolicited_cancel", "account": "alice", "symbol": "BTCUSDT"},
        {"faults": 5},
        [],
    ]
    for body in wrong:
        async with raw.session.post(f"{raw.url}/control/faults", json=body) as response:
            assert (response.status, body) == (400, body)
            assert (await response.json(content_type=None))["code"] < 0


async def test_the_log_of_requests_knows_when_each_was_there(raw: Raw) -> None:
    before = time.monotonic_ns()
    await raw.order(newClientOrderId="mine")
    async with raw.session.get(f"{raw.url}/control/requests?last=1") as response:
        log = await response.json()
    (entry,) = log["requests"]
    assert (log["count"], entry["endpoint"]) == (1, "POST /api/v3/order")
    assert before < entry["received_monotonic_ns"] < time.monotonic_ns()
    assert "newClientOrderId=mine" in entry["raw"]
    assert "signature=…" in entry["raw"]
