"""The desk: quotes only where a check needs one, custom checks, denials with their numbers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from activities import account_watch, quotes
from activities.account_watch import AccountWatch, refresh_balances
from activities.connectors.capabilities import binance_spot
from activities.messages import RiskQuestion
from activities.quotes import QuoteKey, quotes_of
from activities.risk_desk import RiskDesk
from activities.store import Store
from tests.activities.risk_builders import available, buy, d, fetched, position, reserved
from tests.activities.store_builders import opened
from tests.oms.builders import instrument
from trading.oms.enums import OrderType, ReasonCode
from trading.oms.errors import ExchangeUnavailable
from trading.oms.models import Balance, Instrument, Order, Quote
from trading.oms.portfolio import Portfolio
from trading.oms.risk.checker import RiskChecker
from trading.oms.risk.limits import RiskLimits, RiskRules
from trading.oms.risk.rules_file import RulesFile
from trading.oms.venue import IExecutionConnector
from workers import risk_checks
from workers.risk_checks import with_installed_checks

KEY = QuoteKey("sandbox", "main", "BTC/USDT")


class Venue:
    """A connector as far as the desk and the watch look at it."""

    exchange, account = "sandbox", "main"
    capabilities = binance_spot(
        fence_ms=5000, processing_bound_ms=10_000, clock_skew_ms=1000, data_lag_ms=100
    )

    def __init__(self) -> None:
        self.asked = 0
        self.instruments_read = 0
        self.silent = False
        self.takes_s = 0.0
        self.clock_s = 0.0
        self.usdt, self.btc = d(10000), d(3)

    def instrument(self, symbol: str) -> Instrument | None:
        return instrument(fetched_at=datetime.now(UTC)) if symbol == "BTC/USDT" else None

    async def quote(self, symbol: str) -> Quote:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        if self.silent:
            raise ExchangeUnavailable("nobody quotes")
        return Quote(
            exchange="sandbox", symbol=symbol, bid=d(99), ask=d(101), received_at=datetime.now(UTC)
        )

    async def balances(self) -> dict[str, Balance]:
        return {
            "USDT": Balance(asset="USDT", free=self.usdt, locked=d(0)),
            "BTC": Balance(asset="BTC", free=self.btc, locked=d(0)),
        }

    async def load_instruments(self) -> None:
        self.instruments_read += 1

    def exchange_now(self) -> datetime:
        return datetime.now(UTC)

    async def server_time(self) -> datetime:
        await asyncio.sleep(self.clock_s)
        return datetime.now(UTC)


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    async with opened(sqlite_url) as store:
        yield store


@pytest.fixture
def venue() -> Venue:
    return Venue()


def connectors(venue: Venue) -> dict[tuple[str, str], IExecutionConnector]:
    return {("sandbox", "main"): cast("IExecutionConnector", venue)}


def desk_of(
    store: Store, venue: Venue, checker: RiskChecker | None = None, **limits: Any
) -> RiskDesk:
    rules = RiskRules(limits=RiskLimits(**limits))
    return RiskDesk(connectors(venue), store, lambda: rules, checker)


def question(order: Order, **fields: Any) -> RiskQuestion:
    given: dict[str, Any] = {
        "order_id": order.client_order_id,
        "exchange": "sandbox",
        "account": "main",
        "quantity": order.quantity,
        "price": order.price,
        **fields,
    }
    return RiskQuestion(**given)


async def code_of(desk: RiskDesk, store: Store, order: Order) -> ReasonCode | None:
    await store.admit(order)
    answer = await desk.check(order, question(order))
    return answer.denied.reason_code if answer.denied else None


async def test_an_order_that_passes_has_its_reservation(store: Store, venue: Venue) -> None:
    await fetched(store)
    order = buy("10")
    desk = desk_of(store, venue)
    await store.admit(order)
    answer = await desk.check(order, question(order))
    assert answer.denied is None
    assert answer.checks_run[0] == "instrument_known"
    assert answer.checks_run[-1] == "exposure_limit"
    assert await reserved(store) == d(1000)


async def test_a_denial_has_its_numbers_and_holds_nothing(store: Store, venue: Venue) -> None:
    await fetched(store, "500")
    order = buy("10")
    await store.admit(order)
    answer = await desk_of(store, venue).check(order, question(order))
    assert answer.denied is not None
    assert answer.denied.numbers == {"required": "1000", "available": "500"}
    assert await reserved(store) == d(0)


async def test_a_price_far_from_the_market_is_denied_by_default(store: Store, venue: Venue) -> None:
    await fetched(store, "100000")
    desk = desk_of(store, venue)
    assert await code_of(desk, store, buy("10", "105")) is None
    assert await code_of(desk, store, buy("10", "105.01")) is ReasonCode.PRICE_TOO_FAR


async def test_a_quote_is_asked_for_once_and_only_where_one_is_needed(
    store: Store, venue: Venue
) -> None:
    await fetched(store, "100000")
    free = desk_of(store, venue, max_price_deviation=None)
    assert await code_of(free, store, buy("1")) is None
    assert venue.asked == 0
    desk = desk_of(store, venue)
    orders = [buy("1") for _ in range(20)]
    codes = await asyncio.gather(*(code_of(desk, store, order) for order in orders))
    assert set(codes) == {None}
    assert venue.asked == 1


async def test_without_a_quote_nothing_passes_that_needs_one(store: Store, venue: Venue) -> None:
    await fetched(store, "100000")
    venue.silent = True
    desk = desk_of(store, venue)
    assert await code_of(desk, store, buy("1")) is ReasonCode.STALE_QUOTE
    assert await code_of(desk, store, buy("1", order_type=OrderType.MARKET)) is (
        ReasonCode.STALE_QUOTE
    )
    skip = desk_of(store, venue, without_quote="skip")
    assert await code_of(skip, store, buy("1")) is None
    market = {"order_type": OrderType.MARKET}
    assert await code_of(skip, store, buy("1", **market)) is ReasonCode.STALE_QUOTE
    skip_all = desk_of(store, venue, without_quote="skip_all")
    assert await code_of(skip_all, store, buy("1", **market)) is ReasonCode.STALE_QUOTE
    blind = desk_of(store, venue, without_quote="skip_all", check_capital=False)
    assert await code_of(blind, store, buy("1", **market)) is None


async def test_an_old_quote_is_asked_for_again(venue: Venue) -> None:
    kept = quotes_of(connectors(venue))
    first = await kept.get(KEY, d(5))
    await asyncio.sleep(0.02)
    assert await kept.get(KEY, d(5)) is first
    second = await kept.get(KEY, d("0.01"))
    assert second is not first
    await asyncio.sleep(0.02)
    # In the older half of its age it is given, and asked for anew meanwhile.
    assert await kept.get(KEY, d("0.039")) is second
    await asyncio.sleep(0.01)
    assert venue.asked == 3
    await kept.close()


async def test_the_first_quote_of_a_symbol_is_waited_for_longer(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has just started is slow: its first order must not be denied for that."""
    monkeypatch.setattr(quotes, "_WAIT_S", 0.01)
    monkeypatch.setattr(quotes, "_FIRST_WAIT_S", 5.0)
    venue.takes_s = 0.1
    kept = quotes_of(connectors(venue))
    first = await kept.get(KEY, d(5))
    assert first is not None
    assert await kept.get(KEY, d("0.001")) is None
    await kept.close()


async def test_what_was_wanted_is_kept_fresh(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "_LOOK_S", 0.005)
    kept = quotes_of(connectors(venue))
    kept.want(KEY, d("0.02"))
    keeping = asyncio.create_task(kept.keep_warm())
    async with asyncio.timeout(5):
        while venue.asked < 3:  # noqa: ASYNC110 - a count, no event
            await asyncio.sleep(0.005)
    for number in range(quotes._WARM_MAX):
        kept.want(KEY._replace(symbol=f"X{number}/USDT"), d(5))
    await asyncio.sleep(0.02)
    asked = venue.asked
    await asyncio.sleep(0.05)
    assert venue.asked == asked  # Five others were wanted since, and each was asked for once.
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await kept.close()


async def test_after_a_restart_the_first_order_of_a_known_symbol_does_not_wait(
    store: Store, venue: Venue
) -> None:
    await fetched(store, "100000")
    await store.admit(buy("1", exchange="sandbox", account="main"))
    desk = desk_of(store, venue)
    desk.run()
    async with asyncio.timeout(5):
        while not venue.asked:  # noqa: ASYNC110 - a count, no event
            await asyncio.sleep(0.005)
    assert await code_of(desk, store, buy("1")) is None
    assert venue.asked == 1
    await desk.close()


async def test_custom_checks_get_the_accounts_portfolio(store: Store, venue: Venue) -> None:
    await refresh_balances(store, cast("IExecutionConnector", venue))
    seen: list[Portfolio] = []

    async def look(_order: Order, portfolio: Portfolio) -> bool:
        seen.append(portfolio)
        return len(seen) < 2

    checker = RiskChecker()
    checker.add_check("look", look)
    desk = desk_of(store, venue, checker)
    assert await code_of(desk, store, buy("10")) is None
    assert await code_of(desk, store, buy("10")) is ReasonCode.RISK_CHECK_FAILED
    assert (seen[0].buying_power, seen[1].buying_power) == (d(10000), d(9000))
    assert seen[0].get_position("BTC/USDT") == d(3)
    assert seen[0].calculate_exposure() == d(300)


async def test_a_checker_with_limits_replaces_the_files(store: Store, venue: Venue) -> None:
    await fetched(store)
    checker = RiskChecker(RiskLimits(max_order_notional=Decimal(999)))
    desk = desk_of(store, venue, checker)
    assert await code_of(desk, store, buy("10")) is ReasonCode.NOTIONAL_TOO_LARGE


async def test_the_exposure_is_measured_at_present_prices(store: Store, venue: Venue) -> None:
    await refresh_balances(store, cast("IExecutionConnector", venue))
    desk = desk_of(store, venue, max_exposure=Decimal(1299))
    assert await code_of(desk, store, buy("10")) is ReasonCode.EXPOSURE_LIMIT
    assert await code_of(desk, store, buy("9")) is None


async def test_a_preview_reserves_nothing(store: Store, venue: Venue) -> None:
    await fetched(store)
    order = buy("10")
    answer = await desk_of(store, venue).preview(order, question(order))
    assert answer.denied is None
    assert await reserved(store) == d(0)
    too_much = buy("101")
    answer = await desk_of(store, venue).preview(too_much, question(too_much))
    assert answer.denied is not None
    assert answer.denied.reason_code is ReasonCode.INSUFFICIENT_FUNDS


async def test_a_filter_rejection_lets_the_instruments_be_read_again(
    store: Store, venue: Venue
) -> None:
    desk = desk_of(store, venue)
    desk.filter_refused("sandbox", "main")
    desk.filter_refused("sandbox", "main")
    await asyncio.sleep(0.01)
    assert venue.instruments_read == 1
    await desk.close()


async def test_the_watch_fetches_balances_that_nobody_else_has_fetched(
    store: Store, venue: Venue
) -> None:
    watch = AccountWatch(store, connectors(venue), RulesFile())
    await watch.start()
    assert await available(store) == d(10000)
    assert await position(store) == d(3)
    venue.usdt = d(1)
    await watch.start()
    assert await available(store) == d(10000)


async def test_the_balances_span_is_as_wide_as_the_clock_is_uncertain(
    store: Store, venue: Venue
) -> None:
    venue.clock_s = 0.5
    before = datetime.now(UTC)
    await refresh_balances(store, connectors(venue)["sandbox", "main"])
    mark = (await store.risk.book("sandbox", "main")).watermark
    assert mark.as_of is not None
    assert mark.as_of_latest is not None
    # Half a second of clock on both sides, and 100 ms that the data may lag behind.
    assert mark.as_of_latest - mark.as_of >= timedelta(seconds=0.6)
    assert mark.as_of_latest >= before + timedelta(seconds=0.75)


async def test_the_watch_ends_though_a_driver_swallows_cancellations(
    store: Store, venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def swallow() -> dict[str, Balance]:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ExchangeUnavailable("a driver's word for cancelled") from None
        return {}

    monkeypatch.setattr(venue, "balances", swallow)
    monkeypatch.setattr(account_watch, "BALANCES_S", 0.01)
    watch = AccountWatch(store, connectors(venue), RulesFile())
    watch.run()
    await asked.wait()
    async with asyncio.timeout(1):
        await watch.close()


class _Entry:
    def __init__(self, name: str, what: Any) -> None:
        self.name, self.value, self._what = name, f"somewhere:{name}", what

    def load(self) -> Any:
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


async def test_installed_checks_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no(_order: Order, _portfolio: Portfolio) -> bool:
        return False

    monkeypatch.setattr(risk_checks, "entry_points", lambda **_: [_Entry("never", no)])
    checker = with_installed_checks(None)
    assert isinstance(checker, RiskChecker)
    assert checker.check_names[-1] == "never"
    assert with_installed_checks(checker) is checker
    broken = [_Entry("broken", ImportError("gone"))]
    monkeypatch.setattr(risk_checks, "entry_points", lambda **_: broken)
    with pytest.raises(Exception, match=r"'broken' \(somewhere:broken\) cannot be loaded: gone"):
        with_installed_checks(None)
