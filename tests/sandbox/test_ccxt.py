"""The protocol is Binance's, not our idea of it: ccxt's own class works by the addresses alone."""

import asyncio
from typing import Any

import ccxt
import pytest

from tests.sandbox.conftest import Connect, Raw, Start

PAIR = "BTC/USDT"


async def soon(awaitable: Any) -> Any:
    async with asyncio.timeout(5):
        return await awaitable


async def test_markets_balance_and_time_load_with_the_options_left_alone(exchange: Any) -> None:
    market = exchange.market(PAIR)
    assert market["precision"] == {
        "amount": 0.000001,
        "price": 0.01,
        "base": 1e-08,
        "quote": 1e-08,
        "cost": None,
    } or (market["precision"]["amount"], market["precision"]["price"]) == (0.000001, 0.01)
    assert market["limits"]["cost"]["min"] == 5.0
    assert (await exchange.fetch_balance())["USDT"]["free"] == 1_000_000
    assert abs(await exchange.fetch_time() - exchange.milliseconds()) < 5000


async def test_an_order_lives_fills_in_parts_and_is_cancelled(exchange: Any, raw: Raw) -> None:
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    assert placed["status"] == "open"
    await raw.market("SELL", "39000", "0.004")
    fetched = await exchange.fetch_order(placed["id"], PAIR)
    assert (fetched["status"], fetched["filled"], fetched["remaining"]) == ("open", 0.004, 0.006)
    assert [o["id"] for o in await exchange.fetch_open_orders(PAIR)] == [placed["id"]]
    cancelled = await exchange.cancel_order(placed["id"], PAIR)
    assert (cancelled["status"], cancelled["id"]) == ("canceled", placed["id"])
    (trade,) = await exchange.fetch_my_trades(PAIR)
    assert (trade["order"], trade["amount"], trade["takerOrMaker"]) == (
        placed["id"],
        0.004,
        "maker",
    )
    assert trade["fee"] == {"currency": "BTC", "cost": 0.000004}
    statuses = [order["status"] for order in await exchange.fetch_orders(PAIR)]
    assert statuses == ["canceled"]


async def test_a_market_order_answers_with_its_fills(exchange: Any, raw: Raw) -> None:
    await raw.control(
        "quote",
        symbol="BTCUSDT",
        bid="38999",
        bid_quantity="1",
        ask="39001",
        ask_quantity="1",
    )
    order = await exchange.create_order(PAIR, "market", "sell", 0.5)
    assert (order["status"], order["average"], order["filled"]) == ("closed", 38999.0, 0.5)
    (trade,) = order["trades"]
    assert trade["fee"] == {"currency": "USDT", "cost": 19.4995}


async def test_edit_order_is_a_cancel_replace(exchange: Any) -> None:
    first = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    second = await exchange.edit_order(first["id"], PAIR, "limit", "buy", 0.02, 38000)
    assert second["id"] != first["id"]
    assert (second["price"], second["amount"]) == (38000.0, 0.02)
    assert [o["id"] for o in await exchange.fetch_open_orders(PAIR)] == [second["id"]]


async def test_stop_limit_and_post_only_orders(exchange: Any, raw: Raw) -> None:
    await raw.control("trade", symbol="BTCUSDT", side="BUY", price="39000", quantity="0.01")
    stop = await exchange.create_order(PAIR, "limit", "sell", 0.01, 38000, {"stopLossPrice": 38500})
    fetched = await exchange.fetch_order(stop["id"], PAIR)
    assert (fetched["status"], fetched["triggerPrice"]) == ("open", 38500.0)
    maker = await exchange.create_order(PAIR, "limit", "sell", 0.01, 40000, {"postOnly": True})
    assert (await exchange.fetch_order(maker["id"], PAIR))["postOnly"] is True
    cancelled = await exchange.cancel_all_orders(PAIR)
    assert {order["id"] for order in cancelled} == {stop["id"], maker["id"]}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("limit", "buy", 100, 39000), ccxt.InsufficientFunds),
        (("limit", "buy", 0.0001, 39000), ccxt.BadRequest),
        (("limit", "buy", 10000, 39000), ccxt.InvalidOrder),
    ],
)
async def test_refusals_are_the_errors_ccxt_knows(
    exchange: Any, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await exchange.create_order(PAIR, *arguments)


async def test_an_unknown_order_cannot_be_fetched_or_cancelled(exchange: Any) -> None:
    for action in (exchange.fetch_order, exchange.cancel_order):
        with pytest.raises(ccxt.OrderNotFound):
            await action("1", PAIR)


async def test_a_wrong_secret_is_refused(start: Start, connect: Connect) -> None:
    client = connect(await start())
    client.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError):
        await client.fetch_balance()


async def test_watch_orders_my_trades_and_balance_follow_one_order(exchange: Any, raw: Raw) -> None:
    watchers = [
        asyncio.ensure_future(watch())
        for watch in (exchange.watch_orders, exchange.watch_my_trades, exchange.watch_balance)
    ]
    await until_subscribed(exchange)
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    orders = await soon(watchers[0])
    balance = await soon(watchers[2])
    assert (orders[0]["id"], orders[0]["status"]) == (placed["id"], "open")
    assert balance["USDT"]["used"] == 390.0
    again = asyncio.ensure_future(exchange.watch_orders())
    await asyncio.sleep(0)
    await raw.market("SELL", "39000", "0.01")
    trades = await soon(watchers[1])
    assert (trades[0]["order"], trades[0]["amount"]) == (placed["id"], 0.01)
    assert (await soon(again))[-1]["status"] == "closed"


async def until_subscribed(exchange: Any) -> None:
    """Until the user data stream's subscription is answered."""
    async with asyncio.timeout(5):
        url = exchange.urls["api"]["ws"]["ws-api"]["spot"]
        while "spot:balance" not in exchange.client(url).futures:  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.01)


async def test_a_deposit_is_a_balance_update(exchange: Any, raw: Raw) -> None:
    watching = asyncio.ensure_future(exchange.watch_balance())
    await until_subscribed(exchange)
    await raw.control("deposit", account="alice", asset="BTC", amount="1.5")
    await soon(watching)
    assert (await exchange.fetch_balance())["BTC"]["free"] == 11.5


async def test_watch_order_book_keeps_up_with_the_differences(exchange: Any, raw: Raw) -> None:
    await raw.order(price="39000")
    book = await soon(exchange.watch_order_book(PAIR))
    assert book["bids"][0] == [39000.0, 0.01]
    await raw.order(price="39100", quantity="0.02")
    async with asyncio.timeout(5):
        while book["bids"][0] != [39100.0, 0.02]:
            book = await exchange.watch_order_book(PAIR)
    fetched = await exchange.fetch_order_book(PAIR)
    assert [list(level) for level in book["bids"]] == fetched["bids"]


async def test_watch_trades_bids_asks_and_ticker(exchange: Any, raw: Raw) -> None:
    await raw.control(
        "quote", symbol="BTCUSDT", bid="38999", bid_quantity="1", ask="39001", ask_quantity="2"
    )
    best = await soon(exchange.watch_bids_asks([PAIR]))
    assert (best[PAIR]["bid"], best[PAIR]["askVolume"]) == (38999.0, 2.0)
    watching = asyncio.ensure_future(exchange.watch_trades(PAIR))
    async with asyncio.timeout(5):
        while not watching.done():
            await raw.market("BUY", "39001", "0.1")
            await asyncio.sleep(0.02)
    trade = (await watching)[0]
    assert (trade["price"], trade["amount"], trade["side"]) == (39001.0, 0.1, "buy")
    ticker = await soon(exchange.watch_ticker(PAIR, {"name": "ticker"}))
    assert (ticker["last"], ticker["bid"], ticker["high"]) == (39001.0, 38999.0, 39001.0)
    tickers = await soon(exchange.watch_tickers([PAIR]))
    assert tickers[PAIR]["last"] == 39001.0


async def test_public_market_data_by_rest(exchange: Any, raw: Raw) -> None:
    await raw.control(
        "quote", symbol="BTCUSDT", bid="38999", bid_quantity="1", ask="39001", ask_quantity="2"
    )
    await raw.control("trade", symbol="BTCUSDT", side="SELL", price="39000", quantity="0.25")
    ticker = await exchange.fetch_ticker(PAIR)
    assert (ticker["last"], ticker["baseVolume"]) == (39000.0, 0.25)
    assert (await exchange.fetch_bids_asks())[PAIR]["bid"] == 38999.0
    (trade,) = await exchange.fetch_trades(PAIR)
    assert (trade["price"], trade["amount"], trade["side"]) == (39000.0, 0.25, "sell")
    assert (await exchange.fetch_tickers([PAIR]))[PAIR]["last"] == 39000.0


async def test_orders_over_the_websocket_api(exchange: Any) -> None:
    placed = await soon(exchange.create_order_ws(PAIR, "limit", "buy", 0.01, 39000))
    fetched = await soon(exchange.fetch_order_ws(placed["id"], PAIR))
    assert (fetched["id"], fetched["status"]) == (placed["id"], "open")
    cancelled = await soon(exchange.cancel_order_ws(placed["id"], PAIR))
    assert cancelled["status"] == "canceled"


async def test_two_instances_are_two_exchanges(start: Start, connect: Connect) -> None:
    north, south = await start(name="north"), await start(name="south")
    one, other = connect(north), connect(south)
    await one.create_order(PAIR, "limit", "buy", 0.01, 39000)
    assert len(await one.fetch_open_orders(PAIR)) == 1
    assert await other.fetch_open_orders(PAIR) == []
    assert north.port != south.port
