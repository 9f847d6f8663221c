"""A sandbox exchange in the process of the test, and three ways to talk to it."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import ccxt.pro
import pytest

from workers.sandbox.addresses import ccxt_urls
from workers.sandbox.config import SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

ACCOUNTS = (parse_account("alice:a-secret"), parse_account("bob:b-secret"))
SECRETS = {"alice": "a-secret", "bob": "b-secret"}
ANSWER_S = 5.0


@dataclass
class Raw:
    """A client that signs by hand, so that a test can send what a library would not."""

    url: str
    session: aiohttp.ClientSession
    key: str = "alice"
    last_headers: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, **params: Any) -> tuple[int, Any]:
        """A signed request; ``timestamp`` is added unless given. Answers (status, JSON)."""
        params.setdefault("timestamp", time.time_ns() // 1_000_000)
        query = urlencode({name: value for name, value in params.items() if value is not None})
        secret = SECRETS.get(self.key, "").encode()
        signature = hmac.new(secret, query.encode(), hashlib.sha256).hexdigest()
        return await self.plain(method, f"{path}?{query}&signature={signature}")

    async def plain(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        headers = {"X-MBX-APIKEY": self.key}
        async with asyncio.timeout(ANSWER_S):
            async with self.session.request(
                method, self.url + path, headers=headers, **more
            ) as response:
                self.last_headers = dict(response.headers)
                return response.status, await response.json(content_type=None)

    async def order(self, **params: Any) -> tuple[int, Any]:
        """A limit buy of 0.01 BTC at 39000, with what the test changes."""
        wanted = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "39000",
        }
        return await self.send("POST", "/api/v3/order", **{**wanted, **params})

    async def market(self, side: str, price: str, quantity: str) -> None:
        """Let the market trade."""
        body = {"symbol": "BTCUSDT", "side": side, "price": price, "quantity": quantity}
        await self.control("market_order", **body)

    async def control(self, what: str, **body: Any) -> Any:
        async with self.session.post(f"{self.url}/control/{what}", json=body) as response:
            answer = await response.json(content_type=None)
            assert response.status == 200, answer
            return answer

    async def fault(self, kind: str, **options: Any) -> Any:
        return await self.control("faults", fault=kind, **options)

    async def ledger(self) -> Any:
        async with self.session.get(f"{self.url}/control/ledger") as response:
            return await response.json()


Start = Callable[..., Awaitable[SandboxServer]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start sandboxes with settings of the test's own."""
    servers: list[SandboxServer] = []

    async def begin(**settings: Any) -> SandboxServer:
        settings.setdefault("accounts", ACCOUNTS)
        server = SandboxServer(SandboxConfig(**settings))
        await server.start()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        await server.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def server(start: Start) -> SandboxServer:
    return await start()


@pytest.fixture
async def raw(server: SandboxServer, session: aiohttp.ClientSession) -> Raw:
    return Raw(server.url, session)


Connect = Callable[..., Any]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Ccxt's own class, told nothing but the addresses (and to whom it belongs)."""
    clients: list[Any] = []

    def make(server: SandboxServer, key: str = "alice", **config: Any) -> Any:
        client = ccxt.pro.binance(
            {"apiKey": key, "secret": SECRETS[key], "urls": ccxt_urls(server.url), **config}
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def exchange(server: SandboxServer, connect: Connect) -> Any:
    client = connect(server)
    await client.load_markets()
    return client
