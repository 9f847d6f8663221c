"""The balances of an account that trades all the time: of each look some fills are on their way."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from activities.account_pictures import SETTLING
from activities.balance_check import BalanceCheck
from activities.connectors.capabilities import binance_spot, kraken_spot
from activities.order_steps import Parts
from activities.rate_desk import A_WINDOW_S, PATIENCE_S, patience, patient
from activities.reconcile_messages import Finding, Outcome
from activities.risk_desk import RiskDesk
from activities.store import Store, TradingState
from tests.activities.risk_builders import HERE
from tests.activities.store_builders import fill_event, new_order, opened
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import Balance, utc_now
from trading.oms.risk.limits import RiskRules
from trading.oms.venue import Capabilities, IExecutionConnector

EARLIER, AHEAD = timedelta(seconds=-1), timedelta(seconds=0.9)
MARGINS = {"fence_ms": 600, "processing_bound_ms": 50, "clock_skew_ms": 50, "data_lag_ms": 0}
BINANCE, KRAKEN = binance_spot(**MARGINS), kraken_spot(**MARGINS)  # type: ignore[arg-type]


class Venue:
    """Buys one BTC whenever somebody looks; the fill is in the balances and on its way to us.

    Its time is its own, and goes on only while the check waits.
    """

    exchange, account = HERE

    def __init__(self, store: Store) -> None:
        self._store = store
        self.capabilities = BINANCE
        self.clock = utc_now() - timedelta(hours=1)
        self.totals = {"BTC": Decimal(5), "USDT": Decimal(1_000_000)}
        self.stamp, self.is_quick = EARLIER, False
        self.sweeps = 0
        self.waits: list[float] = []
        self._on_their_way: dict[str, LifecycleEvent] = {}

    def exchange_now(self) -> datetime:
        return self.clock

    async def balances(self) -> dict[str, Balance]:
        self.waits.append(patience())
        await self._buy()
        if self.is_quick:
            await self._arrive()
        return {
            asset: Balance(asset=asset, free=total, locked=Decimal(0))
            for asset, total in self.totals.items()
        }

    async def wait(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)

    async def sweep(self) -> bool:
        """Find the fills that are missing, and one that came after the look."""
        self.sweeps += 1
        await self._buy()
        await self._arrive()
        return True

    async def _buy(self) -> None:
        order = new_order(symbol="BTC/USDT", quantity="1", price="100")
        await self._store.admit(order)
        self.totals["BTC"] += 1
        self.totals["USDT"] -= 100
        self._on_their_way[order.client_order_id] = fill_event(
            order, "1", "1", fee=Decimal(0), timestamp=self.clock + self.stamp
        )

    async def _arrive(self) -> None:
        while self._on_their_way:
            order_id, fill = self._on_their_way.popitem()
            await self._store.record(order_id, [fill])


class Account:
    """A venue, and the passes of the check over it."""

    def __init__(self, store: Store, venue: Venue) -> None:
        self.store, self.venue = store, venue
        self._connector = cast("IExecutionConnector", venue)
        nothing: dict[str, Any] = dict.fromkeys(Parts._fields)
        risk = RiskDesk({HERE: self._connector}, store, RiskRules)
        self._parts = Parts(**nothing | {"store": store, "risk": risk})

    async def one_pass(self) -> list[Finding]:
        """A minute after the one before; what it has found."""
        self.venue.clock += timedelta(minutes=1)
        self.venue.sweeps = 0
        check = BalanceCheck(self._parts, self._connector)
        return await check.findings(self.venue.sweep, dry_run=False)

    async def is_reducing(self) -> bool:
        return TradingState.REDUCING in (await self.store.trading_states()).values()


@pytest.fixture
async def account(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    async with opened(store_url) as store:
        venue = Venue(store)
        monkeypatch.setattr("activities.balance_check.asyncio", SimpleNamespace(sleep=venue.wait))
        yield Account(store, venue)


async def test_fills_that_are_always_on_their_way_are_no_drift(account: Account) -> None:
    for _ in range(3):
        looked_at = account.venue.clock + timedelta(minutes=1)
        assert await account.one_pass() == []
        assert account.venue.sweeps == 1
        assert account.venue.clock - looked_at >= SETTLING
    assert not await account.is_reducing()
    assert await account.store.risk.adjustments(*HERE) == [], "nothing was taken over"


async def test_what_is_missing_in_both_looks_is_found_among_them(account: Account) -> None:
    assert await account.one_pass() == []
    account.venue.totals["BTC"] -= 3

    (finding,) = await account.one_pass()

    assert (finding.kind, finding.symbol) == ("balance_drift", "BTC")
    assert finding.outcome is Outcome.ALARMED
    assert finding.numbers["missing_here"] == -3
    assert account.venue.sweeps == 2
    assert await account.is_reducing()
    assert await account.one_pass() == [], "it is told once"


@pytest.mark.parametrize(
    ("capabilities", "is_certain"), [(KRAKEN, False), (BINANCE, True)], ids=["kraken", "binance"]
)
async def test_a_fill_up_to_a_step_of_the_clock_after_the_answer_may_be_in_it(
    account: Account, capabilities: Capabilities, is_certain: bool
) -> None:
    """The clock of whole seconds is up to one behind the stamps of the fills."""
    assert await account.one_pass() == []
    account.venue.capabilities = capabilities
    account.venue.stamp, account.venue.is_quick = AHEAD, True

    assert bool(await account.one_pass()) is is_certain

    assert account.venue.sweeps == (2 if is_certain else 0)


async def test_a_look_waits_for_no_minute_in_which_fills_may_or_may_not_be(
    account: Account,
) -> None:
    with patient(A_WINDOW_S):
        await account.one_pass()

    assert account.venue.waits == [PATIENCE_S]
