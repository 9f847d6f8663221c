"""Binance US: Binance's protocol, through ccxt's class of it, without a stream."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.binance_limits import BINANCE_US_CARD
from activities.connectors.registry import build_connector
from activities.connectors.settings import ConnectorSettings
from activities.rate_desk import RateDesk, patient
from activities.store import Store
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeUnavailable, StartUpError
from trading.oms.identity import exchange_client_id
from trading.oms.interfaces import RateWish
from trading.oms.rate_card import EndpointCost
from trading.oms.venue import Amend, ExecutionReport, OrderRequest, StreamState, VenueStatus
from workers.sandbox.config import RateLimit, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

KEY, SECRET = "the-key-of-the-test", "the-secret-of-the-test"


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    config = SandboxConfig(accounts=(parse_account(f"{KEY}:{SECRET}"),))
    async with SandboxServer(config) as running:
        yield running


@pytest.fixture
async def connector(server: SandboxServer) -> AsyncIterator[BinanceConnector]:
    built = build_connector(settings(rest_url=server.url, stream_silence_ms=500))
    assert isinstance(built, BinanceConnector)
    await built.start()
    yield built
    await built.close()


def settings(**fields: object) -> ConnectorSettings:
    values: dict[str, object] = {"exchange": "us", "account": "main", "kind": "binanceus"}
    return ConnectorSettings.model_validate(values | {"api_key": KEY, "secret": SECRET} | fields)


def an_order(connector: BinanceConnector, number: int) -> OrderRequest:
    return OrderRequest(
        exchange="us",
        account="main",
        symbol="BTC/USDT",
        exchange_client_id=exchange_client_id("us", str(number), 1, 1),
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.01"),
        price=Decimal(30000),
        timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
        window_ms=5000,
    )


def test_it_has_its_own_address_and_record() -> None:
    real = settings(live=True, experimental=True)
    record = build_connector(real).capabilities

    assert real.rest_url == "https://api.binance.us"
    assert (record.exchange_kind, record.amend, record.fence) == (
        "binanceus",
        Amend.NONE,
        "recvWindow",
    )
    with pytest.raises(StartUpError, match="experimental=true"):
        build_connector(settings(live=True))


async def test_rest_tells_what_a_stream_would(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    told: list[ExecutionReport] = []
    async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
        assert await anext(events) is StreamState.CONNECTED
        await connector.place(an_order(connector, 1))
        sell = {"symbol": "BTCUSDT", "side": "SELL", "price": "30000"}
        told.append(await anext(events))  # type: ignore[arg-type]
        for quantity in ("0.004", "0.006"):
            server.exchange.control.market_order({**sell, "quantity": quantity})
            told.append(await anext(events))  # type: ignore[arg-type]

    assert [report.status for report in told] == [
        VenueStatus.NEW,
        VenueStatus.PARTIALLY_FILLED,
        VenueStatus.FILLED,
    ]
    fills = [fill for report in told for fill in report.fills]
    assert [fill.quantity for fill in fills] == [Decimal("0.004"), Decimal("0.006")]
    assert all(fill.is_maker for fill in fills)


async def test_a_failing_look_is_tried_again_and_then_the_stream_is_lost(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
        assert await anext(events) is StreamState.CONNECTED
        await connector.place(an_order(connector, 1))
        fault = {"fault": "http_503", "endpoint": "GET /api/v3/openOrders"}
        server.exchange.control.set_faults({**fault, "count": 1})
        report = await anext(events)
        assert isinstance(report, ExecutionReport)

        server.exchange.control.set_faults({**fault, "count": 1000})
        with pytest.raises(Exception, match="could not be asked for"):
            await anext(events)


async def test_looking_leaves_room_for_orders_all_the_time(sqlite_url: str) -> None:
    """The weights are those of Binance US, and its 1,200 a minute as 200 in ten seconds."""
    limits = (RateLimit("REQUEST_WEIGHT", "SECOND", 10, 200),)
    config = SandboxConfig(accounts=(parse_account(f"{KEY}:{SECRET}"),), rate_limits=limits)
    async with SandboxServer(config) as server:
        _charge_its_weights(server)
        built = build_connector(settings(rest_url=server.url))
        assert isinstance(built, BinanceConnector)
        store = await Store.open(sqlite_url, create=True)
        desk = RateDesk(store.rates)
        desk.put_behind(built)
        with patient():
            await built.start()
        await asyncio.sleep(10 - time.time() % 10)  # What the start has cost is forgotten.
        told: list[object] = []
        watching = asyncio.create_task(_watch(built, told))
        while not told:  # noqa: ASYNC110 - the first look
            await asyncio.sleep(0.02)
        waits, placed = [], 0
        for number in range(80):
            slot = await desk.reserve(RateWish("us", "place", "main", symbol="BTC/USDT"))
            waits.append(slot.wait_s)
            with suppress(ExchangeUnavailable):  # A busy machine may come too late for its slot.
                await built.place(an_order(built, number))
                placed += 1
            await asyncio.sleep(0.25)
        await asyncio.sleep(5)
        watching.cancel()
        await asyncio.wait([watching])
        await built.close()
        await desk.close()
        await store.close()

    assert max(waits) == 0
    assert len([item for item in told if isinstance(item, ExecutionReport)]) == placed > 60
    assert server.exchange.limits.refused == 0


async def _watch(connector: BinanceConnector, told: list[object]) -> None:
    with patient():
        async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
            async for event in events:
                told.append(event)  # noqa: PERF401 - it never ends


def _charge_its_weights(server: SandboxServer) -> None:
    routes = server.exchange.gateway.routes
    for endpoint, row in BINANCE_US_CARD.endpoints.items():
        name = endpoint.replace(" ", " /api/v3/")
        if name in routes:
            routes[name] = replace(routes[name], weight=_weight(row), free_on_success=False)


def _weight(row: EndpointCost) -> Any:
    def weight(given: dict[str, str]) -> int:
        by_symbol = row.with_parameter.get("symbol", row.costs)
        return by_symbol["weight"] if given.get("symbol") else row.costs["weight"]

    return weight
