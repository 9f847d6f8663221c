"""Kraken's answers: what they prove, how they are read, and its clock of whole seconds."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.classify import Operation, judge
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError
from activities.connectors.kraken_codes import KRAKEN_RULES, read_answer
from activities.connectors.kraken_orders import check_bytes, order_parameters
from activities.connectors.kraken_reports import KrakenReader, asset_names, instruments_of
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.venue import ExecutionReport, OrderRequest, VenueStatus

PLACE, CANCEL, QUERY = Operation.PLACE, Operation.CANCEL, Operation.QUERY
ASSETS = asset_names({"XXBT": {"altname": "XBT"}, "ZUSD": {"altname": "USD"}})
PAIRS = instruments_of(
    "kraken",
    {
        "XXBTZUSD": {
            "altname": "XBTUSD",
            "wsname": "XBT/USD",
            "base": "XXBT",
            "quote": "ZUSD",
            "pair_decimals": 1,
            "lot_decimals": 8,
            "ordermin": "0.00005",
            "costmin": "0.5",
            "tick_size": "0.1",
            "status": "online",
        }
    },
    ASSETS,
)


def said(*errors: str, status: int = 200, result: object = None) -> Any:
    body = {"error": list(errors), **({} if result is None else {"result": result})}
    return read_answer(status, {}, json.dumps(body), str)


@pytest.mark.parametrize(
    ("answer", "operation", "kind"),
    [
        (said("EOrder:Insufficient funds"), PLACE, ExchangeRejected),
        (said("EGeneral:Invalid arguments:volume"), PLACE, ExchangeRejected),
        (said("EGeneral:Invalid arguments:cl_ord_id not unique"), PLACE, DuplicateOrder),
        (said("EService:Deadline elapsed"), PLACE, ExchangeUnavailable),
        (said("EAPI:Invalid nonce"), PLACE, ExchangeUnavailable),
        (said("EOrder:Rate limit exceeded"), PLACE, ExchangeUnavailable),
        (said("EService:Unavailable"), PLACE, OutcomeUnknown),
        (said("EService:Busy"), PLACE, OutcomeUnknown),
        (said("EGeneral:Internal error"), PLACE, OutcomeUnknown),
        (said("EOrder:Something new"), PLACE, OutcomeUnknown),
        (said("EOrder:Insufficient funds", "EService:Busy"), PLACE, OutcomeUnknown),
        (said("EOrder:Insufficient funds", status=502), PLACE, OutcomeUnknown),
        (said("EOrder:Unknown order"), CANCEL, ExchangeRejected),
        (said("EOrder:Unknown order"), PLACE, OutcomeUnknown),
        (said("EOrder:Unknown order"), QUERY, ExchangeUnavailable),
        (said(), PLACE, OutcomeUnknown),
        (read_answer(200, {}, "<html>", str), PLACE, OutcomeUnknown),
        (read_answer(200, {}, '{"error": "text"}', str), PLACE, OutcomeUnknown),
        (read_answer(403, {}, "forbidden", str), PLACE, OutcomeUnknown),
    ],
)
def test_an_answer_proves_what_its_very_text_says(
    answer: Any, operation: Operation, kind: type[Exception]
) -> None:
    assert type(judge(answer, operation, KRAKEN_RULES)) is kind


def test_a_result_without_errors_is_a_success_and_warnings_are_none() -> None:
    assert judge(said(result={"count": 1}), PLACE, KRAKEN_RULES) is None
    assert judge(said("WGeneral:Danger", result={}), PLACE, KRAKEN_RULES) is None


def request(**fields: object) -> OrderRequest:
    values: dict[str, object] = {
        "exchange": "kraken",
        "account": "main",
        "symbol": "BTC/USD",
        "exchange_client_id": "0" * 32,
        "side": OrderSide.SELL,
        "order_type": OrderType.STOP_LIMIT,
        "quantity": Decimal("0.010"),
        "price": Decimal(36000),
        "stop_price": Decimal(37000),
        "timestamp_ms": 1_700_000_000_123,
        "window_ms": 5000,
    }
    return OrderRequest.model_validate(values | fields)


def test_an_order_becomes_krakens_parameters() -> None:
    assert order_parameters(request(), "XBTUSD") == {
        "pair": "XBTUSD",
        "type": "sell",
        "ordertype": "stop-loss-limit",
        "volume": "0.01",
        "price": "37000",
        "price2": "36000",
        "cl_ord_id": "0" * 32,
        "deadline": "2023-11-14T22:13:25.123Z",
    }


@pytest.mark.parametrize(
    "fields", [{"time_in_force": TimeInForce.FOK}, {"exchange_client_id": "too-long-for-free-text"}]
)
def test_what_kraken_does_not_have_is_not_sent(fields: dict[str, object]) -> None:
    with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
        order_parameters(request(**fields), "XBTUSD")


@pytest.mark.parametrize(
    "change",
    [
        ("volume=0.01", "volume=0.1"),
        ("volume=0.01", "volume=1e-2"),
        ("type=sell", "type=buy"),
        ("&deadline=2023-11-14T22%3A13%3A25.123Z", ""),
        ("price2=36000", "price2=36000&leverage=2"),
        ("pair=XBTUSD", "pair=XBTUSD&pair=ETHUSD"),
    ],
)
def test_bytes_that_are_not_the_order_are_not_sent(change: tuple[str, str]) -> None:
    body = (
        "nonce=1&pair=XBTUSD&type=sell&ordertype=stop-loss-limit&volume=0.01&price=37000"
        f"&price2=36000&cl_ord_id={'0' * 32}&deadline=2023-11-14T22%3A13%3A25.123Z"
    )
    check_bytes(request(), "XBTUSD", body)
    with pytest.raises(ExchangeUnavailable, match="is not the order"):
        check_bytes(request(), "XBTUSD", body.replace(*change))


def test_an_end_without_a_symbol_is_the_order_that_was_seen_before() -> None:
    reader = KrakenReader("kraken", "main", PAIRS)
    at = "2025-10-11T15:11:47.695226Z"
    end = {"order_id": "OGAB7Y", "exec_type": "canceled", "timestamp": at, "cum_qty": 0}
    with pytest.raises(MalformedError, match="never seen"):
        reader.streamed(end)
    born = {**end, "exec_type": "new", "symbol": "BTC/USD", "cl_ord_id": "ours", "side": "buy"}
    reader.streamed(born)
    report = reader.streamed(end)

    assert isinstance(report, ExecutionReport)
    assert (report.symbol, report.exchange_client_id) == ("BTC/USD", "ours")
    assert report.status is VenueStatus.CANCELLED
    assert report.at == datetime(2025, 10, 11, 15, 11, 47, 695226, UTC)


@pytest.mark.parametrize("name", ["XXBTZUSD", "XBTUSD", "XBT/USD", "BTC/USD"])
def test_a_pair_is_known_by_all_its_names(name: str) -> None:
    rules = PAIRS[name]
    assert (rules.symbol, rules.tick_size) == ("BTC/USD", Decimal("0.1"))
    assert rules.lot_size == Decimal("0.00000001")


def test_a_clock_of_whole_seconds_is_never_ahead_and_learns() -> None:
    clock = ExchangeClock()
    # The exchange is at 1000.9 s when our clock is at 5.0 s, and tells 1000.
    clock.observe_floor(1_000_000, 1000, 4.99, 5.0)
    first = (clock._exchange_ms, clock._seen_at)
    clock.observe_floor(1_001_000, 1000, 5.15, 5.16)  # It is at 1001.06 now.
    better = (clock._exchange_ms, clock._seen_at)
    clock.observe_floor(1_001_000, 1000, 5.9, 5.95)  # Says less than what is known.
    kept = (clock._exchange_ms, clock._seen_at)
    clock.observe_floor(990_000, 1000, 6.0, 6.1)  # Set back by ten seconds.

    assert first == (1_000_000.0, 5.0)
    assert better == kept == (1_001_000.0, 5.16)
    assert (clock._exchange_ms, clock._seen_at) == (990_000.0, 6.1)
