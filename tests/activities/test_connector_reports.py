"""Binance's JSON to reports and fills: exact, or a clear refusal, whatever comes in."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.connectors.classify import parse_json
from activities.connectors.fields import MalformedError
from activities.connectors.instruments import instruments_of
from activities.connectors.reports import BinanceReader
from trading.oms.enums import OrderSide
from trading.oms.models import Fill, Instrument
from trading.oms.venue import ExecutionReport, Transfer, VenueStatus

BTC = Instrument(
    exchange="binance",
    symbol="BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    min_order_size=Decimal("0.00001"),
)
READER = BinanceReader("binance", "main", {"BTCUSDT": BTC})

EVENT: dict[str, Any] = {
    "e": "executionReport", "E": 1499405658658, "s": "BTCUSDT", "c": "ours", "S": "BUY",
    "o": "LIMIT", "f": "GTC", "q": "1.00000000", "p": "0.10264410", "P": "0.00000000",
    "F": "0.00000000", "g": -1, "C": "", "x": "NEW", "X": "NEW", "r": "NONE", "i": 4293153,
    "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None,
    "T": 1499405658657, "t": -1, "I": 8641984, "w": True, "m": False, "O": 1499405658657,
    "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000", "W": 1499405658657, "V": "NONE",
}  # fmt: skip
TRADE = {
    "x": "TRADE", "X": "PARTIALLY_FILLED", "l": "0.40000000", "z": "0.40000000",
    "L": "0.10264410", "n": "0.00000001", "N": "BNB", "t": 77, "m": True,
}  # fmt: skip
FULL: dict[str, Any] = {
    "symbol": "BTCUSDT", "orderId": 28, "orderListId": -1, "clientOrderId": "ours",
    "transactTime": 1507725176595, "price": "0.00000000", "origQty": "10.00000000",
    "executedQty": "10.00000000", "cummulativeQuoteQty": "10.00000000", "status": "FILLED",
    "timeInForce": "GTC", "type": "MARKET", "side": "SELL",
    "fills": [
        {"price": "4000.1", "qty": "1.5", "commission": "4", "commissionAsset": "USDT",
         "tradeId": 56},
        {"price": "3999.0", "qty": "8.5", "commission": "0", "commissionAsset": None,
         "tradeId": 57},
    ],
}  # fmt: skip
ROW: dict[str, Any] = {
    "symbol": "BTCUSDT", "orderId": 1, "orderListId": -1, "clientOrderId": "ours",
    "price": "0.1", "origQty": "1.0", "executedQty": "0.0", "cummulativeQuoteQty": "0.0",
    "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY", "stopPrice": "0.0",
    "icebergQty": "0.0", "time": 1499827319559, "updateTime": 1499827319559, "isWorking": True,
    "workingTime": 1499827319559, "origQuoteOrderQty": "0.0", "selfTradePreventionMode": "NONE",
}  # fmt: skip
MY_TRADE: dict[str, Any] = {
    "symbol": "BTCUSDT", "id": 28457, "orderId": 100234, "orderListId": -1, "price": "4.00000100",
    "qty": "12.00000000", "quoteQty": "48.000012", "commission": "10.10000000",
    "commissionAsset": "BNB", "time": 1499865549590, "isBuyer": True, "isMaker": False,
    "isBestMatch": True,
}  # fmt: skip


def streamed(event: dict[str, Any]) -> ExecutionReport:
    """What the reader makes of an event about an order."""
    report = READER.streamed(event)
    assert isinstance(report, ExecutionReport)
    return report


def test_a_trade_on_the_stream_is_exact() -> None:
    report = streamed(EVENT | TRADE)

    (fill,) = report.fills
    assert (fill.quantity, fill.price, fill.fee) == (
        Decimal("0.40000000"),
        Decimal("0.10264410"),
        Decimal("0.00000001"),
    )
    assert (fill.fee_currency, fill.is_maker, fill.trade_id) == ("BNB", True, "77")
    assert (fill.order_id, fill.exchange_order_id, fill.side) == ("", "4293153", OrderSide.BUY)
    assert (report.status, report.cumulative_quantity) == (
        VenueStatus.PARTIALLY_FILLED,
        Decimal("0.4"),
    )
    assert report.at.isoformat() == "2017-07-07T05:34:18.657000+00:00"


@pytest.mark.parametrize(
    ("changes", "client_id", "status", "reason"),
    [
        ({}, "ours", VenueStatus.NEW, None),
        (
            {"x": "CANCELED", "X": "CANCELED", "C": "ours", "c": "cancel-1"},
            "ours",
            VenueStatus.CANCELLED,
            None,
        ),
        ({"x": "CANCELED", "X": "CANCELED", "C": ""}, "ours", VenueStatus.CANCELLED, None),
        ({"x": "REPLACED", "C": "ours", "c": "another"}, "ours", VenueStatus.NEW, None),
        (
            {"x": "EXPIRED", "X": "EXPIRED", "eR": "UNFILLED_IOC_QUANTITY_EXPIRED"},
            "ours",
            VenueStatus.EXPIRED,
            "UNFILLED_IOC_QUANTITY_EXPIRED",
        ),
        (
            {"x": "TRADE_PREVENTION", "X": "EXPIRED_IN_MATCH"},
            "ours",
            VenueStatus.EXPIRED,
            "EXPIRED_IN_MATCH",
        ),
        (
            {"x": "REJECTED", "X": "REJECTED", "r": "INSUFFICIENT_BALANCE"},
            "ours",
            VenueStatus.REJECTED,
            "INSUFFICIENT_BALANCE",
        ),
        ({**TRADE, "X": "A_WORD_OF_TOMORROW"}, "ours", None, None),
    ],
)
def test_an_event_says_which_order_and_why(
    changes: dict[str, Any], client_id: str, status: VenueStatus | None, reason: str | None
) -> None:
    report = streamed(EVENT | changes)

    assert (report.exchange_client_id, report.status, report.reason) == (
        client_id,
        status,
        reason,
    )


def test_both_sides_of_a_self_trade_are_two_fills() -> None:
    sides = [streamed(EVENT | TRADE | change) for change in ({}, {"S": "SELL", "i": 5})]

    assert len({report.fills[0].trade_id for report in sides}) == 1
    assert len({report.fills[0].fill_id for report in sides}) == 2


def test_the_same_trade_has_one_id_wherever_it_is_read() -> None:
    seen = {
        streamed(EVENT | TRADE | {"i": 28, "t": 56}).fills[0].fill_id,
        READER.placed(FULL).fills[0].fill_id,
        READER.traded(MY_TRADE | {"orderId": 28, "id": 56}).fill_id,
    }
    assert len(seen) == 1


def test_an_answer_to_a_new_order_carries_its_fills() -> None:
    report = READER.placed(FULL)

    assert [fill.trade_id for fill in report.fills] == ["56", "57"]
    assert report.fills[1].fee_currency == "USDT"
    assert (report.price, report.quantity) == (None, Decimal(10))


def test_a_bare_acknowledgement_means_accepted() -> None:
    names = ("symbol", "orderId", "orderListId", "clientOrderId", "transactTime")
    report = READER.placed({name: FULL[name] for name in names})

    assert (report.status, report.cumulative_quantity) == (VenueStatus.NEW, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"q": 0.1},
        {"q": "NaN"},
        {"q": "1e30"},
        {"q": "-1"},
        {"q": None, "z": None},
        {"z": "9" * 40},
        {"s": "UNKNOWN"},
        {"s": None},
        {"S": "HOLD"},
        {"X": "A_WORD_OF_TOMORROW"},
        {"i": "12"},
        {"i": True},
        {"T": 10**18},
        {"T": None},
        {"c": "nul\x00"},
        {"c": ["ours"]},
        {**TRADE, "N": None},
        {**TRADE, "t": -1},
        {**TRADE, "t": None},
        {**TRADE, "l": "0"},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        READER.streamed(EVENT | changes)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "0", "-1", "NaN", "1e400", "TRADE", "CANCELED", "FILLED", "BUY"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def broken(whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """The documented object with some fields replaced by anything, or left out."""
    replaced = st.dictionaries(st.sampled_from(sorted(whole)), ANYTHING, max_size=4)
    missing = st.sets(st.sampled_from(sorted(whole)), max_size=2)
    damaged = st.builds(
        lambda new, gone: {k: v for k, v in (whole | new).items() if k not in gone},
        replaced,
        missing,
    )
    return ANYTHING | damaged


@given(broken(EVENT | TRADE), broken(EVENT), broken(FULL), broken(ROW), broken(MY_TRADE))
def test_nothing_but_a_report_or_a_refusal(
    trade: Any, event: Any, full: Any, row: Any, my_trade: Any
) -> None:
    readings: list[tuple[Callable[[Any], ExecutionReport | Fill | Transfer], Any]] = [
        (READER.streamed, trade),
        (READER.streamed, event),
        (READER.placed, full),
        (READER.cancelled, full),
        (READER.amended, {"transactTime": 1, "amendedOrder": row}),
        (READER.amended, row),
        (READER.queried, row),
        (READER.traded, my_trade),
    ]
    for read, raw in readings:
        try:
            result = read(raw)
        except MalformedError:
            continue
        result.model_dump_json()


@given(broken({"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": []}))
def test_an_instrument_that_cannot_be_read_is_left_out(row: Any) -> None:
    try:
        found = instruments_of("binance", {"symbols": [row]})
    except MalformedError:
        return
    assert len(found) <= 1


def test_an_instrument_has_the_filters_steps() -> None:
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0", "maxPrice": "0", "tickSize": "0.00000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "9000", "stepSize": "0.00100000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
    ]
    entry = {
        "symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "quotePrecision": 8,
        "isSpotTradingAllowed": True, "filters": filters,
    }  # fmt: skip
    margin_only = entry | {"symbol": "XY", "isSpotTradingAllowed": False}

    found = instruments_of("binance", {"symbols": [entry, margin_only]})

    assert list(found) == ["BTCUSDT"]
    rules = found["BTCUSDT"]
    assert (rules.symbol, rules.min_notional) == ("BTC/USDT", Decimal(5))
    assert (rules.tick_size, rules.lot_size) == (Decimal("1E-8"), Decimal("0.001"))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 10_000, '{"a":'])
def test_broken_json_is_none(text: str) -> None:
    assert parse_json(text) is None


def test_a_json_number_keeps_its_digits() -> None:
    assert parse_json(json.dumps({"p": 1})) == {"p": 1}
    assert parse_json('{"p": 0.10000000000000000001}') == {"p": "0.10000000000000000001"}
