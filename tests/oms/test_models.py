"""What the door takes and refuses; a refusal names the field, the value and the rule."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.oms.builders import NOW, after, fill, instrument, order, quote, state
from trading.oms.enums import (
    OPEN_STATUSES,
    TERMINAL_STATUSES,
    IfNotPlaced,
    OrderSide,
    OrderStatus,
    OrderType,
    TimeInForce,
    TradingState,
)
from trading.oms.models import (
    Balance,
    CancelResult,
    Fill,
    Instrument,
    Order,
    OrderResult,
    OrderState,
    Quote,
)

GTD = {"time_in_force": TimeInForce.GTD}


def minimal(**fields: Any) -> dict[str, Any]:
    """The fields of a limit order as a caller in another language would give them."""
    return {
        "symbol": "BTC/USDT",
        "side": "buy",
        "order_type": "limit",
        "quantity": "0.001",
        "price": "50000",
        **fields,
    }


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("quantity", {"quantity": 0.1}, "is the float 0.1; give an exact decimal"),
    ("quantity", {"quantity": True}, "is True; give a decimal"),
    ("quantity", {"quantity": "0"}, "is 0; must be greater than 0"),
    ("quantity", {"quantity": "-1"}, "is -1; must be greater than 0"),
    ("quantity", {"quantity": "NaN"}, "should be a finite number"),
    ("quantity", {"quantity": "sNaN"}, "finite number"),
    ("quantity", {"quantity": Decimal("Infinity")}, "should be a finite number"),
    ("price", {"price": "-Infinity"}, "should be a finite number"),
    ("quantity", {"quantity": "1e-19"}, "has more than 18 decimals"),
    ("quantity", {"quantity": "1.0000000000000000001"}, "has more than 18 decimals"),
    (
        "quantity",
        {"quantity": "12345678901234567890.1234567890123456789"},
        "has more than 18 decimals",
    ),
    ("quantity", {"quantity": "1e20"}, "has more than 20 digits before the point"),
    ("quantity", {"quantity": "1e999999999"}, "has more than 20 digits before the point"),
    ("quantity", {"quantity": "0e-999999999"}, "must be greater than 0"),
    ("quantity", {"quantity": "many"}, "valid decimal"),
    ("quantity", {"quantity": None}, "[Dd]ecimal"),
    ("quantity", {"quantity": ["1"]}, "[Dd]ecimal"),
    ("symbol", {"symbol": "btc/usdt"}, "is 'btc/usdt'; must be BASE/QUOTE in capitals"),
    ("symbol", {"symbol": "BTCUSDT"}, "must be BASE/QUOTE"),
    ("symbol", {"symbol": "BTC/USDT\n"}, "must be BASE/QUOTE"),
    ("client_order_id", {"client_order_id": ""}, "must be 1 to 64 of the characters"),
    ("client_order_id", {"client_order_id": "x" * 65}, "must be 1 to 64 of the characters"),
    ("client_order_id", {"client_order_id": "örder"}, "is 'örder'; must be 1 to 64"),
    ("client_order_id", {"client_order_id": "a b"}, "is 'a b'; must be 1 to 64"),
    ("client_order_id", {"client_order_id": "١٢"}, "must be 1 to 64"),
    ("strategy_id", {"strategy_id": "a/b"}, "is 'a/b'; must be 1 to 64"),
    ("exchange", {"exchange": ""}, "must be 1 to 32 of the characters"),
    ("account", {"account": "x" * 33}, "must be 1 to 32 of the characters"),
    ("side", {"side": "hold"}, "'buy' or 'sell'"),
    ("order_type", {"order_type": "iceberg"}, "'market', 'limit', 'stop' or 'stop_limit'"),
    ("created_at", {"created_at": datetime(2025, 1, 1)}, "without a time zone"),  # noqa: DTZ001
    ("send_by", {"send_by": "2025-01-01T00:00:00"}, "without a time zone"),
    ("send_by", {"send_by": "0001-01-01T00:00:00+05:00"}, "years 1 to 9999"),
    ("send_by", {"send_by": "soon"}, "datetime"),
    ("quantty", {"quantty": "1"}, "Extra inputs are not permitted"),
    ("metadata", {"metadata": {"price": Decimal(1)}}, "must be plain JSON"),
    ("metadata", {"metadata": {"a": float("nan")}}, "must be plain JSON"),
    ("metadata", {"metadata": {"a": "\x00"}}, "U\\+0000"),
    ("metadata", {"metadata": {"a\x00": 1}}, "U\\+0000"),
    ("metadata", {"metadata": {"a": "\ud800"}}, "must be plain JSON"),
    ("metadata", {"metadata": {"a": "x" * 20_000}}, "the limit is 16384"),
]


@pytest.mark.parametrize(
    ("field", "fields", "rule"), REFUSED, ids=[f"{f}-{r[:30]}" for f, _, r in REFUSED]
)
def test_is_refused_by_field_and_rule(field: str, fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as refusal:
        Order.model_validate(minimal(**fields))
    (error,) = refusal.value.errors()
    assert error["loc"][0] == field


NOT_TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"price": None}, "price is missing; a limit GTC order needs one"),
    ({"order_type": "market"}, "price is 50000; a market GTC order takes none"),
    ({"stop_price": "1"}, "stop_price is 1; a limit GTC order takes none"),
    ({"order_type": "stop", "price": None}, "stop_price is missing; a stop GTC order needs one"),
    ({"order_type": "stop_limit"}, "stop_price is missing; a stop_limit GTC order needs one"),
    (GTD, "expire_at is missing; a limit GTD order needs one"),
    ({"expire_at": after(1)}, "expire_at is .*; a limit GTC order takes none"),
    ({"post_only": True, "time_in_force": "IOC"}, "post_only is true on a limit IOC order"),
    (
        {"post_only": True, "order_type": "stop_limit", "stop_price": "1"},
        "only limit orders with GTC or GTD can be post-only",
    ),
]


@pytest.mark.parametrize(("fields", "rule"), NOT_TOGETHER)
def test_fields_that_do_not_fit_together_are_refused(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Order.model_validate(minimal(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"quantity": Decimal("99999999999999999999.999999999999999999")},
        {"quantity": "1e-18"},
        {"quantity": "1.000000000000000000000000"},
        {"quantity": 5},
        {"side": "BUY", "order_type": "Limit", "time_in_force": "gtc"},
        {"order_type": "stop_limit", "stop_price": "49000"},
        {**GTD, "expire_at": after(60), "post_only": True},
        {"client_order_id": "A-z.0_9"},
        {"symbol": "1INCH/USDT"},
        {"metadata": {"nested": [1, 1.5, None, {"deep": "ü"}]}},
        {"send_by": "2025-01-01T00:00:00+05:00"},
    ],
)
def test_is_taken_and_survives_its_json(fields: dict[str, Any]) -> None:
    taken = Order.model_validate(minimal(**fields))
    assert Order.model_validate_json(taken.model_dump_json()) == taken
    assert Order.model_validate(taken.model_dump(mode="json")) == taken


def test_a_json_number_with_a_fraction_is_refused_because_it_is_a_float_by_then() -> None:
    with pytest.raises(ValidationError, match="is the float"):
        Order.model_validate_json(
            '{"symbol":"BTC/USDT","side":"buy","order_type":"market","quantity":0.1}'
        )


def test_times_are_kept_in_utc() -> None:
    tokyo = datetime(2025, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert order(send_by=tokyo).send_by == datetime(2025, 1, 1, tzinfo=UTC)
    taken = order(send_by=tokyo).send_by
    assert taken is not None
    assert taken.tzinfo is UTC


def test_an_order_is_born_with_its_id_and_cannot_be_changed() -> None:
    one, other = Order.model_validate(minimal()), Order.model_validate(minimal())
    assert len(one.client_order_id) == 32
    assert one.client_order_id != other.client_order_id
    with pytest.raises(ValidationError, match="frozen"):
        one.quantity = Decimal(2)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "resends"),
    [
        ({}, True),
        ({**GTD, "expire_at": NOW}, True),
        ({"time_in_force": TimeInForce.IOC}, False),
        ({"time_in_force": TimeInForce.FOK}, False),
        ({"order_type": OrderType.MARKET}, False),
        ({"order_type": OrderType.MARKET, "if_not_placed": IfNotPlaced.RESEND}, True),
        ({"if_not_placed": IfNotPlaced.REJECT}, False),
    ],
)
def test_what_was_not_placed_is_sent_again_only_where_it_is_not_a_late_trade(
    fields: dict[str, Any], resends: object
) -> None:
    assert order(**fields).resend_if_not_placed is resends


decimals = st.decimals(
    min_value=Decimal(-99999999999999999999), max_value=Decimal(99999999999999999999),
    places=18, allow_nan=False,
)  # fmt: skip


positives = decimals.map(abs).filter(bool)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quantity": "0"}, "quantity is 0"),
        ({"quantity": "-1"}, "quantity is -1"),
        ({"quantity": "0", "inferred": True}, "quantity is 0"),
        ({"price": "-1"}, "price"),
        ({"fee_currency": "x" * 17}, "fee_currency"),
        ({"trade_id": "x" * 65}, "trade_id"),
    ],
)
def test_a_fill_that_is_no_trade_or_that_no_column_holds_is_refused(
    fields: dict[str, Any], words: str
) -> None:
    values = {**fill().model_dump(), **fields}
    with pytest.raises(ValidationError, match=words):
        Fill.model_validate(values)


@settings(max_examples=200, deadline=None)
@given(positives, positives, decimals)
def test_every_decimal_survives_its_json_digit_by_digit(
    quantity: Decimal, price: Decimal, fee: Decimal
) -> None:
    booked = fill(str(quantity), str(quantity), str(price), fee=fee)
    again = Fill.model_validate_json(booked.model_dump_json())
    assert again == booked
    assert (again.quantity.as_tuple(), again.price.as_tuple()) == (
        quantity.as_tuple(),
        price.as_tuple(),
    )
    known = state(filled_quantity=quantity, fees_by_currency={"BTC": fee}, price=price)
    assert OrderState.model_validate_json(known.model_dump_json()) == known


@pytest.mark.parametrize(
    "model",
    [
        fill(),
        quote(),
        instrument(),
        state(),
        Balance(asset="BTC", free=Decimal("0.1"), locked=Decimal(0)),
        OrderResult(success=True, order_id="a", status=OrderStatus.ACCEPTED, state=state()),
        CancelResult.model_validate({"success": True, "order_id": "a", "outcome": "cancelled"}),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_answer_survives_its_json(
    model: Fill | Quote | Instrument | OrderState | Balance | OrderResult | CancelResult,
) -> None:
    assert type(model).model_validate_json(model.model_dump_json()) == model


SPECIFIED = {
    Order: (
        "client_order_id exchange symbol side order_type quantity price stop_price time_in_force "
        "strategy_id parent_order_id metadata"
    ),
    OrderState: (
        "client_order_id exchange_order_id exchange symbol side order_type quantity price "
        "stop_price time_in_force status filled_quantity remaining_quantity average_fill_price "
        "created_at submitted_at last_updated_at strategy_id parent_order_id fees rejection_reason "
        "metadata"
    ),
    Fill: (
        "fill_id order_id exchange symbol side quantity price fee fee_currency timestamp trade_id "
        "is_maker"
    ),
}
SPECIFIED_DEFAULTS: dict[type[BaseModel], dict[str, Any]] = {
    OrderState: {
        "exchange_order_id": None,
        "price": None,
        "stop_price": None,
        "time_in_force": TimeInForce.GTC,
        "status": OrderStatus.CREATED,
        "filled_quantity": Decimal(0),
        "average_fill_price": None,
        "submitted_at": None,
        "strategy_id": None,
        "parent_order_id": None,
        "fees": Decimal(0),
        "rejection_reason": None,
        "metadata": {},
    },
    Fill: {"trade_id": None, "is_maker": None},
}


@pytest.mark.parametrize("model", SPECIFIED, ids=lambda model: model.__name__)
def test_a_model_has_the_specified_fields(model: type[BaseModel]) -> None:
    assert set(SPECIFIED[model].split()) <= set(model.model_fields)


@pytest.mark.parametrize("model", SPECIFIED_DEFAULTS, ids=lambda model: model.__name__)
def test_a_field_that_is_not_given_is_what_is_specified(model: type[BaseModel]) -> None:
    fields, wanted = model.model_fields, SPECIFIED_DEFAULTS[model]
    found = {name: fields[name].get_default(call_default_factory=True) for name in wanted}
    assert found == wanted


def test_what_remains_of_a_state_made_by_hand_is_what_is_not_filled() -> None:
    given = state().model_dump(exclude={"remaining_quantity"})
    made = OrderState(**{**given, "quantity": Decimal("0.3"), "filled_quantity": Decimal("0.1")})
    assert str(made.remaining_quantity) == "0.2"
    assert OrderState(**{**given, "remaining_quantity": Decimal(7)}).remaining_quantity == 7
    with pytest.raises(ValidationError, match="quantity"):
        OrderState(**{**given, "quantity": "much"})


def test_a_new_state_is_what_the_order_says_and_nothing_more() -> None:
    wanted = order(strategy_id="s", account="main", parent_order_id="p", metadata={"a": 1})
    known = OrderState.of(wanted)
    assert known.status is OrderStatus.CREATED
    assert known.remaining_quantity == wanted.quantity
    for field in set(Order.model_fields) & set(OrderState.model_fields):
        assert getattr(known, field) == getattr(wanted, field), field
    assert OrderState.of(order(exchange=None)).exchange == ""


def test_the_statuses_have_the_specified_names_and_values() -> None:
    assert {status.name: status.value for status in OrderStatus} == {
        "CREATED": "created",
        "PENDING_SUBMISSION": "pending_submission",
        "SUBMITTED": "submitted",
        "ACCEPTED": "accepted",
        "PARTIALLY_FILLED": "partially_filled",
        "FILLED": "filled",
        "CANCELLED": "cancelled",
        "REJECTED": "rejected",
        "ERROR": "error",
        "EXPIRED": "expired",
    }


@pytest.mark.parametrize("status", OrderStatus)
def test_every_status_is_either_open_or_terminal(status: OrderStatus) -> None:
    known = state(status=status)
    assert known.is_open is (status in OPEN_STATUSES)
    assert known.is_terminal is (status in TERMINAL_STATUSES)
    assert known.is_open is not known.is_terminal


def test_the_fill_percentage_is_of_the_quantity() -> None:
    assert state(filled_quantity=Decimal("2.5")).fill_percentage == 25
    assert state().model_copy(update={"quantity": Decimal(0)}).fill_percentage == 0


def test_words_are_read_in_any_letter_case() -> None:
    assert OrderSide("BUY") is OrderSide.BUY
    assert TimeInForce("gtc") is TimeInForce.GTC
    assert TradingState("Halted") is TradingState.HALTED
    with pytest.raises(ValueError, match="'hold' is not a valid OrderSide"):
        OrderSide("hold")


def test_the_middle_of_a_quote_and_the_total_of_a_balance() -> None:
    assert quote("99", "102").mid == Decimal("100.5")
    assert Balance(asset="BTC", free=Decimal(1), locked=Decimal(2)).total == 3
