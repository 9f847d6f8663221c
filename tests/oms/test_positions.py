"""Positions from fills: quantity, cost, what was realised and on which day."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tests.oms.builders import NOW, fill
from trading.oms.enums import OrderSide
from trading.oms.positions import Position, day_of, effects, with_fill

D = Decimal
NONE = Position(exchange="sandbox", account="main", symbol="BTC/USDT")
FREE = {"fee": D(0)}
SELL = {"side": OrderSide.SELL}


def test_buys_add_and_sells_realise_against_the_average() -> None:
    held = with_fill(with_fill(NONE, fill("1", "1", "100", **FREE)), fill("2", "1", "200", **FREE))
    assert (held.quantity, held.cost, held.realised) == (D(2), D(300), D(0))
    sold = with_fill(held, fill("3", "1", "180", **SELL, **FREE))
    assert (sold.quantity, sold.cost, sold.realised) == (D(1), D(150), D(30))


def test_a_sell_through_zero_opens_the_other_side() -> None:
    long = with_fill(NONE, fill("1", "1", "100", **FREE))
    short = with_fill(long, fill("2", "3", "110", **SELL, **FREE))
    assert (short.quantity, short.cost, short.realised) == (D(-2), D(-220), D(10))
    closed = with_fill(short, fill("3", "2", "100", **FREE))
    assert (closed.quantity, closed.cost, closed.realised) == (D(0), D(0), D(30))


def test_fees_lower_what_is_held_or_what_is_gained() -> None:
    base = with_fill(NONE, fill("1", "1", "100", fee=D("0.01"), fee_currency="BTC"))
    assert (base.quantity, base.realised) == (D("0.99"), D(-1))
    quote = with_fill(NONE, fill("1", "1", "100", fee=D("0.5")))
    assert (quote.quantity, quote.realised) == (D(1), D("-0.5"))


def test_a_fee_in_the_base_asset_is_lost_once() -> None:
    held = with_fill(NONE, fill("1", "1", "100", fee=D("0.001"), fee_currency="BTC"))
    assert (held.quantity, held.cost, held.realised) == (D("0.999"), D("99.9"), D("-0.1"))
    sold = with_fill(held, fill("2", "0.999", "100", **SELL, fee=D("0.0999")))
    assert (sold.quantity, sold.cost, sold.realised) == (D(0), D(0), D("-0.1999"))


_amounts = st.decimals("0.001", "10", places=3)
_trades = st.tuples(
    st.sampled_from(OrderSide),
    _amounts,
    _amounts,
    st.decimals("-0.1", "0.1", places=4),
    st.sampled_from(["BTC", "USDT", "BNB"]),
)


@given(st.lists(_trades, max_size=8), _amounts)
def test_what_is_realised_and_not_held_any_more_is_what_the_fills_have_paid(
    trades: list[tuple[OrderSide, D, D, D, str]], last_price: D
) -> None:
    position, paid = NONE, D(0)
    for number, (side, quantity, price, fee, currency) in enumerate(trades):
        one = fill(
            str(number), str(quantity), str(price), side=side, fee=fee, fee_currency=currency
        )
        position = with_fill(position, one)
        paid += effects(one)["USDT"]
        assert position.realised - position.cost == paid
    if position.quantity:
        side = OrderSide.SELL if position.quantity > 0 else OrderSide.BUY
        last = fill("last", str(abs(position.quantity)), str(last_price), side=side, **FREE)
        position = with_fill(position, last)
        paid += effects(last)["USDT"]
    assert (position.quantity, position.cost, position.realised) == (D(0), D(0), paid)


def test_a_day_begins_at_nothing_and_a_late_fill_leaves_it_alone() -> None:
    first = with_fill(NONE, fill("1", "1", "100", fee=D(1)))
    assert first.lost_on(day_of(NOW)) == D(1)
    tomorrow = NOW + timedelta(days=1)
    second = with_fill(first, fill("2", "1", "100", fee=D(2), timestamp=tomorrow))
    assert (second.lost_on(day_of(NOW)), second.lost_on(day_of(tomorrow))) == (D(0), D(2))
    late = with_fill(second, fill("3", "1", "100", fee=D(4)))
    assert (late.lost_on(day_of(tomorrow)), late.realised) == (D(2), D(-7))


def test_a_fill_moves_both_assets_and_the_fee() -> None:
    assert effects(fill("1", "2", "100", fee=D("0.01"), fee_currency="BTC")) == {
        "BTC": D("1.99"),
        "USDT": D(-200),
    }
    assert effects(fill("1", "2", "100", fee=D("0.3"), fee_currency="BNB", **SELL)) == {
        "BTC": D(-2),
        "USDT": D(200),
        "BNB": D("-0.3"),
    }
