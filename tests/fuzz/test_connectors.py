"""A connector's calls, whatever the exchange answers: read, or one of the three refusals.

Not only the rows: the body of every answer to every call, of Binance and of Kraken.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.classify import parse_json
from activities.connectors.fields import MalformedError, decimal_of
from activities.connectors.kraken_codes import read_answer
from activities.connectors.kraken_connector import KrakenConnector
from activities.connectors.settings import ConnectorSettings
from activities.store.inbox import InboxAdd
from tests.activities.test_connector_reports import EVENT, FULL, ROW, TRADE
from tests.fuzz.hostile import anything, changed, in_words, tries
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeError, OutcomeUnknown
from trading.oms.models import Fill
from trading.oms.venue import ExecutionReport, OrderList, OrderRef, OrderRequest

NOW = datetime.now(UTC)
BINANCE, KRAKEN = "binance", "kraken"
Call = Callable[[Any], Awaitable[Any]]


def request(client_id: str, symbol: str) -> OrderRequest:
    return OrderRequest(
        exchange="x",
        account="main",
        symbol=symbol,
        exchange_client_id=client_id,
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.01"),
        price=Decimal(30000),
        timestamp_ms=int(datetime.now(UTC).timestamp() * 1000),
        window_ms=60_000,
    )


@cache
def connector(kind: str) -> Any:
    """One that never dials; its instruments are there."""
    settings = ConnectorSettings(
        exchange="x",
        account="main",
        kind=kind,
        api_key=SecretStr("k"),
        secret=SecretStr("c2VjcmV0"),
        rest_url="http://127.0.0.1:1",
    )
    return (KrakenConnector if kind == KRAKEN else BinanceConnector)(settings)


SYMBOL = {BINANCE: "BTC/USDT", KRAKEN: "BTC/USD"}
SYMBOLS = {
    BINANCE: {
        "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
        "isSpotTradingAllowed": True, "baseAssetPrecision": 8, "quotePrecision": 8,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "stepSize": "0.00001"},
        ],
    },
    KRAKEN: {
        "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD",
        "pair_decimals": 1, "lot_decimals": 8, "ordermin": "0.00005", "costmin": "0.5",
        "tick_size": "0.1", "status": "online",
    },
}  # fmt: skip
ASSETS = {"XXBT": {"altname": "XBT"}, "ZUSD": {"altname": "USD"}}
MY_TRADE = {
    "symbol": "BTCUSDT", "id": 28457, "orderId": 100234, "price": "4.0", "qty": "12.0",
    "commission": "10.1", "commissionAsset": "BNB", "time": 1499865549590, "isBuyer": True,
    "isMaker": False,
}  # fmt: skip
KRAKEN_ROW: dict[str, Any] = {
    "status": "open", "cl_ord_id": "ours", "vol": "0.01", "vol_exec": "0.004", "cost": "120.0",
    "opentm": 1699999999.1234, "closetm": 1700000000.5, "reason": None, "trades": ["T1", "T2"],
    "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "30000",
              "price2": "0"},
}  # fmt: skip
KRAKEN_TRADE = {
    "ordertxid": "O1", "pair": "XXBTZUSD", "trade_id": 4711, "type": "buy", "vol": "0.004",
    "price": "30000.1", "fee": "0.3", "time": 1700000000.25, "maker": True,
}  # fmt: skip
KRAKEN_EVENT: dict[str, Any] = {
    "exec_type": "new", "order_id": "O1", "cl_ord_id": "ours", "symbol": "BTC/USD", "side": "buy",
    "order_qty": 0.01, "limit_price": 30000.1, "cum_qty": 0, "timestamp": "2026-01-01T00:00:00Z",
}  # fmt: skip
KRAKEN_EVENT_TRADE = {
    **KRAKEN_EVENT, "exec_type": "trade", "trade_id": 4711, "last_qty": 0.004,
    "last_price": 30000.1, "fees": [{"asset": "USD", "qty": 0.3}], "liquidity_ind": "m",
    "cum_qty": 0.004,
}  # fmt: skip
REF = OrderRef(symbol="BTC/USDT", exchange_client_id="ours", exchange_order_id="1")
KRAKEN_REF = REF.model_copy(update={"symbol": "BTC/USD"})
BINANCE_CALLS: dict[str, tuple[Call, Any]] = {
    "server_time": (lambda c: c.server_time(), {"serverTime": 1499827319559}),
    "load_instruments": (
        lambda c: c.load_instruments(), {"symbols": [SYMBOLS[BINANCE]], "rateLimits": [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50}]}
    ),
    "place": (lambda c: c.place(request("ours", "BTC/USDT")), FULL),
    "cancel": (lambda c: c.cancel(REF), {**ROW, "origClientOrderId": "ours", "transactTime": 1}),
    "reduce": (
        lambda c: c.reduce(REF, Decimal("0.004")),
        {"transactTime": 1741926410255, "amendedOrder": {**ROW, "qty": "5.0"}},
    ),
    "find_order": (lambda c: c.find_order(REF), ROW),
    "orders_since": (lambda c: c.orders_since("BTC/USDT", NOW), [ROW]),
    "open_orders": (lambda c: c.open_orders(), [ROW]),
    "fills_after": (lambda c: c.fills_after("BTC/USDT", trade_id="1", since=None), [MY_TRADE]),
    "fills_since": (lambda c: c.fills_after("BTC/USDT", trade_id=None, since=NOW), [MY_TRADE]),
    "fills_of": (lambda c: c.fills_of(REF), [MY_TRADE]),
    "balances": (
        lambda c: c.balances(), {"balances": [{"asset": "BTC", "free": "1.0", "locked": "0.0"}]}
    ),
    "quote": (
        lambda c: c.quote("BTC/USDT"), {"symbol": "BTCUSDT", "bidPrice": "1.0", "askPrice": "2.0"}
    ),
    "book": (lambda c: c.book("BTC/USDT"), {"bids": [["1.0", "2.0"]], "asks": [["2.0", "1.0"]]}),
    "can_withdraw": (lambda c: c.can_withdraw(), {"canWithdraw": True, "enableWithdrawals": True}),
}  # fmt: skip
KRAKEN_CALLS: dict[str, tuple[Call, Any]] = {
    "server_time": (lambda c: c.server_time(), {"unixtime": 1700000000}),
    "load_instruments": (lambda c: c.load_instruments(), {"XXBTZUSD": SYMBOLS[KRAKEN]}),
    "place": (lambda c: c.place(request("0" * 32, "BTC/USD")), {"txid": ["O1"], "descr": {}}),
    "cancel": (lambda c: c.cancel(KRAKEN_REF), {"count": 1, "pending": False}),
    "reduce": (lambda c: c.reduce(KRAKEN_REF, Decimal("0.004")), {"amend_id": "A1"}),
    "find_order": (lambda c: c.find_order(KRAKEN_REF), {"open": {"O1": KRAKEN_ROW}}),
    "orders_since": (
        lambda c: c.orders_since("BTC/USD", NOW),
        {"open": {"O1": KRAKEN_ROW}, "closed": {"O2": KRAKEN_ROW}, "count": 1},
    ),
    "open_orders": (lambda c: c.open_orders(), {"open": {"O1": KRAKEN_ROW}}),
    "fills_after": (
        lambda c: c.fills_after("BTC/USD", trade_id="1", since=None),
        {"trades": {"T1": KRAKEN_TRADE}, "count": 1},
    ),
    "fills_since": (
        lambda c: c.fills_after("BTC/USD", trade_id=None, since=NOW),
        {"trades": {"T1": KRAKEN_TRADE}, "count": 1},
    ),
    "balances": (lambda c: c.balances(), {"XXBT": {"balance": "1.5", "hold_trade": "0.5"}}),
    "quote": (
        lambda c: c.quote("BTC/USD"), {"XXBTZUSD": {"b": ["1.0", "1", "2"], "a": ["2.0", "1", "1"]}}
    ),
    "book": (
        lambda c: c.book("BTC/USD"),
        {"XXBTZUSD": {"bids": [["1.0", "2.0", 1]], "asks": [["2.0", "1.0", 1]]}},
    ),
}  # fmt: skip
CALLS = {(BINANCE, name): call for name, call in BINANCE_CALLS.items()} | {
    (KRAKEN, name): call for name, call in KRAKEN_CALLS.items()
}
COMMANDS = {"place", "cancel", "reduce"}


def spoiled(base: Any) -> st.SearchStrategy[Any]:
    """The answer, spoiled anywhere in it."""
    if isinstance(base, list) and base:
        inner = spoiled(base[0]).map(lambda row: [row, *base])
        return inner | anything
    if not isinstance(base, dict):
        return anything
    parts = [
        spoiled_at(base, name) for name, value in base.items() if isinstance(value, dict | list)
    ]
    return st.one_of(changed(base), anything, *parts)


def spoiled_at(base: dict[str, Any], name: str) -> st.SearchStrategy[Any]:
    """The answer, spoiled within one of its fields."""
    return spoiled(base[name]).map(lambda inner: {**base, name: inner})


def answering(made: Any, body: Any, kind: str, name: str) -> None:
    """Let every request of the connector have this answer, as its text would be read."""
    text = json.dumps({"error": [], "result": body} if kind == KRAKEN else body)
    read = read_answer(200, {}, text, str).body if kind == KRAKEN else parse_json(text)

    async def call(_call: Any, _method: str, path: str, _parameters: Any = None) -> Any:
        await asyncio.sleep(0)
        _call.written_at = 0.0
        if name != "load_instruments":
            return read
        return ASSETS if path == "Assets" else read

    made._wire.call = call


async def loaded(kind: str, name: str = "") -> Any:
    """The connector with its instruments, read again where the test has spoiled them."""
    made = connector(kind)
    if name != "load_instruments" and made.instrument(SYMBOL[kind]) is not None:
        return made
    bodies = {BINANCE: BINANCE_CALLS, KRAKEN: KRAKEN_CALLS}[kind]
    answering(made, bodies["load_instruments"][1], kind, "load_instruments")
    await made.load_instruments()
    return made


@pytest.mark.parametrize(("kind", "name"), CALLS)
@tries
@given(data=st.data())
def test_whatever_a_call_is_answered_it_returns_or_raises_one_of_three(
    kind: str, name: str, data: st.DataObject
) -> None:
    ask, base = CALLS[kind, name]
    body = data.draw(spoiled(base))

    async def once() -> Any:
        made = await loaded(kind, name)
        answering(made, body, kind, name)
        async with asyncio.timeout(5):
            return await ask(made)

    found: Any = None
    refusals = OutcomeUnknown if name in COMMANDS else ExchangeError
    with contextlib.suppress(refusals):
        found = asyncio.run(once())
    assert connector(kind).exchange_now(), "a refused answer has set the clock"
    for one in found if isinstance(found, OrderList | list | tuple) else [found]:
        if isinstance(one, BaseModel):
            can_be_kept(one)


def test_the_untouched_answers_are_read() -> None:
    """Else the fuzz would only ever see refusals."""

    async def all_of_them() -> None:
        for (kind, name), (ask, base) in CALLS.items():
            made = await loaded(kind)
            answering(made, base, kind, name)
            if (kind, name) == (KRAKEN, "find_order"):
                continue  # Its trades are another answer.
            await ask(made)

    asyncio.run(all_of_them())


BINANCE_TRANSFER = {
    "e": "balanceUpdate", "E": 1573200697110, "a": "BTC", "d": "-100.5", "T": 1573200697068,
}  # fmt: skip
KRAKEN_TRANSFER = {
    "ledger_id": "L1", "ref_id": "R1", "timestamp": "2026-01-01T00:00:00Z", "type": "deposit",
    "asset": "XBT", "asset_class": "currency", "category": "deposit", "wallet_type": "spot",
    "amount": 2.5, "fee": 0.001, "balance": 12.5,
}  # fmt: skip
EVENTS: dict[tuple[str, str], dict[str, Any]] = {
    (BINANCE, "transfer"): BINANCE_TRANSFER,
    (KRAKEN, "transfer"): KRAKEN_TRANSFER,
    (BINANCE, "new"): EVENT,
    (BINANCE, "trade"): {**EVENT, **TRADE},
    (KRAKEN, "new"): KRAKEN_EVENT,
    (KRAKEN, "trade"): KRAKEN_EVENT_TRADE,
    (KRAKEN, "end"): {
        "exec_type": "canceled", "order_id": "O1", "timestamp": "2026-01-01T00:00:00Z"
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), EVENTS)
@tries
@given(data=st.data())
def test_an_event_of_the_stream_is_read_or_malformed(
    kind: str, name: str, data: st.DataObject
) -> None:
    made = asyncio.run(loaded(kind))
    raw = parse_json(json.dumps(data.draw(spoiled(EVENTS[kind, name]))))
    try:
        report = made._reader.streamed(raw)
    except MalformedError as refusal:
        in_words(refusal)
    else:
        if report is not None:
            can_be_kept(report)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-8", "0.00000001"), ("2.5E-05", "0.000025"), ("3e2", "300"), ("1e30", ""), ("1e-19", "")],
)
def test_a_number_with_an_exponent_is_as_exact_as_any(text: str, value: str) -> None:
    row = parse_json(f'{{"amount": {text}}}')
    if value:
        assert decimal_of(row, "amount") == Decimal(value)
    else:
        with pytest.raises(MalformedError):
            decimal_of(row, "amount")


def test_a_transfer_is_read_exactly() -> None:
    """Kraken's fee is taken besides; its ledger has both sides of trades too."""
    reader = asyncio.run(loaded(BINANCE))._reader
    went = reader.streamed(parse_json(json.dumps(BINANCE_TRANSFER)))
    assert (went.asset, went.amount) == ("BTC", Decimal("-100.5"))
    assert reader.streamed(dict(BINANCE_TRANSFER)).transfer_id == went.transfer_id
    assert reader.streamed({**BINANCE_TRANSFER, "T": 1}).transfer_id != went.transfer_id

    reader = asyncio.run(loaded(KRAKEN))._reader
    came = reader.streamed(parse_json(json.dumps(KRAKEN_TRANSFER)))
    assert (came.asset, came.amount, came.transfer_id) == ("BTC", Decimal("2.499"), "L1")
    assert reader.streamed({**KRAKEN_TRANSFER, "type": "trade"}) is None
    assert reader.streamed({"asset": "BTC", "balance": "1"}) is None


def can_be_kept(made: BaseModel) -> None:
    """What is read from an exchange must fit into the store of both databases."""
    assert type(made).model_validate_json(made.model_dump_json()) == made
    if isinstance(made, ExecutionReport):
        [row] = InboxAdd([made])._rows
        assert all(
            len(row[name] or "") <= 64 for name in ("exchange_client_id", "exchange_order_id")
        )
        for fill in made.fills:
            can_be_kept(fill)
    if isinstance(made, Fill):
        assert len(made.fee_currency) <= 16
        assert all(len(name or "") <= 64 for name in (made.trade_id, made.exchange_order_id))
