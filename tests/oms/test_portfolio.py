"""What an account holds, what it may spend and what it is exposed to."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from trading.oms.models import Balance
from trading.oms.portfolio import Portfolio


def held(**free: str) -> dict[str, Balance]:
    return {
        asset: Balance(asset=asset, free=Decimal(amount), locked=Decimal(5))
        for asset, amount in free.items()
    }


def test_buying_power_is_what_is_free_less_our_reservations() -> None:
    assert Portfolio().buying_power == 0
    portfolio = Portfolio(balances=held(USDT="100", EUR="7"), reserved={"USDT": Decimal(30)})
    assert portfolio.buying_power == 70
    assert portfolio.model_copy(update={"quote_currency": "EUR"}).buying_power == 7


def test_more_reserved_than_free_leaves_nothing() -> None:
    portfolio = Portfolio(balances=held(USDT="10"), reserved={"USDT": Decimal(30)})
    assert portfolio.buying_power == 0


def test_a_position_nobody_has_is_zero() -> None:
    portfolio = Portfolio(positions={"BTC/USDT": Decimal(-2)})
    assert portfolio.get_position("BTC/USDT") == -2
    assert portfolio.get_position("ETH/USDT") == 0


def test_exposure_adds_up_both_signs() -> None:
    portfolio = Portfolio(
        positions={"BTC/USDT": Decimal(2), "ETH/USDT": Decimal(-3), "XRP/USDT": Decimal(0)},
        prices={"BTC/USDT": Decimal(100), "ETH/USDT": Decimal(10)},
    )
    assert portfolio.calculate_exposure() == 230


def test_an_exposure_with_a_price_missing_is_not_guessed() -> None:
    with pytest.raises(LookupError, match="BTC/USDT is held and has no price"):
        Portfolio(positions={"BTC/USDT": Decimal(2)}).calculate_exposure()


def test_a_portfolio_takes_no_floats_and_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="is the float"):
        Portfolio.model_validate({"positions": {"BTC/USDT": 0.1}})
    with pytest.raises(ValidationError, match="frozen"):
        Portfolio().quote_currency = "EUR"  # type: ignore[misc]
