"""Executions by REST: every change is told once, a stream only makes it sooner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.polled_feed import PolledFeed
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.connector import CcxtConnector
from tests.activities.store_builders import report as a_report
from tests.conformance import generic
from tests.conformance.venue import SANDBOXES
from tests.oms.builders import fill
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeUnavailable
from trading.oms.identity import exchange_client_id
from trading.oms.request_gate import spend
from trading.oms.venue import (
    ExecutionReport,
    OrderList,
    OrderRef,
    OrderRequest,
    StreamState,
    VenueStatus,
)
from workers.sandbox.server import SandboxServer

BUILDERS = {"binance": generic.binance, "kraken": generic.kraken}
LONG_MS = 120_000
"""With this silence REST is asked every 24 s by itself: what comes sooner was rung for."""


@asynccontextmanager
async def connected(
    kind: str, silence_ms: int
) -> AsyncIterator[tuple[CcxtConnector, SandboxServer]]:
    async with SandboxServer(SANDBOXES[kind]) as server:
        account = SANDBOXES[kind].accounts[0]
        values = {"exchange": kind, "account": "main", "kind": kind, "rest_url": server.url}
        values |= {"api_key": account.key, "secret": account.secret}
        known = {"stream_silence_ms": silence_ms}
        connector = BUILDERS[kind](ConnectorSettings.model_validate(values | known))
        await connector.start()
        yield connector, server
        await connector.close()


def an_order(connector: CcxtConnector, number: int) -> OrderRequest:
    return OrderRequest(
        exchange=connector.exchange,
        account="main",
        symbol="BTC/USDT",
        exchange_client_id=exchange_client_id("feed", str(number), 1, 1),
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.01"),
        price=Decimal(30000),
        timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
        window_ms=5000,
    )


def sell(server: SandboxServer, quantity: str) -> None:
    deed = {"symbol": "BTCUSDT", "side": "SELL", "price": "30000", "quantity": quantity}
    server.exchange.control.market_order(deed)


async def of(events: AsyncIterator[Any], status: VenueStatus) -> list[ExecutionReport]:
    """What is told until a report with this status."""
    told = []
    async with asyncio.timeout(10):
        while True:
            report = await anext(events)
            assert isinstance(report, ExecutionReport)
            told.append(report)
            if report.status is status:
                return told


async def test_a_stream_rings_and_rest_is_asked_at_once() -> None:
    async with (
        connected("binance", LONG_MS) as (connector, server),
        aclosing(connector.executions()) as events,  # type: ignore[type-var]
    ):
        assert await anext(events) is StreamState.CONNECTED
        (account,) = server.exchange.engine.accounts.values()
        async with asyncio.timeout(10):
            while not server.exchange.user_streams.listens(account):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.02)
        await connector.place(an_order(connector, 1))
        await of(events, VenueStatus.NEW)
        sell(server, "0.01")
        told = await of(events, VenueStatus.FILLED)

    assert sum(fill.quantity for report in told for fill in report.fills) == Decimal("0.01")


@pytest.mark.parametrize("kind", BUILDERS)
async def test_every_change_is_told_once_and_what_was_before_is_not(kind: str) -> None:
    async with connected(kind, 500) as (connector, server):
        before = an_order(connector, 1)
        await connector.place(before)
        async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
            assert await anext(events) is StreamState.CONNECTED
            await connector.place(an_order(connector, 2))
            told = await of(events, VenueStatus.NEW)
            assert [report.exchange_client_id for report in told] == [
                an_order(connector, 2).exchange_client_id
            ]
            for part in ("0.004", "0.006", "0.004", "0.006"):
                sell(server, part)
            told = await of(events, VenueStatus.FILLED)
            told += await of(events, VenueStatus.FILLED)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(events)

    fills = [fill for report in told for fill in report.fills]
    assert len({fill.fill_id for fill in fills}) == len(fills) == 4


async def test_a_question_that_fails_loses_no_change_that_was_found_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        connected("binance", 500) as (connector, server),
        aclosing(connector.executions()) as events,  # type: ignore[type-var]
    ):
        assert await anext(events) is StreamState.CONNECTED
        both = [an_order(connector, number) for number in (1, 2)]
        names = [order.exchange_client_id for order in both]
        for order in both:
            await connector.place(order)
            await of(events, VenueStatus.NEW)
        find_order, asked = CcxtConnector.find_order, list[str]()

        async def second_fails(self: CcxtConnector, ref: OrderRef) -> ExecutionReport | None:
            asked.append(ref.exchange_client_id)
            if len(asked) == 2:
                raise ExchangeUnavailable("nobody answers")
            return await find_order(self, ref)

        monkeypatch.setattr(CcxtConnector, "find_order", second_fails)
        sell(server, "0.02")
        told = await of(events, VenueStatus.FILLED)
        told += await of(events, VenueStatus.FILLED)

    assert sorted(asked[:2]) == sorted(names)
    assert sorted(str(report.exchange_client_id) for report in told) == sorted(names)
    assert all(report.fills for report in told)


class SlowVenue:
    """One order at an exchange that allows a look every 90 s, and lists fills late."""

    exchange = "sandbox"

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.order = report(self.now, VenueStatus.NEW, "0")
        self.is_listed = False

    def exchange_now(self) -> datetime:
        return self.now

    async def open_orders(self, _symbol: str | None = None) -> OrderList:
        spend(lambda: 30)
        return OrderList(() if self.order.status is VenueStatus.FILLED else (self.order,))

    async def resting_in(self, _symbols: object) -> OrderList:
        return await self.open_orders()

    async def recent_orders(self, since: datetime) -> OrderList:
        return OrderList((self.order,) if self.order.at >= since else ())

    async def find_order(self, _ref: OrderRef) -> ExecutionReport:
        fills = (fill("f-1", "1"),) if self.is_listed else ()
        return self.order.model_copy(update={"fills": fills})


def report(at: datetime, status: VenueStatus, total: str) -> ExecutionReport:
    return a_report(
        exchange_order_id="x-1",
        exchange_client_id="c-1",
        status=status,
        cumulative_quantity=Decimal(total),
        at=at,
    )


@pytest.mark.parametrize("status", [VenueStatus.PARTIALLY_FILLED, VenueStatus.FILLED])
async def test_fills_that_are_listed_late_are_told_although_looks_are_rare(
    status: VenueStatus,
) -> None:
    """By the next look they were older than what was looked for."""
    venue = SlowVenue()
    feed = PolledFeed(venue, silence_s=10)
    await feed._look()
    venue.order = report(venue.now + timedelta(seconds=10), status, "1")
    venue.now += timedelta(seconds=90)
    told = await feed._look()
    venue.is_listed = True
    venue.now += timedelta(seconds=90)
    told += await feed._look()

    assert [[one.fill_id for one in found.fills] for found in told] == [[], ["f-1"]]


async def test_a_cancel_by_somebody_else_is_noticed() -> None:
    async with (
        connected("kraken", 500) as (connector, server),
        aclosing(connector.executions()) as events,  # type: ignore[type-var]
    ):
        assert await anext(events) is StreamState.CONNECTED
        await connector.place(an_order(connector, 1))
        await of(events, VenueStatus.NEW)
        (order,) = server.exchange.engine.orders
        server.exchange.engine.cancel(order)
        told = await of(events, VenueStatus.CANCELLED)

    assert told[-1].cumulative_quantity == 0
