"""How a change of a split order is shared out over its legs: exact, by the venues' rules."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oms.builders import NOW, instrument, order, state
from trading.oms.enums import OrderStatus, Pending
from trading.oms.models import OrderState
from trading.oms.split import leg_id, summed
from trading.oms.split_change import Plan, Wish, planned

ACCEPTED, CANCELLED = OrderStatus.ACCEPTED, OrderStatus.CANCELLED
D = Decimal
RULES = {name: instrument(exchange=name) for name in "ab"}  # Lot 0.001, price 100, notional 5.
COARSE = {**RULES, "a": instrument(exchange="a", min_order_size=D(3))}
ORDER = order(client_order_id="p", exchange=None, quantity=D(10))


def leg(number: int, quantity: str, filled: str = "0", **fields: Any) -> OrderState:
    """Odd legs at "b", even ones at "a"."""
    given: dict[str, Any] = {"status": ACCEPTED, **fields}
    return state(
        client_order_id=leg_id("p", number),
        parent_order_id="p",
        exchange="ab"[number % 2],
        quantity=D(quantity),
        filled_quantity=D(filled),
        remaining_quantity=D(quantity) - D(filled),
        **given,
    )


def parent_of(legs: list[OrderState], quantity: str) -> OrderState:
    parent = state(client_order_id="p", leg=0, quantity=D(quantity))
    return summed(parent, legs)


def asked(plan: Plan) -> list[tuple[Any, ...]]:
    """For each leg: its number, and `end`, or the new quantity and price."""
    return [
        (int(c.order_id[-1]), "end") if c.ends
        else (int(c.order_id[-1]), str(c.new_quantity) if c.new_quantity else None,
              str(c.new_price) if c.new_price else None)
        for c in plan.changes
    ]  # fmt: skip


LEGS = [leg(1, "5", "1"), leg(2, "3"), leg(3, "2")]


@pytest.mark.parametrize(
    ("quantity", "price", "rules", "wanted"),
    [
        ("9", None, RULES, [(3, "1", None)]),
        ("8", None, RULES, [(3, "end")]),
        ("6.5", None, RULES, [(2, "1.5", None), (3, "end")]),
        ("5", None, RULES, [(2, "end"), (3, "end")]),
        ("1.5", None, RULES, [(1, "1.5", None), (2, "end"), (3, "end")]),
        (None, "101", RULES, [(1, None, "101"), (2, None, "101"), (3, None, "101")]),
        ("7.5", "101", RULES, [(1, None, "101"), (2, "2.5", "101"), (3, "end")]),
        # 0.02 left of leg 3 would be worth 2, which is less than the smallest 5: another gives.
        ("8.02", None, RULES, [(2, "1.02", None)]),
        # After leg 3 has ended, "a" would keep less than its smallest 3: the next one gives.
        ("7", None, COARSE, [(1, "4", None), (3, "end")]),
        ("10", "100", RULES, []),
    ],
)
def test_less_is_taken_from_the_last_legs_first(
    quantity: str | None, price: str | None, rules: Any, wanted: list[tuple[Any, ...]]
) -> None:
    wish = Wish(
        new_quantity=D(quantity) if quantity else None, new_price=D(price) if price else None
    )
    plan = planned(ORDER, parent_of(LEGS, "10"), LEGS, wish, rules)
    assert plan.refusal is None
    assert plan.more == plan.given_up == 0
    assert asked(plan) == wanted


def test_one_leg_alone_gives_where_ending_the_last_does_not_add_up() -> None:
    """Without leg 2 another 0.002 would have to go, and the lot of the first exchange is 0.01."""
    rules = {"a": instrument(exchange="a"), "b": instrument(exchange="b", lot_size=D("0.01"))}
    legs = [leg(1, "0.11"), leg(2, "0.048")]
    plan = planned(ORDER, parent_of(legs, "0.158"), legs, Wish(new_quantity=D("0.108")), rules)
    assert asked(plan) == [(1, "0.060", None)]
    off = planned(ORDER, parent_of(legs, "0.158"), legs, Wish(new_quantity=D("0.109")), rules)
    assert off.refusal is not None
    assert "no open legs can give 0.049 up: p.leg1: quantity is 0.109, the lot is 0.01" in (
        off.refusal
    )


def test_what_has_no_open_leg_any_more_is_given_up_first() -> None:
    legs = [leg(1, "6"), leg(2, "4", "1", status=CANCELLED)]
    plan = planned(ORDER, parent_of(legs, "10"), legs, Wish(new_quantity=D(8)), RULES)
    assert (str(plan.given_up), asked(plan)) == ("2", [])
    plan = planned(ORDER, parent_of(legs, "10"), legs, Wish(new_quantity=D(6)), RULES)
    assert (str(plan.given_up), asked(plan)) == ("3", [(1, "5", None)])


def test_more_is_for_new_legs_or_else_for_the_first_that_takes_it() -> None:
    plan = planned(ORDER, parent_of(LEGS, "10"), LEGS, Wish(new_quantity=D(12)), RULES)
    assert (str(plan.more), asked(plan)) == ("2", [])
    assert plan.carrier is not None
    assert (plan.carrier.order_id, plan.carrier.new_quantity) == ("p.leg1", D(7))
    off = Wish(new_quantity=D("12.00001"))
    assert planned(ORDER, parent_of(LEGS, "10"), LEGS, off, RULES).carrier is None


@pytest.mark.parametrize(
    ("wish", "legs", "reason"),
    [
        ({"new_price": D("100.001")}, LEGS, "p.leg1: price is 100.001, the tick is 0.01"),
        ({"new_quantity": D(1)}, LEGS, "new_quantity is 1; must be greater than the 1 already"),
        ({"new_quantity": D("9.9999")}, LEGS, "no open legs can give 0.0001 up: p.leg3: quantity"),
        ({"new_quantity": D(9)}, [leg(1, "10", status=CANCELLED)], "no leg of it is open"),
        ({"new_quantity": D(9)}, [leg(1, "9"), leg(2, "1", status=OrderStatus.SUBMITTED)],
            "p.leg2 is submitted and not at rest"),
        ({"new_quantity": D(9)}, [leg(1, "9"), leg(2, "1", in_doubt_since=NOW)], "not at rest"),
        ({"new_quantity": D(9)}, [leg(1, "10", pending=Pending.MODIFY)], "not at rest"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_is_refused_before_anything_is_asked(
    wish: dict[str, Any], legs: list[OrderState], reason: str
) -> None:
    plan = planned(ORDER, parent_of(legs, "10"), legs, Wish(**wish), RULES)
    assert reason in str(plan.refusal)
    assert not plan.changes


def test_a_leg_that_an_earlier_try_has_made_for_the_wish_is_no_reason_to_refuse_it() -> None:
    """A crash ended that try before it could start the leg; the task is repeated with the wish."""
    made = leg(3, "2", status=OrderStatus.CREATED, price=D(101))
    legs = [leg(1, "5", price=D(100)), leg(2, "3", price=D(100)), made]
    parent = parent_of(legs, "10")

    plan = planned(ORDER, parent, legs, Wish(new_quantity=D(10), new_price=D(101)), RULES)
    other = planned(ORDER, parent, legs, Wish(new_quantity=D(11), new_price=D(101)), RULES)

    assert plan.refusal is None
    assert (asked(plan), plan.more) == ([(1, None, "101"), (2, None, "101")], D(0))
    assert other.refusal == "p.leg3 is created and not at rest at its exchange"


_SIZES = st.lists(
    st.tuples(st.integers(1, 4000), st.integers(0, 3)), min_size=1, max_size=5
)  # Quantity in lots, and fourths of it that are filled.


@given(_SIZES, st.integers(1, 20_000), st.sampled_from(["0.001", "0.01", "0.1"]))
def test_any_reduction_is_exact_and_valid(
    sizes: list[tuple[int, int]], target: int, lot: str
) -> None:
    legs = []
    for number, (lots, fourths) in enumerate(sizes, 1):
        filled = (lots * fourths // 4) * D(lot)
        legs.append(leg(number, str(lots * D(lot)), str(filled)))
    total = sum((one.quantity for one in legs), D(0))
    rules = {
        name: instrument(exchange=name, lot_size=D(lot), min_order_size=D(lot), min_notional=D(5))
        for name in "ab"
    }
    parent = parent_of(legs, str(total))
    wanted = target * D(lot)
    plan = planned(ORDER, parent, legs, Wish(new_quantity=wanted), rules)
    if plan.refusal is not None or wanted >= total:
        return
    left = {one.client_order_id: one for one in legs}
    gone = D(0)
    for change in plan.changes:
        one = left[change.order_id]
        if change.ends:
            gone += one.remaining_quantity
            continue
        assert change.new_quantity is not None
        assert one.filled_quantity < change.new_quantity < one.quantity
        assert (change.new_quantity - one.filled_quantity) * 100 >= 5
        assert change.new_quantity % D(lot) == 0
        gone += one.quantity - change.new_quantity
    assert total - gone == wanted
