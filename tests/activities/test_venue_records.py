"""OKX, Bybit and Coinbase at the wire: the very bytes that leave, and what answers are read as."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.registry import build_connector
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.connector import CcxtConnector
from tests.activities.venue_answers import (
    CREATED,
    NOW_MS,
    Asked,
    Turns,
    bybit,
    bybit_fill,
    bybit_order,
    coinbase_fill,
    coinbase_order,
    connected,
    okx,
    okx_fill,
    okx_order,
)
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
    StartUpError,
)
from trading.oms.venue import ExecutionReport, OrderRef, OrderRequest, StreamState, VenueStatus

KINDS = ("okx", "bybit", "coinbase")
SYMBOL = {"okx": "BTC/USDT", "bybit": "BTC/USDT", "coinbase": "BTC/USD"}
ID = "a" * 32
PLACE = {
    "okx": "/api/v5/trade/order",
    "bybit": "/v5/order/create",
    "coinbase": "/api/v3/brokerage/orders",
}
PLACED: dict[str, Any] = {
    "okx": okx({"ordId": "1", "clOrdId": ID, "sCode": "0", "sMsg": ""}),
    "bybit": bybit({"orderId": "1", "orderLinkId": ID}),
    "coinbase": {
        "success": True,
        "success_response": {"order_id": "1", "client_order_id": ID, "product_id": "BTC-USD"},
    },
}
Build = Callable[..., dict[str, Any]]


def order(connector: CcxtConnector, **fields: object) -> OrderRequest:
    values: dict[str, object] = {
        "exchange": connector.exchange,
        "account": "main",
        "symbol": SYMBOL[connector.exchange],
        "exchange_client_id": ID,
        "side": OrderSide.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.0100"),
        "price": Decimal("30000.10"),
        "timestamp_ms": int(connector.exchange_now().timestamp() * 1000),
        "window_ms": 5000,
    }
    return OrderRequest.model_validate(values | fields)


def ref(kind: str, order_id: str | None = None) -> OrderRef:
    return OrderRef(symbol=SYMBOL[kind], exchange_client_id=ID, exchange_order_id=order_id)


MARKET_SELL = {"order_type": OrderType.MARKET, "price": None, "side": OrderSide.SELL}
MARKET_BUY = {"order_type": OrderType.MARKET, "price": None}
IOC, FOK, GTD = (
    {"time_in_force": TimeInForce.IOC},
    {"time_in_force": TimeInForce.FOK},
    {"time_in_force": TimeInForce.GTD},
)
OKX = {
    "instId": "BTC-USDT", "tdMode": "cash", "clOrdId": ID, "side": "buy", "ordType": "limit",
    "sz": "0.01", "px": "30000.1",
}  # fmt: skip
BYBIT = {
    "category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01",
    "orderLinkId": ID, "price": "30000.1", "timeInForce": "GTC",
}  # fmt: skip
SIZE = {"base_size": "0.01"}
PRICED = {"base_size": "0.01", "limit_price": "30000.1"}


def without(body: dict[str, Any], *names: str, **fields: Any) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names} | fields


def coinbase(side: str = "BUY", **configuration: Any) -> dict[str, Any]:
    return {
        "client_order_id": ID,
        "product_id": "BTC-USD",
        "side": side,
        "order_configuration": configuration,
    }


@pytest.mark.parametrize(
    ("kind", "fields", "body"),
    [
        ("okx", {}, OKX),
        ("okx", GTD, OKX),
        ("okx", IOC, without(OKX, ordType="ioc")),
        ("okx", FOK, without(OKX, ordType="fok")),
        ("okx", {"post_only": True}, without(OKX, ordType="post_only")),
        ("okx", MARKET_BUY, without(OKX, "px", ordType="market", tgtCcy="base_ccy")),
        (
            "okx",
            MARKET_SELL,
            without(OKX, "px", ordType="market", tgtCcy="base_ccy", side="sell"),
        ),
        ("okx", {"quantity": Decimal("1E+3")}, without(OKX, sz="1000")),
        ("okx", {"quantity": Decimal("0.00000001")}, without(OKX, sz="0.00000001")),
        ("bybit", {}, BYBIT),
        ("bybit", GTD, BYBIT),
        ("bybit", IOC, without(BYBIT, timeInForce="IOC")),
        ("bybit", {"post_only": True}, without(BYBIT, timeInForce="PostOnly")),
        (
            "bybit",
            MARKET_BUY,
            without(BYBIT, "price", "timeInForce", orderType="Market", marketUnit="baseCoin"),
        ),
        ("coinbase", {}, coinbase(limit_limit_gtc={**PRICED, "post_only": False})),
        (
            "coinbase",
            {"post_only": True},
            coinbase(limit_limit_gtc={**PRICED, "post_only": True}),
        ),
        ("coinbase", IOC, coinbase(sor_limit_ioc=PRICED)),
        ("coinbase", FOK, coinbase(limit_limit_fok=PRICED)),
        ("coinbase", MARKET_SELL, coinbase("SELL", market_market_ioc=SIZE)),
    ],
)
async def test_these_very_bytes_leave_for_an_order(
    kind: str, fields: dict[str, object], body: dict[str, Any]
) -> None:
    async with connected(kind) as (connector, venue):
        venue.answers[f"POST {PLACE[kind]}"] = PLACED[kind]
        request = order(connector, **fields)
        report = await connector.place(request)
        (asked,) = venue.asked

    assert asked.path == PLACE[kind]
    assert asked.json == body
    assert "Content-Encoding" not in asked.headers
    assert_signed(kind, asked, request)
    assert (report.exchange_order_id, report.exchange_client_id) == ("1", ID)
    assert (report.status, report.quantity) == (VenueStatus.NEW, request.quantity)


def assert_signed(kind: str, asked: Asked, request: OrderRequest) -> None:
    """The stamp is the claim's own, the fence is there, and the signature covers the body."""
    if kind == "okx":
        stamp = datetime.fromtimestamp(request.timestamp_ms / 1000, UTC)
        text = stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert asked.headers["OK-ACCESS-TIMESTAMP"] == text
        assert asked.headers["OK-ACCESS-PASSPHRASE"] == "the-pass"
        assert asked.headers["expTime"] == str(request.timestamp_ms + 5000)
        assert "x-simulated-trading" not in asked.headers
        told = f"{text}POST{asked.path}{asked.body}".encode()
        signature = base64.b64encode(hmac.digest(b"the-secret", told, hashlib.sha256)).decode()
        assert asked.headers["OK-ACCESS-SIGN"] == signature
    if kind == "bybit":
        assert asked.headers["X-BAPI-TIMESTAMP"] == str(request.timestamp_ms)
        assert asked.headers["X-BAPI-RECV-WINDOW"] == "5000"
        told = f"{request.timestamp_ms}the-key-of-the-test5000{asked.body}".encode()
        assert (
            asked.headers["X-BAPI-SIGN"] == hmac.digest(b"the-secret", told, hashlib.sha256).hex()
        )
    if kind == "coinbase":
        claims = asked.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
        read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert read["sub"] == "organizations/1/apiKeys/2"
        assert read["uri"].startswith("POST ")
        assert read["uri"].endswith(asked.path)


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("okx", {"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal(29000)}, "stops"),
        ("bybit", {"order_type": OrderType.STOP, "stop_price": Decimal(29000)}, "stops"),
        ("coinbase", {"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal(1)}, "stops"),
        ("coinbase", MARKET_BUY, "quote asset"),
        ("okx", {"symbol": "ETH/USDT"}, "does not list"),
        ("bybit", {"timestamp_ms": NOW_MS - 60_000}, "deadline"),
        ("bybit", {"window_ms": 7000}, "X-BAPI-RECV-WINDOW"),
    ],
)
async def test_what_cannot_be_an_order_there_leaves_nothing(
    kind: str, fields: dict[str, object], why: str
) -> None:
    async with connected(kind) as (connector, venue):
        with pytest.raises(ExchangeUnavailable, match=f"(?s){why}.*|.*nothing was sent.*") as error:
            await connector.place(order(connector, **fields))

    assert why in str(error.value)
    assert "nothing was sent" in str(error.value)
    assert venue.asked == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_that_is_not_the_order_does_not_leave(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(kind) as (connector, venue):
        for spoil in (
            lambda text: text.replace('"0.01"', "0.01"),
            lambda text: text.replace("0.01", "0.010000000000000001"),
            lambda text: text.replace("{", '{"surplus": 1, ', 1),
            lambda text: text.replace(ID, "b" * 32),
            lambda text: text[:-1],
        ):
            with monkeypatch.context() as patch:
                patch.setattr(connector._wire, "json", lambda body, s=spoil: s(json.dumps(body)))
                with pytest.raises(ExchangeUnavailable, match="is not the order"):
                    await connector.place(order(connector))

    assert venue.asked == []


@pytest.mark.parametrize(
    ("kind", "status", "text", "pause_s"),
    [
        ("okx", 429, "<html>", 1),
        ("okx", 418, "<html>", 1),
        ("coinbase", 418, "<html>", 1),
        ("bybit", 403, "403, access too frequent", 600),
        ("bybit", 403, "<html>", None),
        ("bybit", 200, '{"retCode": 10006, "retMsg": ""}', 1),
    ],
)
async def test_who_asks_too_much_is_told_to_pause(
    kind: str, status: int, text: str, pause_s: float | None
) -> None:
    async with connected(kind) as (connector, _):
        wire = connector._wire
        said = wire.limits_of(wire.read_answer(status, {}, text))
    assert (said.pauses, said.retry_after_s) == (pause_s is not None, pause_s)


REFUSED = okx({"ordId": "", "clOrdId": ID, "sCode": "51008", "sMsg": "too little"}, code="1")
TWICE = okx({"ordId": "", "clOrdId": ID, "sCode": "51016", "sMsg": ""}, code="1")
OTHERS = okx({"ordId": "1", "clOrdId": "b" * 32, "sCode": "0"})


@pytest.mark.parametrize(
    ("kind", "answer", "error"),
    [
        ("okx", REFUSED, ExchangeRejected),
        ("okx", TWICE, DuplicateOrder),
        ("okx", (429, {"code": "50011", "msg": "", "data": []}), ExchangeUnavailable),
        ("okx", (401, {"code": "50102", "msg": "", "data": []}), ExchangeUnavailable),
        ("okx", okx(code="50004"), OutcomeUnknown),
        ("okx", (503, "<html>"), OutcomeUnknown),
        ("okx", (200, "<html>"), OutcomeUnknown),
        ("okx", okx(), OutcomeUnknown),
        ("okx", okx("nonsense"), OutcomeUnknown),
        ("okx", OTHERS, OutcomeUnknown),
        ("okx", okx({"ordId": "", "clOrdId": ID, "sCode": "0"}), OutcomeUnknown),
        ("okx", okx({"ordId": ["1"], "clOrdId": ID, "sCode": "0"}), OutcomeUnknown),
        ("okx", {"code": 0.5, "data": {}}, OutcomeUnknown),
        ("bybit", bybit({}, 170131), ExchangeRejected),
        ("bybit", bybit({}, 170132), ExchangeRejected),
        ("bybit", bybit({}, 170141), DuplicateOrder),
        ("bybit", bybit({}, 10002), ExchangeUnavailable),
        ("bybit", bybit({}, 10016), OutcomeUnknown),
        ("bybit", bybit(None), OutcomeUnknown),
        ("bybit", bybit({"orderId": "1", "orderLinkId": "b" * 32}), OutcomeUnknown),
        ("bybit", (403, "<html>"), OutcomeUnknown),
        ("bybit", (403, "403, access too frequent"), OutcomeUnknown),
        (
            "coinbase",
            {"success": False, "error_response": {"error": "INSUFFICIENT_FUND", "message": "no"}},
            ExchangeRejected,
        ),
        *(
            (
                "coinbase",
                {"success": False, "error_response": {"error": code}},
                ExchangeRejected,
            )
            for code in ("ORDER_ENTRY_DISABLED", "INELIGIBLE_PAIR")
        ),
        ("coinbase", {"success": False, "failure_reason": "UNKNOWN"}, OutcomeUnknown),
        ("coinbase", {"success": True}, OutcomeUnknown),
        ("coinbase", {"orders": []}, OutcomeUnknown),
        ("coinbase", {"success": "yes"}, OutcomeUnknown),
        ("coinbase", (429, {"error": "rate_limit_exceeded"}), ExchangeUnavailable),
        ("coinbase", (500, {"error": "INTERNAL"}), OutcomeUnknown),
    ],
)
async def test_an_answer_to_an_order_is_read_for_what_it_proves(
    kind: str, answer: Any, error: type[Exception]
) -> None:
    async with connected(kind) as (connector, venue):
        venue.answers[f"POST {PLACE[kind]}"] = answer
        with pytest.raises(error) as raised:
            await connector.place(order(connector))

    assert type(raised.value) is error
    assert venue.count(PLACE[kind]) == 1
    assert "the-secret" not in repr(raised.value)


@pytest.mark.parametrize(
    ("kind", "path", "body", "answer"),
    [
        (
            "okx",
            "/api/v5/trade/cancel-order",
            {"instId": "BTC-USDT", "clOrdId": ID},
            okx({"ordId": "7", "clOrdId": ID, "sCode": "0", "sMsg": ""}),
        ),
        (
            "bybit",
            "/v5/order/cancel",
            {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": ID},
            bybit({"orderId": "7", "orderLinkId": ID}),
        ),
        (
            "coinbase",
            "/api/v3/brokerage/orders/batch_cancel",
            {"order_ids": ["7"]},
            {"results": [{"success": True, "failure_reason": "", "order_id": "7"}]},
        ),
    ],
)
async def test_a_cancel_names_the_order_and_is_only_taken_note_of(
    kind: str, path: str, body: dict[str, Any], answer: Any
) -> None:
    async with connected(kind) as (connector, venue):
        venue.answers[f"POST {path}"] = answer
        report = await connector.cancel(ref(kind, "7"))
        assert venue.last(path).json == body
        assert (report.exchange_order_id, report.status) == ("7", None)

        with pytest.raises(OutcomeUnknown, match="another order"):
            await connector.cancel(ref(kind, "8"))


async def test_coinbase_is_asked_for_its_id_before_a_cancel_by_ours() -> None:
    async with connected("coinbase") as (connector, venue):
        listed = {"orders": [coinbase_order(client_order_id="b" * 32), coinbase_order()]}
        venue.answers["GET /api/v3/brokerage/orders/historical/batch"] = listed
        cancelled = {"success": True, "order_id": coinbase_order()["order_id"]}
        path = "/api/v3/brokerage/orders/batch_cancel"
        venue.answers[f"POST {path}"] = {"results": [cancelled]}
        await connector.cancel(ref("coinbase"))
        assert venue.last(path).json == {"order_ids": [coinbase_order()["order_id"]]}

        venue.answers["GET /api/v3/brokerage/orders/historical/batch"] = {"orders": []}
        with pytest.raises(ExchangeRejected, match="no such order"):
            await connector.cancel(ref("coinbase"))
        assert venue.count(path) == 1


LOOK_UP = {
    "okx": "GET /api/v5/trade/order",
    "bybit": "GET /v5/order/realtime",
    "coinbase": "GET /api/v3/brokerage/orders/historical/batch",
}
FILLS = {
    "okx": "GET /api/v5/trade/fills",
    "bybit": "GET /v5/execution/list",
    "coinbase": "GET /api/v3/brokerage/orders/historical/fills",
}
ORDER_OF: dict[str, Build] = {"okx": okx_order, "bybit": bybit_order, "coinbase": coinbase_order}
FILL_OF: dict[str, Build] = {"okx": okx_fill, "bybit": bybit_fill, "coinbase": coinbase_fill}
LISTED: dict[str, Callable[..., Any]] = {
    "okx": okx,
    "bybit": lambda *rows: bybit({"list": list(rows), "nextPageCursor": ""}),
    "coinbase": lambda *rows: {"orders": list(rows), "has_next": False, "cursor": ""},
}
PARTLY = {
    "okx": {"state": "partially_filled", "accFillSz": "0.004"},
    "bybit": {"orderStatus": "PartiallyFilled", "cumExecQty": "0.004", "cumExecValue": "120"},
    "coinbase": {"filled_size": "0.004", "filled_value": "120"},
}


def listed_fills(kind: str, *rows: Any) -> Any:
    return {"fills": list(rows), "cursor": ""} if kind == "coinbase" else LISTED[kind](*rows)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_order_is_found_by_our_id_with_its_fills(kind: str) -> None:
    async with connected(kind) as (connector, venue):
        stray = FILL_OF[kind](**{"okx": {"ordId": "9"}, "bybit": {"orderId": "9"}}.get(kind, {}))
        fills = [FILL_OF[kind](), stray] if kind != "coinbase" else [FILL_OF[kind]()]
        venue.answers[LOOK_UP[kind]] = LISTED[kind](ORDER_OF[kind](**PARTLY[kind]))
        venue.answers[FILLS[kind]] = listed_fills(kind, *fills)
        found = await connector.find_order(ref(kind))

    assert found is not None
    assert found.status is VenueStatus.PARTIALLY_FILLED
    assert (found.side, found.quantity, found.price) == (
        OrderSide.BUY,
        Decimal("0.01"),
        Decimal(30000),
    )
    assert found.cumulative_quantity == Decimal("0.004")
    assert found.cumulative_notional == (None if kind == "okx" else Decimal(120))
    (fill,) = found.fills
    assert (fill.quantity, fill.price, fill.is_maker) == (Decimal("0.004"), Decimal(30000), True)
    assert (fill.fee, fill.fee_currency) == (
        (Decimal("0.48"), "USD") if kind == "coinbase" else (Decimal("0.0000032"), "BTC")
    )


@pytest.mark.parametrize("kind", ["bybit", "coinbase"])
async def test_an_order_that_was_taken_and_then_refused_has_ended(kind: str) -> None:
    """As one that is cancelled: our book has accepted it, and what is accepted is not rejected."""
    refused = {"bybit": {"orderStatus": "Rejected"}, "coinbase": {"status": "FAILED"}}[kind]
    async with connected(kind) as (connector, venue):
        venue.answers[LOOK_UP[kind]] = LISTED[kind](ORDER_OF[kind](**refused))
        found = await connector.find_order(ref(kind))

    assert found is not None
    assert found.status is VenueStatus.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
async def test_an_order_of_another_id_is_not_ours_although_the_answer_has_it(kind: str) -> None:
    other = {"okx": "clOrdId", "bybit": "orderLinkId", "coinbase": "client_order_id"}[kind]
    async with connected(kind) as (connector, venue):
        venue.answers[LOOK_UP[kind]] = LISTED[kind](ORDER_OF[kind](**{other: "b" * 32}))
        venue.answers["GET /v5/order/history"] = LISTED["bybit"]()
        assert await connector.find_order(ref(kind)) is None


async def test_an_order_that_okx_does_not_know_is_absent_and_a_failure_is_no_word_on_it() -> None:
    async with connected("okx") as (connector, venue):
        venue.answers[LOOK_UP["okx"]] = okx(code="51603")
        assert await connector.find_order(ref("okx")) is None
        for failure in ((404, okx(code="51603")), okx(code="50026"), (503, "<html>"), "[]", "{}"):
            venue.answers[LOOK_UP["okx"]] = failure
            with pytest.raises(ExchangeUnavailable):
                await connector.find_order(ref("okx"))


async def test_coinbase_finds_an_order_by_its_own_id_where_that_is_known() -> None:
    async with connected("coinbase") as (connector, venue):
        path = "/api/v3/brokerage/orders/historical/9bc1eb3b"
        venue.answers[f"GET {path}"] = {"order": coinbase_order()}
        found = await connector.find_order(ref("coinbase", "9bc1eb3b"))
        assert found is not None
        assert venue.asked[-1].path == path

        venue.answers[f"GET {path}"] = (404, {"error": "NOT_FOUND", "message": ""})
        venue.answers[LOOK_UP["coinbase"]] = LISTED["coinbase"]()
        assert await connector.find_order(ref("coinbase", "9bc1eb3b")) is None


HISTORIES = {
    "okx": ("GET /api/v5/trade/orders-pending", "GET /api/v5/trade/orders-history"),
    "bybit": ("GET /v5/order/realtime", "GET /v5/order/history"),
    "coinbase": ("GET /api/v3/brokerage/orders/historical/batch",) * 2,
}
SINCE = datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(days=10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hostile", [{}, {"data": None}, {"result": {}}, {"orders": {}}, [], "<h>"])
async def test_a_list_that_is_not_there_is_never_an_empty_one(kind: str, hostile: Any) -> None:
    async with connected(kind) as (connector, venue):
        wholes: dict[str, dict[str, Any]] = {"okx": {"code": "0"}, "bybit": {"retCode": 0}}
        whole = wholes.get(kind, {})
        for at, path in enumerate(HISTORIES[kind]):
            venue.answers[HISTORIES[kind][1 - at]] = LISTED[kind]()
            venue.answers[path] = {**whole, **hostile} if isinstance(hostile, dict) else hostile
            with pytest.raises(ExchangeUnavailable):
                await connector.orders_since(SYMBOL[kind], SINCE)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_cannot_be_read_is_named_and_hides_no_other(kind: str) -> None:
    status = {"okx": "state", "bybit": "orderStatus", "coinbase": "status"}[kind]
    name = {"okx": "ordId", "bybit": "orderId", "coinbase": "order_id"}[kind]
    spoilt = [
        ORDER_OF[kind](**{name: "2", status: "half-open"}),
        ORDER_OF[kind](**{name: "3", {"okx": "instId"}.get(kind, "symbol"): None}),
        ORDER_OF[kind](**{name: None}),
    ]
    if kind == "coinbase":
        spoilt[1] = coinbase_order(order_id="3", product_id=None)
    async with connected(kind) as (connector, venue):
        for path in HISTORIES[kind]:
            venue.answers[path] = LISTED[kind](ORDER_OF[kind](), *spoilt)
        listed = await connector.orders_since(SYMBOL[kind], SINCE)

    assert [report.exchange_client_id for report in listed] == [ID]
    assert len(listed.unreadable) == len(spoilt)
    assert listed.gap is not None


async def test_okx_is_asked_page_by_page_behind_the_last_row() -> None:
    first = [okx_order(ordId=str(1000 - one), clOrdId=f"{one:032}") for one in range(100)]
    last = [okx_order(ordId="5", clOrdId=ID, state="canceled")]
    async with connected("okx") as (connector, venue):
        venue.answers[HISTORIES["okx"][0]] = okx()
        venue.answers[HISTORIES["okx"][1]] = Turns(okx(*first), okx(*last))
        listed = await connector.orders_since("BTC/USDT", SINCE)
        asked = [one.query for one in venue.asked if one.path.endswith("history")]

    assert len(listed) == 101
    assert [query.get("after") for query in asked] == [None, ["901"]]
    assert asked[0]["begin"] == [str(int(SINCE.timestamp() * 1000))]
    assert asked[0]["instType"] == ["SPOT"]


async def test_bybit_is_asked_week_by_week_and_by_its_cursor() -> None:
    async with connected("bybit") as (connector, venue):
        venue.answers[HISTORIES["bybit"][0]] = LISTED["bybit"]()
        page = bybit({"list": [bybit_order()], "nextPageCursor": "next%2C1"})
        ended = bybit_order(orderId="2", orderLinkId="b" * 32, orderStatus="Cancelled")
        venue.answers[HISTORIES["bybit"][1]] = Turns(page, LISTED["bybit"](ended))
        listed = await connector.orders_since("BTC/USDT", SINCE)
        asked = [one.query for one in venue.asked if one.path.endswith("history")]

    assert len(listed) == 2
    # Bybit gives its cursor as it has to stand in the address, encoded once.
    assert [query.get("cursor") for query in asked] == [None, ["next,1"], None]
    spans = [(int(query["startTime"][0]), int(query["endTime"][0])) for query in asked]
    assert spans[0] == spans[1]
    assert spans[2][0] == spans[1][1] + 1
    assert all(end - start < 7 * 86_400_000 for start, end in spans)


async def test_a_cursor_that_leads_nowhere_fails_the_list() -> None:
    async with connected("coinbase") as (connector, venue):
        same = {"orders": [coinbase_order()], "has_next": True, "cursor": "again"}
        venue.answers[LOOK_UP["coinbase"]] = same
        with pytest.raises(ExchangeUnavailable, match="the same page"):
            await connector.orders_since("BTC/USD", SINCE)


async def test_fills_are_read_from_a_trade_on() -> None:
    fills = [okx_fill(tradeId=str(one), billId=str(one)) for one in (109, 108, 107, 106)]
    async with connected("okx") as (connector, venue):
        venue.answers["GET /api/v5/trade/fills-history"] = okx(*fills)
        found = await connector.fills_after("BTC/USDT", trade_id="107", since=SINCE)
    assert [fill.trade_id for fill in found] == ["107", "108", "109"]

    rows = [
        bybit_fill(execId=name, execTime=str(NOW_MS + at))
        for at, name in enumerate(("aa", "bb", "cc"))
    ]
    async with connected("bybit") as (connector, venue):
        venue.answers[FILLS["bybit"]] = LISTED["bybit"](*reversed(rows))
        found = await connector.fills_after("BTC/USDT", trade_id="bb", since=SINCE)
    assert [fill.trade_id for fill in found] == ["bb", "cc"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spoilt", [{"price": "1,5"}, {"quantity": "NaN"}, {"side": "both"}, {"fee": None}]
)
async def test_a_trade_that_cannot_be_read_fails_its_list(kind: str, spoilt: Any) -> None:
    ((name, value),) = spoilt.items()
    fields = {
        "okx": {"price": "fillPx", "quantity": "fillSz", "side": "side", "fee": "fee"},
        "bybit": {"price": "execPrice", "quantity": "execQty", "side": "side", "fee": "execFee"},
        "coinbase": {"price": "price", "quantity": "size", "side": "side", "fee": "commission"},
    }[kind]
    history = {"okx": "GET /api/v5/trade/fills-history"}.get(kind, FILLS[kind])
    async with connected(kind) as (connector, venue):
        spoilt_row = FILL_OF[kind](**{fields[name]: value})
        venue.answers[history] = listed_fills(kind, FILL_OF[kind](), spoilt_row)
        with pytest.raises(ExchangeUnavailable, match="cannot be read"):
            await connector.fills_after(SYMBOL[kind], trade_id=None, since=SINCE)


async def test_a_trade_counted_in_the_quote_asset_is_read_in_the_base_asset() -> None:
    async with connected("coinbase") as (connector, venue):
        row = coinbase_fill(size="100", price="30000", size_in_quote=True)
        venue.answers[FILLS["coinbase"]] = listed_fills("coinbase", row)
        (fill,) = await connector.fills_after("BTC/USD", trade_id=None, since=SINCE)
    assert fill.quantity == Decimal("0.00333333")


@pytest.mark.parametrize("kind", KINDS)
async def test_rules_balances_quote_and_time_are_the_venues(kind: str) -> None:
    async with connected(kind) as (connector, venue):
        rules = connector.instrument(SYMBOL[kind])
        balances = await connector.balances()
        quote = await connector.quote(SYMBOL[kind])
        now = await connector.server_time()

    assert rules is not None
    assert (rules.base, rules.is_trading) == ("BTC", True)
    assert connector.instrument("ETH/USDT") is None
    money = SYMBOL[kind].split("/")[1]
    assert set(balances) == {money}
    assert (balances[money].free, balances[money].locked) == (Decimal("100.5"), Decimal(20))
    assert (quote.bid, quote.ask) == (Decimal(38990), Decimal(39010))
    assert abs(now - datetime.fromtimestamp(NOW_MS / 1000, UTC)) < timedelta(seconds=5)
    assert venue.asked


@pytest.mark.parametrize(
    ("kind", "path", "answer", "may"),
    [
        ("okx", "/api/v5/account/config", okx({"perm": "read_only,trade"}), False),
        ("okx", "/api/v5/account/config", okx({"perm": "read_only,withdraw"}), True),
        ("okx", "/api/v5/account/config", okx({}), None),
        ("bybit", "/v5/user/query-api", bybit({"permissions": {"Wallet": ["Withdraw"]}}), True),
        ("bybit", "/v5/user/query-api", bybit({"permissions": {"Wallet": []}}), False),
        ("coinbase", "/api/v3/brokerage/key_permissions", {"can_view": True}, None),
        (
            "coinbase",
            "/api/v3/brokerage/key_permissions",
            {"can_view": True, "can_transfer": False},
            False,
        ),
    ],
)
async def test_what_a_key_may_do_is_asked(
    kind: str, path: str, answer: Any, may: bool | None
) -> None:
    async with connected(kind) as (connector, venue):
        venue.answers[f"GET {path}"] = answer
        assert await connector.can_withdraw() is may


async def test_okxs_dead_man_switch_is_told_in_whole_seconds() -> None:
    async with connected("okx") as (connector, venue):
        path = "/api/v5/trade/cancel-all-after"
        venue.answers[f"POST {path}"] = okx({"triggerTime": "0", "ts": str(NOW_MS)})
        await connector.cancel_all_after(10.5)
        assert venue.last(path).json == {"timeOut": "11"}
        await connector.cancel_all_after(0)
        assert venue.last(path).json == {"timeOut": "0"}
        venue.answers[f"POST {path}"] = okx(code="50026")
        with pytest.raises(OutcomeUnknown):
            await connector.cancel_all_after(60)


SUBSCRIBED: dict[str, dict[str, Any]] = {
    "okx": {
        "op": "subscribe",
        "args": [{"channel": "orders", "instType": "SPOT"}],
        "path": "/ws/v5/private",
    },
    "bybit": {"op": "subscribe", "args": ["order"], "path": "/v5/private"},
    "coinbase": {"type": "subscribe", "channel": "user", "product_ids": [], "path": "/"},
}
TOLD: dict[str, dict[str, Any]] = {
    "okx": {"arg": {"channel": "orders", "instType": "SPOT"}, "data": [okx_order()]},
    "bybit": {"topic": "order", "creationTime": NOW_MS, "data": [bybit_order(category="spot")]},
    "coinbase": {
        "channel": "user",
        "timestamp": CREATED,
        "events": [{"type": "update", "orders": [{"order_id": "1", "product_id": "BTC-USD"}]}],
    },
}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_venues_stream_rings_and_rest_tells(kind: str) -> None:
    """By itself REST would be asked 24 s later."""
    async with connected(kind, stream_silence_ms=120_000) as (connector, venue):
        for path in HISTORIES[kind]:
            venue.answers[path] = LISTED[kind]()
        async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
            assert await anext(events) is StreamState.CONNECTED
            following = asyncio.ensure_future(anext(events))
            async with asyncio.timeout(10):
                while venue.listening is None:  # noqa: ASYNC110 - a venue has no event for us
                    await asyncio.sleep(0.02)
                venue.answers[HISTORIES[kind][0]] = LISTED[kind](ORDER_OF[kind]())
                await venue.tell(TOLD[kind])
                report = await following

    assert isinstance(report, ExecutionReport)
    assert (report.exchange_client_id, report.status) == (ID, VenueStatus.NEW)
    (asked,) = [one for one in venue.said if "subscribe" in (one.get("op"), one.get("type"))]
    assert {name: asked.get(name) for name in SUBSCRIBED[kind]} == SUBSCRIBED[kind]


def settings(kind: str, **fields: object) -> ConnectorSettings:
    values: dict[str, object] = {"exchange": kind, "account": "main", "kind": kind}
    values |= {"api_key": "k", "secret": "s", "rest_url": "http://127.0.0.1:1"}
    return ConnectorSettings.model_validate(values | fields)


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("okx", {"dead_man_s": 5}, "10 to 120 seconds"),
        ("okx", {"dead_man_s": 300}, "10 to 120 seconds"),
        ("bybit", {"dead_man_s": 30}, "no dead-man switch"),
        ("bybit", {"demo": True}, "demo"),
        ("coinbase", {"rest_url": "https://api.coinbase.com", "live": True}, "experimental=true"),
        ("bybit", {"rest_url": "", "experimental": True}, "live=true"),
    ],
)
def test_what_the_settings_ask_in_vain_is_said_at_the_start(
    kind: str, fields: dict[str, object], why: str
) -> None:
    with pytest.raises(StartUpError, match=why):
        build_connector(settings(kind, **fields))


async def test_simulated_trading_at_okx_is_asked_for_with_every_request() -> None:
    async with connected("okx") as (connector, venue):
        object.__setattr__(connector._settings, "demo", True)
        venue.answers[f"POST {PLACE['okx']}"] = PLACED["okx"]
        await connector.place(order(connector))
        await connector.balances()
    assert [asked.headers["x-simulated-trading"] for asked in venue.asked] == ["1", "1"]


@pytest.mark.parametrize("kind", KINDS)
def test_real_money_goes_to_the_venues_own_address(kind: str) -> None:
    real = settings(kind, rest_url="", live=True, experimental=True)
    assert real.rest_url.startswith("https://")
    assert real.ws_url.startswith("wss://")
    assert build_connector(real).capabilities.experimental
