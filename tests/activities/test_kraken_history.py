"""Kraken's lists of orders and trades: what is asked for, where reading ends, what is not read."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.fields import MalformedError
from activities.connectors.kraken_connector import KrakenConnector
from activities.connectors.kraken_history import KrakenHistory
from activities.connectors.kraken_reports import KrakenReader
from activities.connectors.settings import ConnectorSettings
from tests.activities.test_kraken_reading import PAIRS
from trading.oms.enums import OrderSide, OrderType
from trading.oms.models import Fill
from trading.oms.venue import OrderRef, OrderRequest
from workers.sandbox.config import KrakenLimits, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

KEY, SECRET = "the-key-of-the-history", "dGhlIHNlY3JldCBvZiB0aGUgaGlzdG9yeQ=="
BTC, CLIENT_ID = "BTC/USD", "0" * 32
NEWEST_S = 1_790_000_000
SINCE = datetime.fromtimestamp(NEWEST_S, UTC) - timedelta(days=1)


def a_trade(trade_id: int, pair: str = "XXBTZUSD", **fields: Any) -> dict[str, Any]:
    """A row of TradesHistory, a second older for each id before 1000."""
    return {
        "ordertxid": "O1", "pair": pair, "time": str(NEWEST_S - 1000 + trade_id), "type": "buy",
        "price": "30000", "fee": "0.3", "vol": "0.004", "trade_id": trade_id, "maker": True,
    } | fields  # fmt: skip


class FakeKraken:
    """Answers the lists from `trades`, which are the newest first, and notes what is asked."""

    def __init__(self, trades: Sequence[Mapping[str, Any]] = ()) -> None:
        self.trades = trades
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def query(self, path: str, parameters: Mapping[str, Any]) -> Any:
        self.asked.append((path, dict(parameters)))
        start, offset = int(parameters.get("start", 0)), int(parameters.get("ofs", 0))
        rows = [row for row in self.trades if int(row["time"]) > start]
        page = {f"T{offset + at}": row for at, row in enumerate(rows[offset : offset + 50])}
        return {"open": {}, "closed": {}, "trades": page, "count": len(rows)}

    def history(self) -> KrakenHistory:
        return KrakenHistory(self.query, KrakenReader("kraken", "main", PAIRS))


def ids(fills: Sequence[Fill]) -> list[str | None]:
    return [fill.trade_id for fill in fills]


async def test_trades_are_asked_for_one_by_one_wherever_kraken_would_merge_them() -> None:
    kraken = FakeKraken()
    await kraken.history().by_client_id(CLIENT_ID)
    await kraken.history().orders_since(BTC, SINCE)
    await kraken.history().fills(BTC, SINCE, trade_id=None)

    assert [path for path, _ in kraken.asked] == [
        "OpenOrders", "ClosedOrders", "OpenOrders", "ClosedOrders", "TradesHistory",
    ]  # fmt: skip
    assert {asked["consolidate_taker"] for _, asked in kraken.asked} == {"false"}


async def test_rows_of_a_pair_that_is_listed_no_more_hide_no_others() -> None:
    gone = [a_trade(one, "LUNAUSD") for one in (7, 5)]
    kraken = FakeKraken([a_trade(900), *gone, a_trade(800, "XBTUSD")])

    assert ids(await kraken.history().fills(BTC, SINCE, trade_id=None)) == ["800", "900"]
    assert ids(await kraken.history().fills(BTC, None, trade_id=850)) == ["900"]


@pytest.mark.parametrize("spoilt", [{"pair": None}, {"vol": "NaN"}])
async def test_a_row_that_may_be_of_the_pair_and_cannot_be_read_fails_the_list(
    spoilt: dict[str, Any],
) -> None:
    kraken = FakeKraken([a_trade(900), a_trade(800, **spoilt)])
    with pytest.raises(MalformedError):
        await kraken.history().fills(BTC, SINCE, trade_id=None)


async def test_no_more_pages_are_read_than_the_id_or_the_time_asks_for() -> None:
    """The account has no trade of the pair as old as the id: the time ends the reading."""
    older = [a_trade(one, "LUNAUSD", time=str(NEWEST_S - 200_000 - one)) for one in range(500)]
    kraken = FakeKraken([a_trade(900), a_trade(800), *older])
    assert ids(await kraken.history().fills(BTC, SINCE, trade_id=1)) == ["800", "900"]
    assert len(kraken.asked) == 1

    kraken = FakeKraken([a_trade(1000 - one) for one in range(200)])
    found = await kraken.history().fills(BTC, SINCE, trade_id=990)
    assert ids(found) == [str(one) for one in range(990, 1001)]
    assert len(kraken.asked) == 1


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[KrakenConnector, SandboxServer]]:
    config = SandboxConfig(
        protocol="kraken",
        accounts=(parse_account(f"{KEY}:{SECRET}"),),
        kraken_limits=KrakenLimits(calls=10_000, trading=10_000),
    )
    async with SandboxServer(config) as server:
        values = {"exchange": "kraken", "account": "main", "kind": "kraken"}
        values |= {"api_key": KEY, "secret": SECRET, "rest_url": server.url}
        connector = KrakenConnector(ConnectorSettings.model_validate(values))
        await connector.start()
        try:
            yield connector, server
        finally:
            await connector.close()


async def test_an_order_that_took_twice_has_the_trades_of_the_list() -> None:
    """The sandbox merges what a taker's order traded unless it is told not to, as Kraken does."""
    async with connected() as (connector, server):
        for price in ("39000", "39010"):
            deed = {"symbol": "BTCUSDT", "side": "SELL", "price": price, "quantity": "0.004"}
            server.exchange.control.market_order({**deed, "time_in_force": "GTC"})
        since = connector.exchange_now() - timedelta(seconds=5)
        await connector.place(
            OrderRequest(
                exchange="kraken",
                account="main",
                symbol="BTC/USDT",
                exchange_client_id=CLIENT_ID,
                side=OrderSide.BUY,
                order_type=OrderType.MARKET,
                quantity=Decimal("0.008"),
                timestamp_ms=int(connector.exchange_now().timestamp() * 1000),
                window_ms=5000,
            )
        )
        ref = OrderRef(symbol="BTC/USDT", exchange_client_id=CLIENT_ID)
        found = await connector.find_order(ref)
        listed = await connector.fills_after("BTC/USDT", trade_id=None, since=since)

    assert found is not None
    assert [fill.price for fill in found.fills] == [Decimal(39000), Decimal(39010)]
    assert [fill.fill_id for fill in found.fills] == [fill.fill_id for fill in listed]
    assert sum(fill.quantity for fill in found.fills) == found.cumulative_quantity


async def test_a_time_beside_a_trade_id_is_asked_for() -> None:
    async with connected() as (connector, _):
        kraken = FakeKraken()
        connector._history = KrakenHistory(kraken.query, connector._reader)
        await connector.fills_after("BTC/USDT", trade_id="5", since=SINCE)
        await connector.fills_after("BTC/USDT", trade_id="5", since=None)

    starts = [asked.get("start") for _, asked in kraken.asked]
    assert starts == [str(int(SINCE.timestamp()) - 1), None]
