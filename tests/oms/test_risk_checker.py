"""Each check passes and denies at its edge, and says what was found and what is allowed."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import NOW, after, instrument, order, quote, state
from trading.oms.enums import OrderSide, OrderStatus, OrderType, ReasonCode, TradingState
from trading.oms.models import Balance, Instrument, Order, Quote
from trading.oms.portfolio import Portfolio
from trading.oms.risk import checker as checker_module
from trading.oms.risk.checker import RiskChecker, run_checks
from trading.oms.risk.checks import STANDARD_CHECKS
from trading.oms.risk.instrument_checks import is_multiple
from trading.oms.risk.limits import (
    LimitRule,
    OwnLimits,
    RiskLimits,
    Scope,
    WithoutQuote,
    limits_for,
)
from trading.oms.risk.snapshot import Denial, OwnNumbers, RiskSnapshot, required_funds

R = ReasonCode
SELL = OrderSide.SELL
MARKET = {"order_type": OrderType.MARKET}
STOP = {"order_type": OrderType.STOP}
STOP_LIMIT = {"order_type": OrderType.STOP_LIMIT}
OPEN_MARKET = RiskLimits(max_price_deviation=None)


def snapshot(**fields: Any) -> RiskSnapshot:
    given: dict[str, Any] = {
        "now": NOW,
        "instrument": instrument(),
        "quote": quote(),
        "available_quote": Decimal(1_000_000),
        "available_base": Decimal(1_000),
        **fields,
    }
    return RiskSnapshot(**given)


def limits(**fields: Any) -> RiskLimits:
    return RiskLimits(**{name: _decimal(value) for name, value in fields.items()})


def _decimal(value: Any) -> Any:
    return Decimal(value) if isinstance(value, str) and value[0].isdigit() else value


def d(text: str) -> Decimal:
    return Decimal(text)


HELD = {"position": d("15"), "available_base": d("15")}
PASSES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("an order with no limits but the defaults", {}, {}),
    ("a market order at a fresh quote", MARKET, {}),
    ("the smallest quantity", {"quantity": d("0.05")}, {}),
    ("a price at the edge of 5 %", {"price": d("105")}, {}),
    ("a sell that reduces while trading is reducing", {"side": SELL}, {
        **HELD, "trading_state": TradingState.REDUCING}),
    ("a position at its limit", {}, {"limits": limits(max_position_size="10")}),
    ("a sell that brings a too large position down", {"side": SELL, "quantity": d("3")}, {
        **HELD, "limits": limits(max_position_size="10")}),
    ("one order below the count", {}, {"open_orders": 9, "limits": limits(max_open_orders=10)}),
    ("an exposure at its limit", {}, {
        "exposure": d("500"), "limits": limits(max_exposure="1500")}),
    ("a sell above the exposure limit", {"side": SELL}, {
        **HELD, "exposure": d("9999"), "limits": limits(max_exposure="1500")}),
    ("funds that just suffice with the fee", {}, {
        "available_quote": d("1001"), "fee_rate": d("0.001")}),
    ("a buy stop above the ask", {**STOP, "stop_price": d("101")}, {}),
    ("a sell stop below the bid", {**STOP, "side": SELL, "stop_price": d("99")}, {}),
    ("a stop limit near its trigger", {**STOP_LIMIT, "stop_price": d("101")}, {}),
    ("a reduce-only sell of all that is free", {"side": SELL, "reduce_only": True}, {
        **HELD, "open_sells": d("5")}),
    ("a limit order without quote where the check is off", {}, {
        "quote": None, "limits": OPEN_MARKET}),
    ("a limit order without quote where the setting says skip", {}, {
        "quote": None, "limits": limits(without_quote=WithoutQuote.SKIP)}),
    ("balances of the greatest age", {}, {"balance_age_s": d("60")}),
    ("older balances where the capital is not checked", {}, {
        "balance_age_s": d("61"), "limits": limits(check_capital=False)}),
    ("a quote of the greatest age", {}, {"quote": quote(received_at=after(-5))}),
    ("a reducing order after the day's loss", {"side": SELL}, {
        **HELD, "lost_today": d("9"), "limits": limits(max_daily_loss="5")}),
    ("an instrument without lot, tick and minimum", {"quantity": d("0.0001")}, {
        "instrument": instrument(lot_size=d("0"), tick_size=d("0"), min_order_size=d("0"),
                                 min_notional=None)}),
]  # fmt: skip

DENIED: list[tuple[ReasonCode, str, dict[str, Any], dict[str, Any]]] = [
    (R.TRADING_HALTED, "trading is halted", {}, {"trading_state": TradingState.HALTED}),
    (R.NOT_REDUCING, ("quantity is 10, but trading is set to reducing and 0 is all that a buy can "
        "reduce"), {}, {**HELD, "trading_state": TradingState.REDUCING}),
    (R.NOT_REDUCING, ("quantity is 10, but trading is set to reducing and 9 is all that a sell can "
        "reduce"), {"side": SELL},
        {**HELD, "open_sells": d("6"), "trading_state": TradingState.REDUCING}),
    (R.UNKNOWN_SYMBOL, "sandbox does not list BTC/USDT", {}, {"instrument": None}),
    (R.STALE_BALANCE, "the balances of the account are 61 s old, the limit is 60 s",
        {}, {"balance_age_s": d("61")}),
    (R.STALE_BALANCE, "have not been fetched yet", {}, {"balance_age_s": None}),
    (R.STALE_INSTRUMENT, "the rules of BTC/USDT are 7201 s old, the limit is 7200 s",
        {}, {"instrument": instrument(fetched_at=after(-7201))}),
    (R.QUANTITY_TOO_SMALL, "quantity is 0.0001, the smallest is 0.001",
        {"quantity": d("0.0001")}, {}),
    (R.QUANTITY_TOO_LARGE, "quantity is 1001, the largest is 1000", {"quantity": d("1001")}, {}),
    (R.QUANTITY_OFF_LOT, ("quantity is 0.0515, the lot is 0.001: the nearest valid values are "
        "0.051 and 0.052"), {"quantity": d("0.0515")}, {}),
    (R.QUANTITY_OFF_LOT, "quantity is 4, the lot is 3: the nearest valid value is 6",
        {"quantity": d("4")}, {"instrument": instrument(lot_size=d("3"), min_order_size=d("4"))}),
    (R.QUANTITY_OFF_LOT, "quantity is 4, the lot is 3: no value near it is valid",
        {"quantity": d("4")}, {"instrument": instrument(
            lot_size=d("3"), min_order_size=d("4"), max_order_size=d("5"))}),
    (R.PRICE_OFF_TICK, ("price is 100.005, the tick is 0.01: the nearest valid values are 100 and "
        "100.01"), {"price": d("100.005")}, {}),
    (R.PRICE_OFF_TICK, ("stop_price is 101.001, the tick is 0.01: the nearest valid values are 101 "
        "and 101.01"), {**STOP, "stop_price": d("101.001")}, {}),
    (R.PRICE_OFF_TICK, "price is 0.004, the tick is 0.01: the nearest valid value is 0.01",
        {"price": d("0.004")}, {}),
    (R.PRICE_TOO_FAR, "price is 105.01, which is 5.01 % from the market at 100; the limit is 5 %",
        {"price": d("105.01")}, {}),
    (R.PRICE_TOO_FAR, "price is 94.99, which is 5.01 % from the market at 100; the limit is 5 %",
        {"price": d("94.99")}, {}),
    (R.PRICE_TOO_FAR, ("price is 120, which is 18.81 % from the stop price at 101; "
        "the limit is 5 %"), {**STOP_LIMIT, "stop_price": d("101"), "price": d("120")}, {}),
    (R.TRIGGER_ON_WRONG_SIDE, "stop_price is 99, a buy must trigger above the ask of 100.01",
        {**STOP, "stop_price": d("99")}, {}),
    (R.TRIGGER_ON_WRONG_SIDE, "stop_price is 101, a sell must trigger below the bid of 99.99",
        {**STOP, "side": SELL, "stop_price": d("101")}, {}),
    (R.TRIGGER_ON_WRONG_SIDE, "stop_price is 100.01, a buy must trigger above the ask of 100.01",
        {**STOP, "stop_price": d("100.01")}, {}),
    (R.TRIGGER_ON_WRONG_SIDE, "stop_price is 99.99, a sell must trigger below the bid of 99.99",
        {**STOP, "side": SELL, "stop_price": d("99.99")}, {}),
    (R.STALE_QUOTE, ("there is no quote of BTC/USDT to compare with; a price cannot be checked "
        "without one"), {}, {"quote": None}),
    (R.STALE_QUOTE, ("the quote of BTC/USDT is 5.001 s old, the limit is 5 s; a market order "
        "cannot be checked without one"), MARKET, {"quote": quote(received_at=after(-5.001))}),
    (R.STALE_QUOTE, ("the quote of BTC/USDT has one side only; a market order cannot be checked "
        "without one"), MARKET, {"quote": quote(bid="0"), "limits": OPEN_MARKET}),
    (R.STALE_QUOTE, ("there is no quote of BTC/USDT to compare with; a market order cannot be "
        "checked without one"), MARKET,
        {"quote": None, "limits": limits(without_quote=WithoutQuote.SKIP),
         "instrument": instrument(min_notional=None)}),
    (R.STALE_QUOTE, "there is no quote", MARKET,
        {"quote": None, "instrument": instrument(min_notional=None),
         "limits": limits(max_order_notional="5")}),
    (R.NOTIONAL_TOO_SMALL, "0.049 at 100 is worth 4.9 USDT, the smallest is 5",
        {"quantity": d("0.049")}, {}),
    (R.NOTIONAL_TOO_SMALL, "0.049 at 100 is worth 4.9 USDT, the smallest is 5",
        {**MARKET, "quantity": d("0.049")}, {}),
    (R.NOTIONAL_TOO_LARGE, "the order is worth 1000 at worst, the limit is 999",
        {}, {"limits": limits(max_order_notional="999")}),
    (R.NOTIONAL_TOO_LARGE, "the order is worth 989.901 at worst, the limit is 989",
        {**MARKET, "side": SELL}, {"limits": limits(max_order_notional="989")}),
    (R.NOT_REDUCING, ("quantity is 10, but the order is reduce-only and 9 is all that a sell can "
        "reduce"), {"side": SELL, "reduce_only": True}, {**HELD, "open_sells": d("6")}),
    (R.ORDER_RATE_LIMIT, "60 orders were submitted in the last minute, the limit is 60",
        {}, {"orders_last_minute": 60, "limits": limits(max_orders_per_minute=60)}),
    (R.DAILY_LOSS_LIMIT, "the strategy has lost 5.5 today, the limit is 5",
        {}, {"lost_today": d("5.5"), "limits": limits(max_daily_loss="5")}),
    (R.DAILY_LOSS_LIMIT, "the strategy has lost 5 today, the limit is 5",
        {}, {"lost_today": d("5"), "limits": limits(max_daily_loss="5")}),
    (R.INSUFFICIENT_FUNDS, "the order needs 1001 USDT, 1000.99 are available",
        {}, {"available_quote": d("1000.99"), "fee_rate": d("0.001")}),
    (R.INSUFFICIENT_FUNDS, "the order needs 10 BTC, 9.999 are available",
        {"side": SELL}, {"available_base": d("9.999")}),
    (R.INSUFFICIENT_FUNDS, "the order needs 1010.101 USDT, 1010.1 are available",
        MARKET, {"available_quote": d("1010.1")}),
    (R.INSUFFICIENT_FUNDS, "the order needs 1020.1 USDT, 1020 are available",
        {**STOP, "stop_price": d("101")}, {"available_quote": d("1020")}),
    (R.POSITION_LIMIT, "the position may become 15, the limit is 10",
        {}, {"position": d("5"), "limits": limits(max_position_size="10")}),
    (R.POSITION_LIMIT, "the position may become 15, the limit is 10",
        {}, {"open_buys": d("5"), "limits": limits(max_position_size="10")}),
    (R.POSITION_LIMIT, "the position may become -14, the limit is 10",
        {"side": SELL, "quantity": d("29")},
        {"position": d("15"), "limits": limits(max_position_size="10")}),
    (R.ORDER_COUNT_LIMIT, "10 orders are open, the limit is 10",
        {}, {"open_orders": 10, "limits": limits(max_open_orders=10)}),
    (R.EXPOSURE_LIMIT, "the exposure would be 1500.01, the limit is 1500",
        {}, {"exposure": d("500.01"), "limits": limits(max_exposure="1500")}),
    (R.STALE_QUOTE, "a price cannot be checked without one",
        {}, {"exposure": None, "quote": None,
             "limits": limits(max_exposure="1500", max_price_deviation=None)}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "wanted", "around"), PASSES, ids=[row[0] for row in PASSES])
def test_passes(what: str, wanted: dict[str, Any], around: dict[str, Any]) -> None:
    names, denial = run_checks(order(**wanted), snapshot(**around))
    assert denial is None
    assert names == [name for name, _ in STANDARD_CHECKS]


@pytest.mark.parametrize(
    ("code", "message", "wanted", "around"), DENIED, ids=[f"{row[0]}" for row in DENIED]
)
def test_is_denied_with_what_was_found_and_what_is_allowed(
    code: ReasonCode, message: str, wanted: dict[str, Any], around: dict[str, Any]
) -> None:
    _, denial = run_checks(order(**wanted), snapshot(**around))
    assert denial is not None
    assert denial.code is code
    assert message in denial.message
    assert all(isinstance(value, Decimal) for value in denial.numbers.values())


def test_every_standard_check_has_an_order_that_it_denies() -> None:
    ran = [run_checks(order(**wanted), snapshot(**around))[0] for _, _, wanted, around in DENIED]
    assert {names[-1] for names in ran} == {name for name, _ in STANDARD_CHECKS}


def test_a_position_limit_looks_at_the_side_of_the_order() -> None:
    around = snapshot(
        position=d("8"), open_buys=d("2"), open_sells=d("1"), limits=limits(max_position_size="10")
    )
    assert run_checks(order(quantity=d("1")), around)[1] is not None
    assert run_checks(order(side=SELL, quantity=d("1")), around)[1] is None


digits = st.decimals(min_value=0, max_value=10**20, places=18, allow_nan=False).filter(
    lambda value: value < 10**20
)
positive = digits.filter(lambda value: value > 0)


@settings(max_examples=200, deadline=None)
@given(positive, positive, digits, digits, st.sampled_from(list(OrderSide)), st.data())
def test_no_valid_number_makes_a_check_raise(
    quantity: Decimal,
    price: Decimal,
    step: Decimal,
    position: Decimal,
    side: OrderSide,
    data: st.DataObject,
) -> None:
    kind = data.draw(st.sampled_from([{}, MARKET]))
    rules = instrument(
        lot_size=data.draw(st.sampled_from([step, d("1e-18")])),
        tick_size=step,
        min_order_size=d("0"),
        max_order_size=None,
        min_notional=step,
    )
    around = snapshot(
        instrument=rules,
        quote=quote(str(data.draw(digits)), str(data.draw(digits))),
        position=position,
        open_sells=step,
        limits=limits(max_position_size="1", max_exposure="1", max_order_notional="1"),
    )
    wanted = order(quantity=quantity, price=price, side=side, **kind)
    for _, check in STANDARD_CHECKS:
        check(wanted, around)


@settings(max_examples=200, deadline=None)
@given(positive, positive)
def test_the_nearest_values_are_the_neighbours_on_the_grid(quantity: Decimal, lot: Decimal) -> None:
    rules = instrument(lot_size=lot, min_order_size=d("0"), max_order_size=None)
    around = snapshot(instrument=rules)
    _, denial = run_checks(order(quantity=quantity), around)
    if denial is None or denial.code is not R.QUANTITY_OFF_LOT:
        return
    below, above = denial.numbers.get("nearest_below"), denial.numbers["nearest_above"]
    assert (below or 0) < quantity < above
    assert all(is_multiple(value, lot) for value in (below, above) if value)


def test_required_funds_are_what_a_reservation_needs() -> None:
    around = snapshot(fee_rate=d("0.001"))
    assert required_funds(order(), around) == d("1001")
    assert required_funds(order(side=SELL), around) == d("10")
    assert required_funds(order(**MARKET), snapshot(quote=None)) is None


def test_later_rules_replace_only_the_limits_they_give() -> None:
    rules = [
        LimitRule(exchange="binance", limits=limits(max_open_orders=5, max_exposure="100")),
        LimitRule(account="main", limits=limits(max_open_orders=1)),
        LimitRule(strategy_id="mm", exchange="kraken", limits=RiskLimits(max_price_deviation=None)),
    ]
    default = limits(max_position_size="3")
    found = limits_for(order(strategy_id="mm"), "binance", "main", default, rules)
    assert (found.max_open_orders, found.max_exposure, found.max_position_size, found.own) == (
        1,
        d("100"),
        d("3"),
        (),
    )
    assert found.max_price_deviation == d("0.05")
    kraken = limits_for(order(strategy_id="mm"), "kraken", "main", default, rules)
    assert (kraken.max_open_orders, kraken.max_price_deviation) == (1, None)
    plain = limits_for(order(), "other", "another", default, rules)
    assert plain.model_dump(exclude={"own"}) == default.model_dump()


def test_a_limit_is_about_what_its_rule_names_and_the_accounts_holds_besides() -> None:
    default = limits(max_position_size="3", max_open_orders=9, max_exposure="1000")
    rules = [
        LimitRule(strategy_id="mm", limits=limits(max_position_size="2", max_open_orders=5)),
        LimitRule(strategy_id="mm", limits=limits(max_open_orders=4, max_exposure="100")),
        LimitRule(symbol="BTC/USDT", limits=limits(max_position_size="7", max_open_orders=3)),
        LimitRule(strategy_id="mm", symbol="BTC/USDT", limits=limits(max_position_size="1")),
        LimitRule(strategy_id="mm", symbol="BTC/USDT", limits=limits(max_orders_per_minute=8)),
        LimitRule(strategy_id="other", limits=limits(max_exposure="1")),
    ]

    found = limits_for(order(strategy_id="mm"), "binance", "main", default, rules)

    # A position is always that of the order's symbol, so the rule for the symbol replaces it.
    assert (found.max_position_size, found.max_open_orders, found.max_exposure) == (
        d("7"), 9, d("1000")
    )  # fmt: skip
    own = {one.scope: one for one in found.own}
    assert own.keys() == {Scope("mm"), Scope(None, "BTC/USDT"), Scope("mm", "BTC/USDT")}
    mm = own[Scope("mm")]
    assert (mm.max_position_size, mm.max_open_orders, mm.max_exposure) == (d("1"), 4, d("100"))
    assert own[Scope(None, "BTC/USDT")].max_open_orders == 3
    assert own[Scope("mm", "BTC/USDT")].max_orders_per_minute == 8


def test_off_ends_a_strategys_own_limit_and_leaves_the_accounts() -> None:
    default = limits(max_exposure="1000")
    rules = [
        LimitRule(strategy_id="mm", limits=limits(max_exposure="10")),
        LimitRule(strategy_id="mm", exchange="kraken", limits=limits(max_exposure=None)),
    ]
    found = limits_for(order(strategy_id="mm"), "kraken", "main", default, rules)
    assert (found.max_exposure, found.own) == (d("1000"), ())


OWN_DENIED: list[tuple[ReasonCode, str, dict[str, Any], dict[str, Any]]] = [
    (R.STRATEGY_POSITION_LIMIT, "the position of strategy mm may become 12, the limit is 11",
        {"max_position_size": d("11")}, {"position": d("2")}),
    (R.STRATEGY_ORDER_COUNT_LIMIT, "4 orders of strategy mm are open, the limit is 4",
        {"max_open_orders": 4}, {"open_orders": 4}),
    (R.STRATEGY_ORDER_RATE_LIMIT, "4 orders of strategy mm were submitted in the last minute",
        {"max_orders_per_minute": 4}, {"orders_last_minute": 4}),
    (R.STRATEGY_EXPOSURE_LIMIT, "the exposure of strategy mm would be 1500, the limit is 1400",
        {"max_exposure": d("1400")}, {"exposure": d("500")}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "limit", "numbers"), OWN_DENIED)
def test_a_strategys_own_limit_denies_in_its_name(
    code: ReasonCode, text: str, limit: dict[str, Any], numbers: dict[str, Any]
) -> None:
    """The account's numbers are larger, and nothing limits them."""
    account = {"position": d("50"), "open_orders": 90, "orders_last_minute": 90}
    own = OwnNumbers(limits=OwnLimits(scope=Scope("mm"), **limit), **numbers)
    around = snapshot(own=(own,), exposure=d("90000"), **account)

    _, denial = run_checks(order(strategy_id="mm"), around)

    assert denial is not None
    assert denial.code is code
    assert text in denial.message
    assert denial.numbers.keys() >= {f"strategy_{name}" for name in (*limit, *numbers)}
    wider = {name: value + 1000 for name, value in limit.items()}
    lets = OwnNumbers(limits=OwnLimits(scope=Scope("mm"), **wider), **numbers)
    _, denial = run_checks(order(strategy_id="mm"), replace(around, own=(lets,)))
    assert denial is None


def test_a_limit_of_a_symbol_denies_with_the_symbols_numbers() -> None:
    own = OwnNumbers(limits=OwnLimits(scope=Scope(None, "BTC/USDT"), max_open_orders=2),
                     open_orders=2)  # fmt: skip
    _, denial = run_checks(order(), snapshot(own=(own,)))
    assert denial == Denial(
        R.ORDER_COUNT_LIMIT,
        "2 orders in BTC/USDT are open, the limit is 2",
        {"symbol_open_orders": d("2"), "symbol_max_open_orders": d("2")},
    )


class Mapper:
    def get_instrument(self, symbol: str, exchange: str | None = None) -> Instrument | None:
        known = instrument(fetched_at=datetime.now(UTC))
        return known if symbol == "BTC/USDT" else None


async def get_quote(order: Order) -> Quote:
    return quote(received_at=after(10**9))


def portfolio(**fields: Any) -> Portfolio:
    balances = {
        asset: Balance(asset=asset, free=Decimal(free), locked=Decimal(0))
        for asset, free in {"USDT": 2_000, "BTC": 5}.items()
    }
    return Portfolio(balances=balances, **fields)


def checker(given_limits: RiskLimits | None = None, **fields: Any) -> RiskChecker:
    return RiskChecker(given_limits, instrument_mapper=Mapper(), get_quote=get_quote, **fields)


async def test_an_order_is_checked_against_the_portfolio_and_the_sources() -> None:
    result = await checker().check_order(order(), portfolio())
    assert result.passed
    assert result.checks_run[0] == "instrument_known"
    assert result.checks_run[-1] == "exposure_limit"

    result = await checker().check_order(order(quantity=d("21")), portfolio())
    assert not result.passed
    assert result.reason_code is R.INSUFFICIENT_FUNDS
    assert result.reason == "the order needs 2100 USDT, 2000 are available"
    assert result.numbers == {"required": 2100, "available": 2000}
    assert result.checks_run[-1] == "sufficient_capital"


async def test_alone_it_names_no_check_that_it_cannot_make() -> None:
    """The store alone knows these, and the number of open orders where nobody gives them."""
    unknown = {"trading_state", "order_rate", "daily_loss", "balances_fresh"}
    names = [name for name, _ in STANDARD_CHECKS if name not in unknown]
    result = await checker(get_open_orders=list).check_order(order(), portfolio())
    assert result.checks_run == names
    names.remove("order_count")
    result = await checker().check_order(order(), portfolio())
    assert result.checks_run == names


async def test_open_orders_count_except_the_order_itself() -> None:
    others = [
        state(client_order_id="other", status=OrderStatus.ACCEPTED, quantity=d("4")),
        state(client_order_id="order-1", status=OrderStatus.ACCEPTED),
    ]
    own = checker(limits(max_position_size="13"), get_open_orders=lambda: others)
    result = await own.check_order(order(), portfolio())
    assert result.reason == "the position may become 14, the limit is 13"
    result = await own.check_order(order(quantity=d("9")), portfolio())
    assert result.passed


@pytest.mark.parametrize(
    ("held", "prices", "reason_code"),
    [
        ({"BTC/USDT": d("5")}, {"BTC/USDT": d("100")}, None),
        ({"BTC/USDT": d("6")}, {"BTC/USDT": d("100")}, R.EXPOSURE_LIMIT),
        ({"ETH/USDT": d("1")}, {}, R.STALE_QUOTE),
    ],
)
async def test_exposure_comes_from_the_portfolio(
    held: dict[str, Decimal], prices: dict[str, Decimal], reason_code: ReasonCode | None
) -> None:
    own = checker(limits(max_exposure="1500"))
    result = await own.check_order(order(), portfolio(positions=held, prices=prices))
    assert result.reason_code is reason_code


async def test_without_sources_an_order_is_denied_rather_than_let_through() -> None:
    result = await RiskChecker().check_order(order(), portfolio())
    assert result.reason_code is R.UNKNOWN_SYMBOL


async def test_custom_checks_run_last_and_in_the_order_they_were_added() -> None:
    calls = []

    async def first(order: Order, portfolio: Portfolio) -> bool:
        calls.append(("first", order.client_order_id, portfolio.buying_power))
        return True

    async def second(order: Order, portfolio: Portfolio) -> bool:
        return False

    own = checker()
    own.add_check("first", first)
    own.add_check("max_daily_trades", second)
    result = await own.check(order(), snapshot(), portfolio())
    assert calls == [("first", "order-1", d("2000"))]
    assert (result.passed, result.reason_code) == (False, R.RISK_CHECK_FAILED)
    assert result.reason == "the check max_daily_trades has denied the order"
    assert result.checks_run[-2:] == ["first", "max_daily_trades"]
    assert result.checks_run == own.check_names


async def test_a_custom_check_is_not_asked_about_an_order_that_is_denied_already() -> None:
    async def never(order: Order, portfolio: Portfolio) -> bool:
        raise AssertionError

    own = checker()
    own.add_check("never", never)
    result = await own.check_order(order(quantity=d("999")), portfolio())
    assert "never" not in result.checks_run


async def test_a_check_that_raises_denies_and_is_named() -> None:
    async def broken(order: Order, portfolio: Portfolio) -> bool:
        message = "no database"
        raise ConnectionError(message)

    own = checker()
    own.add_check("broken", broken)
    result = await own.check_order(order(), portfolio())
    assert result.reason == "the check broken has failed: ConnectionError: no database"


async def test_a_check_that_hangs_denies_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module, "CUSTOM_CHECK_S_MAX", 0.01)

    async def hanging(order: Order, portfolio: Portfolio) -> bool:
        await asyncio.sleep(60)
        return True

    own = checker()
    own.add_check("hanging", hanging)
    result = await own.check_order(order(), portfolio())
    assert result.reason == "the check hanging has taken longer than 0.01 s"


async def test_a_name_is_given_to_one_check_only() -> None:
    async def fine(order: Order, portfolio: Portfolio) -> bool:
        return True

    own = checker()
    own.add_check("fine", fine)
    with pytest.raises(ValueError, match="there is already a check 'fine'"):
        own.add_check("fine", fine)
    with pytest.raises(ValueError, match="'order_count'"):
        own.add_check("order_count", fine)


def test_all_checks_take_far_less_than_two_milliseconds() -> None:
    wanted = order()
    around = snapshot(
        limits=limits(
            max_position_size="100", max_exposure="9999", max_open_orders=9, max_daily_loss="9"
        )
    )
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(20):
            run_checks(wanted, around)
        best = min(best, (time.perf_counter() - began) / 20)
    assert best < 500e-6, f"{best * 1e6:.0f} microseconds; under 100 are expected"
