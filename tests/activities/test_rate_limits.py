"""The rate limits that processes share: desks with stores of their own, and a real exchange."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.cancel_all import CancellingAll
from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.binance_limits import BINANCE_CARD, _pool
from activities.connectors.settings import ConnectorSettings
from activities.exchange_steps import ExchangeSteps
from activities.messages import CancelAllWish, CollectAt
from activities.order_steps import Parts
from activities.rate_desk import (
    A_WINDOW_S,
    SHORT_S,
    Gate,
    RateDesk,
    patience,
    patient,
    urgent,
)
from activities.rate_lease import RateLease
from activities.reconcile_messages import ReconcileRequest
from activities.reconciling import Reconciling
from activities.store import ClaimOutcome, Store
from tests.activities.rate_process import at_full_speed
from tests.activities.store_builders import new_order, request_of
from tests.oms.builders import event
from trading.oms.enums import OrderSide, OrderType
from trading.oms.errors import ExchangeUnavailable, StartUpError
from trading.oms.interfaces import IRateSlots, RateWish
from trading.oms.lifecycle import EventKind
from trading.oms.rate_card import Cost, RateCard
from trading.oms.rate_ledger import EVERYTHING, RateLedger, Want
from trading.oms.request_gate import LOCAL_RATE_LIMIT, Permit, Response
from trading.oms.venue import OrderRef, OrderRequest
from workers.sandbox.config import RateLimit, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

KEY = "key-of-the-limits"
EXCHANGE = "limited"
DAY_S = 86_400
NOBODY = OrderRef(symbol="BTC/USDT", exchange_client_id="nobody")
_numbers = itertools.count(1)


class Process(NamedTuple):
    """What one worker process has: a store, a desk, a connector behind it."""

    store: Store
    desk: RateDesk
    connector: BinanceConnector

    async def slot(self, **more: Any) -> tuple[float, bool]:
        """Ask for an order's slot; (seconds to wait, granted)."""
        values: dict[str, Any] = {"order_id": f"o{next(_numbers)}", **more}
        slot = await self.desk.reserve(RateWish(EXCHANGE, "place", "main", **values))
        return slot.wait_s, slot.granted

    async def place(self, **more: Any) -> None:
        """Write an order that rests."""
        now_ms = int(self.connector.exchange_now().timestamp() * 1000)
        values: dict[str, Any] = {
            "exchange": EXCHANGE,
            "account": "main",
            "symbol": "BTC/USDT",
            "exchange_client_id": f"r{next(_numbers)}-{time.monotonic_ns()}",
            "side": OrderSide.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": Decimal("0.01"),
            "price": Decimal(1000),
            "timestamp_ms": now_ms,
            "window_ms": 5000,
            **more,
        }
        await self.connector.place(OrderRequest.model_validate(values))

    def used(self, counter: str) -> int:
        return int(self.desk.get_rate_limit_status(EXCHANGE)["pools"][counter]["used"])


@contextlib.asynccontextmanager
async def a_process(store_url: str, server: SandboxServer, **more: Any) -> AsyncIterator[Process]:
    store = await Store.open(store_url, create=True)
    settings = ConnectorSettings.model_validate(
        {
            "exchange": EXCHANGE,
            "account": "main",
            "api_key": KEY,
            "secret": KEY,
            "rest_url": server.url,
        }
    )
    desk, connector = RateDesk(store.rates, **more), BinanceConnector(settings)
    desk.put_behind(connector)
    try:
        with patient():
            await connector.start()
        yield Process(store, desk, connector)
    finally:
        await connector.close()
        await desk.close()
        await store.close()


@contextlib.asynccontextmanager
async def an_exchange(*limits: RateLimit) -> AsyncIterator[SandboxServer]:
    account = parse_account(f"{KEY}:{KEY}:BTC=10,USDT=100000000")
    config = SandboxConfig(accounts=(account,), rate_limits=limits)
    async with SandboxServer(config) as server:
        yield server


def weight(limit: int = 6000) -> RateLimit:
    return RateLimit("REQUEST_WEIGHT", "MINUTE", 1, limit)


def orders(limit: int, interval: str = "SECOND", number: int = 10) -> RateLimit:
    return RateLimit("ORDERS", interval, number, limit)


async def inside(window_s: float, room_s: float) -> None:
    """Wait for a moment with at least so much of a window left."""
    left = window_s - time.time() % window_s
    if left < room_s:
        await asyncio.sleep(left + 0.15)


async def test_what_the_card_says_is_what_the_exchange_charges() -> None:
    server = SandboxServer(SandboxConfig())
    routes = server.exchange.gateway.routes
    given = {"symbol": "BTCUSDT", "orderId": "1"}
    for endpoint, row in BINANCE_CARD.endpoints.items():
        method, _, path = endpoint.partition(" ")
        route = routes.get(f"{method} /api/v3/{path}")
        if route is None:
            continue
        assert row.costs["weight"] == route.weight_of({}), endpoint
        assert row.costs["orders"] == int(route.counts_order), endpoint
        for name, costs in row.with_parameter.items():
            assert costs["weight"] == route.weight_of({name: given[name]}), (endpoint, name)


async def test_the_limits_are_those_that_the_exchange_states(sqlite_url: str) -> None:
    async with (
        an_exchange(weight(1234), orders(7), orders(77, "DAY", 1)) as server,
        a_process(sqlite_url, server) as one,
    ):
        assert await one.desk.check_rate_limit(EXCHANGE, "place")
        pools = one.desk.get_rate_limit_status(EXCHANGE)["pools"]
        assert (pools["weight_1m"]["limit"], pools["weight_1m"]["used"] >= 41) == (1234, True)
        pools = (await one.desk.fetch_rate_limit_status(EXCHANGE))["pools"]
        assert (pools["orders_10s:main"]["limit"], pools["orders_1d:main"]["limit"]) == (7, 77)


async def test_processes_share_a_limit_and_later_orders_get_slots(store_url: str) -> None:
    """A window of a day, so that it does not end while a busy machine asks."""
    async with (
        an_exchange(weight(), orders(10, "DAY", 1)) as server,
        a_process(store_url, server, max_wait_s=2 * DAY_S) as one,
        a_process(store_url, server, max_wait_s=2 * DAY_S) as two,
    ):
        await inside(DAY_S, 60)
        wish = RateWish(EXCHANGE, "place", "main")
        slots = [await p.desk.reserve(wish) for _ in range(10) for p in (one, two)]
        now = [slot for slot in slots if slot.wait_s == 0]
        later = {slot.slot for slot in slots if slot.wait_s > 0}
        assert len(now) == 10
        assert len(later) == 1  # All ten in the next window.
        status = await two.desk.fetch_rate_limit_status(EXCHANGE)
        assert status["waiting"] == {"": 10}


class Clock:
    """The exchange's clock in the hands of a test."""

    def __init__(self) -> None:
        self.now = 1_000_005.0

    def __call__(self) -> float:
        return self.now


class Worker(NamedTuple):
    """A lease of the ledger on a clock that stands still, and the gate before it.

    `slots` are those of the orders that wait: orders carry them from worker to worker.
    """

    clock: Clock
    lease: RateLease
    gate: Gate
    slots: dict[str, float | None]

    async def waits(self, names: str, strategy: str = "", within_s: float = 60) -> list[float]:
        """The seconds until each order's slot, an order a letter; -1: too late.

        Who has it now is written and answered.
        """
        waits = []
        for name in names:
            wish = RateWish(EXCHANGE, "place", strategy_id=strategy, slot=self.slots.get(name))
            slot = await self.gate.slot(wish, within_s)
            self.slots[name] = slot.slot
            if slot.granted and slot.wait_s == 0:
                self.answer(await self.gate.enter("POST order"))
            waits.append(round(slot.wait_s, 1) if slot.granted else -1)
        return waits

    def answer(self, permit: Permit) -> None:
        self.gate.leave(permit, Response({}), written=True)


@contextlib.asynccontextmanager
async def workers(store_url: str, limit: int, count: int = 1) -> AsyncIterator[list[Worker]]:
    """Workers that share an account with so many orders in ten seconds; five of them are left."""
    pool = _pool("ORDERS", "SECOND", 10, limit)
    card, clock = BINANCE_CARD.model_copy(update={"pools": (pool,)}), Clock()
    store = await Store.open(store_url, create=True)
    leases = [RateLease(EXCHANGE, store.rates, clock) for _ in range(count)]
    slots: dict[str, float | None] = {}
    try:
        yield [Worker(clock, lease, Gate(lease, "main", card), slots) for lease in leases]
    finally:
        for lease in leases:
            await lease.close()
        await store.close()


async def test_an_order_that_comes_back_has_its_slot(sqlite_url: str) -> None:
    async with workers(sqlite_url, 2) as [one]:
        assert await one.waits("abcdef") == [0, 0, 5.1, 5.1, 15.1, 15.1]
        assert await one.waits("c") == [5.1]
        one.clock.now += 5.2
        assert await one.waits("g") == [19.9]
        assert await one.waits("cd") == [0, 0]
        assert await one.waits("ch") == [19.9, 29.9]


async def test_a_slot_of_an_order_that_is_not_sent_is_anothers(sqlite_url: str) -> None:
    async with workers(sqlite_url, 1) as [worker]:
        slot = await worker.gate.slot(RateWish(EXCHANGE, "place"), 60)
        assert slot.wait_s == 0
        assert not await worker.gate.is_free("place")
        slot.give_back()
        slot.give_back()  # There is nothing more to be given back.
        assert await worker.gate.is_free("place")


async def test_slots_wait_for_what_has_left_before_their_window(sqlite_url: str) -> None:
    """It may arrive late, and then it counts in their window."""
    async with workers(sqlite_url, 2) as [one]:
        slow = [await one.gate.enter("POST order") for _ in range(2)]
        assert await one.waits("bc") == [5.1, 5.1]
        one.clock.now += 5.2
        assert await one.waits("bc") == [0.2, 0.2]
        one.answer(slow[0])
        assert await one.waits("bc") == [0, 0.2]
        one.answer(slow[1])
        assert await one.waits("c") == [0]


async def test_an_order_has_its_slot_in_another_process_too(store_url: str) -> None:
    async with workers(store_url, 2, count=2) as [one, two]:
        assert await one.waits("abcd") == [0, 0, 5.1, 5.1]
        one.clock.now += 5.2
        assert await two.waits("cd") == [0, 0]


async def test_an_order_whose_slot_would_be_too_late_is_denied(sqlite_url: str) -> None:
    async with workers(sqlite_url, 1) as [one]:
        assert await one.waits("ab", within_s=0) == [0, -1]
        assert await one.waits("cd", within_s=6) == [5.1, -1]
        assert await one.waits("e", within_s=16) == [15.1]


async def test_strategies_share_what_is_booked_ahead(store_url: str) -> None:
    async with workers(store_url, 4, count=2) as [one, two]:
        assert await one.waits("abcdefghijkl", "many") == [0] * 4 + [5.1] * 4 + [15.1] * 4
        assert await two.waits("AB", "few") == [5.1, 5.1]
        one.clock.now += 5.2
        assert await one.waits("efgh", "many") == [0, 0, 19.9, 19.9]
        assert await two.waits("AB", "few") == [0, 0]


async def test_a_pause_voids_the_slots_that_come_within_it(sqlite_url: str) -> None:
    async with workers(sqlite_url, 2, count=2) as [one, two]:
        assert await one.waits("abc") == [0, 0, 5.1]
        two.lease.pause(EVERYTHING, 30)
        assert await two.waits("x") == [30]
        one.clock.now += 5.2
        assert await one.waits("c") == [24.8]


@pytest.mark.parametrize(
    ("retry_after_s", "paused_s"), [(None, 1.0), (0.0, 0.0), (0.25, 0.25), (40.0, 40.0)]
)
async def test_retry_after_decides_how_long_a_429_pauses(
    sqlite_url: str, retry_after_s: float | None, paused_s: float
) -> None:
    """A second where the exchange names no time."""
    async with workers(sqlite_url, 3) as [one]:
        permit = await one.gate.enter("POST order")
        response = Response({}, pauses=True, retry_after_s=retry_after_s)
        one.gate.leave(permit, response, written=True)
        assert one.lease.paused_for(Cost({}), one.clock.now) == pytest.approx(paused_s)


async def test_a_pause_of_what_the_request_did_not_cost_stops_everything(sqlite_url: str) -> None:
    async with workers(sqlite_url, 3) as [one]:
        permit = await one.gate.enter("GET order")
        response = Response({}, pauses=True, pauses_family="orders", retry_after_s=5.0)
        one.gate.leave(permit, response, written=True)
        assert one.lease.paused_for(Cost({}), one.clock.now) == pytest.approx(5)


async def test_a_permit_ends_with_its_window(sqlite_url: str) -> None:
    async with workers(sqlite_url, 3) as [one]:
        permit = await one.gate.enter("POST order")
        valid = [one.gate.is_valid(permit)]
        one.clock.now += 4.95
        valid.append(one.gate.is_valid(permit))
        assert valid == [True, False]


async def test_where_nothing_is_counted_no_permits_are_kept(sqlite_url: str) -> None:
    async with workers(sqlite_url, 3) as [one]:
        gate = Gate(one.lease, "main", RateCard(place="POST order"))
        for _ in range(5):
            assert (await gate.slot(RateWish(EXCHANGE, "place"), 60)).wait_s == 0
        assert not any(one.lease._promised.values())


async def test_a_pause_that_begins_before_the_write_stops_what_is_not_counted(
    sqlite_url: str,
) -> None:
    async with workers(sqlite_url, 3) as [one]:
        gate = Gate(one.lease, "main", RateCard())
        permit = await gate.enter("POST order")
        valid = [gate.is_valid(permit)]
        one.lease.pause(EVERYTHING, 30)
        assert [*valid, gate.is_valid(permit)] == [True, False]


async def test_an_answer_is_taken_in_although_the_limits_have_changed(sqlite_url: str) -> None:
    """The exchange has stated other pools while the request was out."""
    async with workers(sqlite_url, 3) as [one]:
        permit = await one.gate.enter("POST order")
        one.gate.stated([_pool("ORDERS", "MINUTE", 1, 7)])
        response = Response({"x-mbx-order-count-10s": "1"}, pauses=True, pauses_family="orders")
        one.gate.leave(permit, response, written=True)
        assert one.lease.paused_for(Cost({}), one.clock.now) == pytest.approx(1)


async def test_a_429_pauses_every_process(store_url: str) -> None:
    async with (
        an_exchange(weight(), orders(1000)) as server,
        a_process(store_url, server) as one,
        a_process(store_url, server) as two,
    ):
        await two.place()
        control = server.exchange.control
        control.set_faults({"fault": "rate_429", "count": 1, "retry_after": "30"})
        with pytest.raises(ExchangeUnavailable) as refused:
            await one.place()
        assert refused.value.status == 429
        begun = time.monotonic()
        while (await two.slot())[0] == 0:  # noqa: ASYNC110 - within the second of its lease
            await asyncio.sleep(0.02)
        assert time.monotonic() - begun < 1.5
        with pytest.raises(ExchangeUnavailable, match="no room for GET order") as held:
            await two.connector.find_order(NOBODY)
        assert held.value.code == LOCAL_RATE_LIMIT
        assert 25 < (held.value.retry_after or 0) <= 30
        assert two.desk.get_rate_limit_status(EXCHANGE)["paused_for_s"]["*"] > 25


async def test_a_worker_whose_machine_is_ahead_lifts_no_pause_by_starting(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has looked at the exchange's clock it tells the ledger no time."""
    async with an_exchange(weight(), orders(1000)) as server, a_process(store_url, server) as one:
        one.desk.pause(EXCHANGE, 100)
        await one.slot()
        store = await Store.open(store_url, create=True)
        two, desk = BinanceConnector(one.connector._settings), RateDesk(store.rates)
        desk.put_behind(two)
        ahead = SimpleNamespace(
            time_ns=lambda: time.time_ns() + 200 * 10**9, monotonic=time.monotonic
        )
        monkeypatch.setattr("activities.connectors.clock.time", ahead)
        with pytest.raises(StartUpError, match="no room for GET"):
            await two.start()
        await desk.close()
        await store.close()
        assert (await one.desk.fetch_rate_limit_status(EXCHANGE))["paused_for_s"]["*"] > 50


async def test_too_many_orders_pause_orders_and_no_cancels(sqlite_url: str) -> None:
    """Somebody else has used up the account's orders, by the WebSocket or another program."""
    async with (
        an_exchange(weight(), orders(5)) as server,
        a_process(sqlite_url, server) as one,
    ):
        await inside(10, 2)
        engine = server.exchange.engine
        for counter in server.exchange.limits.orders(engine.accounts[KEY]):
            counter.add(5, time.time())
        with pytest.raises(ExchangeUnavailable) as refused:
            await one.place()
        assert refused.value.code == "-1015"
        assert (await one.slot())[0] > 0
        assert await one.connector.find_order(NOBODY) is None


async def test_the_look_up_of_an_order_in_doubt_uses_the_share_that_is_kept(
    sqlite_url: str,
) -> None:
    async with (
        an_exchange(weight(100), orders(1000)) as server,
        a_process(sqlite_url, server) as one,
    ):

        async def all_balances() -> None:
            for _ in range(10):
                await one.connector.balances()

        await inside(60, 5)
        with pytest.raises(ExchangeUnavailable, match="no room for GET account"):
            await all_balances()
        slots = [await one.slot() for _ in range(60)]
        assert slots[-1][0] > 0
        with pytest.raises(ExchangeUnavailable, match="no room for GET order"):
            await one.connector.find_order(NOBODY)
        with urgent():
            assert await one.connector.find_order(NOBODY) is None


async def an_order_at_rest(one: Process) -> str:
    """Ours, in the store and at the exchange; its id."""
    order = new_order(exchange=EXCHANGE, symbol="BTC/USDT", quantity="0.01", price="1000")
    now_ms = int(one.connector.exchange_now().timestamp() * 1000)
    request = request_of(order, exchange=EXCHANGE, timestamp_ms=now_ms, window_ms=5000)
    order_id = order.client_order_id
    await one.store.admit(order)
    await one.store.claim_send(order_id, 1, 1, request, claimant="test")
    report = await one.connector.place(request)
    known = event(EventKind.ACCEPTED, exchange_order_id=report.exchange_order_id)
    await one.store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.ACCEPTED, events=[known])
    return order_id


async def use_up_what_is_not_kept(one: Process) -> None:
    async def ask_for_ever() -> None:
        while True:
            await one.connector.find_order(NOBODY)

    with pytest.raises(ExchangeUnavailable, match="no room for GET order"):
        await ask_for_ever()


def parts_of(one: Process) -> Parts:
    """A worker's parts that know this process's account alone."""
    nothing: dict[str, Any] = dict.fromkeys(Parts._fields)
    known = {"store": one.store, "connectors": {(EXCHANGE, "main"): one.connector}}
    return Parts(**nothing | known)


async def test_the_fills_of_an_order_are_collected_with_the_share_that_is_kept(
    sqlite_url: str,
) -> None:
    """A cancel or a replacement waits for them."""
    async with (
        an_exchange(weight(300), orders(1000)) as server,
        a_process(sqlite_url, server) as one,
    ):
        await inside(60, 8)
        order_id = await an_order_at_rest(one)
        await use_up_what_is_not_kept(one)

        booked = await ExchangeSteps(parts_of(one)).collect_fills(CollectAt(order_id=order_id))

        assert not booked.fills_missing


async def test_the_look_before_everything_is_cancelled_uses_the_share_that_is_kept(
    sqlite_url: str,
) -> None:
    async with (
        an_exchange(weight(300), orders(1000)) as server,
        a_process(sqlite_url, server) as one,
    ):
        await inside(60, 8)
        await an_order_at_rest(one)
        await use_up_what_is_not_kept(one)

        wish = CancelAllWish(exchange=EXCHANGE, account="main", symbol="BTC/USDT")
        answer = await CancellingAll(parts_of(one)).cancel_all_at_exchange(wish)

        assert (answer.is_asked, answer.why_not) == (True, None)


SWEEP = BINANCE_CARD.cost_of("GET myTrades", "main", parameters={"fromId": 1})
RULES = {pool.key("main"): pool for pool in BINANCE_CARD.pools}


@pytest.mark.parametrize("endpoint", ["GET myTrades", "GET allOrders", "GET openOrders"])
def test_sweeps_leave_room_for_cancels(endpoint: str) -> None:
    ledger, now = RateLedger({}, RULES, 1_800_000_001.0), 1_800_000_001.0
    sweep = BINANCE_CARD.cost_of(endpoint, "main")
    while ledger.ask(Want(sweep, now)).booked:
        pass
    cancel = BINANCE_CARD.cost_of("DELETE order", "main")
    assert [ledger.ask(Want(cancel, now)).booked for _ in range(500)] == [True] * 500


def test_orders_that_wait_do_not_hold_up_sweeps() -> None:
    ledger, now = RateLedger({}, RULES, 1_800_000_001.0), 1_800_000_001.0
    order = BINANCE_CARD.cost_of("place", "main")
    waits = [ledger.ask(Want(order, now + 600, "many")).at - now for _ in range(2000)]
    assert waits[-1] > 300
    assert [ledger.ask(Want(SWEEP, now)).booked for _ in range(200)] == [True] * 200


async def test_a_pass_waits_for_room_no_longer_than_half_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that asks for more than it has minutes was cut off, and begun again from its start."""
    clock, waits = SimpleNamespace(now=1000.0), list[float]()
    monkeypatch.setattr("activities.rate_desk.time", SimpleNamespace(monotonic=lambda: clock.now))

    async def five_minutes(_: object) -> Any:
        for passed_s in (0, 290, 20):
            clock.now += passed_s
            waits.append(patience())

    monkeypatch.setattr("activities.reconciling._Pass.run", five_minutes)
    parts: Any = SimpleNamespace(store=None, connector=lambda *_: None)
    made = Reconciling(parts, cast("Any", None), "orders").reconcile_account
    await ActivityEnvironment().run(made, ReconcileRequest(exchange=EXCHANGE, account="main"))

    assert waits == [A_WINDOW_S, A_WINDOW_S, SHORT_S]


def test_sweeps_of_more_than_a_minute_have_the_rest_in_the_next() -> None:
    ledger, now = RateLedger({}, RULES, 1_800_000_001.0), 1_800_000_001.0
    granted = [ledger.ask(Want(SWEEP, now + A_WINDOW_S)) for _ in range(300)]
    assert all(one.booked for one in granted)
    assert granted[-1].at > now


async def test_what_fills_give_back_is_used_again(sqlite_url: str) -> None:
    """Binance lowers the count of unfilled orders by each order's first fill."""
    async with (
        an_exchange(weight(), orders(20)) as server,
        a_process(sqlite_url, server) as one,
    ):
        await inside(10, 5)
        server.exchange.control.market_order(
            {"symbol": "BTCUSDT", "side": "SELL", "price": "1000", "quantity": "100",
             "time_in_force": "GTC"}
        )  # fmt: skip
        placed = 0
        while placed < 40:
            async with asyncio.timeout(5):
                while (await one.slot())[0] > 0:  # noqa: ASYNC110 - the ledger hears of it
                    await asyncio.sleep(0.05)
            await one.place()
            placed += 1


async def test_a_lease_is_given_back_when_nobody_uses_it(store_url: str) -> None:
    async with (
        an_exchange(weight(), orders(100)) as server,
        a_process(store_url, server) as one,
    ):
        await inside(10, 4)
        for _ in range(3):
            await one.slot()
            await one.place()

        async def used() -> int:
            status = await one.desk.fetch_rate_limit_status(EXCHANGE)
            return int(status["pools"]["orders_10s:main"]["used"])

        async with asyncio.timeout(3):
            while await used() != 3:  # noqa: ASYNC110 - the lease ends by itself
                await asyncio.sleep(0.05)


async def test_the_guard_of_the_specification_waits_and_counts(sqlite_url: str) -> None:
    async with (
        an_exchange(weight(), orders(1, number=1)) as server,
        a_process(sqlite_url, server) as one,
    ):
        guard: IRateSlots = one.desk
        begun = time.monotonic()
        for _ in range(3):
            await guard.acquire_rate_limit(EXCHANGE, "place")
        assert time.monotonic() - begun > 1.0
        assert guard.get_rate_limit_status("nowhere") == {"exchange": "nowhere", "limited": False}
        assert await guard.check_rate_limit("nowhere", "place")
        guard.pause(EXCHANGE, 5)
        assert not await guard.check_rate_limit(EXCHANGE, "GET order")


def test_nothing_is_limited_where_no_card_is_declared() -> None:
    assert RateCard().cost_of("POST order", "main").costs == {}


@pytest.mark.postgres
async def test_four_processes_at_full_speed_meet_no_429_and_leave_nothing_unused(
    postgres_url: str,
) -> None:
    """Binance's limits with shorter windows; the long form is `python -m bench.rate_limits`."""
    limit, window_s, seconds = 40, 2, 9
    async with an_exchange(weight(), orders(limit, number=window_s)) as server:
        await (await Store.open(postgres_url, create=True)).close()
        settings = {"api_key": KEY, "secret": KEY, "rest_url": server.url}
        done = await at_full_speed(postgres_url, settings, seconds, processes=4)
        assert [one["refused"] for one in done] == [0] * 4
        assert min(one["placed"] for one in done) > 0
        ledger = server.exchange.control.ledger({})["orders"]
        by_window = Counter(order["time"] // 1000 // window_s for order in ledger)
        whole = sorted(by_window)[1:-1]
        assert len(whole) >= 2
        assert max(by_window.values()) <= limit
        assert sum(by_window[w] for w in whole) >= 0.95 * limit * (whole[-1] - whole[0] + 1)
