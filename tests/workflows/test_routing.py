"""Orders that name no exchange go where their routing sends them, in two real sandboxes."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.store import TradingState
from tests.workflows.desk import OPEN_MARKET, Desk, Exchange, a_desk, an_order, until
from trading.oms.cli.check import _judge
from trading.oms.enums import OrderStatus, ReasonCode
from trading.oms.routing.smart import RoutingStrategy

pytestmark = pytest.mark.temporal


@pytest.fixture(params=[RoutingStrategy.BEST_PRICE, RoutingStrategy.LIQUIDITY], ids=str)
async def two(
    request: pytest.FixtureRequest, temporal_client: Client, sqlite_url: str
) -> AsyncIterator[Desk]:
    """A desk with two exchanges, whose books the test makes."""
    async with a_desk(temporal_client, sqlite_url, exchanges=2, routing=request.param) as desk:
        yield desk


def sells(exchange: Exchange, price: str, quantity: str) -> None:
    exchange.market("SELL", price, quantity, "GTC")


async def account_is(state: TradingState, desk: Desk, exchange: Exchange) -> None:
    await desk.store.set_trading_state(f"account:{exchange.name}/main", state, by="test")


async def test_an_order_goes_to_the_exchange_that_offers_most(two: Desk) -> None:
    first, second = two.exchanges
    sells(first, "29500", "0.5")
    sells(second, "29000", "0.05")
    best, deepest = second, first
    wanted = best if two.settings.routing is RoutingStrategy.BEST_PRICE else deepest

    result = await two.submit()

    assert result.state is not None
    assert result.error is None
    assert (result.status, result.state.exchange) == (OrderStatus.FILLED, wanted.name)
    assert [len(one.orders()) for one in two.exchanges] == [
        int(one is wanted) for one in two.exchanges
    ]
    named = await two.submit(exchange=first.name)
    assert named.state is not None
    assert named.state.exchange == first.name

    # What is halted does not count: by us, and by the exchange, which says so in its refusal.
    await account_is(TradingState.HALTED, two, wanted)
    other = second if wanted is first else first
    elsewhere = await two.submit()
    assert elsewhere.state is not None
    assert elsewhere.state.exchange == other.name
    other.fault("symbol_status", symbol="BTCUSDT", status="HALT")
    refused = await two.submit()
    assert (refused.status, refused.error) == (OrderStatus.REJECTED, "-2010: Market is closed.")

    async def nobody_is_left() -> str | None:
        denied = await two.submit()
        assert denied.status is OrderStatus.REJECTED
        return denied.error if denied.reason_code is ReasonCode.NO_EXCHANGE else None

    reason = await until(nobody_is_left)
    assert f"{wanted.name}: trading is halted there" in reason
    assert f"{other.name}: the venue has halted BTC/USDT" in reason
    # It is asked now and then whether it trades again.
    other.clear()
    await until(lambda: _is_filled(two), within_s=20)


async def test_while_trading_is_halted_the_denial_says_so(two: Desk) -> None:
    await two.store.set_trading_state("all", TradingState.HALTED, by="test")

    denied = await two.submit()

    assert (denied.status, denied.reason_code) == (OrderStatus.REJECTED, ReasonCode.TRADING_HALTED)


async def test_the_fee_of_each_exchange_decides_between_prices_that_are_near(
    temporal_client: Client, sqlite_url: str
) -> None:
    routing = RoutingStrategy.BEST_PRICE
    async with a_desk(temporal_client, sqlite_url, exchanges=2, routing=routing) as desk:
        assert desk.runtime is not None
        cheaper, dearer = desk.exchanges
        for exchange, price, fee in ((cheaper, "29000", "0.004"), (dearer, "29050", "0.001")):
            sells(exchange, price, "0.5")
            connector = desk.runtime.parts.connectors[exchange.name, "main"]
            told = {"taker_fee": Decimal(fee)}
            connector.capabilities = connector.capabilities.model_copy(update=told)

        result = await desk.submit()

        assert result.state is not None
        assert result.state.exchange == dearer.name  # 29079.05 with its fee, and not 29116.


@pytest.fixture
def capital_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk's own limits ask whether an account can pay."""
    limits = tmp_path / "limits.toml"
    limits.write_text(OPEN_MARKET.read_text().replace("check_capital = false", ""))
    monkeypatch.setattr("tests.workflows.desk.OPEN_MARKET", limits)


@pytest.mark.usefixtures("capital_counts")
async def test_an_exchange_whose_account_cannot_pay_is_passed_over(
    temporal_client: Client, sqlite_url: str
) -> None:
    routing = RoutingStrategy.BEST_PRICE
    async with a_desk(temporal_client, sqlite_url, exchanges=2, routing=routing) as desk:
        cheap, dear = desk.exchanges
        sells(cheap, "29000", "500")
        sells(dear, "29500", "500")
        # An account has 10,000,000 USDT: the first order leaves too little for another.
        chosen = []
        for _ in desk.exchanges:
            result = await desk.submit(quantity="200")
            assert result.state is not None
            chosen.append((result.state.exchange, result.error))

    assert chosen == [(cheap.name, None), (dear.name, None)]


@pytest.mark.usefixtures("capital_counts")
async def test_an_exchange_that_denies_all_of_an_order_is_left_out_of_its_division(
    temporal_client: Client, sqlite_url: str
) -> None:
    routing = RoutingStrategy.SPLIT
    async with a_desk(temporal_client, sqlite_url, exchanges=2, routing=routing) as desk:
        cheap, dear = desk.exchanges
        sells(cheap, "29000", "500")
        sells(dear, "29500", "500")
        # An account has 10,000,000 USDT: the first order leaves too little for another.
        first, second, third = [await desk.submit(quantity="200") for _ in range(3)]
        # What else its account may not do counts too.
        await account_is(TradingState.REDUCING, desk, cheap)
        assert desk.runtime is not None
        checked = await _judge(desk.runtime.parts, an_order())
        fourth = await desk.submit()
        await account_is(TradingState.REDUCING, desk, dear)
        fifth = await desk.submit()

    chosen = [one.state and (one.state.exchange, one.error) for one in (first, second, fourth)]
    assert chosen == [(cheap.name, None), (dear.name, None), (dear.name, None)]
    assert (checked.where, checked.code) == (dear.name, None)
    assert third.reason_code is ReasonCode.INSUFFICIENT_FUNDS
    assert fifth.reason_code is ReasonCode.NOT_REDUCING
    for one in (third, fifth):
        assert f"{cheap.name}: " in str(one.error)
        assert f"{dear.name}: " in str(one.error)


async def _is_filled(desk: Desk) -> bool:
    return (await desk.submit()).status is OrderStatus.FILLED
