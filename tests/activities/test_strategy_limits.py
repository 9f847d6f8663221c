"""Limits of a strategy's own numbers, and of a symbol's: reserved in the account's one step."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from activities.store import Store, StoreSettings
from activities.store.reservations import Reserved, ReserveWish
from tests.activities.risk_builders import (
    HERE,
    LOOSE,
    buy,
    d,
    fetched,
    from_several_processes,
    reserve,
)
from tests.activities.store_builders import fill_event, opened
from tests.oms.builders import event
from trading.oms.enums import OrderSide, ReasonCode, TradingState
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order, utc_now
from trading.oms.risk.limits import LimitRule, OrderLimits, RiskLimits, RiskRules

R = ReasonCode
ETH = {"symbol": "ETH/USDT"}


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        await fetched(store, "1000000", "50")
        yield store


def rules(**fields: Any) -> RiskRules:
    """One rule for the strategy "a", and what `account` says for all; `symbol` narrows it."""
    account = fields.pop("account", {})
    symbol = fields.pop("symbol", None)
    rule = LimitRule(strategy_id="a", symbol=symbol, limits=RiskLimits(**fields))
    return RiskRules(limits=LOOSE.model_copy(update=account), rules=(rule,))


async def asked(store: Store, order: Order, given: RiskRules, **wish: Any) -> Reserved:
    limits = given.limits_for(order, *HERE)
    return await reserve(store, order, limits, **wish)


async def code(
    store: Store, given: RiskRules, quantity: str = "1", strategy: str | None = "a", **fields: Any
) -> ReasonCode | None:
    answer = await asked(store, buy(quantity, strategy_id=strategy, **fields), given)
    return answer.denial.code if answer.denial else None


async def test_a_position_limit_is_about_the_strategys_position_and_its_open_orders(
    store: Store,
) -> None:
    limit = rules(max_position_size=d(10))
    # What others hold and order on the account is not the strategy's.
    assert await code(store, limit, "100", None) is None
    assert await code(store, limit, "100", "b") is None
    first = buy("6", strategy_id="a")
    assert (await asked(store, first, limit)).denial is None
    answer = await asked(store, buy("5", strategy_id="a"), limit)
    assert answer.denial is not None
    assert answer.denial.code is R.STRATEGY_POSITION_LIMIT
    assert answer.denial.message == ("the position of strategy a may become 11, the limit is 10")
    assert answer.denial.numbers == {
        "strategy_position": d(0),
        "strategy_worst_position": d(11),
        "strategy_max_position_size": d(10),
    }
    # What is filled has moved from the open orders to the position.
    await store.record(first.client_order_id, [fill_event(first, "t1", "6")])
    assert await code(store, limit, "5") is R.STRATEGY_POSITION_LIMIT
    assert await code(store, limit, "4") is None
    assert await code(store, limit, "1") is R.STRATEGY_POSITION_LIMIT
    # The strategy's sells make its own position smaller.
    assert await code(store, limit, "6", side=OrderSide.SELL) is None
    assert await code(store, limit, "11", side=OrderSide.SELL) is R.STRATEGY_POSITION_LIMIT


async def test_the_accounts_limit_holds_besides_and_names_itself(store: Store) -> None:
    limit = rules(max_position_size=d(10), account={"max_position_size": d(12)})
    assert await code(store, limit, "8", "b") is None
    assert await code(store, limit, "5") is R.POSITION_LIMIT
    assert await code(store, limit, "4") is None


async def test_count_rate_and_exposure_are_the_strategys(store: Store) -> None:
    for _ in range(3):
        assert await code(store, rules(), "1", "b") is None
    assert await code(store, rules(max_open_orders=1)) is None
    assert await code(store, rules(max_open_orders=1)) is R.STRATEGY_ORDER_COUNT_LIMIT
    assert await code(store, rules(max_open_orders=2), "1", "b") is None
    assert await code(store, rules(max_orders_per_minute=2)) is None
    assert await code(store, rules(max_orders_per_minute=2)) is R.STRATEGY_ORDER_RATE_LIMIT
    # Two of a's rest, 200 in all; b's 400 are not counted.
    assert await code(store, rules(max_exposure=d(299))) is R.STRATEGY_EXPOSURE_LIMIT
    assert await code(store, rules(max_exposure=d(300))) is None


async def test_a_rule_for_strategy_and_symbol_counts_what_is_both(store: Store) -> None:
    await fetched(store, "1000000", "50")
    here = rules(max_open_orders=1, symbol="BTC/USDT")
    assert await code(store, here, **ETH) is None
    assert await code(store, here) is None
    assert await code(store, here) is R.STRATEGY_ORDER_COUNT_LIMIT
    assert await code(store, here, **ETH) is None
    money = rules(max_exposure=d(150), symbol="BTC/USDT")
    assert await code(store, money) is R.STRATEGY_EXPOSURE_LIMIT
    assert await code(store, money, **ETH) is None


async def test_a_rule_for_a_symbol_alone_counts_the_accounts_orders_in_it(store: Store) -> None:
    rule = LimitRule(symbol="BTC/USDT", limits=RiskLimits(max_open_orders=2))
    limit = RiskRules(limits=LOOSE, rules=(rule,))
    assert await code(store, limit, "1", "b", **ETH) is None
    assert await code(store, limit, "1", "b") is None
    assert await code(store, limit, "1") is None
    assert await code(store, limit, "1", "c") is R.ORDER_COUNT_LIMIT
    assert await code(store, limit, "1", "c", **ETH) is None


async def test_a_gain_in_another_money_hides_no_loss(store: Store) -> None:
    """A day with 100 USDT lost and 1,000 JPY gained: nobody adds the two."""
    free = rules(account={"check_capital": False})
    now = utc_now()
    for symbol, prices in (("BTC/USDT", ("100", "90")), ("BTC/JPY", ("100", "200"))):
        for side, price in zip((OrderSide.BUY, OrderSide.SELL), prices, strict=True):
            order = buy("10", strategy_id="a", symbol=symbol, side=side)
            assert (await asked(store, order, free)).denial is None
            fill = fill_event(
                order, "t", "10", price=price, fee=d(0), side=side, symbol=symbol, timestamp=now
            )
            await store.record(order.client_order_id, [fill])
    limit = rules(max_daily_loss=d(100), account={"check_capital": False})
    assert await code(store, limit) is R.DAILY_LOSS_LIMIT
    assert await code(store, limit, **ETH) is R.DAILY_LOSS_LIMIT
    assert await code(store, limit, symbol="BTC/JPY") is None
    assert await code(store, limit, "1", "b") is None


async def test_a_modification_is_compared_without_what_it_changes(store: Store) -> None:
    limit = rules(max_position_size=d(10), max_open_orders=1, max_exposure=d(1000))
    order = buy("8", strategy_id="a")
    assert (await asked(store, order, limit)).denial is None

    async def modified(quantity: str) -> Reserved:
        changed = order.model_copy(update={"quantity": d(quantity)})
        limits = limit.limits_for(changed, *HERE)
        wish = ReserveWish(order=changed, limits=limits, is_modification=True)
        return await store.risk.reserve(wish)

    assert (await modified("10")).denial is None
    denied = (await modified("10.001")).denial
    assert denied is not None
    assert denied.code is R.STRATEGY_POSITION_LIMIT
    await store.record(order.client_order_id, [event(EventKind.CANCELLED)])
    assert await code(store, limit, "10") is None


async def test_a_preview_says_what_the_reservation_will_say(store: Store) -> None:
    limit = rules(max_position_size=d(10), max_open_orders=2)
    assert await code(store, limit, "6") is None
    for quantity, wanted in (("4", None), ("5", R.STRATEGY_POSITION_LIMIT)):
        order = buy(quantity, strategy_id="a")
        wish = ReserveWish(order=order, limits=limit.limits_for(order, *HERE))
        found = await store.risk.preview(wish, TradingState.ACTIVE)
        assert (found.denial.code if found.denial else None) is wanted


async def test_a_preview_counts_the_orders_of_the_last_minute(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said(given: RiskRules, strategy: str, **fields: Any) -> ReasonCode | None:
        order = buy("1", strategy_id=strategy, **fields)
        wish = ReserveWish(order=order, limits=given.limits_for(order, *HERE))
        found = await store.risk.preview(wish, TradingState.ACTIVE)
        assert found.denial is None or found.checks_run[-1] == "order_rate"
        return found.denial.code if found.denial else None

    whole, own = rules(account={"max_orders_per_minute": 1}), rules(max_orders_per_minute=1)
    here = rules(max_orders_per_minute=1, symbol="BTC/USDT")
    assert [await said(one, "a") for one in (whole, own, here)] == [None] * 3
    assert await code(store, whole) is None
    assert [await said(whole, one) for one in ("a", "b")] == [R.ORDER_RATE_LIMIT] * 2
    assert await said(own, "a") is R.STRATEGY_ORDER_RATE_LIMIT
    assert await said(own, "b") is None
    assert await said(here, "a") is R.STRATEGY_ORDER_RATE_LIMIT
    assert await said(here, "a", **ETH) is None
    monkeypatch.setattr("activities.store.risk_store.RATE_WINDOW", timedelta(0))
    assert [await said(one, "a") for one in (whole, own, here)] == [None] * 3


async def test_a_thousand_of_one_strategy_at_once_against_its_limit_of_a_hundred(
    store_url: str,
) -> None:
    """Among them a hundred of others, which have no limit."""
    async with opened(store_url, StoreSettings(answer_within_s=60)) as store:
        await fetched(store, "10000000")
        limit = rules(max_position_size=d(100))
        strategies = [*("a" * 10), "b"] * 100
        codes = await asyncio.gather(*(code(store, limit, "1", one) for one in strategies))
        said = [found for found, one in zip(codes, strategies, strict=True) if one == "a"]
        assert said.count(None) == 100
        assert said.count(R.STRATEGY_POSITION_LIMIT) == 900
        assert codes.count(None) == 200


@pytest.mark.chaos
@pytest.mark.parametrize("kills", [0, 2])
async def test_several_processes_pass_exactly_what_the_strategys_limit_allows(
    store_url: str, kills: int
) -> None:
    """Four processes, a thousand orders of one strategy, a limit of a hundred."""
    async with opened(store_url, StoreSettings(answer_within_s=60)) as store:
        await fetched(store, "10000000")
        await asked(store, buy("500", strategy_id="b"), RiskRules(limits=LOOSE))
        told = await from_several_processes(store_url, "bounded", kills=kills)
        assert len(told) == 100 if not kills else len(told) <= 100
        assert (await store.risk.book(*HERE)).open_orders() == 101
        assert await store.risk.mend() == []


def test_the_limits_of_an_order_are_limits() -> None:
    """So that whoever takes the one takes the other."""
    assert isinstance(RiskRules().limits_for(buy(), *HERE), OrderLimits)
