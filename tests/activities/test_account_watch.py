"""What the watch takes from an account: the span of its balances, and its opening positions."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast

import pytest

from activities.account_watch import refresh_balances
from activities.connectors.capabilities import binance_spot, kraken_spot
from activities.store import Store
from tests.activities.risk_builders import HERE
from tests.activities.store_builders import opened
from tests.oms.builders import NOW, instrument
from trading.oms.models import Balance, Instrument
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

    def exchange_now(self) -> datetime:
        return NOW

    async def server_time(self) -> datetime:
        return NOW

    async def balances(self) -> dict[str, Balance]:
        return {
            asset: Balance(asset=asset, free=Decimal(total), locked=Decimal(0))
            for asset, total in self._held
        }

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
