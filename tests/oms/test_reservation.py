"""What an open order holds: it follows the order, and never less than it may cost."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.oms.builders import NOW, order, state
from trading.oms.enums import OrderSide, OrderStatus, Pending
from trading.oms.exact import EXACT
from trading.oms.risk.reservation import (
    Held,
    changing_to,
    following,
    modification_settled,
    reservation_for,
    reservation_of,
    rounded_up,
)

D = Decimal


def test_a_buy_holds_quote_and_a_sell_holds_base() -> None:
    buy = reservation_for(order(), state(), D(100), D("0.001"), NOW)
    assert buy.held == Held(D(1001), D(0), D(10), D(1000), 1)
    sell = replace(buy, side=OrderSide.SELL)
    assert sell.held == Held(D(0), D(10), D(10), D(1000), 1)
    assert replace(buy, external=True).held == Held(D(0), D(0), D(10), D(1000), 1)
    assert replace(buy, is_open=False).held == Held()


def test_it_follows_fills_and_the_end_and_revives() -> None:
    one = reservation_for(order(), state(), D(100), D(0), NOW)
    part = following(one, state(remaining_quantity=D(4)), is_settled=True)
    assert part.held.quote == D(400)
    ended = following(part, state(status=OrderStatus.CANCELLED), is_settled=True)
    assert ended.held == Held()
    alive = state(status=OrderStatus.ACCEPTED, remaining_quantity=D(4))
    assert following(ended, alive, is_settled=True).held.quote == D(400)
    over = following(one, state(remaining_quantity=D(-1)), is_settled=True)
    assert over.held == Held(orders=1)


def test_a_modification_holds_the_greater_until_it_is_settled() -> None:
    one = reservation_for(order(), state(), D(100), D(0), NOW)
    both = changing_to(one, order(quantity=D(6), price=D(120)), state())
    assert both.held.quote == D(1200)
    assert following(both, state(), is_settled=False).held.quote == D(1200)
    assert following(both, state(), is_settled=True).held.quote == D(1000)


def test_a_modification_is_settled_by_its_revision_or_its_end() -> None:
    asked = state(pending=Pending.MODIFY)
    assert not modification_settled(state(), asked)
    assert modification_settled(asked, state())
    assert modification_settled(state(), state(revision=1))
    assert not modification_settled(asked, state(pending=Pending.MODIFY, revision=1))
    assert not modification_settled(asked, state(replacing=True))


def test_an_order_without_a_reservation_gets_one_from_its_state() -> None:
    found = reservation_of(state(remaining_quantity=D(3)), NOW)
    assert found.held.quote == D(300)


@given(
    st.decimals(min_value=0, max_value=10**9, places=18),
    st.decimals(min_value=0, max_value=10**9, places=18),
)
def test_amounts_are_rounded_up_to_what_the_store_keeps(left: Decimal, right: Decimal) -> None:
    exact = EXACT.multiply(left, right)
    amount = rounded_up(exact)
    assert D(0) <= EXACT.subtract(amount, exact) < D(1).scaleb(-18)
