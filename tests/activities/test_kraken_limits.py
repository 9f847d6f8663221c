"""Kraken's counters: what the ledger counts is never below what the exchange counts."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from activities.connectors.kraken_codes import read_answer
from activities.connectors.kraken_connector import KrakenConnector
from activities.connectors.kraken_limits import kraken_card, response_of
from activities.connectors.settings import ConnectorSettings
from activities.rate_desk import RateDesk, patient
from activities.store import Store
from tests.activities.rate_process import at_full_speed
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeUnavailable, StartUpError
from trading.oms.interfaces import RateSlot, RateWish
from trading.oms.request_gate import LOCAL_RATE_LIMIT
from trading.oms.venue import OrderRef, OrderRequest
from trading.oms.venue_changes import Terms
from workers.sandbox.config import KrakenLimits, SandboxConfig, parse_account
from workers.sandbox.kraken.limits import Counter, TradingLimits
from workers.sandbox.server import SandboxServer

KEY, SECRET = "key-of-krakens-limits", "c2VjcmV0LW9mLWtyYWtlbnMtbGltaXRz"
PRO = KrakenLimits(
    calls=20, calls_decay=1.0, trading=180, trading_decay=3.75, nonce_window=10_000_000
)
BTC, ETH = "BTC/USDT", "ETH/USDT"
ROUND_TRIP_S = 0.5
_numbers = itertools.count(1)


class Process(NamedTuple):
    """What one worker process has: a store, a desk, a connector behind it."""

    desk: RateDesk
    connector: KrakenConnector

    async def slot(self, symbol: str = BTC, **more: Any) -> RateSlot:
        wish = RateWish("kraken", "place", "main", symbol=symbol, **more)
        return await self.desk.reserve(wish)

    async def place(self, symbol: str = BTC) -> OrderRef:
        """Write an order that rests."""
        client_id = f"{next(_numbers):032x}"
        request = OrderRequest(
            exchange="kraken",
            account="main",
            symbol=symbol,
            exchange_client_id=client_id,
            side=OrderSide.BUY,
            order_type=OrderType.LIMIT,
            quantity=Decimal("0.01"),
            price=Decimal(1000),
            timestamp_ms=int(self.connector.exchange_now().timestamp() * 1000),
            window_ms=5000,
        )
        await self.connector.place(request)
        return OrderRef(symbol=symbol, exchange_client_id=client_id)

    def used(self, counter: str) -> float:
        return float(self.desk.get_rate_limit_status("kraken")["pools"][counter]["used"])


@asynccontextmanager
async def an_exchange(limits: KrakenLimits = PRO) -> AsyncIterator[SandboxServer]:
    account = parse_account(f"{KEY}:{SECRET}:BTC=10,USDT=100000000")
    config = SandboxConfig(protocol="kraken", accounts=(account,), kraken_limits=limits)
    async with SandboxServer(config) as server:
        yield server


@asynccontextmanager
async def a_process(
    store_url: str, server: SandboxServer, tier: str = "pro"
) -> AsyncIterator[Process]:
    store = await Store.open(store_url, create=True)
    names = {"exchange": "kraken", "account": "main", "kind": "kraken", "tier": tier}
    keys = {"api_key": KEY, "secret": SECRET, "rest_url": server.url}
    connector = KrakenConnector(ConnectorSettings.model_validate(names | keys))
    desk = RateDesk(store.rates)
    desk.put_behind(connector)
    try:
        with patient():
            await connector.start()
        yield Process(desk, connector)
    finally:
        await connector.close()
        await desk.close()
        await store.close()


def limits_of(server: SandboxServer) -> TradingLimits:
    assert server.exchange.kraken is not None
    return server.exchange.kraken.limits


def counter(server: SandboxServer, symbol: str = "BTCUSDT") -> Counter:
    return limits_of(server).counter(server.exchange.engine.accounts[KEY], symbol)


async def test_what_the_card_says_is_no_less_than_what_the_exchange_counts(
    sqlite_url: str,
) -> None:
    """An order that is changed at once costs most."""
    frozen = KrakenLimits(trading_decay=0, calls=100)
    async with an_exchange(frozen) as server, a_process(sqlite_url, server) as one:
        counted, endpoints = [counter(server).now()], kraken_card().endpoints
        ref = await one.place()
        counted.append(counter(server).now())
        await one.connector.reduce(ref, Decimal("0.005"))
        counted.append(counter(server).now())
        await one.connector.cancel(ref)
        counted.append(counter(server).now())
        ours = [endpoints[f"POST {n}Order"].costs["trading"] for n in ("Add", "Amend", "Cancel")]
        assert [after - before for before, after in itertools.pairwise(counted)] == ours
        assert server.exchange.kraken is not None
        for name, (_, points) in server.exchange.kraken.rest._queries.items():
            endpoint = endpoints.get(f"POST {name}")
            assert endpoint is None or endpoint.costs == {"calls": points}


@pytest.mark.postgres
async def test_two_processes_at_full_speed_are_never_refused_and_lose_nothing(
    postgres_url: str,
) -> None:
    """Each has the same account, tier Pro: a tenth of its threshold is kept for amends."""
    async with an_exchange() as server:
        await (await Store.open(postgres_url, create=True)).close()
        keys = {"api_key": KEY, "secret": SECRET, "rest_url": server.url}
        done = await at_full_speed(
            postgres_url, {"kind": "kraken", "tier": "pro"} | keys, 12, processes=2
        )
        assert limits_of(server).refused == 0
        assert [one["refused"] for one in done] == [0] * 2
        assert min(one["placed"] for one in done) > 0
        times = [order["time"] / 1000 for order in server.exchange.control.ledger({})["orders"]]
        allowed = 162 + 3.75 * (max(times) - min(times) - ROUND_TRIP_S)
        assert len(times) >= 0.95 * allowed


async def test_cancels_wait_for_nothing_and_orders_wait_for_them(sqlite_url: str) -> None:
    async with an_exchange() as server, a_process(sqlite_url, server) as one:
        refs = []
        for _ in range(30):
            assert (await one.slot()).wait_s == 0
            refs.append(await one.place())
        for ref in refs:
            await one.connector.cancel(ref)
        assert counter(server).now() > 180
        slot = await one.slot()
        assert 10 < slot.wait_s < 40
        assert (await one.slot(ETH)).wait_s == 0
        assert limits_of(server).refused == 0


async def test_changes_in_place_are_counted_and_wait_for_room(sqlite_url: str) -> None:
    slow = KrakenLimits(trading=60, trading_decay=1.0, calls=100, nonce_window=10_000_000)
    async with an_exchange(slow) as server, a_process(sqlite_url, server, "starter") as one:
        ref = await one.place()

        async def many() -> None:
            for price in range(1001, 1041):
                deadline_ms = int(one.connector.exchange_now().timestamp() * 1000) + 5000
                terms = Terms(
                    quantity=Decimal("0.01"), price=Decimal(price), deadline_ms=deadline_ms
                )
                await one.connector.amend(ref, terms)

        with pytest.raises(ExchangeUnavailable, match="no room for POST AmendOrder") as held:
            await many()
        assert held.value.code == LOCAL_RATE_LIMIT
        assert (await one.slot()).wait_s > 0
        assert counter(server).now() > 50
        assert limits_of(server).refused == 0


async def test_an_order_too_many_pauses_the_orders_of_its_pair_alone(sqlite_url: str) -> None:
    """Somebody else has used up the counter."""
    async with an_exchange() as server, a_process(sqlite_url, server) as one:
        ref = await one.place()
        counter(server).add(200)
        with pytest.raises(ExchangeUnavailable) as refused:
            await one.place()
        assert refused.value.code == "EOrder:Rate limit exceeded"
        assert (await one.slot()).wait_s > 3
        assert (await one.slot(ETH)).wait_s == 0
        assert await one.connector.find_order(ref) is not None


async def test_a_call_too_many_pauses_every_process(store_url: str) -> None:
    async with (
        an_exchange() as server,
        a_process(store_url, server) as one,
        a_process(store_url, server) as two,
    ):
        ref = await two.place()
        server.exchange.control.set_faults({"fault": "rate_429", "endpoint": "BalanceEx"})
        with pytest.raises(ExchangeUnavailable) as refused:
            await one.connector.balances()
        assert refused.value.code == "EAPI:Rate limit exceeded"
        assert (await one.slot()).wait_s > 3
        await two.slot()  # A worker hears of it with its next word to the ledger.
        with pytest.raises(ExchangeUnavailable) as held:
            await two.connector.find_order(ref)
        assert held.value.code == LOCAL_RATE_LIMIT


async def test_calls_beyond_the_counter_wait_and_are_not_refused(sqlite_url: str) -> None:
    async with an_exchange() as server, a_process(sqlite_url, server) as one:
        ref = await one.place()

        async def many() -> None:
            for _ in range(30):
                assert await one.connector.find_order(ref) is not None

        with pytest.raises(ExchangeUnavailable, match="no room for POST") as held:
            await many()
        assert held.value.code == LOCAL_RATE_LIMIT
        assert limits_of(server).refused == 0
        with patient():
            assert await one.connector.find_order(ref) is not None
        assert limits_of(server).refused == 0


def test_no_question_uses_what_is_kept_by_itself() -> None:
    """But the stream's token, once a connection."""
    urgent = {name for name, row in kraken_card().endpoints.items() if row.urgent}
    commands = {"POST AmendOrder", "POST CancelOrder", "POST CancelAllOrdersAfter"}
    assert urgent == commands | {"POST GetWebSocketsToken"}


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [(429, {}, 5), (429, {"Retry-After": "30"}, 30), (418, {}, 5), (503, {}, None)],
)
def test_a_429_without_kraken_s_own_words_is_a_pause(
    status: int, headers: dict[str, str], pause_s: float | None
) -> None:
    said = response_of(read_answer(status, headers, "<html>", str))
    assert (said.pauses, said.pauses_family, said.retry_after_s) == (bool(pause_s), None, pause_s)


def test_a_tier_that_kraken_does_not_have_is_refused() -> None:
    with pytest.raises(StartUpError, match=r"tier is 'gold'; allowed are: starter, intermediate"):
        kraken_card("gold")
    assert kraken_card("none").pools == ()
    limits = [(pool.limit, pool.decay_per_s) for pool in kraken_card().pools]
    assert limits == [(60, 1.0), (15, 0.33)]
