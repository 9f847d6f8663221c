"""The bytes of an order: made from the request, and compared with it before they leave."""

from decimal import Decimal
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.connectors.binance_orders import check_bytes, differences, order_parameters
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import ExchangeUnavailable
from trading.oms.venue import OrderRequest


def request(**fields: object) -> OrderRequest:
    given_fields: dict[str, object] = {
        "exchange": "binance",
        "account": "main",
        "symbol": "BTC/USDT",
        "exchange_client_id": "a" * 32,
        "side": OrderSide.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal("0.50"),
        "price": Decimal("1E+5"),
        "timestamp_ms": 1_700_000_000_123,
        "window_ms": 900,
    }
    return OrderRequest.model_validate(given_fields | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"type": "LIMIT", "timeInForce": "GTC", "price": "100000", "quantity": "0.5"}),
        ({"time_in_force": TimeInForce.GTD}, {"type": "LIMIT", "timeInForce": "GTC"}),
        ({"time_in_force": TimeInForce.IOC}, {"type": "LIMIT", "timeInForce": "IOC"}),
        ({"post_only": True}, {"type": "LIMIT_MAKER", "timeInForce": None}),
        (
            {"order_type": OrderType.MARKET, "price": None},
            {"type": "MARKET", "price": None, "timeInForce": None},
        ),
        (
            {"order_type": OrderType.STOP, "price": None, "stop_price": Decimal(90)},
            {"type": "STOP_LOSS", "stopPrice": "90", "timeInForce": None},
        ),
        (
            {"order_type": OrderType.STOP_LIMIT, "stop_price": Decimal("90.10")},
            {"type": "STOP_LOSS_LIMIT", "stopPrice": "90.1", "timeInForce": "GTC"},
        ),
        ({"side": OrderSide.SELL}, {"side": "SELL"}),
        ({}, {"timestamp": "1700000000123", "recvWindow": "900", "newOrderRespType": "FULL"}),
    ],
)
def test_an_order_becomes_these_parameters(
    fields: dict[str, object], expected: dict[str, str | None]
) -> None:
    parameters = order_parameters(request(**fields), "BTCUSDT")

    assert {name: parameters.get(name) for name in expected} == expected


@given(
    quantity=st.decimals(min_value=Decimal("1e-18"), max_value=Decimal("1e15"), places=18),
    price=st.decimals(min_value=Decimal("1e-18"), max_value=Decimal("1e15"), places=18),
)
def test_numbers_keep_every_digit(quantity: Decimal, price: Decimal) -> None:
    order = request(quantity=quantity, price=price)
    body = urlencode(order_parameters(order, "BTCUSDT")) + "&signature=abc"

    check_bytes(order, "BTCUSDT", body)
    assert Decimal(parse_qs(body)["quantity"][0]) == quantity


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("symbol", "ETHUSDT"),
        ("side", "SELL"),
        ("type", "MARKET"),
        ("quantity", "0.51"),
        ("quantity", "5e-1"),
        ("quantity", "much"),
        ("price", "99999.99"),
        ("price", None),
        ("stopPrice", "5"),
        ("timeInForce", "IOC"),
        ("newClientOrderId", "x-other"),
        ("timestamp", "1700000000124"),
        ("recvWindow", "5000"),
        ("icebergQty", "1"),
    ],
)
def test_any_other_byte_is_seen_before_the_write(name: str, value: str | None) -> None:
    order = request()
    parameters: dict[str, str | None] = {**order_parameters(order, "BTCUSDT"), name: value}
    body = urlencode({key: text for key, text in parameters.items() if text is not None})

    with pytest.raises(ExchangeUnavailable, match=name) as refusal:
        check_bytes(order, "BTCUSDT", body)
    assert refusal.value.code == "local_request"


def test_a_parameter_given_twice_is_seen() -> None:
    order = request()
    body = urlencode(order_parameters(order, "BTCUSDT")) + "&quantity=0.5"

    assert differences(order, "BTCUSDT", body) == ["a parameter appears twice"]
