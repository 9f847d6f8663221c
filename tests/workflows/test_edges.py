"""At the edges: a store that takes no writes, a key that is refused, a symbol that is delisted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from temporalio.client import Client

from activities.catch_up import CatchUp
from activities.store import Store
from tests.workflows.desk import Desk, Exchange, a_desk, an_order, until
from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode
from trading.oms.venue import IExecutionConnector

pytestmark = pytest.mark.temporal
ACCEPTED, REJECTED = OrderStatus.ACCEPTED, OrderStatus.REJECTED
CANCELLED, EXPIRED = OrderStatus.CANCELLED, OrderStatus.EXPIRED


# The store takes no writes.


@asynccontextmanager
async def _sqlite_pragma(desk: Desk, on: str, off: str) -> AsyncIterator[None]:
    """The worker's own writing connection, which is the only one it has."""
    writes: Any = _store(desk)._engines.writes

    def execute(text: str) -> None:
        with closing(writes._engine.raw_connection()) as connection:
            connection.cursor().execute(text)

    await asyncio.to_thread(execute, on)
    try:
        yield
    finally:
        await asyncio.to_thread(execute, off)


@asynccontextmanager
async def _disk_full(desk: Desk, _url: str) -> AsyncIterator[None]:
    async with _sqlite_pragma(desk, "PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"):
        yield


@asynccontextmanager
async def _sqlite_read_only(desk: Desk, _url: str) -> AsyncIterator[None]:
    async with _sqlite_pragma(desk, "PRAGMA query_only = ON", "PRAGMA query_only = OFF"):
        yield


@asynccontextmanager
async def _postgres_read_only(_desk: Desk, url: str) -> AsyncIterator[None]:
    """As after a failover to a standby: every new session may only read."""
    await _administer(url, "SET default_transaction_read_only = on")
    try:
        yield
    finally:
        await _administer(url, "RESET default_transaction_read_only")


@asynccontextmanager
async def _postgres_away(_desk: Desk, url: str) -> AsyncIterator[None]:
    """Every session is ended, and new ones are refused."""
    await _administer(url, "CONNECTION LIMIT 0")
    try:
        yield
    finally:
        await _administer(url, "CONNECTION LIMIT -1")


async def _administer(url: str, what: str) -> None:
    plain = sa.make_url(url).set(drivername="postgresql")
    address = plain.set(database="postgres").render_as_string(hide_password=False)
    hand = await asyncpg.connect(address)
    try:
        await hand.execute(f"ALTER DATABASE {plain.database} {what}")
        await hand.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
            plain.database,
        )
    finally:
        await hand.close()


@pytest.mark.parametrize(
    ("trouble", "words", "store_url"),
    [
        pytest.param(_disk_full, "disk is full", "sqlite", id="disk_full"),
        pytest.param(_sqlite_read_only, "readonly", "sqlite", id="sqlite_read_only"),
        pytest.param(
            _postgres_read_only,
            "read-only",
            "postgres",
            id="postgres_read_only",
            marks=pytest.mark.postgres,
        ),
    ],
    indirect=["store_url"],
)
async def test_nothing_is_sent_while_the_store_takes_no_writes_and_all_goes_on_after_it(
    temporal_client: Client, store_url: str, words: str, trouble: Any
) -> None:
    async with a_desk(temporal_client, store_url) as desk:
        resting = (await desk.resting()).client_order_id
        new = an_order(price="29000", metadata={"note": "x" * 6000})  # More than a page.
        before = desk.exchange.requests()
        async with trouble(desk, store_url):
            await desk.orders.start(new)
            desk.exchange.market("SELL", "30000", "0.004")
            await until(lambda: _is_in_trouble(desk, words))
            assert desk.exchange.requests() == before
            assert (await desk.state(resting)).filled_quantity == 0

        await desk.until_status(new.client_order_id, ACCEPTED)
        await desk.until(resting, lambda state: state.filled_quantity == Decimal("0.004"))
        assert desk.exchange.requests() == before + 1


@pytest.mark.postgres
async def test_an_order_goes_on_after_postgres_went_away_under_its_send(
    temporal_client: Client, postgres_url: str
) -> None:
    async with a_desk(temporal_client, postgres_url) as desk:
        await desk.resting(price="29000")
        desk.exchange.fault("reply_delayed_ms", ms=500, count=1, endpoint="POST order")
        order = an_order()
        await desk.orders.start(order)
        await until(lambda: _requests(desk.exchange, 2))
        async with _postgres_away(desk, postgres_url):
            await asyncio.sleep(0.7)  # The answer comes, and cannot be committed.

        await desk.until_status(order.client_order_id, ACCEPTED)
        assert len(desk.exchange.orders(status="NEW", price="30000.00000000")) == 1


# The exchange refuses our key.


async def test_a_refused_key_rejects_new_orders_and_keeps_the_cancels_of_open_ones(
    desk: Desk, exchange: Exchange
) -> None:
    resting = (await desk.resting()).client_order_id
    exchange.fault("key_refused")

    refused = await desk.submit(price="29000")
    assert (refused.status, refused.reason_code) == (REJECTED, ReasonCode.EXCHANGE_REJECTED)
    assert "-2015: Invalid API-key" in (refused.error or "")
    cancel = asyncio.create_task(desk.cancel(resting, wait=15))
    hits = exchange.hits("key_refused")
    await until(lambda: _struck_again(exchange, hits + 2))
    (report,) = await desk.oms.reconcile(exchange.name)
    assert any("-2015: Invalid API-key" in text for text in report.failed)
    assert (await desk.state(resting)).status is ACCEPTED

    exchange.clear("key_refused")
    assert (await cancel).outcome is CancelOutcome.CANCELLED
    assert exchange.orders(status="NEW") == []
    assert (await desk.resting(price="28000")).status is ACCEPTED


# The exchange lists a symbol no more.


async def test_a_delisted_symbol_takes_no_orders_and_its_open_ones_stay_visible(
    desk: Desk, exchange: Exchange
) -> None:
    kept, ended = await desk.resting(), await desk.resting(price="29000")
    connector = _connector(desk)
    exchange.fault("symbol_status", symbol="BTCUSDT", status="DELISTED")
    assert (await desk.submit(price="28000")).status is REJECTED
    await until(lambda: _is_delisted(desk))
    before = exchange.requests()

    denied = await desk.submit(price="28000")
    assert denied.reason_code is ReasonCode.UNKNOWN_SYMBOL
    assert "does not list BTC/USDT" in (denied.error or "")
    assert exchange.requests() == before
    await CatchUp(_store(desk), connector).run()  # The account's other symbols go on.
    exchange.cancel(exchange.orders(price="29000.00000000")[-1])
    await desk.until_status(ended.client_order_id, EXPIRED)
    assert (await desk.state(kept.client_order_id)).status is ACCEPTED

    exchange.clear("symbol_status")
    await connector.load_instruments()
    assert (await desk.cancel(kept.client_order_id)).outcome is CancelOutcome.CANCELLED


def _connector(desk: Desk) -> IExecutionConnector:
    assert desk.runtime is not None
    return desk.runtime.parts.connectors[desk.exchange.name, "main"]


def _store(desk: Desk) -> Store:
    assert desk.runtime is not None
    return desk.runtime.store


async def _is_delisted(desk: Desk) -> bool:
    return _connector(desk).instrument("BTC/USDT") is None


async def _requests(exchange: Exchange, number: int) -> bool:
    return exchange.requests() >= number


async def _struck_again(exchange: Exchange, hits: int) -> bool:
    return exchange.hits("key_refused") >= hits


async def _is_in_trouble(desk: Desk, words: str) -> bool:
    return words in str(_store(desk)._writer._trouble)
