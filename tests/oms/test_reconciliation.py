"""Two pictures of an account: equal ones differ in nothing, and each difference has its kind."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import NOW, after, fill, state
from trading.oms.enums import OrderSide, OrderStatus
from trading.oms.identity import exchange_client_id
from trading.oms.reconciliation import (
    Difference,
    DifferenceKind,
    ExchangePicture,
    Key,
    OurLeg,
    OurPicture,
    compare,
    is_marked,
    unbooked,
)
from trading.oms.venue import ExecutionReport, ReportSource, VenueStatus

K = DifferenceKind
V = VenueStatus


def client_id(order_id: str = "a", leg: int = 1, generation: int = 1) -> str:
    return exchange_client_id("prod", order_id, leg, generation)


def leg(order_id: str = "a", **fields: Any) -> OurLeg:
    given_fields: dict[str, Any] = {
        "order_id": order_id,
        "exchange_client_id": client_id(order_id),
        "symbol": "BTC/USDT",
        "side": OrderSide.BUY,
        "quantity": Decimal(10),
        "filled_quantity": Decimal(0),
        "price": Decimal(100),
        "sent_at": after(-60),
        **fields,
    }
    return OurLeg(**given_fields)


def report(order_id: str = "a", **fields: Any) -> ExecutionReport:
    given_fields: dict[str, Any] = {
        "exchange": "sandbox",
        "account": "main",
        "symbol": "BTC/USDT",
        "exchange_client_id": client_id(order_id),
        "exchange_order_id": f"x-{order_id}",
        "status": V.NEW,
        "side": OrderSide.BUY,
        "quantity": Decimal(10),
        "price": Decimal(100),
        "cumulative_quantity": Decimal(0),
        "at": NOW,
        "received_at": NOW,
        "source": ReportSource.QUERY,
        **fields,
    }
    return ExecutionReport(**given_fields)


def differences(
    legs: list[OurLeg],
    reports: list[ExecutionReport],
    *,
    ended: dict[Key, str] | None = None,
    symbols: list[str] | None = None,
    gap: str | None = None,
) -> list[Difference]:
    theirs = ExchangePicture(NOW, reports, symbols, gap)
    return compare(OurPicture("prod", legs, ended or {}), theirs)


@pytest.mark.parametrize(
    ("what", "legs", "reports"),
    [
        ("nothing on both sides", [], []),
        ("the same orders", [leg("a"), leg("b")], [report("b"), report("a")]),
        ("equal decimals in other words", [leg(quantity=Decimal("10.0"))], [report()]),
        ("a leg in doubt is looked up elsewhere", [leg(in_doubt=True)], []),
        ("a leg sent after the question", [leg(sent_at=after(1))], []),
        ("a market order's price of 0", [leg(price=None)], [report(price=Decimal(0))]),
        ("a price of 0 where the exchange names none", [leg()], [report(price=Decimal(0))]),
        ("an ended order of somebody else", [], [report("z", status=V.FILLED)]),
        ("a report of a trade alone", [], [report("z", status=None)]),
    ],
)
def test_no_difference_is(what: str, legs: list[OurLeg], reports: list[ExecutionReport]) -> None:
    assert differences(legs, reports) == []


@pytest.mark.parametrize(
    ("kind", "message", "legs", "reports"),
    [
        (
            K.MISSING_AT_EXCHANGE,
            "order a is open here, and the exchange does not list it",
            [leg()],
            [],
        ),
        (
            K.FILL_MISMATCH,
            "filled_quantity of order a is 1 here and 3 there",
            [leg(filled_quantity=Decimal(1))],
            [report(status=V.PARTIALLY_FILLED, cumulative_quantity=Decimal(3))],
        ),
        (
            K.QUANTITY_MISMATCH,
            "quantity of order a is 10 here and 8 there",
            [leg()],
            [report(quantity=Decimal(8))],
        ),
        (
            K.PRICE_MISMATCH,
            "price of order a is 100 here and 99.5 there",
            [leg()],
            [report(price=Decimal("99.5"))],
        ),
        (
            K.ENDED_AT_EXCHANGE,
            "order a is open here and cancelled there",
            [leg()],
            [report(status=V.CANCELLED)],
        ),
        (
            K.IDENTITY_MISMATCH,
            "order a is a buy of BTC/USDT here and sell BTC/USDT there",
            [leg()],
            [report(side=OrderSide.SELL, quantity=Decimal(7))],
        ),
        (
            K.UNKNOWN_HERE,
            "which is ours by its mark and not in the store",
            [],
            [report("lost")],
        ),
        (
            K.EXTERNAL,
            "somebody else has web_123 open on this account",
            [],
            [report(exchange_client_id="web_123")],
        ),
        (
            K.EXTERNAL,
            "somebody else has x-z open on this account",
            [],
            [report("z", exchange_client_id=None)],
        ),
    ],
)
def test_a_difference_is_named(
    kind: DifferenceKind, message: str, legs: list[OurLeg], reports: list[ExecutionReport]
) -> None:
    (difference,) = differences(legs, reports)
    assert difference.kind is kind
    assert message in difference.message
    assert difference.order_id == (legs[0].order_id if legs else None)


def test_missed_fills_and_the_end_are_two_differences_and_fills_come_first() -> None:
    found = differences([leg()], [report(status=V.FILLED, cumulative_quantity=Decimal(10))])
    assert [each.kind for each in found] == [K.FILL_MISMATCH, K.ENDED_AT_EXCHANGE]
    assert found[0].numbers["missing_here"] == 10


def test_an_end_beats_an_older_report_that_lists_the_order_as_open() -> None:
    reports = [report(status=V.CANCELLED), report(at=after(1))]
    assert [each.kind for each in differences([leg()], reports)] == [K.ENDED_AT_EXCHANGE]


def test_an_order_that_has_ended_here_and_rests_there_is_found() -> None:
    (difference,) = differences([], [report()], ended={client_id(): "a"})
    assert (difference.kind, difference.order_id) == (K.ALIVE_AFTER_END, "a")


def test_two_generations_alive_name_the_newer_one_first_of_all() -> None:
    second = leg(exchange_client_id=client_id(generation=2))
    found = differences(
        [leg(), second],
        [
            report(exchange_client_id=client_id(generation=2), at=after(5)),
            report(),
        ],
    )
    assert [each.kind for each in found] == [K.TWO_ALIVE]
    assert found[0].exchange_client_id == client_id(generation=2)


def test_a_generation_that_has_ended_does_not_rest_beside_the_other() -> None:
    newer = client_id(generation=2)
    reports = [report(status=V.CANCELLED), report(exchange_client_id=newer)]
    found = differences([leg(), leg(exchange_client_id=newer)], reports)
    assert [each.kind for each in found] == [K.ENDED_AT_EXCHANGE]


def test_a_generation_that_has_ended_here_and_rests_there_beside_the_other_is_found() -> None:
    newer = client_id(generation=2)
    reports = [report(), report(exchange_client_id=newer, at=after(5))]
    found = differences([leg(exchange_client_id=newer)], reports, ended={client_id(): "a"})
    assert [each.kind for each in found] == [K.TWO_ALIVE, K.ALIVE_AFTER_END]


def test_in_a_list_with_a_gap_no_order_is_missing_and_what_is_there_counts() -> None:
    changed = report("b", quantity=Decimal(8))
    found = differences([leg("a"), leg("b")], [changed], gap="a row cannot be read")
    assert [each.kind for each in found] == [K.QUANTITY_MISMATCH]


def test_only_the_symbols_that_were_asked_for_can_be_missing() -> None:
    other = leg("b", symbol="ETH/USDT")
    found = differences([leg("a"), other], [], symbols=["ETH/USDT"])
    assert [each.order_id for each in found] == ["b"]


@settings(max_examples=50, deadline=None)
@given(st.permutations(list("abcdef")), st.permutations(list("abcdef")))
def test_the_order_of_the_lists_does_not_matter(mine: list[str], theirs: list[str]) -> None:
    def found(first: list[str], second: list[str]) -> list[Difference]:
        legs = [leg(each) for each in first if each != "c"]
        reports = [
            report(each, cumulative_quantity=Decimal(2 if each == "d" else 0))
            for each in second
            if each != "b"
        ]
        return differences(legs, reports)

    assert found(mine, theirs) == found(sorted(mine), sorted(theirs))
    assert [each.kind for each in found(mine, theirs)] == [
        K.UNKNOWN_HERE,
        K.FILL_MISMATCH,
        K.MISSING_AT_EXCHANGE,
    ]


def test_the_leg_of_an_order_that_was_not_replaced_is_its_state() -> None:
    known = state(status=OrderStatus.ACCEPTED, exchange_client_id="c1", in_doubt_since=NOW)
    assert OurLeg.of(known) == leg("order-1", exchange_client_id="c1", sent_at=None, in_doubt=True)
    with pytest.raises(ValueError, match="has leg 2"):
        OurLeg.of(known.model_copy(update={"leg": 2}))


@pytest.mark.parametrize(
    ("given_id", "marked"),
    [
        (client_id("whatever"), True),
        (exchange_client_id("staging", "a", 1, 1), False),
        (client_id()[:31], False),
        (client_id()[:31] + "x", False),
        (None, False),
    ],
)
def test_our_ids_are_known_by_their_mark(given_id: str | None, marked: object) -> None:
    assert is_marked(given_id, "prod") is marked


def test_unbooked_fills_are_listed_once_and_oldest_first() -> None:
    fills = [
        fill("f3", timestamp=after(3)),
        fill("f1", timestamp=after(1)),
        fill("f2", timestamp=after(2)),
        fill("f3", timestamp=after(3)),
    ]
    assert [each.fill_id for each in unbooked(fills, {"f2"})] == ["f1", "f3"]


def test_an_order_without_a_client_id_is_known_by_its_symbol_and_the_exchanges_id() -> None:
    nameless: dict[str, Any] = {"exchange_client_id": None, "exchange_order_id": "7"}
    by_hand = leg("external-1", **nameless)
    assert differences([by_hand], [report(**nameless)]) == []
    (missing, other) = differences([by_hand], [report(symbol="ETH/USDT", **nameless)])
    assert (missing.kind, missing.order_id) == (K.MISSING_AT_EXCHANGE, "external-1")
    assert (other.kind, other.symbol) == (K.EXTERNAL, "ETH/USDT")


def test_what_is_left_out_is_neither_missing_nor_anybodys() -> None:
    nameless: dict[str, Any] = {"exchange_client_id": None, "exchange_order_id": "7"}
    ours = OurPicture("prod", [], left_out={client_id(), ("BTC/USDT", "7")})
    assert compare(ours, ExchangePicture(NOW, [report(), report(**nameless)])) == []
