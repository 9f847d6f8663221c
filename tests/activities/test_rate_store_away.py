"""The gate while the store is away: a dead-man switch is held, an order waits."""

import asyncio
import time
from typing import Any, NoReturn

import pytest

from activities.connectors.kraken_limits import kraken_card
from activities.rate_desk import Gate
from activities.rate_lease import RateLease
from activities.store.rate_store import RateNews
from trading.oms.errors import ExchangeUnavailable, StoreUnavailable
from trading.oms.rate_card import RateCard
from trading.oms.rate_ledger import EVERYTHING
from trading.oms.request_gate import LOCAL_RATE_LIMIT, Permit

PLACE, TELL, CANCEL = "POST AddOrder", "POST CancelAllOrdersAfter", "POST CancelOrder"


class AwayStore:
    """A ledger that cannot be asked; `hangs` is one that says nothing at all."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs

    async def tell(self, _news: RateNews) -> NoReturn:
        await asyncio.sleep(2 if self._hangs else 0)
        msg = "the database does not answer"
        raise StoreUnavailable(msg)


def a_gate(store: Any, card: RateCard) -> tuple[Gate, RateLease]:
    lease = RateLease("kraken", store, time.time)
    return Gate(lease, "main", card), lease


async def refused(gate: Gate, endpoint: str) -> None:
    with pytest.raises(ExchangeUnavailable, match="cannot be asked") as caught:
        await gate.enter(endpoint, symbol="BTC/USD")
    assert caught.value.code == LOCAL_RATE_LIMIT


async def test_what_is_never_held_goes_without_the_ledger_and_an_order_does_not() -> None:
    gate, lease = a_gate(AwayStore(), kraken_card())
    for endpoint in (TELL, CANCEL):
        permit = await gate.enter(endpoint, symbol="BTC/USD")
        assert permit == Permit()
        assert gate.is_valid(permit)
        gate.leave(permit, None, written=True)
    await refused(gate, PLACE)
    await refused(gate, "POST BalanceEx")
    await lease.close()


async def test_what_costs_nothing_goes_without_the_ledger() -> None:
    gate, lease = a_gate(AwayStore(), RateCard())
    assert await gate.enter("trade/cancel-all-after") == Permit()
    await lease.close()


async def test_a_pause_that_is_known_holds_without_the_ledger() -> None:
    gate, lease = a_gate(AwayStore(), kraken_card())
    lease.pause(EVERYTHING, 60)
    await refused(gate, TELL)
    await lease.close()


async def test_a_switch_does_not_wait_for_a_ledger_that_says_nothing() -> None:
    gate, lease = a_gate(AwayStore(hangs=True), kraken_card())
    began = time.monotonic()
    assert await gate.enter(TELL) == Permit()
    assert time.monotonic() - began < 1.8
    await lease.close()
