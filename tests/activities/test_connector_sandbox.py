"""The Binance connector against the sandbox exchange: every call, and every fault that matters."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from activities.connectors import history
from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.settings import ConnectorSettings
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
    StartUpError,
)
from trading.oms.models import Fill
from trading.oms.routing.markets import Level
from trading.oms.venue import (
    ExecutionReport,
    OrderList,
    OrderRef,
    OrderRequest,
    StreamState,
    Transfer,
    VenueStatus,
)
from workers.sandbox.config import SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

KEY, SECRET = "alice-key-of-the-sandbox", "alice-secret-of-the-sandbox"
BTC = "BTC/USDT"
NOBODY = OrderRef(symbol=BTC, exchange_client_id="nobody")
BUY, SELL = OrderSide.BUY, OrderSide.SELL
_numbers = itertools.count(1)
Control = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    config = SandboxConfig(accounts=(parse_account(f"{KEY}:{SECRET}"),))
    async with SandboxServer(config) as running:
        yield running


@pytest.fixture
def fault(server: SandboxServer) -> Control:
    def set_fault(kind: str, **options: Any) -> None:
        server.exchange.control.set_faults({"fault": kind, **options})

    return set_fault


def settings(server: SandboxServer, **more: object) -> ConnectorSettings:
    values = {
        "exchange": "binance",
        "account": "main",
        "api_key": KEY,
        "secret": SECRET,
        "rest_url": server.url,
        "timeout_ms": 400,
        "stream_silence_ms": 500,
    }
    return ConnectorSettings.model_validate(values | more)


@pytest.fixture
async def connector(server: SandboxServer) -> AsyncIterator[BinanceConnector]:
    connector = BinanceConnector(settings(server))
    await connector.start()
    yield connector
    await connector.close()


def order(connector: BinanceConnector, **fields: object) -> OrderRequest:
    """A limit buy of 0.01 BTC at 39000 that rests, with what the test changes."""
    values: dict[str, object] = {
        "exchange": "binance",
        "account": "main",
        "symbol": BTC,
        "exchange_client_id": f"client-{next(_numbers)}",
        "side": BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.01"),
        "price": Decimal(39000),
        "timestamp_ms": int(connector.exchange_now().timestamp() * 1000),
        "window_ms": 5000,
    }
    return OrderRequest.model_validate(values | fields)


def ref(report: ExecutionReport | OrderRequest) -> OrderRef:
    known = report.exchange_order_id if isinstance(report, ExecutionReport) else None
    return OrderRef(
        symbol=report.symbol,
        exchange_client_id=report.exchange_client_id or "",
        exchange_order_id=known,
    )


def orders_at(server: SandboxServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.exchange.control.ledger({})["orders"]
    return found


def trade_at_market(server: SandboxServer, side: str, price: str, quantity: str) -> None:
    server.exchange.control.market_order(
        {"symbol": "BTCUSDT", "side": side, "price": price, "quantity": quantity,
         "time_in_force": "GTC"}
    )  # fmt: skip


# Queries


async def test_the_rules_of_a_symbol_are_the_exchanges(connector: BinanceConnector) -> None:
    rules = connector.instrument(BTC)

    assert rules is not None
    assert (rules.tick_size, rules.lot_size) == (Decimal("0.01"), Decimal("0.000001"))
    assert (rules.min_notional, rules.base, rules.quote) == (Decimal(5), "BTC", "USDT")
    assert connector.instrument("BTC/EUR") is None


async def test_the_clock_is_the_exchanges(connector: BinanceConnector, fault: Control) -> None:
    fault("clock_skew_ms", ms=90_000)
    before = connector.exchange_now()
    asked = await connector.server_time()

    assert timedelta(seconds=89) < asked - before < timedelta(seconds=92)
    assert abs(connector.exchange_now() - asked) < timedelta(seconds=1)


async def test_balances_and_quote_are_exact(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    trade_at_market(server, "BUY", "38000.01", "1")
    trade_at_market(server, "SELL", "41000.03", "1")
    await connector.place(order(connector))

    balances = await connector.balances()
    quote = await connector.quote(BTC)

    assert balances["USDT"].locked == Decimal(390)
    assert balances["USDT"].total == Decimal(1_000_000)
    assert (quote.bid, quote.ask) == (Decimal(39000), Decimal("41000.03"))


async def test_a_book_has_the_best_levels_of_both_sides(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    assert ((await connector.book(BTC)).bids, (await connector.book(BTC)).asks) == ((), ())
    for price, quantity in (("41000.03", "1"), ("41000.02", "0.5"), ("41000.03", "2")):
        trade_at_market(server, "SELL", price, quantity)
    trade_at_market(server, "BUY", "38000.01", "1")

    book = await connector.book(BTC)

    assert book.asks == (
        Level(Decimal("41000.02"), Decimal("0.5")),
        Level(Decimal("41000.03"), Decimal(3)),
    )
    assert book.bids == (Level(Decimal("38000.01"), Decimal(1)),)


async def test_a_quote_of_an_empty_book_is_unavailable(connector: BinanceConnector) -> None:
    with pytest.raises(ExchangeUnavailable, match="empty"):
        await connector.quote(BTC)


async def test_an_exchange_that_does_not_say_what_the_key_may_do(
    connector: BinanceConnector,
) -> None:
    assert await connector.can_withdraw() in {None, False}


async def test_a_wrong_key_is_told_at_the_start(server: SandboxServer) -> None:
    connector = BinanceConnector(settings(server, secret="wrong-secret-of-the-sandbox"))
    with pytest.raises(StartUpError, match="-1022"):
        await connector.start()


async def test_a_dead_address_is_told_at_the_start(server: SandboxServer) -> None:
    await server.stop()
    with pytest.raises(StartUpError, match="nothing was sent"):
        await BinanceConnector(settings(server)).start()


# Commands


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "LIMIT"),
        ({"time_in_force": TimeInForce.GTD}, "LIMIT"),
        ({"post_only": True}, "LIMIT_MAKER"),
        (
            {
                "order_type": OrderType.STOP_LIMIT,
                "side": SELL,
                "price": Decimal(36000),
                "stop_price": Decimal(37000),
            },
            "STOP_LOSS_LIMIT",
        ),
        (
            {
                "order_type": OrderType.STOP,
                "side": SELL,
                "price": None,
                "stop_price": Decimal(37000),
            },
            "STOP_LOSS",
        ),
    ],
)
async def test_each_type_of_order_rests(
    connector: BinanceConnector, server: SandboxServer, fields: dict[str, object], kind: str
) -> None:
    trade_at_market(server, "BUY", "38000", "1")
    trade_at_market(server, "SELL", "41000", "1")
    server.exchange.control.trade(
        {"symbol": "BTCUSDT", "side": "BUY", "price": "40000", "quantity": "0.1"}
    )
    request = order(connector, **fields)
    placed = await connector.place(request)
    found = await connector.find_order(ref(request))

    assert placed.status is VenueStatus.NEW
    assert found is not None
    assert (found.exchange_order_id, found.status) == (placed.exchange_order_id, VenueStatus.NEW)
    assert (found.quantity, found.fills) == (Decimal("0.01"), ())
    assert [row["type"] for row in orders_at(server) if row["account"] == KEY] == [kind]


async def test_the_bytes_carry_the_claims_stamp(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    request = order(connector, window_ms=4321)
    await connector.place(request)

    assert f"timestamp={request.timestamp_ms}" in str(server.exchange.control.requests({}))
    assert "recvWindow=4321" in str(server.exchange.control.requests({}))


async def test_a_market_order_answers_with_its_fills(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    trade_at_market(server, "SELL", "40000", "0.004")
    trade_at_market(server, "SELL", "40001", "0.1")
    request = order(connector, order_type=OrderType.MARKET, price=None)
    placed = await connector.place(request)
    found = await connector.find_order(ref(placed))

    assert placed.status is VenueStatus.FILLED
    assert [fill.price for fill in placed.fills] == [Decimal(40000), Decimal(40001)]
    assert {fill.fee_currency for fill in placed.fills} == {"BTC"}
    assert found is not None
    assert [fill.fill_id for fill in found.fills] == [fill.fill_id for fill in placed.fills]
    assert [fill.fee for fill in found.fills] == [fill.fee for fill in placed.fills]


async def test_an_ioc_that_expired_is_in_all_orders(connector: BinanceConnector) -> None:
    since = connector.exchange_now() - timedelta(seconds=1)
    request = order(connector, time_in_force=TimeInForce.IOC)
    placed = await connector.place(request)
    listed = await connector.orders_since(BTC, since)

    assert placed.status is VenueStatus.EXPIRED
    assert [report.exchange_client_id for report in listed] == [request.exchange_client_id]
    assert listed.reports[0].status is VenueStatus.EXPIRED
    assert len(await connector.open_orders(BTC)) == 0


@pytest.mark.parametrize("field", ["status", "orderId", "symbol", "updateTime"])
async def test_a_row_that_cannot_be_read_is_named_and_hides_no_other(
    connector: BinanceConnector, fault: Control, field: str
) -> None:
    since = connector.exchange_now() - timedelta(seconds=1)
    spoilt, whole = order(connector), order(connector)
    for request in (spoilt, whole):
        await connector.place(request)
    fault("row_garbled", fields=[field])

    for listed in (await connector.open_orders(), await connector.orders_since(BTC, since)):
        assert [one.exchange_client_id for one in listed] == [whole.exchange_client_id]
        assert listed.gap is not None
        assert spoilt.exchange_client_id in listed.gap
        assert field in listed.gap


async def test_a_cancel_names_our_order(connector: BinanceConnector) -> None:
    placed = await connector.place(order(connector))
    assert len(await connector.open_orders()) == 1
    cancelled = await connector.cancel(ref(placed))

    assert cancelled.exchange_client_id == placed.exchange_client_id
    assert (cancelled.status, cancelled.cumulative_quantity) == (VenueStatus.CANCELLED, Decimal(0))


async def test_a_cancel_by_client_id_alone_is_enough(connector: BinanceConnector) -> None:
    request = order(connector)
    await connector.place(request)

    assert (await connector.cancel(ref(request))).status is VenueStatus.CANCELLED


async def test_a_cancel_of_nothing_is_rejected_in_the_exchanges_words(
    connector: BinanceConnector,
) -> None:
    with pytest.raises(ExchangeRejected) as refusal:
        await connector.cancel(NOBODY)

    assert (refusal.value.code, refusal.value.text) == ("-2011", "Unknown order sent.")


async def test_a_reduction_keeps_both_ids(connector: BinanceConnector) -> None:
    placed = await connector.place(order(connector))
    reduced = await connector.reduce(ref(placed), Decimal("0.004"))
    found = await connector.find_order(ref(placed))

    assert (reduced.exchange_client_id, reduced.exchange_order_id) == (
        placed.exchange_client_id,
        placed.exchange_order_id,
    )
    assert reduced.quantity == Decimal("0.004")
    assert found is not None
    assert found.quantity == Decimal("0.004")


async def test_an_increase_is_rejected(connector: BinanceConnector) -> None:
    placed = await connector.place(order(connector))
    with pytest.raises(ExchangeRejected):
        await connector.reduce(ref(placed), Decimal("0.02"))


async def test_nobody_knows_an_order_that_was_never_placed(connector: BinanceConnector) -> None:
    assert await connector.find_order(NOBODY) is None


@pytest.mark.parametrize("page", [1000, 3, 2, 1])
async def test_lists_are_whole_whatever_the_size_of_a_page(
    connector: BinanceConnector, server: SandboxServer, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(history, "PAGE", page)
    # The exchange is new, so nothing is older; its clock as we know it is milliseconds off.
    start = connector.exchange_now() - timedelta(seconds=1)
    trade_at_market(server, "SELL", "40000", "1")
    requests = [
        order(connector, order_type=OrderType.MARKET, price=None, quantity=Decimal(f"0.00{n}"))
        for n in range(1, 6)
    ]
    placed = [await connector.place(request) for request in requests]
    fills = [fill.fill_id for report in placed for fill in report.fills]

    def ids(found: "list[Fill] | Any") -> list[str]:
        return [fill.fill_id for fill in found]

    for since in (start, start - timedelta(hours=60)):
        listed = await connector.orders_since(BTC, since)
        assert [row.exchange_client_id for row in listed] == [
            request.exchange_client_id for request in requests
        ]
        assert ids(await connector.fills_after(BTC, trade_id=None, since=since)) == fills
    third = placed[2].fills[0].trade_id
    assert ids(await connector.fills_after(BTC, trade_id=third, since=None)) == fills[2:]
    assert ids(await connector.fills_of(ref(placed[1]))) == fills[1:2]
    assert ids(await connector.fills_of(ref(requests[1]))) == fills[1:2]


# Refusals before the wire


async def test_nothing_is_sent_after_the_deadline(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    late = int(connector.exchange_now().timestamp() * 1000) - 5001
    with pytest.raises(ExchangeUnavailable) as refusal:
        await connector.place(order(connector, timestamp_ms=late))

    assert refusal.value.code == "local_deadline"
    assert orders_at(server) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"symbol": "BTC/EUR"}, "local_symbol"),
        ({"exchange_client_id": "has space"}, "local_request"),
        ({"exchange_client_id": "x" * 37}, "local_request"),
        ({"exchange_client_id": ""}, "local_request"),
    ],
)
async def test_what_cannot_be_said_is_not_sent(
    connector: BinanceConnector, server: SandboxServer, fields: dict[str, object], code: str
) -> None:
    with pytest.raises(ExchangeUnavailable) as refusal:
        await connector.place(order(connector, **fields))

    assert refusal.value.code == code
    assert orders_at(server) == []


# Faults


async def test_a_duplicate_is_evidence_that_the_order_lives(connector: BinanceConnector) -> None:
    request = order(connector)
    await connector.place(request)
    with pytest.raises(DuplicateOrder):
        await connector.place(request)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"price": Decimal("39000.001")}, "-1013"),
        ({"quantity": Decimal(100)}, "-2010"),
        ({"quantity": Decimal("0.0000001")}, None),
    ],
)
async def test_a_refusal_is_definite(
    connector: BinanceConnector, fields: dict[str, object], code: str | None
) -> None:
    with pytest.raises(ExchangeRejected) as refusal:
        await connector.place(order(connector, **fields))

    assert code in {None, refusal.value.code}


MAY_DIE = ["reply_lost", "http_503", "code_-1006", "code_-1007", "code_-1008"]
IN_DOUBT: list[tuple[str, dict[str, Any]]] = [
    ("reply_lost", {}),
    ("reply_delayed_ms", {"ms": 900}),
    ("http_503", {"order": "alive"}),
    ("code_-1006", {"order": "alive"}),
    ("code_-1007", {"order": "alive"}),
    ("code_-1008", {"order": "alive"}),
    ("garbled", {"how": "malformed"}),
    ("garbled", {"how": "truncated"}),
    ("garbled", {"how": "null"}),
    ("garbled", {"how": "empty"}),
    ("garbled", {"how": "missing", "fields": ["orderId"]}),
    ("garbled", {"how": "missing", "fields": ["clientOrderId", "transactTime"]}),
]


@pytest.mark.parametrize(
    ("kind", "options", "lives"),
    [(kind, options, True) for kind, options in IN_DOUBT]
    + [(kind, {"order": "dead"}, False) for kind in MAY_DIE],
)
async def test_an_order_in_doubt_is_found_or_not(
    connector: BinanceConnector,
    server: SandboxServer,
    fault: Control,
    kind: str,
    options: dict[str, Any],
    lives: bool,
) -> None:
    fault(kind, count=1, endpoint="POST /api/v3/order", **options)
    request = order(connector)
    with pytest.raises(OutcomeUnknown):
        await connector.place(request)
    found = await connector.find_order(ref(request))

    assert (found is not None) is lives
    assert len(orders_at(server)) == int(lives)


@pytest.mark.parametrize(("kind", "options"), IN_DOUBT[:6])
async def test_a_cancel_without_an_answer_is_in_doubt(
    connector: BinanceConnector, fault: Control, kind: str, options: dict[str, Any]
) -> None:
    placed = await connector.place(order(connector))
    fault(kind, count=1, endpoint="DELETE /api/v3/order", **options)
    with pytest.raises(OutcomeUnknown):
        await connector.cancel(ref(placed))


Ask = Callable[[BinanceConnector], Awaitable[object]]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda c: c.find_order(NOBODY), id="find_order"),
        pytest.param(lambda c: _whole(c.orders_since(BTC, c.exchange_now())), id="orders_since"),
        pytest.param(lambda c: _whole(c.open_orders(BTC)), id="open_orders"),
        pytest.param(lambda c: c.fills_after(BTC, trade_id="1", since=None), id="fills_after"),
        pytest.param(lambda c: c.fills_of(NOBODY), id="fills_of"),
        pytest.param(lambda c: c.balances(), id="balances"),
        pytest.param(lambda c: c.quote(BTC), id="quote"),
        pytest.param(lambda c: c.server_time(), id="server_time"),
        pytest.param(lambda c: c.load_instruments(), id="load_instruments"),
    ],
)
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (503, "overloaded"),
        (400, '{"code": -9999, "msg": "a code of tomorrow"}'),
        (200, ""),
        (200, "{"),
        (200, "null"),
        (200, "[null]"),
        (200, "[{}]"),
        (200, "{}"),
        (500, '{"code": -2013, "msg": "Order does not exist."}'),
        (200, '{"code": -2013, "msg": "Order does not exist."}'),
    ],
)
async def test_a_query_that_fails_is_no_observation(
    connector: BinanceConnector,
    server: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    status: int,
    text: str,
) -> None:
    async def broken(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    monkeypatch.setattr(server._rest, "handle", broken)
    with pytest.raises(ExchangeUnavailable):
        await ask(connector)


@pytest.mark.parametrize("kind", ["rate_429", "ban_418"])
async def test_a_limit_says_how_long_to_wait(
    connector: BinanceConnector, server: SandboxServer, fault: Control, kind: str
) -> None:
    fault(kind, count=1, retry_after=7)
    with pytest.raises(ExchangeUnavailable) as refusal:
        await connector.place(order(connector))

    assert refusal.value.retry_after == 7
    assert "retry-after" in connector.rate_usage.headers
    assert orders_at(server) == []


async def test_a_stamp_that_the_exchange_finds_late_never_reached_the_engine(
    connector: BinanceConnector, server: SandboxServer, fault: Control
) -> None:
    fault("clock_skew_ms", ms=60_000)
    with pytest.raises(ExchangeUnavailable) as refusal:
        await connector.place(order(connector))

    assert refusal.value.code == "-1021"
    assert orders_at(server) == []
    await connector.server_time()
    await connector.place(order(connector))


async def test_a_refused_connection_means_that_nothing_was_sent(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    await server.stop()
    await asyncio.sleep(0.05)
    with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
        await connector.place(order(connector))


async def test_a_closed_connector_sends_nothing(connector: BinanceConnector) -> None:
    request = order(connector)
    await connector.close()
    with pytest.raises(ExchangeUnavailable):
        await connector.place(request)


async def test_many_commands_at_once_each_get_their_own_answer(
    connector: BinanceConnector, server: SandboxServer
) -> None:
    requests = [
        order(connector, price=Decimal(39000) if n % 2 else Decimal("39000.001")) for n in range(30)
    ]
    answers = await asyncio.gather(
        *[connector.place(request) for request in requests], return_exceptions=True
    )

    for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if number % 2:
            assert isinstance(answer, ExecutionReport)
            assert answer.exchange_client_id == request.exchange_client_id
        else:
            assert isinstance(answer, ExchangeRejected)
    assert len(orders_at(server)) == 15


# Stream


class Reading:
    """Reads the stream in the background, as the feed does."""

    def __init__(self, connector: BinanceConnector) -> None:
        self.items: list[ExecutionReport | Transfer | StreamState] = []
        self._task = asyncio.create_task(self._read(connector))

    async def _read(self, connector: BinanceConnector) -> None:
        async with aclosing(connector.executions()) as events:  # type: ignore[type-var]
            async for item in events:
                self.items.append(item)

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not enough():
                if self._task.done():
                    await self._task
                await asyncio.sleep(0.01)

    @property
    def connected(self) -> int:
        return sum(item is StreamState.CONNECTED for item in self.items)

    @property
    def reports(self) -> list[ExecutionReport]:
        return [item for item in self.items if isinstance(item, ExecutionReport)]

    @property
    def fills(self) -> list[Fill]:
        return [fill for report in self.reports for fill in report.fills]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def reading(connector: BinanceConnector) -> AsyncIterator[Reading]:
    reading = Reading(connector)
    await reading.until(lambda: reading.connected == 1)
    yield reading
    await reading.stop()


async def test_the_stream_tells_the_life_of_an_order(
    connector: BinanceConnector, server: SandboxServer, reading: Reading
) -> None:
    placed = await connector.place(order(connector))
    trade_at_market(server, "SELL", "39000", "0.003")
    await connector.reduce(ref(placed), Decimal("0.006"))
    await connector.cancel(ref(placed))
    await reading.until(lambda: len(reading.reports) == 4)

    assert [report.status for report in reading.reports] == [
        VenueStatus.NEW,
        VenueStatus.PARTIALLY_FILLED,
        VenueStatus.PARTIALLY_FILLED,
        VenueStatus.CANCELLED,
    ]
    assert {report.exchange_client_id for report in reading.reports} == {placed.exchange_client_id}
    assert reading.reports[2].quantity == Decimal("0.006")
    (fill,) = reading.fills
    asked = await connector.fills_of(ref(placed))
    ignored = {"received_at"}
    assert [fill.model_dump(exclude=ignored)] == [one.model_dump(exclude=ignored) for one in asked]


async def test_a_self_trade_is_two_fills(connector: BinanceConnector, reading: Reading) -> None:
    await connector.place(order(connector))
    await connector.place(order(connector, side=SELL))
    await reading.until(lambda: len(reading.fills) == 2)

    assert len({fill.trade_id for fill in reading.fills}) == 1
    assert len({fill.fill_id for fill in reading.fills}) == 2
    assert {fill.side for fill in reading.fills} == {BUY, SELL}
    assert {fill.is_maker for fill in reading.fills} == {True, False}
    listed = await connector.fills_after(BTC, trade_id="0", since=None)
    assert {fill.fill_id for fill in listed} == {fill.fill_id for fill in reading.fills}


async def test_an_expiry_carries_its_reason(
    connector: BinanceConnector, server: SandboxServer, reading: Reading
) -> None:
    placed = await connector.place(order(connector))
    server.exchange.control.cancel(
        {"account": KEY, "symbol": "BTCUSDT", "order_id": placed.exchange_order_id}
    )
    await connector.place(order(connector, time_in_force=TimeInForce.IOC))
    await reading.until(lambda: len(reading.reports) >= 4)

    ended = [report for report in reading.reports if report.status is VenueStatus.EXPIRED]
    assert [report.reason for report in ended] == [
        "EXCHANGE_CANCELED",
        "UNFILLED_IOC_QUANTITY_EXPIRED",
    ]


async def test_a_lost_connection_is_said_and_read_on(
    connector: BinanceConnector, server: SandboxServer, reading: Reading
) -> None:
    began = time.monotonic()
    server.exchange.control.disconnect({})
    await reading.until(lambda: reading.connected == 2)
    assert time.monotonic() - began < 2
    await connector.place(order(connector))
    await reading.until(lambda: len(reading.reports) == 1)


async def test_duplicates_come_through_as_they_are(
    connector: BinanceConnector, fault: Control, reading: Reading
) -> None:
    fault("stream_duplicate", count=1)
    await connector.place(order(connector))
    await reading.until(lambda: len(reading.reports) == 2)

    first, second = reading.reports
    assert first.model_dump(exclude={"received_at"}) == second.model_dump(exclude={"received_at"})


async def test_an_order_in_doubt_is_seen_on_the_stream(
    connector: BinanceConnector, fault: Control, reading: Reading
) -> None:
    fault("reply_lost", count=1)
    request = order(connector)
    with pytest.raises(OutcomeUnknown):
        await connector.place(request)
    await reading.until(lambda: len(reading.reports) == 1)

    assert reading.reports[0].exchange_client_id == request.exchange_client_id


async def test_a_stream_that_cannot_be_had_again_ends(
    connector: BinanceConnector, server: SandboxServer, reading: Reading
) -> None:
    await server.stop()
    with pytest.raises(ExchangeUnavailable):
        await reading.until(lambda: reading.connected == 2)


@pytest.mark.parametrize("kind", ["http_503", "reply_lost", "rate_429"])
async def test_no_error_of_the_exchange_shows_a_secret(
    connector: BinanceConnector, fault: Control, kind: str
) -> None:
    fault(kind)
    with pytest.raises(ExchangeError) as refusal:
        await connector.place(order(connector))

    for secret in (KEY, SECRET, "signature"):
        assert secret not in f"{refusal.value!r} {refusal.value} {connector!r}"


async def _whole(asking: Awaitable[OrderList]) -> OrderList:
    """A list with a gap is no observation of what is not in it."""
    listed = await asking
    if listed.gap is not None:
        raise ExchangeUnavailable(listed.gap)
    return listed
