"""Which connectors are built, and which addresses are refused."""

import pytest

from activities.connectors.registry import ConnectorSettings, build_connector
from activities.connectors.settings import is_loopback
from trading.oms.errors import StartUpError

SANDBOX = "http://127.0.0.1:9000"


def settings(**more: object) -> ConnectorSettings:
    values = {"exchange": "binance", "account": "main", "api_key": "k", "secret": "s"}
    return ConnectorSettings.model_validate(values | {"rest_url": SANDBOX} | more)


@pytest.mark.parametrize(
    ("address", "stays"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:9000", True),
        ("http://localhost", True),
        ("https://api.binance.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://0.0.0.0", False),
        ("http://localhost.example.com", False),
        ("http://user@10.0.0.1", False),
        ("", False),
    ],
)
def test_only_this_machine_is_loopback(address: str, stays: bool) -> None:
    assert is_loopback(address) is stays


@pytest.mark.parametrize(
    "more",
    [
        {"rest_url": "https://api.binance.com"},
        {"rest_url": SANDBOX, "ws_url": "wss://ws-api.binance.com:443/ws-api/v3"},
        {"rest_url": "https://api.binance.com", "ws_url": "ws://127.0.0.1:9000/ws-api/v3"},
    ],
)
def test_real_money_needs_a_word(more: dict[str, object]) -> None:
    with pytest.raises(StartUpError, match="live=true"):
        build_connector(settings(**more))


@pytest.mark.parametrize("market", ["margin", "futures", "swap"])
def test_other_markets_than_spot_are_refused(market: str) -> None:
    with pytest.raises(StartUpError, match=market):
        build_connector(settings(market=market))


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(StartUpError, match="binance"):
        build_connector(settings(kind="mtgox"))


def test_the_stream_is_at_the_same_address() -> None:
    assert settings().ws_url == "ws://127.0.0.1:9000/ws-api/v3"
    assert settings(rest_url="https://api.binance.com", live=True).ws_url.startswith(
        "wss://ws-api.binance.com"
    )


def test_a_connector_declares_its_settings() -> None:
    connector = build_connector(settings(recv_window_ms=700, processing_bound_ms=50))

    record = connector.capabilities
    assert (record.fence, record.fence_ms, record.processing_bound_ms) == ("recvWindow", 700, 50)
    assert "s" * 2 not in repr(connector)
