"""Two processes that share one key of Kraken's: refused requests are unread, nothing is in doubt.

Kraken sees the nonces of a key in the order of their arrival. No counter that two processes share
can help there, whoever keeps it: a request may overtake another after its nonce was taken.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from activities.connectors.kraken_connector import KrakenConnector
from activities.connectors.kraken_wire import KrakenStream, Nonces
from activities.connectors.settings import ConnectorSettings
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeUnavailable
from trading.oms.identity import exchange_client_id
from trading.oms.venue import OrderRef, OrderRequest, StreamState
from workers.sandbox.config import KrakenLimits, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

KEY, SECRET = "the-shared-key", "dGhlIHNlY3JldCBvZiB0aGUgc2hhcmVkIGtleQ=="
BEHIND_US = 50_000
WINDOW = 10_000_000
"""Ten seconds of nonces in microseconds."""
ORDERS = 30


@asynccontextmanager
async def kraken(nonce_window: int = 0) -> AsyncIterator[SandboxServer]:
    limits = KrakenLimits(calls=100_000, trading=100_000, nonce_window=nonce_window)
    accounts = (parse_account(f"{KEY}:{SECRET}"),)
    config = SandboxConfig(protocol="kraken", accounts=accounts, kraken_limits=limits)
    async with SandboxServer(config) as server:
        yield server


def connector_of(server: SandboxServer) -> KrakenConnector:
    values = {"exchange": "kraken", "account": "main", "kind": "kraken", "rest_url": server.url}
    keys = {"api_key": KEY, "secret": SECRET}
    return KrakenConnector(ConnectorSettings.model_validate(values | keys))


@asynccontextmanager
async def connected(server: SandboxServer, behind_us: int = 0) -> AsyncIterator[KrakenConnector]:
    """A process's connector; `behind_us` is how late its requests arrive for their nonces."""
    connector = connector_of(server)
    await connector.start()
    wire: Any = connector._wire
    last = 0

    def nonce() -> int:
        nonlocal last
        last = max(last + 1, time.time_ns() // 1000 - behind_us)
        return last

    wire.incrementing_nonce = nonce
    yield connector
    await connector.close()


def an_order(connector: KrakenConnector, number: int) -> OrderRequest:
    return OrderRequest(
        exchange="kraken",
        account="main",
        symbol="BTC/USDT",
        exchange_client_id=exchange_client_id("nonces", str(number), 1, 1),
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.001"),
        price=Decimal(30000),
        timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
        window_ms=5000,
    )


async def placed(connector: KrakenConnector, number: int) -> ExchangeUnavailable | None:
    try:
        await connector.place(an_order(connector, number))
    except ExchangeUnavailable as error:
        return error
    return None


@asynccontextmanager
async def busy(connector: KrakenConnector) -> AsyncIterator[None]:
    """Somebody who asks all the time, with the same key."""

    async def ask() -> None:
        while True:
            try:
                await connector.balances()
            except ExchangeUnavailable:
                await asyncio.sleep(0)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_what_is_refused_for_its_nonce_was_never_placed() -> None:
    async with (
        kraken() as server,
        connected(server) as ahead,
        connected(server, BEHIND_US) as behind,
        busy(ahead),
    ):
        answers = [await placed(behind, number) for number in range(ORDERS)]
        refused = [number for number, error in enumerate(answers) if error is not None]
        there = {order["clientOrderId"] for order in server.exchange.control.ledger({})["orders"]}

    assert refused, "the two were never in each other's way: this proves nothing"
    assert {error.code for error in answers if error is not None} == {"EAPI:Invalid nonce"}
    ours = {number: exchange_client_id("nonces", str(number), 1, 1) for number in range(ORDERS)}
    assert there == {ours[number] for number in range(ORDERS) if number not in refused}


async def test_a_nonce_window_of_the_key_lets_both_through() -> None:
    async with (
        kraken(nonce_window=WINDOW) as server,
        connected(server) as ahead,
        connected(server, BEHIND_US) as behind,
        busy(ahead),
    ):
        answers = [await placed(behind, number) for number in range(ORDERS)]

    assert answers == [None] * ORDERS


async def test_a_request_that_comes_twice_is_refused_within_the_window_too() -> None:
    async with kraken(nonce_window=WINDOW) as server, connected(server) as connector:
        wire: Any = connector._wire
        same = time.time_ns() // 1000 + 1_000_000
        wire.incrementing_nonce = lambda: same
        assert await placed(connector, 1) is None
        error = await placed(connector, 2)

    assert error is not None
    assert error.code == "EAPI:Invalid nonce"


async def test_a_look_up_with_an_overtaken_nonce_is_no_observation() -> None:
    async with kraken() as server, connected(server) as connector:
        wire: Any = connector._wire
        assert await placed(connector, 1) is None
        wire.incrementing_nonce = lambda: 1
        ref = OrderRef(
            symbol="BTC/USDT", exchange_client_id=exchange_client_id("nonces", "1", 1, 1)
        )
        with pytest.raises(ExchangeUnavailable, match="Invalid nonce"):
            await connector.find_order(ref)


async def test_the_stream_opens_after_the_machines_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream's wire goes on where the connector's is."""
    ahead = SimpleNamespace(time_ns=lambda: time.time_ns() + 1800 * 10**9)
    of_a_fresh_process = cache(lambda _: Nonces())
    monkeypatch.setattr("activities.connectors.kraken_wire.nonces_of", of_a_fresh_process)
    async with kraken() as server:
        with monkeypatch.context() as patched:
            patched.setattr("activities.connectors.kraken_wire.time", ahead)
            connector = connector_of(server)
            await connector.start()
        async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
            assert await anext(events) is StreamState.CONNECTED
        await connector.close()


async def test_a_stream_whose_token_was_overtaken_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overtaken = [1, 1]
    own = KrakenStream.incrementing_nonce
    monkeypatch.setattr(
        KrakenStream, "incrementing_nonce", lambda wire: overtaken.pop() if overtaken else own(wire)
    )
    async with (
        kraken() as server,
        connected(server) as connector,
        aclosing(connector.executions()) as events,  # type: ignore[type-var]
    ):
        assert await anext(events) is StreamState.CONNECTED
    assert not overtaken


async def test_a_query_that_was_overtaken_is_asked_again_with_a_newer_nonce() -> None:
    """So that workers with one key can start at once, and look-ups see something."""
    async with kraken() as server, connected(server) as connector:
        wire: Any = connector._wire
        own, overtaken = wire.incrementing_nonce, [1, 1]
        wire.incrementing_nonce = lambda: overtaken.pop() if overtaken else own()

        assert await connector.balances()
    assert not overtaken
