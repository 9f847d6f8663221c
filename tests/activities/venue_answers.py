"""Answers of OKX, Bybit and Coinbase in their documents' form, and a server that gives them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from activities.connectors.registry import build_connector
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.connector import CcxtConnector

NOW_MS = 1_790_000_000_000
CREATED = "2026-09-21T13:33:20.123456Z"
EC_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class FakeVenue:
    """A venue below its protocol: `answers` by "METHOD path", each given again and again.

    An answer is (status, JSON or text), or the JSON of a 200; a list of them is given in turn.
    """

    answers: dict[str, Any]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    listening: web.WebSocketResponse | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._listen(request)
        query: dict[str, list[str]] = {}
        for name, value in request.query.items():
            query.setdefault(name, []).append(value)
        body = await request.text()
        path = request.path
        self.asked.append(Asked(request.method, path, query, dict(request.headers), body))
        answer = self.answers.get(f"{request.method} {path}", (404, {"error": "no such path"}))
        if isinstance(answer, Turns):
            answer = answer.next()
        status, content = answer if isinstance(answer, tuple) else (200, answer)
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(status=status, text=text, content_type="application/json")

    async def _listen(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take what is asked on a stream, and say yes as each venue does."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for frame in socket:
            if frame.data == "ping":
                await socket.send_str("pong")
                continue
            asked = json.loads(frame.data)
            self.said.append({**asked, "path": request.path})
            if asked.get("op") == "login":
                await socket.send_json({"event": "login", "msg": "", "code": "0"})
            elif asked.get("op") == "auth":
                await socket.send_json({"success": True, "ret_msg": "", "op": "auth"})
            elif "channel" in asked or asked.get("op") == "subscribe":
                self.listening = socket
        return socket

    async def tell(self, message: dict[str, Any]) -> None:
        """Say something on the stream that is listened to."""
        assert self.listening is not None
        await self.listening.send_json(message)

    def last(self, path: str) -> Asked:
        return [asked for asked in self.asked if asked.path == path][-1]

    def count(self, path: str) -> int:
        return sum(1 for asked in self.asked if asked.path == path)


class Turns:
    """Answers in turn; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def next(self) -> Any:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def connected(kind: str, **more: object) -> AsyncIterator[tuple[CcxtConnector, FakeVenue]]:
    """A started connector of this kind and the venue that it speaks to."""
    venue = FakeVenue(dict(STARTS[kind]))
    runner = web.ServerRunner(web.Server(venue.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    venue.url = f"http://{host}:{port}"
    values = {"exchange": kind, "account": "main", "kind": kind, "rest_url": venue.url}
    values |= {"api_key": "the-key-of-the-test", "secret": SECRETS[kind], "passphrase": "the-pass"}
    connector = build_connector(
        ConnectorSettings.model_validate({**values, **KEYS.get(kind, {}), **more})
    )
    assert isinstance(connector, CcxtConnector)
    try:
        await connector.start()
        venue.asked.clear()
        yield connector, venue
    finally:
        await connector.close()
        await runner.cleanup()


def okx(*rows: Any, code: str = "0") -> dict[str, Any]:
    return {"code": code, "msg": "", "data": list(rows)}


def bybit(result: Any, code: int = 0) -> dict[str, Any]:
    return {"retCode": code, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": NOW_MS}


def okx_order(**fields: Any) -> dict[str, Any]:
    return {
        "instId": "BTC-USDT", "ordId": "312269865356374016", "clOrdId": "a" * 32, "px": "30000",
        "sz": "0.01", "side": "buy", "ordType": "limit", "state": "live", "accFillSz": "0",
        "avgPx": "", "uTime": str(NOW_MS), "cTime": str(NOW_MS), "cancelSourceReason": "",
        "fee": "0", "feeCcy": "BTC", "tdMode": "cash",
    } | fields  # fmt: skip


def okx_fill(**fields: Any) -> dict[str, Any]:
    return {
        "instId": "BTC-USDT", "tradeId": "107601752", "ordId": "312269865356374016",
        "clOrdId": "a" * 32, "billId": "317321390265368576", "fillPx": "30000", "fillSz": "0.004",
        "side": "buy", "execType": "M", "feeCcy": "BTC", "fee": "-0.0000032", "ts": str(NOW_MS),
    } | fields  # fmt: skip


def bybit_order(**fields: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": "1523347543495541248", "orderLinkId": "a" * 32,
        "price": "30000", "qty": "0.01", "side": "Buy", "orderType": "Limit",
        "orderStatus": "New", "cumExecQty": "0", "cumExecValue": "0", "leavesQty": "0.01",
        "createdTime": str(NOW_MS), "updatedTime": str(NOW_MS), "rejectReason": "EC_NoError",
    } | fields  # fmt: skip


def bybit_fill(**fields: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": "1523347543495541248", "orderLinkId": "a" * 32,
        "side": "Buy", "execId": "2290000000025957371", "execPrice": "30000", "execQty": "0.004",
        "execFee": "0.0000032", "feeCurrency": "BTC", "execTime": str(NOW_MS), "isMaker": True,
        "execType": "Trade",
    } | fields  # fmt: skip


def coinbase_order(**fields: Any) -> dict[str, Any]:
    configuration = {"base_size": "0.01", "limit_price": "30000", "post_only": False}
    return {
        "order_id": "9bc1eb3b-5b46-4b71-9628-ae2ed0cca75b", "product_id": "BTC-USD",
        "client_order_id": "a" * 32, "side": "BUY", "status": "OPEN", "filled_size": "0",
        "filled_value": "0", "average_filled_price": "0", "created_time": CREATED,
        "last_fill_time": None, "reject_message": "", "total_fees": "0",
        "order_configuration": {"limit_limit_gtc": configuration},
    } | fields  # fmt: skip


def coinbase_fill(**fields: Any) -> dict[str, Any]:
    return {
        "entry_id": "22222-2222222-22222222", "trade_id": "1111-11111-111111",
        "order_id": "9bc1eb3b-5b46-4b71-9628-ae2ed0cca75b", "trade_time": CREATED,
        "trade_type": "FILL", "price": "30000", "size": "0.004", "commission": "0.48",
        "product_id": "BTC-USD", "sequence_timestamp": CREATED, "liquidity_indicator": "MAKER",
        "size_in_quote": False, "side": "BUY",
    } | fields  # fmt: skip


SECRETS = {"okx": "the-secret", "bybit": "the-secret", "coinbase": EC_KEY}
KEYS = {"coinbase": {"api_key": "organizations/1/apiKeys/2"}}
STARTS: dict[str, dict[str, Any]] = {
    "okx": {
        "GET /api/v5/public/time": okx({"ts": str(NOW_MS)}),
        "GET /api/v5/public/instruments": okx(
            {
                "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "tickSz": "0.1",
                "lotSz": "0.00000001", "minSz": "0.00001", "maxLmtSz": "9999999999",
                "state": "live",
            },
            {"instId": "ETH-USDT", "baseCcy": "ETH", "quoteCcy": "USDT", "tickSz": ""},
        ),
        "GET /api/v5/account/balance": okx(
            {
                "details": [
                    {"ccy": "USDT", "availBal": "100.5", "frozenBal": "20"},
                    {"ccy": "BTC", "availBal": "0", "frozenBal": "0"},
                ]
            }
        ),
        "GET /api/v5/market/books": okx(
            {"bids": [["38990", "2", "0", "1"]], "asks": [["39010", "1.5", "0", "1"]]}
        ),
    },
    "bybit": {
        "GET /v5/market/time": bybit({"timeSecond": str(NOW_MS // 1000)}),
        "GET /v5/market/instruments-info": bybit(
            {
                "category": "spot",
                "list": [
                    {
                        "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT",
                        "status": "Trading", "priceFilter": {"tickSize": "0.01"},
                        "lotSizeFilter": {
                            "basePrecision": "0.000001", "quotePrecision": "0.00000001",
                            "minOrderQty": "0.000048", "maxOrderQty": "71.73956243",
                            "minOrderAmt": "1",
                        },
                    }
                ],
            }
        ),
        "GET /v5/account/wallet-balance": bybit(
            {
                "list": [
                    {
                        "accountType": "UNIFIED",
                        "coin": [{"coin": "USDT", "walletBalance": "120.5", "locked": "20"}],
                    }
                ]
            }
        ),
        "GET /v5/market/orderbook": bybit({"b": [["38990", "2"]], "a": [["39010", "1.5"]]}),
    },
    "coinbase": {
        "GET /api/v3/brokerage/time": {"iso": CREATED, "epochMillis": str(NOW_MS)},
        "GET /api/v3/brokerage/products": {
            "products": [
                {
                    "product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD",
                    "price_increment": "0.01", "base_increment": "0.00000001",
                    "base_min_size": "0.00000001", "base_max_size": "3400",
                    "quote_min_size": "1", "trading_disabled": False, "status": "online",
                }
            ],
            "num_products": 1,
        },
        "GET /api/v3/brokerage/accounts": {
            "accounts": [
                {
                    "currency": "USD",
                    "available_balance": {"value": "100.5", "currency": "USD"},
                    "hold": {"value": "20", "currency": "USD"},
                }
            ],
            "has_next": False,
            "cursor": "",
        },
        "GET /api/v3/brokerage/product_book": {
            "pricebook": {
                "product_id": "BTC-USD",
                "bids": [{"price": "38990", "size": "2"}],
                "asks": [{"price": "39010", "size": "1.5"}],
            }
        },
    },
}  # fmt: skip
