"""A trader's own hands: requests to an exchange, in its protocol, that pass by all of ours."""

import base64
import hashlib
import hmac
import time
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.chaos.world import Venue, World

_KRAKENS_TYPES = {"MARKET": "market", "LIMIT": "limit"}


async def price(world: World, venue: Venue) -> Decimal | None:
    """The middle of the exchange's best prices of BTC in USDT, None while a side is empty."""
    path = "/api/v3/ticker/bookTicker?symbol=BTCUSDT"
    if venue.kind == "kraken":
        path = "/0/public/Ticker?pair=XBTUSDT"
    async with world.session.get(f"{venue.url}{path}") as answer:
        body = await answer.json(content_type=None)
    bid, ask = _sides(body, venue.kind) if answer.status == 200 else (Decimal(0), Decimal(0))
    return (bid + ask) / 2 if bid and ask else None


def _sides(body: Any, kind: str) -> tuple[Decimal, Decimal]:
    if kind == "kraken":
        (row,) = body["result"].values()
        return Decimal(row["b"][0]), Decimal(row["a"][0])
    return Decimal(body["bidPrice"]), Decimal(body["askPrice"])


async def place(world: World, venue: Venue, client_id: str, **wish: str) -> None:
    """An order as Binance words it (type MARKET or LIMIT); whatever the answer is."""
    if venue.kind == "kraken":
        words = {"ordertype": _KRAKENS_TYPES[wish["type"]], "cl_ord_id": client_id}
        words |= {"type": wish["side"].lower(), "volume": wish["quantity"], "pair": "XBTUSDT"}
        await _krakens(world, venue, "AddOrder", {**words, "price": wish.get("price", "")})
    else:
        await _binances(world, venue, "POST", {**wish, "newClientOrderId": client_id})


async def cancel(world: World, venue: Venue, client_id: str) -> None:
    """The order's end; whatever the answer is."""
    if venue.kind == "kraken":
        await _krakens(world, venue, "CancelOrder", {"cl_ord_id": client_id})
    else:
        await _binances(world, venue, "DELETE", {"origClientOrderId": client_id})


async def _binances(world: World, venue: Venue, method: str, wish: dict[str, str]) -> None:
    now_ms = (await world.ledger(venue.name))["time_ms"]
    asked = {**wish, "symbol": "BTCUSDT", "timestamp": now_ms, "recvWindow": "5000"}
    text = urlencode(asked)
    signature = hmac.new(venue.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    url = f"{venue.url}/api/v3/order?{text}&signature={signature}"
    await _asked(world, method, url, headers={"X-MBX-APIKEY": venue.key})


async def _krakens(world: World, venue: Venue, method: str, wish: dict[str, str]) -> None:
    path, nonce = f"/0/private/{method}", str(time.time_ns() // 1000)
    body = urlencode({"nonce": nonce, **{name: value for name, value in wish.items() if value}})
    digest = hashlib.sha256((nonce + body).encode()).digest()
    secret = base64.b64decode(venue.secret)
    signature = base64.b64encode(hmac.digest(secret, path.encode() + digest, hashlib.sha512))
    headers = {"API-Key": venue.key, "API-Sign": signature.decode()}
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    await _asked(world, "POST", f"{venue.url}{path}", headers=headers, data=body)


async def _asked(world: World, method: str, url: str, **request: Any) -> None:
    with suppress(aiohttp.ClientError):
        async with world.session.request(method, url, **request) as answer:
            await answer.read()
