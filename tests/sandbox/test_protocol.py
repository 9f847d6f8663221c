"""What Binance documents, word for word: errors, limits, times, shapes."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from tests.sandbox.conftest import Raw, Start
from workers.sandbox.config import RateLimit


def error(answer: tuple[int, Any]) -> tuple[int, int, str]:
    status, body = answer
    return status, body["code"], body["msg"]


ILLEGAL = "Illegal characters found in parameter 'quantity'; legal range is "


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"quantity": "NaN"}, -1100, ILLEGAL),
        ({"quantity": "Infinity"}, -1100, ILLEGAL),
        ({"quantity": "1e999"}, -1100, ILLEGAL),
        ({"quantity": "-1"}, -1100, ILLEGAL),
        ({"quantity": "٣"}, -1100, ILLEGAL),
        ({"quantity": "1" * 21}, -1100, ILLEGAL),
        ({"quantity": "9" * 20}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.0000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.000000001"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "0"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": ""}, -1102, "Mandatory parameter 'quantity' was not sent, was empty/null"),
        ({"quantity": None}, -1102, "Mandatory parameter 'quantity' was not sent"),
        ({"price": "39000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "9" * 20}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.0001"}, -1013, "Filter failure: NOTIONAL"),
        ({"symbol": "NOSUCH"}, -1121, "Invalid symbol."),
        ({"symbol": "\uff11\uff12\uff13"}, -1121, "Invalid symbol."),
        ({"symbol": "btc usdt"}, -1100, "Illegal characters found in parameter 'symbol'"),
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol' was not sent"),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "GUESS"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTD"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce' was not sent"),
        ({"stopPrice": "1"}, -1106, "Parameter 'stopPrice' sent when not required."),
        ({"newClientOrderId": "a b"}, -1100, "Illegal characters found in parameter 'newClientOr"),
        ({"newClientOrderId": "a" * 37}, -1100, "Illegal characters found in parameter 'newClie"),
        ({"newClientOrderId": ""}, -1105, "Parameter 'newClientOrderId' was empty."),
        ({"surprise": "1"}, -1104, "Not all sent parameters were read; read '8' parameter(s) but"),
        ({"quantity": "100"}, -2010, "Account has insufficient balance for requested action."),
        ({"icebergQty": "1"}, -2010, "Iceberg orders are not supported for this symbol."),
        ({"strategyType": "1"}, -1134, "`strategyType` was less than 1000000."),
        ({"newOrderRespType": "ALL"}, -1130, "Data sent for parameter 'newOrderRespType' is not"),
        ({"recvWindow": "60001"}, -1102, "'recvWindow' contains unexpected value. Cannot be grea"),
        ({"recvWindow": "1.2345"}, -1111, "Parameter 'recvWindow' has too much precision."),
        ({"timestamp": "soon"}, -1100, "Illegal characters found in parameter 'timestamp'"),
        ({"timestamp": "9" * 20}, -1108, "Parameter 'timestamp' overflowed."),
        ({"timestamp": 1}, -1021, "Timestamp for this request is outside of the recvWindow."),
    ],
)
async def test_a_wrong_order_gets_the_documented_error(
    raw: Raw, changes: dict[str, Any], code: int, message: str
) -> None:
    status, found, text = error(await raw.order(**changes))
    assert (status, found) == (400, code)
    assert text.startswith(message)
    assert (await raw.ledger())["orders"] == []


async def test_a_timestamp_from_the_future_is_refused(raw: Raw) -> None:
    ahead = time.time_ns() // 1_000_000 + 2000
    assert error(await raw.order(timestamp=ahead)) == (
        400,
        -1021,
        "Timestamp for this request was 1000ms ahead of the server's time.",
    )


async def test_timestamps_may_be_in_microseconds(raw: Raw) -> None:
    status, _ = await raw.order(timestamp=time.time_ns() // 1000, recvWindow="1000.5")
    assert status == 200


async def test_keys_and_signatures(raw: Raw) -> None:
    unsigned = "/api/v3/account?timestamp=1"
    assert error(await raw.plain("GET", unsigned))[1] == -1102
    assert error(await raw.plain("GET", unsigned + "&signature=00"))[:2] == (400, -1022)
    assert error(await raw.plain("GET", unsigned + "&signature=%00é"))[:2] == (400, -1022)
    raw.key = "mallory"
    assert error(await raw.send("GET", "/api/v3/account"))[:2] == (401, -2015)
    raw.key = ""
    assert error(await raw.send("GET", "/api/v3/account"))[:2] == (401, -2014)


async def test_a_body_is_signed_after_the_query_and_the_query_wins(raw: Raw) -> None:
    import hashlib
    import hmac

    query = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&price=39000"
    body = f"quantity=0.01&price=1&timestamp={time.time_ns() // 1_000_000}"
    signed = hmac.new(b"a-secret", (query + body).encode(), hashlib.sha256).hexdigest()
    data = f"{body}&signature={signed.upper()}"
    kind = {"Content-Type": "application/x-www-form-urlencoded", "X-MBX-APIKEY": "alice"}
    async with raw.session.post(
        f"{raw.url}/api/v3/order?{query}", data=data, headers=kind
    ) as response:
        answer = await response.json()
    assert (response.status, answer["price"]) == (200, "39000.00000000")


async def test_a_parameter_sent_twice_is_refused(raw: Raw) -> None:
    assert error(await raw.plain("GET", "/api/v3/depth?symbol=BTCUSDT&symbol=ETHBTC"))[1] == -1101


@pytest.mark.parametrize(
    "path",
    [
        "/api/v3/depth?symbol=BTCUSDT&limit=99999999999999999999",
        "/api/v3/depth?symbol=BTCUSDT&limit=-1",
        "/api/v3/depth?symbol=%FF%FE",
        "/api/v3/depth?symbol=",
        "/api/v3/exchangeInfo?symbols=[",
        "/api/v3/exchangeInfo?symbols=[1]",
        "/api/v3/exchangeInfo?symbol=BTCUSDT&symbols=[]",
        "/api/v3/trades?symbol=BTCUSDT&limit=0",
        "/api/v3/ticker/price?symbol=%00",
        "/api/v3/nothing",
        "/api/v3/",
        "/",
        "/api/v3/order/%2e%2e",
    ],
)
async def test_nonsense_is_the_clients_error_and_never_the_servers(raw: Raw, path: str) -> None:
    status, body = await raw.plain("GET", path)
    assert status in {400, 404}
    assert body["code"] < 0


async def test_the_three_shapes_of_an_answer(raw: Raw) -> None:
    _, ack = await raw.order(newOrderRespType="ACK")
    assert set(ack) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    _, result = await raw.order(newOrderRespType="RESULT")
    assert (result["status"], result["origQty"], "fills" in result) == ("NEW", "0.01000000", False)
    await raw.market("SELL", "38000", "0.02")
    raw.key = "bob"
    await raw.order()
    _, full = await raw.order(side="SELL", price="38000")
    (fill,) = full["fills"]
    assert fill == {
        "price": "39000.00000000",
        "qty": "0.01000000",
        "commission": "0.39000000",
        "commissionAsset": "USDT",
        "tradeId": fill["tradeId"],
    }


async def test_a_cancel_answers_with_both_ids(raw: Raw) -> None:
    await raw.order(newClientOrderId="mine")
    _, answer = await raw.send(
        "DELETE",
        "/api/v3/order",
        symbol="BTCUSDT",
        origClientOrderId="mine",
        newClientOrderId="the-cancel",
    )
    ids = (answer["origClientOrderId"], answer["clientOrderId"], answer["status"])
    assert ids == ("mine", "the-cancel", "CANCELED")
    _, order = await raw.send("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine")
    assert (order["clientOrderId"], order["status"]) == ("mine", "CANCELED")


async def test_cancel_errors(raw: Raw) -> None:
    async def cancel(**params: Any) -> tuple[int, int, str]:
        return error(await raw.send("DELETE", "/api/v3/order", symbol="BTCUSDT", **params))

    _, order = await raw.order(newClientOrderId="mine")
    assert await cancel(orderId=1) == (400, -2011, "Unknown order sent.")
    assert (await cancel())[1] == -1102
    assert (await cancel(orderId=order["orderId"], origClientOrderId="other"))[1] == -2039
    assert (await cancel(origClientOrderId="mine", cancelRestrictions="SOME"))[1] == -1145
    restricted = await cancel(origClientOrderId="mine", cancelRestrictions="ONLY_PARTIALLY_FILLED")
    assert restricted == (400, -2011, "Order was not canceled due to cancel restrictions.")


async def test_a_duplicate_client_id_is_refused_while_the_first_is_open(raw: Raw) -> None:
    await raw.order(newClientOrderId="mine")
    assert error(await raw.order(newClientOrderId="mine")) == (400, -2010, "Duplicate order sent.")
    await raw.market("SELL", "39000", "0.01")
    assert (await raw.order(newClientOrderId="mine"))[0] == 200


async def replace(raw: Raw, **changes: Any) -> tuple[int, Any]:
    wanted = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01",
        "price": "38000",
        "cancelReplaceMode": "STOP_ON_FAILURE",
        "cancelOrigClientOrderId": "old",
    }
    return await raw.send("POST", "/api/v3/order/cancelReplace", **{**wanted, **changes})


@pytest.mark.parametrize(
    ("changes", "status", "code", "results"),
    [
        ({}, 200, None, ("SUCCESS", "SUCCESS")),
        ({"cancelOrigClientOrderId": "no"}, 400, -2022, ("FAILURE", "NOT_ATTEMPTED")),
        ({"quantity": "100"}, 409, -2021, ("SUCCESS", "FAILURE")),
        (
            {"cancelOrigClientOrderId": "no", "cancelReplaceMode": "ALLOW_FAILURE"},
            409,
            -2021,
            ("FAILURE", "SUCCESS"),
        ),
        (
            {
                "cancelOrigClientOrderId": "no",
                "cancelReplaceMode": "ALLOW_FAILURE",
                "quantity": "100",
            },
            400,
            -2022,
            ("FAILURE", "FAILURE"),
        ),
    ],
)
async def test_the_table_of_cancel_replace(
    raw: Raw, changes: dict[str, Any], status: int, code: int | None, results: tuple[str, str]
) -> None:
    await raw.order(newClientOrderId="old")
    found, body = await replace(raw, **changes)
    data = body if code is None else body["data"]
    assert (found, body.get("code")) == (status, code)
    assert (data["cancelResult"], data["newOrderResult"]) == results


async def test_cancel_replace_beyond_the_order_limit(
    start: Start, session: aiohttp.ClientSession
) -> None:
    server = await start(rate_limits=(RateLimit("ORDERS", "DAY", 1, 1),))
    raw = Raw(server.url, session)
    await raw.order(newClientOrderId="old")
    assert error(await replace(raw))[:2] == (429, -1015)
    status, body = await replace(raw, orderRateLimitExceededMode="CANCEL_ONLY")
    assert (status, body["code"], body["data"]["newOrderResponse"]["code"]) == (429, -2021, -1015)
    assert int(raw.last_headers["Retry-After"]) > 0


async def test_an_amendment_changes_the_quantity_and_the_client_id(raw: Raw) -> None:
    _, order = await raw.order(newClientOrderId="mine", quantity="0.03")

    async def amend(quantity: str, **params: Any) -> tuple[int, Any]:
        which = {"symbol": "BTCUSDT", "orderId": order["orderId"], "newQty": quantity}
        return await raw.send("PUT", "/api/v3/order/amend/keepPriority", **which, **params)

    status, body = await amend("0.02", newClientOrderId="mine")
    assert (status, body["amendedOrder"]["qty"]) == (200, "0.02000000")
    _, body = await amend("0.01")
    assert body["amendedOrder"]["origClientOrderId"] == "mine"
    assert body["amendedOrder"]["clientOrderId"] != "mine"
    assert error(await amend("0.02"))[1:] == (
        -2038,
        "Order amend (quantity increase) is not supported.",
    )
    assert error(await amend("0.01"))[1] == -2038
    assert error(await amend("0"))[1] == -1013
    _, history = await raw.send(
        "GET", "/api/v3/order/amendments", symbol="BTCUSDT", orderId=order["orderId"]
    )
    assert [entry["newQty"] for entry in history] == ["0.02000000", "0.01000000"]


async def test_order_count_is_given_back_by_fills_and_not_by_cancels(
    start: Start, session: aiohttp.ClientSession
) -> None:
    server = await start(rate_limits=(RateLimit("ORDERS", "DAY", 1, 3),))
    raw = Raw(server.url, session)
    for expected in ("1", "2", "3"):
        await raw.order()
        assert raw.last_headers["X-MBX-ORDER-COUNT-1D"] == expected
    await raw.send("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert error(await raw.order()) == (
        429,
        -1015,
        "Too many new orders; current limit is 3 orders per 1 DAY.",
    )
    server.exchange.limits.discount_order(server.exchange.engine.accounts["alice"])
    await raw.order()
    await raw.market("SELL", "39000", "0.01")
    _, counts = await raw.send("GET", "/api/v3/rateLimit/order")
    assert counts == [
        {
            "rateLimitType": "ORDERS",
            "interval": "DAY",
            "intervalNum": 1,
            "limit": 3,
            "count": 0,
        }
    ]


async def test_weight_is_limited_and_who_goes_on_is_banned(
    start: Start, session: aiohttp.ClientSession
) -> None:
    limit = RateLimit("REQUEST_WEIGHT", "DAY", 1, 50)
    raw = Raw((await start(rate_limits=(limit,), ban_after_429=2)).url, session)
    assert (await raw.send("GET", "/api/v3/account"))[0] == 200
    assert raw.last_headers["X-MBX-USED-WEIGHT-1D"] == "20"
    statuses = [(await raw.send("GET", "/api/v3/account"))[0] for _ in range(5)]
    assert statuses == [200, 429, 429, 418, 418]
    assert int(raw.last_headers["Retry-After"]) in {119, 120}
    await raw.control("faults", clear="all")
    assert (await raw.plain("GET", "/api/v3/time"))[0] == 200


async def test_orders_that_succeed_cost_no_weight_and_those_that_fail_do(raw: Raw) -> None:
    await raw.order()
    assert raw.last_headers["X-MBX-USED-WEIGHT-1M"] == "0"
    await raw.order(side="HOLD")
    assert raw.last_headers["X-MBX-USED-WEIGHT-1M"] == "1"


async def test_trades_and_orders_can_be_read_from_an_id_on(raw: Raw) -> None:
    for _ in range(3):
        await raw.order()
    await raw.market("SELL", "39000", "0.03")
    _, orders = await raw.send("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    ids = [order["orderId"] for order in orders]
    _, later = await raw.send("GET", "/api/v3/allOrders", symbol="BTCUSDT", orderId=ids[1])
    assert [order["orderId"] for order in later] == ids[1:]
    _, trades = await raw.send("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=2)
    assert [trade["orderId"] for trade in trades] == ids[1:]
    _, later = await raw.send(
        "GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=trades[0]["id"] - 1, limit=1
    )
    assert [trade["orderId"] for trade in later] == ids[:1]
    mixed = await raw.send("GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=1, startTime=1)
    assert error(mixed)[1] == -1128
    wide = await raw.send(
        "GET", "/api/v3/allOrders", symbol="BTCUSDT", startTime=0, endTime=86_400_001
    )
    assert error(wide)[1] == -1127


async def test_a_self_trade_is_twice_in_my_trades_with_one_id(raw: Raw) -> None:
    _, maker = await raw.order()
    _, taker = await raw.order(side="SELL")
    _, trades = await raw.send("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert len({trade["id"] for trade in trades}) == 1
    assert {trade["orderId"] for trade in trades} == {maker["orderId"], taker["orderId"]}
    (trade,) = (await raw.ledger())["trades"]
    assert trade["buyer"]["account"] == trade["seller"]["account"] == "alice"


async def test_a_test_order_is_checked_and_not_placed(raw: Raw) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    assert await raw.send("POST", "/api/v3/order/test", **order) == (200, {})
    _, rates = await raw.send("POST", "/api/v3/order/test", **order, computeCommissionRates="true")
    assert rates["standardCommissionForOrder"]["maker"] == "0.00100000"
    assert (await raw.ledger())["orders"] == []


async def test_malformed_frames_of_the_websocket_api_are_answered(raw: Raw) -> None:
    frames = [
        ("{", -1135),
        ("[]", -1135),
        ('{"id": NaN}', -1135),
        ('{"id": 1, "method": 5}', -1135),
        ('{"id": 1, "method": "order.guess"}', -1020),
        ('{"id": 1, "method": "order.place", "params": []}', -1135),
        ('{"id": 1, "method": "order.place", "params": {"symbol": {"a": 1}}}', -2014),
        ('{"id": 1, "method": "depth", "params": {"symbol": "\\ud800"}}', -1121),
        (
            '{"id": {"a": 1}, "method": "depth", "params": {"symbol": "BTCUSDT", "limit": 1e9}}',
            -1100,
        ),
    ]
    async with raw.session.ws_connect(f"{raw.url}/ws-api/v3") as socket:
        for frame, code in frames:
            await socket.send_str(frame)
            answer = json.loads(await asyncio.wait_for(socket.receive_str(), 5))
            assert (answer["error"]["code"], frame) == (code, frame)
        await socket.send_str('{"id": 7, "method": "time"}')
        answer = json.loads(await asyncio.wait_for(socket.receive_str(), 5))
        assert (answer["id"], answer["status"]) == (7, 200)
        assert answer["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"


async def test_malformed_frames_of_the_market_streams_are_answered(raw: Raw) -> None:
    frames = ["{", "[]", "5", '{"method": "SUBSCRIBE", "params": ["nope"], "id": 1}', '{"id": 1}']
    async with raw.session.ws_connect(f"{raw.url}/ws") as socket:
        for frame in frames:
            await socket.send_str(frame)
            answer = json.loads(await asyncio.wait_for(socket.receive_str(), 5))
            assert "error" in answer
        subscribe = '{"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 2}'
        await socket.send_str(subscribe)
        assert await asyncio.wait_for(socket.receive_json(), 5) == {"result": None, "id": 2}


async def test_combined_streams_are_wrapped(raw: Raw) -> None:
    url = f"{raw.url}/stream?streams=btcusdt@trade/btcusdt@bookTicker"
    async with raw.session.ws_connect(url) as socket:
        await asyncio.sleep(0.02)
        await raw.control("trade", symbol="BTCUSDT", side="BUY", price="39000", quantity="1")
        event = await asyncio.wait_for(socket.receive_json(), 5)
        assert event["stream"] == "btcusdt@trade"
        assert event["data"]["p"] == "39000.00000000"
