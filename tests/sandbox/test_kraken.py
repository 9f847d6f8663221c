"""The protocol is Kraken's: ccxt's own class works by the addresses alone, REST and WebSocket."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ccxt.pro
import pytest

from workers.sandbox.addresses import ccxt_kraken_urls
from workers.sandbox.config import KrakenLimits, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

PAIR = "BTC/USDT"
SECRET = base64.b64encode(b"the secret of the sandbox" * 2).decode()
GENEROUS = KrakenLimits(calls=1000, trading=1000)


async def soon(awaitable: Any) -> Any:
    async with asyncio.timeout(5):
        return await awaitable


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[SandboxServer]:
    limits = getattr(request, "param", GENEROUS)
    accounts = (parse_account(f"alice:{SECRET}"),)
    config = SandboxConfig(protocol="kraken", accounts=accounts, kraken_limits=limits)
    async with SandboxServer(config) as running:
        yield running


@pytest.fixture
async def exchange(server: SandboxServer) -> AsyncIterator[Any]:
    client = ccxt.pro.kraken(
        {
            "apiKey": "alice",
            "secret": SECRET,
            "urls": ccxt_kraken_urls(server.url),
            "enableRateLimit": False,
            "timeout_on_exit": 0,
        }
    )
    await client.load_markets()
    yield client
    await client.close()


def market(server: SandboxServer, side: str, price: str, quantity: str) -> None:
    deed = {"symbol": "BTCUSDT", "side": side, "price": price, "quantity": quantity}
    server.exchange.control.market_order({**deed, "time_in_force": "GTC"})


def fault(server: SandboxServer, kind: str, **options: Any) -> None:
    server.exchange.control.set_faults({"fault": kind, "count": 1, **options})


def in_a(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# REST


async def test_markets_balance_and_time_load(exchange: Any) -> None:
    rules = exchange.market(PAIR)

    assert (rules["id"], rules["wsId"]) == ("XBTUSDT", "XBT/USDT")
    assert (rules["precision"]["price"], rules["limits"]["cost"]["min"]) == (0.01, 5.0)
    assert exchange.market("ETH/BTC")["id"] == "XETHXXBT"
    assert (await exchange.fetch_balance())["BTC"]["free"] == 10
    assert abs(await exchange.fetch_time() - exchange.milliseconds()) < 5000


async def test_an_order_lives_fills_in_parts_and_is_cancelled(
    exchange: Any, server: SandboxServer
) -> None:
    placed = await exchange.create_order(
        PAIR, "limit", "buy", 0.01, 39000, {"clientOrderId": "of-the-test"}
    )
    market(server, "SELL", "39000", "0.004")
    fetched = await exchange.fetch_order(placed["id"], PAIR)
    (listed,) = await exchange.fetch_open_orders(PAIR, params={"clientOrderId": "of-the-test"})
    await exchange.cancel_order(placed["id"], PAIR)
    (closed,) = await exchange.fetch_closed_orders(PAIR)
    (trade,) = await exchange.fetch_my_trades(PAIR, params={"consolidate_taker": "false"})

    assert (fetched["status"], fetched["filled"], fetched["remaining"]) == ("open", 0.004, 0.006)
    assert (listed["id"], listed["clientOrderId"]) == (placed["id"], "of-the-test")
    assert (closed["status"], closed["filled"]) == ("canceled", 0.004)
    assert (trade["order"], trade["amount"], trade["takerOrMaker"]) == (
        placed["id"],
        0.004,
        "maker",
    )
    assert trade["fee"] == {"currency": "USDT", "cost": 0.156}
    by_order = await exchange.fetch_order_trades(placed["id"], PAIR, params=fetched)
    assert [one["id"] for one in by_order] == [trade["id"]]


async def test_a_buyer_pays_the_fee_on_top_and_the_books_add_up(
    exchange: Any, server: SandboxServer
) -> None:
    market(server, "SELL", "40000", "1")
    await exchange.create_order(PAIR, "market", "buy", 0.1)
    resting = await exchange.create_order(PAIR, "limit", "buy", 0.1, 39000)
    balance = await exchange.fetch_balance()
    ledger = server.exchange.control.ledger({})

    assert balance["BTC"]["total"] == 10.1
    assert balance["USDT"]["total"] == 1_000_000 - 4000 - 4
    assert balance["USDT"]["used"] == pytest.approx(3900 + 3.9)
    assert ledger["fees"] == {"USDT": "4.00000000"}
    await exchange.cancel_order(resting["id"], PAIR)
    assert (await exchange.fetch_balance())["USDT"]["used"] == 0


async def test_stop_post_only_and_cancel_all(exchange: Any, server: SandboxServer) -> None:
    market(server, "BUY", "38000", "1")
    market(server, "SELL", "41000", "1")
    deed = {"symbol": "BTCUSDT", "side": "BUY", "price": "40000", "quantity": "0.1"}
    server.exchange.control.trade(deed)
    stop = await exchange.create_order(PAIR, "limit", "sell", 0.01, 36000, {"stopLossPrice": 37000})
    maker = await exchange.create_order(PAIR, "limit", "sell", 0.01, 42000, {"postOnly": True})
    fetched = await exchange.fetch_order(stop["id"], PAIR)
    with pytest.raises(ccxt.ExchangeError, match="Post only"):
        await exchange.create_order(PAIR, "limit", "sell", 0.01, 37000, {"postOnly": True})

    assert (fetched["stopLossPrice"], fetched["price"]) == (37000.0, 36000.0)
    assert (await exchange.fetch_order(maker["id"], PAIR))["postOnly"] is True
    await exchange.cancel_all_orders(PAIR)
    assert await exchange.fetch_open_orders(PAIR) == []


async def test_an_amend_keeps_the_identifier(exchange: Any) -> None:
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.02, 39000)
    await exchange.edit_order(placed["id"], PAIR, "limit", "buy", 0.01)
    reduced = await exchange.fetch_order(placed["id"], PAIR)
    await exchange.edit_order(placed["id"], PAIR, "limit", "buy", 0.03, 38000)
    changed = await exchange.fetch_order(placed["id"], PAIR)
    edited = await exchange.privatePostEditOrder(
        {"txid": placed["id"], "pair": "XBTUSDT", "volume": "0.05"}
    )

    assert (reduced["amount"], reduced["price"], reduced["status"]) == (0.01, 39000.0, "open")
    assert (changed["amount"], changed["price"], changed["status"]) == (0.03, 38000.0, "open")
    assert edited["result"]["originaltxid"] == placed["id"]
    (now,) = await exchange.fetch_open_orders(PAIR)
    assert (now["id"], now["amount"]) == (edited["result"]["txid"], 0.05)


async def test_an_order_good_till_a_date_expires(exchange: Any) -> None:
    placed = await exchange.create_order(
        PAIR, "limit", "buy", 0.01, 39000, {"timeInForce": "GTD", "expiretm": "+0.1"}
    )
    async with asyncio.timeout(5):
        while await exchange.fetch_open_orders(PAIR):  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.05)
    assert (await exchange.fetch_order(placed["id"], PAIR))["status"] == "expired"


async def test_validate_places_nothing(exchange: Any) -> None:
    answer = await exchange.privatePostAddOrder(
        {
            "pair": "XBTUSDT",
            "type": "buy",
            "ordertype": "limit",
            "price": "39000",
            "volume": "0.01",
            "validate": "true",
        }
    )
    assert answer["result"] == {"descr": {"order": "buy 0.01000000 XBTUSDT @ limit 39000.00"}}
    assert await exchange.fetch_open_orders() == []


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (("limit", "buy", 100, 39000, {}), "EOrder:Insufficient funds"),
        (("limit", "buy", 0.0001, 39000, {}), "EOrder:Cost minimum not met"),
        (("limit", "buy", 0.01, 39000, {"deadline": in_a(-1)}), "EService:Deadline elapsed"),
        (("limit", "buy", 0.01, 39000, {"deadline": "soon"}), "EGeneral:Invalid arguments"),
        (("limit", "buy", 0.01, 39000, {"clientOrderId": "x" * 19}), "EGeneral:Invalid arguments"),
        (("limit", "buy", 0.01, 39000, {"timeInForce": "FOK"}), "EGeneral:Invalid arguments"),
        (("iceberg", "buy", 0.01, 39000, {}), "EGeneral:Invalid arguments:ordertype"),
    ],
)
async def test_refusals_have_krakens_words(
    exchange: Any, order: tuple[Any, ...], text: str
) -> None:
    with pytest.raises(ccxt.BaseError, match=text):
        await exchange.create_order(PAIR, *order)
    assert await exchange.fetch_open_orders() == []


async def test_a_client_id_is_unique_among_open_orders_only(exchange: Any) -> None:
    named = {"clientOrderId": "once"}
    first = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000, named)
    with pytest.raises(ccxt.ExchangeError, match="cl_ord_id not unique"):
        await exchange.create_order("ETH/USDT", "limit", "buy", 1, 1000, named)
    await exchange.cancel_order(first["id"], PAIR)
    await exchange.create_order("ETH/USDT", "limit", "buy", 1, 1000, named)


async def test_keys_signatures_and_nonces_are_checked(exchange: Any) -> None:
    await exchange.fetch_balance()
    exchange.incrementing_nonce = lambda: 1
    with pytest.raises(ccxt.InvalidNonce):
        await exchange.fetch_balance()
    del exchange.incrementing_nonce
    exchange.secret = base64.b64encode(b"wrong").decode()
    with pytest.raises(ccxt.ExchangeError, match="EAPI:Invalid signature"):
        await exchange.fetch_balance()
    exchange.apiKey = "mallory"
    with pytest.raises(ccxt.AuthenticationError, match="EAPI:Invalid key"):
        await exchange.fetch_balance()


@pytest.mark.parametrize("server", [KrakenLimits(calls=3, trading=10)], indirect=True)
async def test_the_counters_rise_and_decay(exchange: Any, server: SandboxServer) -> None:
    for _ in range(3):
        await exchange.fetch_balance()
    with pytest.raises(ccxt.DDoSProtection, match="EAPI:Rate limit exceeded"):
        await exchange.fetch_balance()
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    await exchange.cancel_order(placed["id"], PAIR)
    await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    with pytest.raises(ccxt.DDoSProtection, match="EOrder:Rate limit exceeded"):
        await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    counter = server.exchange.kraken.limits.counter(  # type: ignore[union-attr]
        server.exchange.engine.accounts["alice"], "BTCUSDT"
    )
    before = counter.now()
    counter._at -= 1.0  # A second passes.
    assert counter.now() == pytest.approx(before - 2.34, abs=0.1)


# Faults


@pytest.mark.parametrize("order", ["alive", "dead"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("http_503", "503"),
        ("code_-1006", "EGeneral:Internal error"),
        ("code_-1007", "EService:Unavailable"),
        ("code_-1008", "EService:Busy"),
    ],
)
async def test_answers_of_unknown_outcome(
    exchange: Any, server: SandboxServer, kind: str, text: str, order: str
) -> None:
    fault(server, kind, order=order)
    with pytest.raises(ccxt.BaseError, match=text):
        await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    assert len(await exchange.fetch_open_orders()) == (order == "alive")


async def test_an_answer_is_lost_and_the_order_lives(exchange: Any, server: SandboxServer) -> None:
    fault(server, "reply_lost", endpoint="AddOrder")
    with pytest.raises(ccxt.NetworkError):
        await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    assert len(await exchange.fetch_open_orders()) == 1


async def test_a_late_order_is_refused_by_its_deadline(
    exchange: Any, server: SandboxServer
) -> None:
    fault(server, "accept_delayed_ms", ms=120)
    with pytest.raises(ccxt.BaseError, match="Deadline elapsed"):
        await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000, {"deadline": in_a(0.05)})
    assert await exchange.fetch_open_orders() == []


async def test_a_lockout_lasts(exchange: Any, server: SandboxServer) -> None:
    fault(server, "ban_418", retry_after=60)
    for _ in range(2):
        with pytest.raises(ccxt.DDoSProtection, match="Temporary lockout"):
            await exchange.fetch_balance()
    server.exchange.control.set_faults({"clear": "all"})
    await exchange.fetch_balance()


# WebSocket


async def subscribed(server: SandboxServer, channel: str = "executions") -> None:
    """Until somebody follows the account's channel."""
    account = server.exchange.engine.accounts["alice"]
    async with asyncio.timeout(5):
        while not server.exchange.user_streams.of(account, channel):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_watch_orders_and_my_trades_follow_one_order(
    exchange: Any, server: SandboxServer
) -> None:
    orders = asyncio.ensure_future(exchange.watch_orders())
    trades = asyncio.ensure_future(exchange.watch_my_trades())
    await subscribed(server)
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    seen = await soon(orders)
    again = asyncio.ensure_future(exchange.watch_orders())
    await asyncio.sleep(0)
    market(server, "SELL", "39000", "0.01")
    (trade,) = await soon(trades)
    last = (await soon(again))[-1]

    assert (seen[-1]["id"], seen[-1]["amount"]) == (placed["id"], 0.01)
    assert (trade["order"], trade["amount"], trade["takerOrMaker"]) == (
        placed["id"],
        0.01,
        "maker",
    )
    assert trade["fee"] == {"cost": 0.39, "currency": "USDT"}
    assert last["id"] == placed["id"]


async def test_a_new_subscription_begins_with_the_open_orders(
    exchange: Any, server: SandboxServer
) -> None:
    placed = await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    (order,) = await soon(exchange.watch_orders())
    assert (order["id"], order["price"]) == (placed["id"], 39000.0)


async def test_watch_balance(exchange: Any, server: SandboxServer) -> None:
    first = await soon(exchange.watch_balance())
    watching = asyncio.ensure_future(exchange.watch_balance())
    await asyncio.sleep(0)
    server.exchange.control.deposit({"account": "alice", "asset": "BTC", "amount": "1.5"})

    assert first["BTC"]["total"] == 10
    assert (await soon(watching))["BTC"]["total"] == 11.5


async def test_the_book_keeps_up_and_its_checksum_is_right(
    exchange: Any, server: SandboxServer
) -> None:
    exchange.options["watchOrderBook"] = {"checksum": False}
    for step in range(12):
        market(server, "BUY", str(39000 - step), "0.01")
    book = await soon(exchange.watch_order_book(PAIR))
    assert len(book["bids"]) == 10
    await exchange.create_order(PAIR, "market", "sell", 0.015)
    async with asyncio.timeout(5):
        while book["bids"][0] != [38999.0, 0.005]:
            book = await exchange.watch_order_book(PAIR)
    fetched = await exchange.fetch_order_book(PAIR, 10)
    assert [list(level) for level in book["bids"]] == [level[:2] for level in fetched["bids"]]


async def test_ticker_and_trades_are_public(exchange: Any, server: SandboxServer) -> None:
    market(server, "BUY", "39000", "1")
    market(server, "SELL", "39010", "2")
    ticker = await soon(exchange.watch_ticker(PAIR))
    watching = asyncio.ensure_future(exchange.watch_trades(PAIR))
    async with asyncio.timeout(5):
        while not watching.done():
            market(server, "BUY", "39010", "0.1")
            await asyncio.sleep(0.02)
    trade = (await watching)[0]

    assert (ticker["bid"], ticker["askVolume"]) == (39000.0, 2.0)
    assert (trade["price"], trade["amount"], trade["side"]) == (39010.0, 0.1, "buy")
    assert (await exchange.fetch_ticker(PAIR))["last"] == 39010.0
    assert (await exchange.fetch_trades(PAIR))[-1]["amount"] == 0.1


async def test_a_dropped_event_leaves_a_gap_in_the_sequence(
    exchange: Any, server: SandboxServer
) -> None:
    watching = asyncio.ensure_future(exchange.watch_orders())
    await subscribed(server)
    fault(server, "stream_drop", event="pending_new")
    await exchange.create_order(PAIR, "limit", "buy", 0.01, 39000)
    (order,) = await soon(watching)

    assert order["info"]["exec_type"] == "new"


async def test_the_dead_man_switch_cancels_all_unless_told_again(
    exchange: Any, server: SandboxServer
) -> None:
    for price in (39000, 39100):
        await exchange.create_order(PAIR, "limit", "buy", 0.01, price)
    armed = await exchange.cancel_all_orders_after(60_000)
    disarmed = await exchange.cancel_all_orders_after(0)
    assert armed["result"]["triggerTime"].endswith("Z")
    assert disarmed["result"]["triggerTime"] == "0"

    await exchange.cancel_all_orders_after(1000)
    async with asyncio.timeout(5):
        while await exchange.fetch_open_orders(PAIR):  # noqa: ASYNC110 - it has no event for us
            await asyncio.sleep(0.05)
    assert server.exchange.kraken is not None
    assert not server.exchange.kraken.rest.dead_man.armed
    closed = await exchange.fetch_closed_orders(PAIR)
    assert [order["status"] for order in closed] == ["canceled", "canceled"]
