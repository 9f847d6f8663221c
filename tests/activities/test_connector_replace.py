"""Binance's cancel-replace: what each answer says of both orders, and what is true there."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest

from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.binance_limits import ORDERS, response_of
from activities.connectors.binance_orders import check_bytes, differences, order_parameters
from activities.connectors.binance_replace import replacement_of
from activities.connectors.classify import Answer
from activities.connectors.fields import MalformedError
from activities.connectors.reports import BinanceReader
from tests.activities.test_connector_requests import request
from tests.activities.test_connector_sandbox import (
    KEY,
    SECRET,
    Control,
    order,
    orders_at,
    ref,
    settings,
    trade_at_market,
)
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.venue import ExecutionReport, OrderRef, OrderRequest, VenueStatus
from workers.sandbox.config import SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

OLD = OrderRef(symbol="BTC/USDT", exchange_client_id="old", exchange_order_id="7")
READER = BinanceReader("binance", "main", {})


@pytest.fixture
async def server() -> AsyncIterator[SandboxServer]:
    config = SandboxConfig(accounts=(parse_account(f"{KEY}:{SECRET}"),))
    async with SandboxServer(config) as running:
        yield running


@pytest.fixture
async def connector(server: SandboxServer) -> AsyncIterator[BinanceConnector]:
    connector = BinanceConnector(settings(server))
    await connector.start()
    yield connector
    await connector.close()


@pytest.fixture
def fault(server: SandboxServer) -> Control:
    def set_fault(kind: str, **options: Any) -> None:
        server.exchange.control.set_faults({"fault": kind, **options})

    return set_fault


async def a_pair(connector: BinanceConnector, **fields: object) -> tuple[OrderRef, OrderRequest]:
    """An order that rests, and the one that shall replace it."""
    old = ref(await connector.place(order(connector)))
    return old, order(connector, replaces=old, **{"price": Decimal(38000), **fields})


def there(server: SandboxServer) -> list[tuple[str, str]]:
    return [(one["clientOrderId"], one["status"]) for one in orders_at(server)]


async def test_both_halves_are_done(connector: BinanceConnector, server: SandboxServer) -> None:
    old, new = await a_pair(connector)

    done = await connector.replace(new)

    assert done.cancelled is not None
    assert isinstance(done.placed, ExecutionReport)
    assert (done.cancelled.exchange_client_id, done.cancelled.status) == (
        old.exchange_client_id, VenueStatus.CANCELLED,
    )  # fmt: skip
    assert (done.placed.exchange_client_id, done.placed.status) == (
        new.exchange_client_id, VenueStatus.NEW,
    )  # fmt: skip
    assert there(server) == [(old.exchange_client_id, "CANCELED"), (new.exchange_client_id, "NEW")]


@pytest.mark.parametrize("quantity", ["0.004", "0.01"], ids=["a part", "all"])
async def test_an_order_with_a_fill_is_not_replaced(
    connector: BinanceConnector,
    server: SandboxServer,
    quantity: str,
) -> None:
    _, new = await a_pair(connector)
    trade_at_market(server, "SELL", "39000", quantity)

    refused = await connector.replace(new)

    assert refused.cancelled is None
    assert isinstance(refused.placed, ExchangeUnavailable)
    assert refused.placed.code == "-2011"
    assert "not cancelled" in str(refused.placed)
    assert len(orders_at(server)) == 1


async def test_the_new_order_is_refused_after_the_cancel(
    connector: BinanceConnector,
    server: SandboxServer,
) -> None:
    old, new = await a_pair(connector, post_only=True, price=Decimal(41000))
    trade_at_market(server, "SELL", "40000", "1")

    half = await connector.replace(new)

    assert half.cancelled is not None
    assert isinstance(half.placed, ExchangeRejected)
    assert "immediately match" in str(half.placed)
    assert there(server) == [(old.exchange_client_id, "CANCELED")]


@pytest.mark.parametrize(
    ("code", "means"), [(-1015, ExchangeUnavailable), (-2010, ExchangeRejected)]
)
async def test_the_refusal_of_the_new_order_means_what_it_would_mean_alone(
    connector: BinanceConnector,
    fault: Control,
    code: int,
    means: type[ExchangeError],
) -> None:
    _, new = await a_pair(connector)
    fault("half_refused", code=code, count=1)

    half = await connector.replace(new)

    assert half.cancelled is not None
    assert type(half.placed) is means


async def test_what_is_refused_at_the_door_changes_neither(
    connector: BinanceConnector,
    server: SandboxServer,
    fault: Control,
) -> None:
    old, new = await a_pair(connector)
    with pytest.raises(ExchangeRejected, match="PRICE_FILTER"):
        await connector.replace(new.model_copy(update={"price": Decimal("38000.001")}))
    fault("rate_429", count=1, retry_after="2")
    with pytest.raises(ExchangeUnavailable) as limited:
        await connector.replace(new)

    assert limited.value.retry_after is not None
    assert there(server) == [(old.exchange_client_id, "NEW")]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("reply_lost", {"order": "alive"}),
        ("reply_lost", {"order": "dead"}),
        ("http_503", {"order": "alive"}),
        ("code_-1007", {"order": "alive"}),
        ("code_-1007", {"order": "dead"}),
        ("garbled", {"how": "truncated"}),
        ("garbled", {"how": "missing", "fields": ["newOrderResult"]}),
        ("accept_delayed_ms", {"ms": 800}),
    ],
)
async def test_an_answer_that_says_nothing_of_both_leaves_both_unknown(
    connector: BinanceConnector,
    fault: Control,
    kind: str,
    options: dict[str, Any],
) -> None:
    _, new = await a_pair(connector)
    fault(kind, count=1, endpoint="POST /api/v3/order/cancelReplace", **options)

    with pytest.raises(OutcomeUnknown):
        await connector.replace(new)


def test_the_request_names_the_old_order_and_stops_on_failure() -> None:
    wanted = order_parameters(request(replaces=OLD), "BTCUSDT")

    assert {name: wanted[name] for name in wanted if name.startswith(("cancel", "orderRate"))} == {
        "cancelReplaceMode": "STOP_ON_FAILURE",
        "cancelRestrictions": "ONLY_NEW",
        "orderRateLimitExceededMode": "DO_NOTHING",
        "cancelOrigClientOrderId": "old",
        "cancelOrderId": "7",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cancelOrigClientOrderId", "other"),
        ("cancelOrderId", "8"),
        ("cancelReplaceMode", "ALLOW_FAILURE"),
        ("cancelRestrictions", ""),
        ("orderRateLimitExceededMode", "CANCEL_ONLY"),
    ],
)
def test_bytes_that_would_replace_otherwise_do_not_leave(name: str, value: str) -> None:
    replacing = request(replaces=OLD)
    built = {**order_parameters(replacing, "BTCUSDT"), name: value}

    assert [name in line for line in differences(replacing, "BTCUSDT", _encoded(built))] == [True]
    with pytest.raises(ExchangeUnavailable, match=name):
        check_bytes(request(), "BTCUSDT", _encoded(order_parameters(replacing, "BTCUSDT")))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"cancelResult": "SUCCESS", "newOrderResult": "FAILURE"}),
        (200, {"cancelResult": "SUCCESS", "newOrderResult": 7}),
        (400, {"code": -2022, "data": {"cancelResult": "FAILURE", "newOrderResult": "SUCCESS"}}),
        (409, {"code": -2021, "data": {"cancelResult": "FAILURE", "newOrderResult": "SUCCESS"}}),
        (409, {"code": -2021, "data": {"cancelResult": "SUCCESS"}}),
        (409, {"code": -2021, "data": {"cancelResult": "SUCCESS", "newOrderResult": "FAILURE",
                                       "cancelResponse": None}}),
    ],
)  # fmt: skip
def test_an_answer_that_contradicts_itself_is_no_word(status: int, body: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replacement_of(Answer.read(status, {}, json.dumps(body)), READER)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"code": -2021, "data": {"cancelResult": "SUCCESS", "newOrderResult": "FAILURE"}}),
        (400, {"code": -2022}),
        (400, {"code": -2011, "msg": "Unknown order sent."}),
        (200, {}),
        (200, []),
    ],
)
def test_an_answer_without_both_halves_says_nothing_of_them(status: int, body: Any) -> None:
    assert replacement_of(Answer.read(status, {}, json.dumps(body)), READER) is None
    assert replacement_of(None, READER) is None


async def test_a_living_id_of_the_new_order_is_evidence_that_it_lives(
    connector: BinanceConnector,
) -> None:
    _, new = await a_pair(connector)
    await connector.place(new.model_copy(update={"replaces": None}))

    half = await connector.replace(new)

    assert half.cancelled is not None
    assert isinstance(half.placed, DuplicateOrder)


def test_too_many_orders_in_the_second_half_stop_orders_alone() -> None:
    refused = {"code": -2021, "msg": "", "data": {"newOrderResponse": {"code": -1015, "msg": ""}}}

    said = response_of(Answer.read(429, {"Retry-After": "3"}, json.dumps(refused)))

    assert (said.pauses, said.pauses_family, said.retry_after_s) == (True, ORDERS, 3.0)


def _encoded(parameters: dict[str, str]) -> str:
    body = "&".join(f"{name}={value}" for name, value in parameters.items())
    assert parse_qs(body)
    return body
