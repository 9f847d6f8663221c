"""Names that prove identity: equal where the things are the same, and nowhere else."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import after, order
from trading.oms.identity import (
    HEXADECIMAL,
    content_difference,
    content_hash,
    deployment_mark,
    exchange_client_id,
    fill_id,
)
from trading.oms.models import Order

text = st.text(max_size=20)
number = st.integers(min_value=1, max_value=99)


@pytest.mark.parametrize(
    "fields",
    [
        {"client_order_id": "another"},
        {"created_at": after(60)},
        {"quantity": Decimal("10.000")},
        {"quantity": Decimal("1E+1")},
        {"metadata": {}},
    ],
)
def test_the_same_content_has_the_same_hash(fields: dict[str, Any]) -> None:
    assert content_hash(order(**fields)) == content_hash(order())
    assert content_difference(order(), order(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"quantity": Decimal(2)}, "quantity is 2, the known order has 10"),
        ({"price": Decimal("100.01")}, "price is 100.01, the known order has 100"),
        ({"strategy_id": "s"}, "strategy_id is s, the known order has None"),
        ({"side": "sell"}, "side is sell, the known order has buy"),
        ({"metadata": {"a": 1}}, "metadata is {'a': 1}, the known order has {}"),
        ({"send_by": after(1)}, "send_by is 2025-01-02 03:04:06+00:00, the known order has None"),
    ],
)
def test_other_content_has_another_hash_and_is_told_field_by_field(
    fields: dict[str, Any], difference: str
) -> None:
    assert content_hash(order(**fields)) != content_hash(order())
    assert content_difference(order(), order(**fields)) == [difference]


def test_the_last_of_38_digits_counts() -> None:
    one = order(quantity=Decimal("12345678901234567890.123456789012345678"))
    other = order(quantity=Decimal("12345678901234567890.123456789012345679"))
    assert content_hash(one) != content_hash(other)
    assert content_difference(one, other) == [
        (
            "quantity is 12345678901234567890.123456789012345679, "
            "the known order has 12345678901234567890.123456789012345678"
        )
    ]


def test_an_order_that_went_through_json_has_the_same_hash() -> None:
    sent = order(send_by=after(5), metadata={"b": [1, 2.5, None], "a": {"ü": "x"}}, strategy_id="s")
    assert content_hash(Order.model_validate_json(sent.model_dump_json())) == content_hash(sent)


@settings(max_examples=100, deadline=None)
@given(st.tuples(text, text, number, number), st.tuples(text, text, number, number))
def test_an_exchange_client_id_is_unique_and_fits_the_exchanges(
    one: tuple[str, str, int, int], other: tuple[str, str, int, int]
) -> None:
    ids = [exchange_client_id(*one), exchange_client_id(*other)]
    assert (ids[0] == ids[1]) is (one == other)
    assert all(len(each) == 32 and set(each) <= set(HEXADECIMAL) for each in ids)
    assert ids[0].startswith(deployment_mark(one[0]))


@settings(max_examples=100, deadline=None)
@given(st.tuples(text, text, text, text, text), st.tuples(text, text, text, text, text))
def test_a_fill_id_is_unique_whatever_the_parts_hold(
    one: tuple[str, str, str, str, str], other: tuple[str, str, str, str, str]
) -> None:
    assert (fill_id(*one) == fill_id(*other)) is (one == other)


def test_the_border_between_the_parts_of_a_key_counts() -> None:
    assert fill_id("a", "b", "c", "1", "2") != fill_id("a", "b", "c", "12", "")
    assert exchange_client_id("a", "b1", 1, 1) != exchange_client_id("a", "b", 11, 1)


def test_both_sides_of_a_self_trade_have_fills_of_their_own() -> None:
    assert fill_id("x", "main", "BTC/USDT", "77", "1") != fill_id(
        "x", "main", "BTC/USDT", "77", "2"
    )


def test_ids_never_change_between_releases() -> None:
    assert deployment_mark("prod") == "b8c6e3"
    assert exchange_client_id("prod", "order-1", 1, 1) == "b8c6e384455abb6d2bcbba92ee26722e"
    assert fill_id("sandbox", "main", "BTC/USDT", "1", "2") == "ed032c2330457d93be0e1dc20fee6944"
    assert (
        content_hash(order()) == "63171ae933c6cfbb868eadbc6fb6d2801db9ce9b2aebf9087065aa5cbd9d0ef7"
    )
