"""A split order is the sum of its legs, at every moment and in any order of arrival."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oms.builders import NOW, after, event, fill, instrument, order, state
from trading.oms.enums import (
    OPEN_STATUSES,
    TERMINAL_STATUSES,
    OrderSide,
    OrderStatus,
    OrderType,
    Pending,
    ReasonCode,
)
from trading.oms.lifecycle import EventKind, apply
from trading.oms.models import Instrument, Order, OrderState
from trading.oms.routing.base import Refusal
from trading.oms.routing.legs import Venue, divided
from trading.oms.routing.markets import Level, VenueMarket
from trading.oms.split import (
    end_of,
    is_leg,
    leg_id,
    leg_number,
    parent_id_of,
    summed,
    to_be_routed_again,
)

ACCEPTED, CANCELLED = OrderStatus.ACCEPTED, OrderStatus.CANCELLED
EXPIRED, FILLED = OrderStatus.EXPIRED, OrderStatus.FILLED
REJECTED, SUBMITTED = OrderStatus.REJECTED, OrderStatus.SUBMITTED
PARENT = state(client_order_id="p", leg=0, status=OrderStatus.PENDING_SUBMISSION)
D = Decimal


def leg(number: int, quantity: str, **fields: Any) -> OrderState:
    return state(
        client_order_id=leg_id("p", number),
        parent_order_id="p",
        exchange="ab"[number % 2],
        quantity=D(quantity),
        **fields,
    )


def test_a_legs_id_names_its_parent() -> None:
    assert leg_id("p", 12) == "p.leg12"
    assert (parent_id_of("p.leg12"), leg_number("p.leg12")) == ("p", 12)
    assert parent_id_of("p.leg0") is None
    assert parent_id_of("x" * 59 + ".leg1") is None
    assert is_leg(leg(1, "1"))
    assert not is_leg(leg(1, "1").model_copy(update={"parent_order_id": "q"}))
    assert not is_leg(state(client_order_id="p.leg1"))


# The sum.

_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(
            st.sampled_from(
                [
                    (EventKind.SUBMITTING, 0),
                    (EventKind.SUBMITTED, 0),
                    (EventKind.ACCEPTED, 0),
                    (EventKind.IN_DOUBT, 0),
                    (EventKind.CANCELLED, 0),
                    (EventKind.EXPIRED, 0),
                    (EventKind.REJECTED, 0),
                ]
            ),
            st.tuples(st.just(EventKind.FILL), st.integers(1, 4)),
        ),
    ),
    max_size=25,
)


@given(_EVENTS)
def test_the_sum_holds_after_every_event_of_any_leg(
    history: list[tuple[int, tuple[EventKind, int]]],
) -> None:
    legs = [leg(1, "5"), leg(2, "3"), leg(3, "2")]
    parent = summed(PARENT, legs)
    fills = []
    for number, (which, (kind, size)) in enumerate(history):
        made = fill(f"f{number}", str(size), str(100 + number)) if size else None
        fills += [made] if made else []
        legs[which] = apply(legs[which], event(kind, number, fill=made)).state
        before, parent = parent, summed(parent, legs)
        # What happened on the way does not count: only what the legs are.
        assert summed(PARENT, legs).model_copy(update={"last_updated_at": NOW}) == (
            parent.model_copy(update={"last_updated_at": NOW})
        )
        assert summed(parent, legs) is parent
        assert before.filled_quantity <= parent.filled_quantity
    total = sum((each.quantity for each in fills), D(0))
    worth = sum((each.quantity * each.price for each in fills), D(0))
    assert parent.filled_quantity == total
    assert parent.filled_quantity + parent.remaining_quantity == parent.quantity
    assert parent.filled_notional == worth
    assert parent.fees == sum((each.fee for each in fills), D(0))
    if total:
        assert parent.average_fill_price == pytest.approx(worth / total)
    doubts = [each.in_doubt_since for each in legs if each.in_doubt_since]
    assert parent.in_doubt_since == min(doubts, default=None)
    # It has no word of its own yet, so it is open until all is filled.
    assert parent.is_open is (total < 10)


@pytest.mark.parametrize(
    ("legs", "status"),
    [
        ([], OrderStatus.PENDING_SUBMISSION),
        ([{}, {"status": SUBMITTED}], SUBMITTED),
        ([{"status": ACCEPTED}, {"status": REJECTED}], ACCEPTED),
        ([{"status": REJECTED}, {"status": REJECTED}], OrderStatus.PENDING_SUBMISSION),
        ([{"status": CANCELLED, "filled_quantity": D(1)}], OrderStatus.PARTIALLY_FILLED),
        ([{"status": FILLED, "filled_quantity": D(10)}], FILLED),
        ([{"status": FILLED, "filled_quantity": D(10)}, {"status": ACCEPTED}], FILLED),
    ],
)
def test_the_status_is_that_of_the_leg_that_has_come_furthest(
    legs: list[dict[str, Any]], status: OrderStatus
) -> None:
    assert summed(PARENT, [leg(n, "10", **one) for n, one in enumerate(legs, 1)]).status is status


def test_the_doubt_begins_with_the_oldest_leg_in_doubt() -> None:
    legs = [leg(n, "2", status=SUBMITTED, in_doubt_since=after(at)) for n, at in ((1, 7), (2, 5))]
    assert summed(PARENT, [*legs, leg(3, "6")]).in_doubt_since == after(5)


@pytest.mark.parametrize("word", [CANCELLED, EXPIRED, REJECTED])
@pytest.mark.parametrize("leg_status", list(OrderStatus))
def test_its_own_word_ends_it_once_every_leg_has_ended(
    word: OrderStatus, leg_status: OrderStatus
) -> None:
    parent = PARENT.model_copy(update={"ended_as": word, "pending": Pending.CANCEL})
    found = summed(parent, [leg(1, "10", status=leg_status)])
    if leg_status in TERMINAL_STATUSES:
        assert (found.status, found.pending) == (word, Pending.NONE)
    else:
        # A leg that is alive after all makes it open again.
        assert found.status in OPEN_STATUSES


# What is routed again, and how it ends.


def test_only_what_is_proved_dead_is_routed_again_and_only_once() -> None:
    whole = order(client_order_id="p", exchange=None)
    dead = leg(1, "6", status=REJECTED, rejection_reason="no")

    def again(
        *legs: OrderState, is_fresh: bool = True, asked: Order = whole, before: str = "0"
    ) -> Decimal:
        known = PARENT.model_copy(update={"rerouted_quantity": D(before)})
        parent = summed(known, legs)
        return to_be_routed_again(asked, parent, legs, is_fresh=is_fresh).quantity

    doubtful = leg(2, "4", status=SUBMITTED, in_doubt_since=NOW)
    assert again(dead, doubtful) == 6
    assert again(leg(1, "6", status=CANCELLED), leg(2, "4", status=EXPIRED)) == 0
    assert again(dead, leg(2, "4"), leg(3, "6"), before="6") == 0
    assert again(dead, leg(2, "4"), leg(3, "5", status=REJECTED), leg(4, "1"), before="6") == 5
    assert to_be_routed_again(whole, PARENT, [dead], is_fresh=True).refused == {
        "b": Refusal(ReasonCode.NO_EXCHANGE, "no")
    }
    # A cancelled leg is not replaced, and what legs have been made smaller by is nobody's.
    assert again(dead, leg(2, "4", status=CANCELLED)) == 6
    assert again(dead, leg(2, "4"), leg(3, "6", status=CANCELLED), before="6") == 0
    # The order was made smaller after a leg was refused: only what it still lacks goes on.
    parent = PARENT.model_copy(update={"quantity": D(7)})
    for other in (leg(2, "4"), doubtful):
        legs = [dead, other]
        found = to_be_routed_again(whole, summed(parent, legs), legs, is_fresh=True)
        assert found.quantity == 3
    # Nobody asks any more for what was not sent in its time.
    unsent = dead.model_copy(update={"reason_code": ReasonCode.SEND_BY_PASSED})
    assert again(unsent, leg(2, "4")) == 0
    market = order(client_order_id="p", exchange=None, order_type=OrderType.MARKET)
    assert again(dead, leg(2, "4"), asked=market) == 6
    assert again(dead, leg(2, "4"), asked=market, is_fresh=False) == 0
    late = dead.model_copy(update={"reason_code": ReasonCode.NOT_PLACED})
    assert again(late, leg(2, "4"), asked=market) == 0
    assert again(late, leg(2, "4")) == 6


@pytest.mark.parametrize(
    ("legs", "wanted", "kind"),
    [
        ((REJECTED, REJECTED), False, EventKind.REJECTED),
        ((REJECTED, EXPIRED), False, EventKind.EXPIRED),
        ((FILLED, EXPIRED), False, EventKind.EXPIRED),
        ((CANCELLED, EXPIRED), False, EventKind.CANCELLED),
        ((OrderStatus.ERROR, REJECTED), False, EventKind.CANCELLED),
        ((REJECTED, REJECTED), True, EventKind.CANCELLED),
    ],
)
def test_an_order_ends_as_its_legs_did(
    legs: tuple[OrderStatus, OrderStatus], wanted: bool, kind: EventKind
) -> None:
    states = [leg(n, "5", status=one, rejection_reason="so") for n, one in enumerate(legs, 1)]
    end = end_of(summed(PARENT, states), states, is_wanted=wanted, unroutable="nobody is left")
    assert end.kind is kind
    assert str(end.word["reason"]).startswith("10 is left: p.leg")
    assert str(end.word["reason"]).endswith("(so); nobody is left")


def test_an_order_that_has_traded_is_cancelled_where_its_rest_was_rejected() -> None:
    legs = [leg(1, "5", status=FILLED, filled_quantity=D(5)), leg(2, "5", status=REJECTED)]
    end = end_of(summed(PARENT, legs), legs, is_wanted=False, unroutable=None)
    assert (end.kind, end.word["reason"]) == (EventKind.CANCELLED, "5 is left: p.leg2 is rejected")


# Dividing.


def venue(name: str, asks: list[tuple[str, str]], fee: str = "0", **rules: Any) -> Venue:
    levels = tuple(Level(D(price), D(quantity)) for price, quantity in asks)
    market = VenueMarket(
        exchange=name,
        symbol="BTC/USDT",
        asks=levels,
        bids=levels[::-1],
        fee_rate=D(fee),
        received_at=NOW,
    )
    return Venue(name, instrument(exchange=name, **rules), market)


def shares(*venues: Venue, **fields: Any) -> Any:
    whole = order(exchange=None, **fields)
    found = divided(whole, whole.quantity, venues)
    return found if isinstance(found, dict) else {one.exchange: one.quantity for one in found}


def test_each_part_goes_where_it_is_cheapest_with_fees() -> None:
    a = venue("a", [("99", "4"), ("100", "9")], fee="0.001")
    b = venue("b", [("99.05", "3"), ("99.5", "1")])
    assert shares(a, b) == {"b": D(4), "a": D(6)}
    assert shares(a, b, price=D(99)) == {"a": D(10)}
    assert shares(a, b, quantity=D(3)) == {"b": D(3)}
    assert shares(a, b, side=OrderSide.SELL, price=D("99.2")) == {"a": D(9), "b": D(1)}
    assert shares(a, b, side=OrderSide.SELL, price=D(98), quantity=D(2)) == {"a": D(2)}
    dear = venue("b", [("99.95", "3")])
    assert shares(a, dear, side=OrderSide.SELL, price=D(98), quantity=D(2)) == {"b": D(2)}


def test_what_nobody_offers_rests_where_the_order_trades_first() -> None:
    far, near = venue("a", [("102", "9")]), venue("b", [("101", "1")])
    assert shares(venue("0", []), far, near) == {"b": D(10)}
    dear = venue("b", [("101", "1")], fee="0.02")
    assert shares(far, dear) == {"a": D(10)}


def test_legs_obey_their_venues_rules_and_their_sum_is_exact() -> None:
    coarse = venue("a", [("99", "4.5")], lot_size=D(1))
    fine = venue("b", [("99.5", "20")])
    assert shares(coarse, fine) == {"a": D(4), "b": D(6)}
    small = venue("a", [("99", "0.01")], min_notional=D(5))
    assert shares(small, fine) == {"b": D(10)}
    capped = venue("a", [("99", "20")], max_order_size=D(7))
    assert shares(capped, fine) == {"a": D(7), "b": D(3)}


def test_of_two_shares_that_are_too_small_the_smaller_is_given_up() -> None:
    """They are worth 2 and 4, and the smallest is 5: the other takes both."""
    a, b = venue("a", [("99", "0.02")]), venue("b", [("99.5", "0.04")])
    assert shares(a, b, quantity=D("0.06")) == {"b": D("0.06")}


def test_what_no_rule_lets_pass_is_said_and_not_rounded() -> None:
    found = shares(venue("a", [("99", "20")]), quantity=D("1.0005"))
    assert found == {"a": "0.0005 of 1.0005 is left that no exchange here can take"}
    thin = shares(venue("a", [("99", "2")]), venue("b", [("99", "3")]), order_type=OrderType.MARKET)
    assert thin == dict.fromkeys("ab", "its rules leave no quantity of 10")
    tiny = shares(venue("a", [("99", "2")]), quantity=D("0.01"))
    assert "the smallest is 5" in tiny["a"]


_LOTS = st.sampled_from([D("0.001"), D("0.01"), D("0.1"), D(1)])
_BOOKS = st.lists(st.tuples(st.integers(9000, 11000), st.integers(1, 5000)), max_size=4).map(
    lambda rows: [(str(D(p) / 100), str(D(q) / 1000)) for p, q in sorted(rows)]
)


@given(
    st.lists(st.tuples(_BOOKS, _LOTS, st.integers(0, 50)), min_size=1, max_size=4),
    st.integers(1, 20_000),
    st.booleans(),
)
def test_any_division_is_exact_and_valid(
    books: list[tuple[list[tuple[str, str]], Decimal, int]], milli: int, is_market: bool
) -> None:
    venues = [
        venue(f"v{n}", asks, lot_size=lot, min_order_size=lot, min_notional=D(least))
        for n, (asks, lot, least) in enumerate(books)
    ]
    quantity = D(milli) / 1000
    kind = {"order_type": OrderType.MARKET} if is_market else {}
    found = shares(*venues, quantity=quantity, **kind)
    rules: dict[str, Instrument] = {one.exchange: one.rules for one in venues}
    if any(isinstance(value, str) for value in found.values()):
        assert set(found) == set(rules)
        return
    assert sum(found.values()) == quantity
    for exchange, amount in found.items():
        assert amount > 0
        assert amount % rules[exchange].lot_size == 0
