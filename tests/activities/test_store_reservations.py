"""The reservation: one step, keyed by the order, released by its end, moved by its fills."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from activities.store import Store, StoreSettings, TradingState
from activities.store.accounts import Adjustment
from activities.store.ledger import Ledger
from activities.store.reservations import MendSums, ReserveWish
from activities.store.risk_rows import SumKey
from tests.activities.risk_builders import (
    HERE,
    LOOSE,
    available,
    buy,
    d,
    fetched,
    from_several_processes,
    limits,
    position,
    reserve,
    reserved,
)
from tests.activities.store_builders import fill_event, lose_next_answer, opened, request_of
from tests.oms.builders import NOW, event, quote, state
from trading.oms.enums import (
    OrderSide,
    OrderStatus,
    OrderType,
    ReasonCode,
    RejectedBy,
    TimeInForce,
)
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order, utc_now
from trading.oms.risk.reservation import Held

R = ReasonCode
SELL = OrderSide.SELL


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """Whatever a test did, the running sums are what the open reservations make."""
    async with opened(store_url) as store:
        yield store
        assert await wrong_sums(store) == []


async def wrong_sums(store: Store) -> list[SumKey]:
    """Those that were not; they are mended."""
    found: list[SumKey] = await store.risk._writer.do(MendSums(*HERE))
    return found


async def denial(store: Store, order: Order, **wish: Any) -> ReasonCode | None:
    answer = await reserve(store, order, **wish)
    return answer.denial.code if answer.denial else None


async def change(store: Store, wanted: Order) -> ReasonCode | None:
    """Reserve for a modification; the order has what would be open after it."""
    wish = ReserveWish(order=wanted, limits=LOOSE, is_modification=True)
    answer = await store.risk.reserve(wish)
    return answer.denial.code if answer.denial else None


async def test_a_reservation_takes_from_what_is_available(store: Store) -> None:
    await fetched(store, "1000")
    assert (await reserve(store, buy("4"))).denial is None
    assert await available(store) == d(600)
    refused = (await reserve(store, buy("7"))).denial
    assert refused is not None
    assert refused.code is R.INSUFFICIENT_FUNDS
    assert refused.numbers == {"required": d(700), "available": d(600)}
    assert await reserved(store) == d(400)


async def test_asking_again_changes_nothing(store: Store) -> None:
    await fetched(store, "1000")
    order = buy("10")
    for _ in range(3):
        assert await denial(store, order) is None
    assert await reserved(store) == d(1000)


@pytest.mark.parametrize("side", OrderSide)
async def test_an_order_that_is_checked_again_has_room_for_itself(
    store: Store, side: OrderSide
) -> None:
    await fetched(store, "1000", "10")
    whole = {"max_position_size": d(10), "max_exposure": d(1000)}
    rules = limits(max_open_orders=1, max_orders_per_minute=1, **whole)
    order = buy("10", side=side)
    for _ in range(2):
        assert await denial(store, order, rules=rules) is None


async def test_the_worst_fee_is_reserved_too(store: Store) -> None:
    await fetched(store, "1000")
    assert await denial(store, buy("10"), rules=limits(fee_rate=d("0.001"))) is not None
    assert await denial(store, buy("9"), rules=limits(fee_rate=d("0.001"))) is None
    assert await reserved(store) == d("900.9")


async def test_a_sell_reserves_the_base_asset(store: Store) -> None:
    await fetched(store, btc="5")
    assert await denial(store, buy("4", side=SELL)) is None
    assert await denial(store, buy("2", side=SELL)) is R.INSUFFICIENT_FUNDS
    assert await available(store, "BTC") == d(1)


async def test_balances_that_were_never_fetched_or_long_ago_deny(store: Store) -> None:
    assert await denial(store, buy()) is R.STALE_BALANCE
    assert await denial(store, buy(), rules=limits(check_capital=False)) is None
    from tests.oms.builders import NOW

    await fetched(store, fetched_at=NOW)
    assert await denial(store, buy()) is R.STALE_BALANCE


@pytest.mark.parametrize(
    "end",
    [
        event(EventKind.CANCELLED),
        event(EventKind.EXPIRED),
        event(EventKind.REJECTED, rejected_by=RejectedBy.EXCHANGE),
        event(EventKind.DENIED, rejected_by=RejectedBy.RISK),
        event(EventKind.NOT_PLACED),
        event(EventKind.DECLARED_DEAD),
    ],
    ids=lambda one: str(one.kind),
)
async def test_every_end_releases(store: Store, end: Any) -> None:
    await fetched(store)
    order = buy()
    await reserve(store, order)
    ended = await store.record(order.client_order_id, [end])
    assert ended.is_terminal
    assert await available(store) == d(10000)
    assert (await store.risk.book(*HERE)).open_orders() == 0


async def test_doubt_keeps_the_reservation_and_revival_brings_it_back(store: Store) -> None:
    await fetched(store)
    order = buy()
    await reserve(store, order)
    await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="test")
    await store.record(order.client_order_id, [event(EventKind.IN_DOUBT)])
    assert await reserved(store) == d(1000)
    await store.record(order.client_order_id, [event(EventKind.DECLARED_DEAD)])
    assert await reserved(store) == d(0)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    assert await reserved(store) == d(1000)


async def test_a_fill_moves_from_the_reservation_to_the_position_and_counts_once(
    store: Store,
) -> None:
    await fetched(store, "10000", as_of=NOW - timedelta(minutes=1))
    order = buy("10", strategy_id="s")
    await reserve(store, order)
    fill = fill_event(order, "t1", "4", price="99", fee=d("0.01"), fee_currency="BTC")
    for _ in range(2):
        await store.record(order.client_order_id, [fill])
    assert await position(store) == d("3.99")
    assert await reserved(store) == d(600)
    # 396 were spent and 600 are held; the exchange has not been asked since.
    assert await available(store) == d(10000 - 396 - 600)
    assert await available(store, "BTC") == d("3.99")
    # Now the exchange's total shows the fill: it is not taken off again.
    await fetched(store, "9604", "3.99", as_of=NOW + timedelta(minutes=1))
    assert await available(store) == d(9604 - 600)
    assert await available(store, "BTC") == d("3.99")
    await store.record(order.client_order_id, [event(EventKind.CANCELLED)])
    assert await available(store) == d(9604)


async def test_a_fill_that_may_be_in_the_balances_or_not_never_adds(store: Store) -> None:
    await fetched(store, "10000", as_of=NOW, as_of_latest=NOW + timedelta(seconds=3))
    order = buy("10")
    await reserve(store, order)
    fill = fill_event(order, "t1", "10", timestamp=NOW + timedelta(seconds=2))
    await store.record(order.client_order_id, [fill])
    assert await available(store) == d(10000) - d(1000) - d("0.1")
    assert await available(store, "BTC") == d(0)


async def test_locks_of_others_are_not_ours_to_use(store: Store) -> None:
    order = buy("1")
    await fetched(store, "1000")
    await reserve(store, order)
    # 100 of the 700 that are locked are our own order's.
    await fetched(store, "1000", locked_usdt="700")
    assert await available(store) == d(300)


async def test_older_balances_do_not_replace_newer_ones(store: Store) -> None:
    assert await fetched(store, "500", as_of=NOW)
    assert not await fetched(store, "900", as_of=NOW - timedelta(seconds=1))
    assert await available(store) == d(500)


async def test_the_first_balances_become_opening_positions(store: Store) -> None:
    await fetched(store, btc="2", adopt={"BTC": "BTC/USDT"})
    await fetched(store, btc="5", adopt={"BTC": "BTC/USDT"}, as_of=NOW)
    assert await position(store) == d(2)
    (entry,) = await store.risk.adjustments(*HERE)
    assert (entry.before, entry.after, entry.by) == (d(0), d(2), "oms")


async def test_a_fill_that_is_committed_with_new_balances_counts(store: Store) -> None:
    """It came after the exchange looked: neither its total nor a reservation shows it."""
    await fetched(store, "1000", as_of=NOW)
    order = buy("4")
    await reserve(store, order)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    later = NOW + timedelta(seconds=2)
    fill = fill_event(order, "t1", "4", price=d(100), timestamp=NOW + timedelta(seconds=9))
    commits = store._writer.commits

    await asyncio.gather(
        store.record(order.client_order_id, [fill]), fetched(store, "1000", as_of=later)
    )

    assert store._writer.commits == commits + 1
    assert await reserved(store) == 0
    assert await available(store) == d("599.9"), "with the fee"
    assert await available(store, "BTC") == d(4)


async def test_a_modification_holds_the_greater_of_old_and_new(store: Store) -> None:
    await fetched(store, "1500")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    more = order.model_copy(update={"quantity": d(14)})
    too_much = order.model_copy(update={"quantity": d(16)})
    assert await denial(store, order) is None
    assert await change(store, too_much) is R.INSUFFICIENT_FUNDS
    assert await reserved(store) == d(1000)
    assert await change(store, more) is None
    await store.record(order.client_order_id, [event(EventKind.MODIFY_REQUESTED)])
    assert await reserved(store) == d(1400)
    fill = fill_event(order, "t1", "2")
    await store.record(order.client_order_id, [fill])
    assert await reserved(store) == d(1200)
    # The exchange refuses: the old order stands.
    await store.record(order.client_order_id, [event(EventKind.REQUEST_ENDED)])
    assert await reserved(store) == d(800)
    # A reduction holds the old until the exchange confirms the new.
    less = order.model_copy(update={"quantity": d(3)})
    assert await change(store, less) is None
    await store.record(order.client_order_id, [event(EventKind.MODIFY_REQUESTED)])
    assert await reserved(store) == d(800)
    changed = event(EventKind.MODIFIED, revision=1, quantity=d(5), price=d(100))
    await store.record(order.client_order_id, [changed])
    assert await reserved(store) == d(300)


async def test_a_modification_of_what_is_partly_filled_holds_all_that_would_be_open(
    store: Store,
) -> None:
    await fetched(store, "1500")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [fill_event(order, "t1", "4")])
    assert await change(store, order.model_copy(update={"quantity": d(8)})) is None
    assert await reserved(store) == d(800)


async def test_a_change_to_a_lower_price_holds_the_old_one_until_it_is_confirmed(
    store: Store,
) -> None:
    await fetched(store, "1500")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    cheaper = order.model_copy(update={"quantity": d(12), "price": d(50)})
    assert await change(store, cheaper) is None
    assert await reserved(store) == d(1200)
    changed = event(EventKind.MODIFIED, revision=1, quantity=d(12), price=d(50))
    await store.record(order.client_order_id, [changed])
    assert await reserved(store) == d(600)


async def test_a_change_to_a_higher_price_needs_the_funds_for_it(store: Store) -> None:
    await fetched(store, "1050")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    assert await change(store, order.model_copy(update={"price": d(106)})) is R.INSUFFICIENT_FUNDS
    assert await change(store, order.model_copy(update={"price": d(105)})) is None
    assert await reserved(store) == d(1050)


async def test_a_sweep_leaves_what_a_modification_that_begins_has_reserved(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noted in the order after that; one that was cut off before holds for a minute."""
    await fetched(store, "1500")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [event(EventKind.ACCEPTED, exchange_order_id="1")])
    more = order.model_copy(update={"quantity": d(14)})
    await store.risk.reserve(ReserveWish(order=more, limits=LOOSE, is_modification=True))

    assert await store.risk.mend() == []
    assert await reserved(store) == d(1400)

    monkeypatch.setattr("activities.store.ledger._BEGINNING", timedelta(0))
    assert await store.risk.mend() == [order.client_order_id]
    assert await reserved(store) == d(1000)


async def test_position_count_exposure_and_rate_are_the_accounts(store: Store) -> None:
    await fetched(store, "100000")
    rules = limits(max_position_size=d(15))
    assert await denial(store, buy("10"), rules=rules) is None
    assert await denial(store, buy("6"), rules=rules) is R.POSITION_LIMIT
    assert await denial(store, buy("5"), rules=rules) is None
    assert await denial(store, buy("1"), rules=limits(max_open_orders=2)) is R.ORDER_COUNT_LIMIT
    assert await denial(store, buy("1"), rules=limits(max_exposure=d(1599))) is R.EXPOSURE_LIMIT
    assert await denial(store, buy("1"), rules=limits(max_exposure=d(1600))) is None
    assert (
        await denial(store, buy("1"), rules=limits(max_orders_per_minute=3)) is R.ORDER_RATE_LIMIT
    )


async def test_an_exposure_needs_the_price_of_what_is_held(store: Store) -> None:
    await fetched(store, "100000")
    order = buy("10")
    await reserve(store, order)
    await store.record(order.client_order_id, [fill_event(order, "t1", "10")])
    rules = limits(max_exposure=d(1150))
    assert await denial(store, buy("1"), rules=rules) is R.STALE_QUOTE
    assert await denial(store, buy("1"), rules=rules, prices={"BTC/USDT": d(110)}) is (
        R.EXPOSURE_LIMIT
    )
    assert await denial(store, buy("1"), rules=rules, prices={"BTC/USDT": d(100)}) is None


async def test_a_market_order_reserves_by_the_quote_and_the_margin(store: Store) -> None:
    await fetched(store, "10000")
    order = buy("1", order_type=OrderType.MARKET)
    await store.admit(order)
    best = quote(received_at=(await store.order(order.client_order_id)).created_at)  # type: ignore[union-attr]
    fresh = limits(quote_age_s_max=d(10**10))
    wish = ReserveWish(order=order, limits=fresh, quote=best)
    assert (await store.risk.reserve(wish)).denial is None
    assert await reserved(store) == d("101.0101")


async def test_trading_states_are_asked(store: Store) -> None:
    await fetched(store, btc="5", adopt={"BTC": "BTC/USDT"})
    await store.set_trading_state("strategy:s", TradingState.HALTED, by="test")
    assert await denial(store, buy(strategy_id="s")) is R.TRADING_HALTED
    assert await denial(store, buy(strategy_id="other")) is None
    await store.set_trading_state("account:sandbox/main", TradingState.REDUCING, by="test")
    assert await denial(store, buy()) is R.NOT_REDUCING
    assert await denial(store, buy("3", side=SELL)) is None
    # What is out already counts: 3 of 5 are being sold.
    assert await denial(store, buy("3", side=SELL)) is R.NOT_REDUCING


async def test_a_strategy_that_has_lost_its_limit_today_is_denied(store: Store) -> None:
    from trading.oms.models import utc_now

    await fetched(store, "100000", btc="10")
    bought, sold = buy("10", strategy_id="s"), buy("10", strategy_id="s", side=SELL)
    now = utc_now()
    for order, price in ((bought, "100"), (sold, "90")):
        await reserve(store, order)
        fill = fill_event(order, "t", "10", price=price, fee=d(0), side=order.side, timestamp=now)
        await store.record(order.client_order_id, [fill])
    rules = limits(max_daily_loss=d(100))
    assert await denial(store, buy("1", strategy_id="s"), rules=rules) is R.DAILY_LOSS_LIMIT
    assert await denial(store, buy("1", strategy_id="t"), rules=rules) is None


async def test_an_adjustment_is_audited(store: Store) -> None:
    change = Adjustment(
        exchange="sandbox",
        account="main",
        symbol="BTC/USDT",
        quantity=d("2.5"),
        reason="a transfer",
        by="ann",
    )
    assert await store.risk.adjust_position(change) == d(0)
    assert await position(store) == d("2.5")
    (entry,) = await store.risk.adjustments(*HERE)
    assert (entry.reason, entry.by, entry.after) == ("a transfer", "ann", d("2.5"))


async def test_an_adjustment_of_a_position_that_has_moved_changes_nothing(store: Store) -> None:
    change = Adjustment(
        exchange="sandbox",
        account="main",
        symbol="BTC/USDT",
        quantity=d("2.5"),
        reason="a transfer",
        by="ann",
        expected=d(1),
    )
    assert await store.risk.adjust_position(change) == d(0)
    assert await position(store) == d(0)
    assert await store.risk.adjustments(*HERE) == []


@pytest.mark.parametrize("expected", [None, d(3)])
async def test_an_adjustment_whose_answer_was_lost_is_made_once_and_answered_alike(
    store: Store, expected: Decimal | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Adjustment(
        exchange="sandbox",
        account="main",
        symbol="BTC/USDT",
        quantity=d(3),
        reason="a transfer",
        by="ann",
    )
    await store.risk.adjust_position(first)
    lose_next_answer(store, monkeypatch)
    change = replace(first, quantity=d(1), expected=expected)
    assert await store.risk.adjust_position(change) == d(3)
    assert await position(store) == d(1)
    audit = await store.risk.adjustments(*HERE)
    assert [(entry.before, entry.after) for entry in audit] == [(d(0), d(3)), (d(3), d(1))]


async def test_an_external_order_is_counted(store: Store) -> None:
    await fetched(store)
    foreign = state(client_order_id="foreign", account="main", status=OrderStatus.ACCEPTED)
    await store.admit_external(foreign)
    assert await denial(store, buy("1"), rules=limits(max_open_orders=1)) is R.ORDER_COUNT_LIMIT
    assert await reserved(store) == d(0)
    await store.record("foreign", [event(EventKind.CANCELLED)])
    assert await denial(store, buy("1"), rules=limits(max_open_orders=1)) is None


async def test_a_sweep_mends_what_differs_from_the_orders(store: Store) -> None:
    await fetched(store)
    held, lost, ended = buy("1"), buy("2"), buy("3")
    for order in (held, lost, ended):
        await reserve(store, order)
        await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="test")
        at = event(EventKind.ROUTED, exchange="sandbox", account="main")
        await store.record(order.client_order_id, [at])
    await store.record(ended.client_order_id, [event(EventKind.CANCELLED)])

    def damage(connection: sa.Connection) -> None:
        run = connection.exec_driver_sql
        run(f"DELETE FROM reservations WHERE order_id = '{lost.client_order_id}'")  # noqa: S608
        run("UPDATE reserved_sums SET quote_amount = '70', orders = 7")
        run(
            "UPDATE reservations SET is_open = true, open_quantity = '9', quote_amount = '900' "  # noqa: S608
            f"WHERE order_id = '{ended.client_order_id}'"
        )

    await store._engines.writes.run(damage)
    assert await reserved(store) == d(70)
    assert sorted(await store.risk.mend()) == sorted([lost.client_order_id, ended.client_order_id])
    assert await reserved(store) == d(300)
    assert (await store.risk.book(*HERE)).open_orders() == 2
    assert await store.risk.mend() == []


async def test_two_sweeps_of_one_moment_mend_the_sums_once(store: Store) -> None:
    await fetched(store)
    await reserve(store, buy("1", "100"))

    def damage(connection: sa.Connection) -> None:
        connection.exec_driver_sql("UPDATE reserved_sums SET quote_amount = '150'")

    await store._engines.writes.run(damage)
    mended = await asyncio.gather(wrong_sums(store), wrong_sums(store))
    assert [len(keys) for keys in mended] == [1, 0]
    assert await reserved(store) == d(100)


async def test_what_is_reserved_at_a_price_of_many_decimals_is_what_is_released(
    store: Store,
) -> None:
    """A market order's price with its margin has more decimals than the store keeps."""
    await fetched(store)
    order = buy("1000000", order_type=OrderType.MARKET, time_in_force=TimeInForce.IOC)
    tiny = "0.000000000000000123"
    assert await denial(store, order, quote=quote(tiny, tiny, received_at=utc_now())) is None
    assert await reserved(store) == d("0.000000000125")
    await store.record(order.client_order_id, [event(EventKind.CANCELLED)])
    assert await reserved(store) == d(0)


async def test_the_sums_of_a_strategy_are_its_own(store: Store) -> None:
    await fetched(store)
    for strategy, quantity in (("a", "1"), ("a", "2"), ("b", "4"), (None, "8")):
        await reserve(store, buy(quantity, strategy_id=strategy))
    other = buy("16", strategy_id="a", symbol="ETH/USDT")
    await reserve(store, other)
    await reserve(store, buy("32", strategy_id="a", side=SELL), limits(check_capital=False))

    def held(connection: sa.Connection) -> dict[str, dict[tuple[str, OrderSide], Held]]:
        ledger = Ledger(connection, NOW)
        ledger.load([other.client_order_id], [HERE], {})
        book = ledger.books[HERE]
        before = {name: ledger.held_by(book, name) for name in ("a", "b", "")}
        ledger.set(replace(ledger.reservations[other.client_order_id], is_open=False))
        return {**before, "after": ledger.held_by(book, "a")}

    found = await store._engines.writes.run(held)
    assert found["a"]["BTC/USDT", OrderSide.BUY] == Held(d(300), d(0), d(3), d(300), 2)
    assert found["a"]["BTC/USDT", SELL] == Held(d(0), d(32), d(32), d(3200), 1)
    assert found["a"]["ETH/USDT", OrderSide.BUY].quantity == d(16)
    assert found["after"]["ETH/USDT", OrderSide.BUY] == Held()
    assert list(found["b"]) == [("BTC/USDT", OrderSide.BUY)]
    assert found[""]["BTC/USDT", OrderSide.BUY].quantity == d(8)


async def test_what_is_added_many_times_and_taken_again_leaves_nothing(store: Store) -> None:
    """Tenths are no binary fractions: with floats the sum would not come back to nothing."""
    await fetched(store)
    orders = [buy("0.1", "0.000000000000000003") for _ in range(300)]
    await asyncio.gather(*(reserve(store, order) for order in orders))
    held = (await store.risk.book(*HERE)).held["BTC/USDT", OrderSide.BUY]
    assert (held.quantity, held.orders) == (d(30), 300)
    cancelled = event(EventKind.CANCELLED)
    await asyncio.gather(*(store.record(one.client_order_id, [cancelled]) for one in orders))
    assert (await store.risk.book(*HERE)).held == {}


async def test_a_thousand_at_once_against_capital_for_a_hundred(store_url: str) -> None:
    async with opened(store_url, StoreSettings(answer_within_s=60)) as store:
        await fetched(store, "10000")
        answers = await asyncio.gather(*(reserve(store, buy("1"), LOOSE) for _ in range(1000)))
        assert sum(one.denial is None for one in answers) == 100
        assert await available(store) == d(0)


@pytest.mark.chaos
@pytest.mark.parametrize("kills", [0, 2])
async def test_several_processes_pass_exactly_what_the_capital_allows(
    store_url: str, kills: int
) -> None:
    """Four processes, a thousand orders, capital for a hundred; two of them may be killed."""
    async with opened(store_url, StoreSettings(answer_within_s=60)) as store:
        await fetched(store, "10000")
        told = await from_several_processes(store_url, kills=kills)
        open_orders = (await store.risk.book(*HERE)).open_orders()
        assert open_orders == 100
        assert await reserved(store) == Decimal(10000)
        assert len(told) == 100 if not kills else len(told) <= 100
        assert await store.risk.mend() == []
