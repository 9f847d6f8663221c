"""Which connectors are built, and which addresses are refused."""

from decimal import Decimal
from pathlib import Path

import pytest

from activities.connectors import registry
from activities.connectors.conformance import ConformanceRecord, keep_record, record_of
from activities.connectors.registry import ConnectorSettings, build_connector
from activities.connectors.settings import is_loopback
from trading.oms.errors import StartUpError
from trading.oms.models import utc_now
from workers.settings import Settings

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


def record(**more: object) -> ConformanceRecord:
    values = {"kind": "binance", "venue": "testnet.binance.vision", "at": utc_now(), "ccxt": "4"}
    return ConformanceRecord.model_validate(values | {"passed": ("a", "b")} | more)


def test_real_money_through_an_experimental_connector_needs_another_word() -> None:
    real = {"rest_url": "https://api.binance.com", "live": True}
    with pytest.raises(StartUpError, match="experimental=true"):
        build_connector(settings(**real))

    assert build_connector(settings(**real, experimental=True)).capabilities.experimental


@pytest.mark.parametrize(
    ("run", "is_proof"),
    [
        (record(), True),
        (record(venue="sandbox"), False),
        (record(failed=("c",)), False),
        (record(passed=()), False),
    ],
)
def test_a_connector_is_experimental_until_its_cards_have_passed_at_a_venue(
    run: ConformanceRecord, is_proof: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "record_of", lambda _kind: run)

    assert build_connector(settings()).capabilities.experimental is not is_proof


def test_a_record_is_kept_and_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    kept = keep_record(record(failed=("c",)), tmp_path)

    assert record_of("binance", tmp_path) == record_of("binance", kept.parent)
    assert str(record_of("binance", tmp_path)).startswith("2 of 3 cards passed at testnet.binance")
    kept.write_text("{")
    assert record_of("binance", tmp_path) is None
    assert record_of("kraken", tmp_path) is None


@pytest.mark.parametrize("market", ["margin", "futures", "swap"])
def test_other_markets_than_spot_are_refused(market: str) -> None:
    with pytest.raises(StartUpError, match=market):
        build_connector(settings(market=market))


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(StartUpError, match="binance"):
        build_connector(settings(kind="mtgox"))


def test_a_kind_can_name_a_connector_by_its_place() -> None:
    found = build_connector(
        settings(kind="activities.connectors.binance_connector:BinanceConnector")
    )
    assert (found.exchange, found.account) == ("binance", "main")


@pytest.mark.parametrize("place", ["no_such_module:Connector", "activities.connectors:NoSuch"])
def test_a_place_without_a_connector_is_named(place: str) -> None:
    with pytest.raises(StartUpError, match=f"there is no connector at '{place}'"):
        build_connector(settings(kind=place))


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


def from_environment(**more: str) -> ConnectorSettings:
    values = {"OMS_EXCHANGES": "binance", "OMS_BINANCE_URL": SANDBOX}
    keys = {"OMS_BINANCE_API_KEY": "k", "OMS_BINANCE_API_SECRET": "s"}
    (found,) = Settings.from_environment(values | keys | more).exchanges
    return found


def test_the_accounts_own_fee_replaces_that_of_the_first_tier() -> None:
    assert build_connector(from_environment()).capabilities.taker_fee == Decimal("0.001")
    own = from_environment(OMS_BINANCE_TAKER_FEE="0.00075")
    assert build_connector(own).capabilities.taker_fee == Decimal("0.00075")
    free = from_environment(OMS_BINANCE_TAKER_FEE="0")
    assert build_connector(free).capabilities.taker_fee == 0


@pytest.mark.parametrize("fee", ["1.5", "1", "-0.001", "NaN", "0.1 %"])
def test_a_fee_that_is_no_fraction_is_refused(fee: str) -> None:
    with pytest.raises(StartUpError, match=r"'binance' \(OMS_BINANCE_…\) are wrong: .*taker_fee"):
        from_environment(OMS_BINANCE_TAKER_FEE=fee)


def test_a_secret_s_file_that_is_no_text_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"half-a-key\xff")
    with pytest.raises(StartUpError, match=r"the secret's file .* is no UTF-8$"):
        from_environment(OMS_BINANCE_API_KEY="", OMS_BINANCE_API_KEY_FILE=str(path))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"OMS_BINANCE_API_KEY": ""}, "but OMS_BINANCE_API_KEY is not set"),
        (
            {"OMS_BINANCE_API_KEY": "", "OMS_BINANCE_API_SECRET": ""},
            "but OMS_BINANCE_API_KEY and OMS_BINANCE_API_SECRET are not set",
        ),
        ({"OMS_LOG_LEVEL": "LOUD"}, "log_level: is 'LOUD'; must be one of DEBUG, INFO, WARNING, E"),
    ],
)
def test_what_is_missing_or_wrong_in_the_settings_is_said(given: dict[str, str], says: str) -> None:
    with pytest.raises(StartUpError, match=says):
        from_environment(**given)


def test_a_log_level_may_be_written_small() -> None:
    assert Settings.from_environment({"OMS_LOG_LEVEL": "debug"}).log_level == "DEBUG"
