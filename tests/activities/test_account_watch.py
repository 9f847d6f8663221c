"""What the watch takes from an account, and that its timers go on: span, positions, refreshes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from activities import account_watch
from activities.account_watch import AccountWatch, refresh_balances
from activities.connectors.capabilities import binance_spot, kraken_spot
from activities.store import Store
from tests.activities.risk_builders import HERE
from tests.activities.store_builders import accepted, new_order, opened
from tests.oms.builders import NOW, instrument
from trading.oms.models import Balance, Instrument
from trading.oms.risk.rules_file import RulesFile
from trading.oms.venue import Capabilities, IExecutionConnector

MARGINS = {"fence_ms": 600, "processing_bound_ms": 50, "clock_skew_ms": 50, "data_lag_ms": 0}
BINANCE, KRAKEN = binance_spot(**MARGINS), kraken_spot(**MARGINS)  # type: ignore[arg-type]


class Venue:
    """Holds some assets and lists some markets; its clock stands still."""

    exchange, account = HERE

    def __init__(
        self, held: str = "", listed: str = "", capabilities: Capabilities = BINANCE
    ) -> None:
        self.capabilities = capabilities
        self._held = [one.split("=") for one in held.split()]
        self._listed = listed.split()
        self.listings = 0

    def exchange_now(self) -> datetime:
        return NOW

    async def server_time(self) -> datetime:
        return NOW

    async def balances(self) -> dict[str, Balance]:
        return {
            asset: Balance(asset=asset, free=Decimal(total), locked=Decimal(0))
            for asset, total in self._held
        }

    async def load_instruments(self) -> None:
        self.listings += 1

    def instrument(self, symbol: str) -> Instrument | None:
        return instrument(symbol=symbol) if symbol in self._listed else None


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    async with opened(sqlite_url) as store:
        yield store


@pytest.mark.parametrize(
    ("capabilities", "step_s"), [(KRAKEN, 1.0), (BINANCE, 0.001)], ids=["kraken", "binance"]
)
async def test_the_span_of_the_balances_has_a_step_of_the_clock_on_both_sides(
    store: Store, capabilities: Capabilities, step_s: float
) -> None:
    venue = Venue(capabilities=capabilities)

    await refresh_balances(store, cast("IExecutionConnector", venue))

    mark = (await store.risk.book(*HERE)).watermark
    assert mark.as_of is not None
    assert mark.as_of_latest is not None
    step, most = timedelta(seconds=step_s), timedelta(seconds=step_s + 0.5)
    assert step <= mark.as_of_latest - NOW < most
    assert step <= NOW - mark.as_of < most


@pytest.mark.parametrize(
    ("held", "listed", "found"),
    [
        ("BTC=3 USDT=9", "BTC/USDT BTC/EUR", {"BTC/USDT": 3}),
        ("BTC=3 EUR=9", "BTC/USDT BTC/EUR", {"BTC/EUR": 3}),
        ("BTC=3 EUR=9 USD=9", "BTC/USDT BTC/EUR BTC/USD", {"BTC/USD": 3}),
        ("BTC=3 EUR=9 USD=9", "BTC/USDT BTC/EUR", {"BTC/EUR": 3}),
        ("BTC=3 EUR=9 USDC=9", "BTC/EUR BTC/USDC EUR/USDC", {"BTC/USDC": 3}),
        ("BTC=3 EUR=0", "BTC/USDT BTC/EUR", {"BTC/USDT": 3}),
        ("BTC=3 EUR=9", "BTC/USDT", {"BTC/USDT": 3}),
        ("BTC=3 ETH=4", "BTC/USDT BTC/EUR ETH/USDT ETH/BTC", {"BTC/USDT": 3, "ETH/USDT": 4}),
        ("BTC=3 ETH=4 EUR=9", "BTC/EUR ETH/USDT", {"BTC/EUR": 3, "ETH/USDT": 4}),
        ("BTC=3 EUR=9", "BTC/GBP", {}),
    ],
)
async def test_what_is_held_at_first_is_a_position_in_the_accounts_own_cash(
    store: Store, held: str, listed: str, found: dict[str, int]
) -> None:
    await refresh_balances(store, cast("IExecutionConnector", Venue(held, listed)))

    audit = await store.risk.adjustments(*HERE)
    assert {one.symbol: one.after for one in audit} == found


async def test_balances_instruments_limits_and_reservations_are_kept_fresh(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for period in ("BALANCES_S", "INSTRUMENTS_S", "RULES_S", "MEND_S"):
        monkeypatch.setattr(account_watch, period, 0.01)
    file, venue = tmp_path / "risk.toml", Venue("USDT=9000")
    file.write_text("[limits]\nmax_open_orders = 2")
    rules = RulesFile(file)
    await accepted(store, new_order())
    watch = AccountWatch(store, {HERE: cast("IExecutionConnector", venue)}, rules)

    async def are_fresh() -> bool:
        book = await store.risk.book(*HERE)
        limit = rules.rules.limits.max_open_orders
        sums = book.reserved("USDT") == 1000 and book.available("USDT") == 8000
        return limit == 30 and venue.listings > 1 and sums

    watch.run()
    file.write_text("[limits]\nmax_open_orders = 30")
    try:
        async with asyncio.timeout(10):
            while not await are_fresh():  # noqa: ASYNC110 - a timer has no event
                await asyncio.sleep(0.01)
    finally:
        await watch.close()
