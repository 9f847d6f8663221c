"""What the catch-up and the sweep of fills ask an exchange for, and what stops them."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from activities.catch_up import CatchUp
from activities.connectors.binance_connector import BinanceConnector
from activities.connectors.classify import LOCAL_UNREADABLE
from activities.connectors.kraken_limits import kraken_card
from activities.connectors.settings import ConnectorSettings
from activities.feed import _Turn
from activities.fill_sweep import FillSweep
from activities.messages import Account
from activities.rate_desk import A_WINDOW_S, Gate, patient
from activities.store.types import Listing, Standing
from activities.withheld_fills import WithheldFills
from tests.activities.store_builders import report
from tests.oms.builders import fill
from trading.oms.enums import OrderStatus, Pending
from trading.oms.errors import ExchangeUnavailable, UnreadableOrder
from trading.oms.models import Fill, utc_now
from trading.oms.rate_card import RatePool
from trading.oms.rate_ledger import Granted, RateLedger, Want
from trading.oms.request_gate import LOCAL_RATE_LIMIT, Permit, Response
from trading.oms.venue import ExecutionReport, OrderList, OrderRef, VenueStatus
from workers.sandbox.config import SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

BTC, ETH = "BTC/USDT", "ETH/USDT"
MADE = datetime(2026, 1, 10, tzinfo=UTC)
UNREADABLE = ("client_order_id", "symbol", "exchange_client_id", "exchange_order_id")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class FakeConnector:
    """One that notes what it is asked; the answers for `unreadable` symbols cannot be read."""

    exchange, account = "sandbox", "main"

    def __init__(self, *unreadable: str, fills: tuple[Fill, ...] = ()) -> None:
        self.unreadable = unreadable
        self.fills = fills
        self.asked: list[tuple[str, str | None, datetime | None]] = []
        self.looked_for: list[str] = []
        self.listed_since: list[tuple[str, datetime]] = []
        self.silent_about: str | None = None
        self.refused: str | None = None
        self.now = MADE + timedelta(days=40)

    def exchange_now(self) -> datetime:
        return self.now

    async def fills_after(
        self, symbol: str, *, trade_id: str | None, since: datetime | None
    ) -> tuple[Fill, ...]:
        self.asked.append((symbol, trade_id, since))
        if symbol == self.refused:
            raise ExchangeUnavailable("no room", code=LOCAL_RATE_LIMIT)
        if symbol in self.unreadable:
            raise ExchangeUnavailable("no such pair", code=LOCAL_UNREADABLE)
        return self.fills

    async def open_orders(self) -> tuple[()]:
        return ()

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        self.listed_since.append((symbol, since))
        return OrderList(())

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        self.looked_for.append(ref.symbol)
        if ref.exchange_client_id == self.silent_about:
            raise ExchangeUnavailable("nobody answers")
        if self.silent_about is None:
            return None
        return report(exchange_client_id=ref.exchange_client_id, status=VenueStatus.CANCELLED)


class FakeLease:
    """The ledger of one process, in the time of the loop. An answer takes a twentieth second."""

    exchange = "sandbox"

    def __init__(self) -> None:
        self._document: dict[str, Any] = {}
        self._rules: dict[str, RatePool] = {}

    def know(self, key: str, rule: RatePool) -> None:
        self._rules[key] = rule

    def clock(self) -> float:
        return 1000 + asyncio.get_running_loop().time()

    def take_now(self, _cost: object) -> None:
        return None

    async def ask(self, want: Want) -> tuple[Granted, Permit]:
        granted = RateLedger(self._document, self._rules, self.clock()).ask(want)
        tokens = {(key, int(granted.at)): weight for key, weight in want.cost.costs.items()}
        return granted, Permit(tokens, granted.at)

    def answered(self, permit: Permit, _counts: object) -> None:
        ledger = RateLedger(self._document, self._rules, self.clock())
        for (key, window), weight in permit.tokens.items():
            ledger.pools[key].settle(window, weight)


class LimitedConnector(FakeConnector):
    """One whose questions pass the counter of an account's calls; all that rests is there."""

    def __init__(self, orders: list[Any]) -> None:
        super().__init__()
        self.gate = Gate(cast("Any", FakeLease()), self.account, kraken_card("starter"))
        self._reports = tuple(report(exchange_client_id=one.exchange_client_id) for one in orders)
        self.lists = 0

    async def ask(self, endpoint: str) -> None:
        permit = await self.gate.enter(endpoint)
        await asyncio.sleep(0.05)
        self.gate.leave(permit, Response({}), written=True)

    async def fills_after(self, symbol: str, **names: Any) -> tuple[Fill, ...]:
        await self.ask("POST TradesHistory")
        return await super().fills_after(symbol, **names)

    async def open_orders(self) -> Any:
        await self.ask("POST OpenOrders")
        self.lists += 1
        return self._reports


def in_no_time(work: Coroutine[Any, Any, None]) -> None:
    """Run it on a loop whose time passes when nobody has anything to do."""
    loop = asyncio.SelectorEventLoop()
    select, now = loop._selector.select, [0.0]  # type: ignore[attr-defined]

    def at_once(wait_s: float | None) -> Any:
        now[0] += wait_s or 0.0
        return select(0)

    loop._selector.select = at_once  # type: ignore[attr-defined]
    loop.time = lambda: now[0]  # type: ignore[method-assign]
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


class Counted(list[Any]):
    """A list that counts how often it is gone through."""

    passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return super().__iter__()


def resting(symbol: str, name: str = "1", made: datetime = MADE) -> Any:
    """An order that rests by our book."""
    times = {"created_at": made, "last_updated_at": made}
    names = dict.fromkeys(("exchange_order_id", "client_order_id", "exchange_client_id"), name)
    quiet = {"pending": Pending.NONE, "replacing": False, "in_doubt_since": None}
    return SimpleNamespace(symbol=symbol, status=OrderStatus.ACCEPTED, **times, **names, **quiet)


class FakeStore:
    """Cursors, the open orders, and fills that are all booked."""

    def __init__(self, **cursors: str) -> None:
        self.cursors = dict(cursors)
        self.inbox: list[ExecutionReport] = []
        self.owners: dict[str, str] = {}
        self.not_booked: set[str] = set()
        self.unreadable: set[str] = set()
        self.upkeep = self
        self.reads = self.writes = 0
        self.orders: list[Any] = Counted(resting(one) for one in (BTC, ETH))

    async def open_orders(self, *_: str, **_named: str) -> list[Any]:
        return self.orders

    async def listing(self, *_: object) -> Listing:
        return Listing([], [])

    async def find_order(self, where: tuple[str, str, str], exchange_order_id: str) -> str | None:
        assert where == ("sandbox", "main", BTC)
        return self.owners.get(exchange_order_id)

    async def cursor(self, name: str) -> str | None:
        self.reads += 1
        return self.cursors.get(name)

    async def advance_cursor(self, name: str, expected: str | None, new: str) -> bool:
        assert self.cursors.get(name) == expected
        self.writes += 1
        self.cursors[name] = new
        return True

    async def inbox_add(self, reports: list[ExecutionReport]) -> None:
        self.inbox += reports

    async def reports(self, *_: str, **_named: int) -> list[Any]:
        return []

    async def order(self, order_id: str) -> Any:
        if order_id in self.unreadable:
            row = dict.fromkeys(UNREADABLE, order_id)
            raise UnreadableOrder(row, ValueError("of_tomorrow"))
        return resting(BTC, order_id)

    async def claims_of(self, order_id: str) -> list[Any]:
        request = SimpleNamespace(exchange_client_id=order_id)
        return [SimpleNamespace(exchange_order_id=order_id, request=request)]

    async def standing(self, order_id: str, _fill_ids: object) -> Standing:
        await self.order(order_id)
        return Standing(None, True, frozenset(), frozenset())

    async def fills_known(self, ids: list[str]) -> set[str]:
        return set(ids) - self.not_booked


class FakeDoor:
    """Orders that take what they are told, but one."""

    def __init__(self, busy: str) -> None:
        self.busy = busy

    async def tell(self, order_id: str, _reports: list[ExecutionReport]) -> bool:
        return order_id != self.busy


def a_sweep(store: FakeStore, connector: FakeConnector, busy: str = "") -> FillSweep:
    parts = cast("Any", SimpleNamespace(store=store))
    return FillSweep(parts, cast("Any", FakeDoor(busy)), cast("Any", connector))


async def swept(store: FakeStore, connector: FakeConnector, busy: str = "") -> str | None:
    """Where the cursor stands after one sweep."""
    sweep = a_sweep(store, connector, busy)
    for order_id, told in await sweep.missing(BTC, MADE):
        with suppress(UnreadableOrder):
            await sweep.deliver(order_id, told)
    await sweep.done_with(BTC)
    return store.cursors.get(f"swept:sandbox:main:{BTC}")


async def test_fills_that_cannot_be_read_keep_no_other_symbol_and_no_end_waiting() -> None:
    connector = FakeConnector(BTC)
    catch_up = CatchUp(cast("Any", FakeStore()), cast("Any", connector))
    with pytest.raises(ExchangeUnavailable, match="no such pair"):
        await catch_up.run()

    assert [symbol for symbol, _, _ in connector.asked] == [BTC, ETH]
    assert connector.looked_for == [BTC, ETH]


async def test_an_order_that_cannot_be_asked_after_takes_no_other_orders_end_with_it() -> None:
    connector, store = FakeConnector(), FakeStore()
    store.orders = [resting(BTC, name) for name in ("1", "2", "3")]
    connector.silent_about = "3"
    with pytest.raises(ExchangeUnavailable, match="nobody answers"):
        await CatchUp(cast("Any", store), cast("Any", connector)).run()

    assert [one.exchange_client_id for one in store.inbox] == ["1", "2"]


async def test_the_catch_up_asks_behind_its_cursor_for_orders_of_any_age() -> None:
    connector = FakeConnector()
    store = FakeStore(**{f"fills:sandbox:main:{BTC}": "7"})
    await CatchUp(cast("Any", store), cast("Any", connector)).run()

    assert connector.asked == [(BTC, "7", None), (ETH, None, MADE - MINUTE)]


async def test_the_catch_up_asks_no_further_back_than_it_has_read() -> None:
    """With a cursor and without one, although nothing was traded: only what is listed late."""
    connector = FakeConnector()
    store, first = FakeStore(**{f"fills:sandbox:main:{BTC}": "7"}), connector.now
    catch_up = CatchUp(cast("Any", store), cast("Any", connector))
    await catch_up.run()
    connector.asked.clear()
    connector.now += HOUR
    await catch_up.run()

    assert connector.asked == [(BTC, "7", first - 10 * MINUTE), (ETH, None, first - 10 * MINUTE)]

    # A younger order asks for nothing that is older than itself.
    connector.asked.clear()
    connector.now += timedelta(days=9)
    store.orders = [resting(ETH, made=connector.now)]
    await catch_up.run()
    assert connector.asked == [(ETH, None, connector.now - MINUTE)]


def test_the_catch_up_comes_to_its_end_beside_a_reconciliation_that_asks_all_the_time() -> None:
    """Kraken's counter is first come first served; its least tier has room for a call in 3 s."""
    store, catch_ups_min = FakeStore(), 20
    store.orders = [resting(f"{n}/USDT", str(n)) for n in range(4)]
    connector = LimitedConnector(store.orders)

    async def reconciliation() -> None:
        with patient(A_WINDOW_S):
            while True:
                await connector.ask("POST TradesHistory")

    async def an_hour() -> None:
        parts = cast("Any", SimpleNamespace(store=store, connector=lambda *_: connector))
        account = Account(exchange=connector.exchange, account=connector.account)
        with patient():
            turn = _Turn(parts, cast("Any", None), "orders", account)
            both = [asyncio.create_task(one) for one in (turn._close_gaps(), reconciliation())]
        await asyncio.wait(both, timeout=3600, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.wait(both)

    in_no_time(an_hour())
    assert connector.lists > catch_ups_min


async def test_a_catch_up_that_finds_nothing_writes_nothing_for_a_minute() -> None:
    connector, store = FakeConnector(), FakeStore()
    catch_up, writes = CatchUp(cast("Any", store), cast("Any", connector)), []
    for passed_s in (0, 30, 29, 1):
        connector.now += timedelta(seconds=passed_s)
        await catch_up.run()
        writes.append(store.writes)

    assert writes == [2, 2, 2, 4], "one for each symbol"
    assert store.reads == 4 * 2 * 2, "cursor and time"


@pytest.mark.parametrize(
    ("refused", "asked"),
    [
        (["C", "B", "C"], ["ABC", "CDAB", "BC"]),
        (["B", "B", "B", "B"], ["AB", "B", "CDAB", "B"]),
    ],
    ids=["by the limits", "one every time"],
)
async def test_a_catch_up_that_was_refused_goes_on_where_it_was(
    refused: list[str], asked: list[str]
) -> None:
    """And one symbol that is refused every time keeps no other waiting."""
    connector, store = FakeConnector(), FakeStore()
    store.orders = [resting(name) for name in "ABCD"]
    catch_up = CatchUp(cast("Any", store), cast("Any", connector))
    found = []
    for connector.refused in refused:
        connector.asked.clear()
        with pytest.raises(ExchangeUnavailable, match="no room"):
            await catch_up.run()
        found.append("".join(symbol for symbol, _, _ in connector.asked))

    assert found == asked


async def test_a_read_that_failed_moves_no_time() -> None:
    connector, store = FakeConnector(BTC), FakeStore()
    store.orders = [resting(BTC)]
    catch_up = CatchUp(cast("Any", store), cast("Any", connector))
    for _ in range(2):
        with pytest.raises(ExchangeUnavailable, match="no such pair"):
            await catch_up.run()

    assert connector.asked == 2 * [(BTC, None, MADE - MINUTE)]


async def test_a_clock_that_was_ahead_leaves_nothing_unasked() -> None:
    """Its time says nothing of what was read; another worker's may be ahead by a moment."""
    connector, store = FakeConnector(), FakeStore()
    store.orders = [resting(BTC)]
    catch_up = CatchUp(cast("Any", store), cast("Any", connector))
    await catch_up.run()
    connector.now -= timedelta(seconds=2)
    await catch_up.run()
    connector.now += timedelta(days=365)
    await catch_up.run()
    connector.now -= timedelta(days=365)
    await catch_up.run()

    first, *others = [since for _, _, since in connector.asked]
    assert first == others[-1] == MADE - MINUTE
    assert others[0] == connector.now - 10 * MINUTE


async def test_the_catch_up_goes_through_the_orders_as_often_for_many_symbols_as_for_few() -> None:
    """With 50,000 orders of hundreds of symbols it kept the worker from all else for seconds."""
    passes = []
    for number in (2, 200):
        connector, store = FakeConnector(), FakeStore()
        made = [MADE + n * MINUTE for n in (2, 1, 3)]
        store.orders = Counted(resting(f"{n}/USDT", made=at) for n in range(number) for at in made)
        await CatchUp(cast("Any", store), cast("Any", connector)).run()
        assert {since for _, _, since in connector.asked} == {MADE}
        passes.append(store.orders.passes)

    assert passes[0] == passes[1]


async def test_the_sweep_names_a_time_beside_its_cursor() -> None:
    """Kraken lists by time, and has no other end for a pair that the account is new to."""
    connector = FakeConnector()
    store = FakeStore(**{f"swept:sandbox:main:{BTC}": "5000"})
    await a_sweep(store, connector).missing(BTC, MADE)

    assert connector.asked == [(BTC, "4000", MADE - MINUTE)]


async def test_the_sweep_goes_on_where_it_was_although_all_its_orders_are_younger() -> None:
    newest = fill("a", trade_id="5000", timestamp=MADE)
    connector = FakeConnector(fills=(newest, fill("b", trade_id="4999", timestamp=MADE)))
    store, first = FakeStore(), connector.now
    await swept(store, connector)
    connector.now += timedelta(days=9)
    await a_sweep(store, connector).missing(BTC, connector.now)

    assert connector.asked == [(BTC, None, MADE - MINUTE), (BTC, "4000", first - HOUR)]


async def test_the_sweep_asks_again_since_the_oldest_fill_that_nobody_has_taken() -> None:
    """Also where trades have no numbers, so that there is no cursor."""
    names = ("of-a-busy-order", "taken")
    fills = tuple(
        fill(one, trade_id=one, exchange_order_id=one, timestamp=MADE + n * HOUR)
        for n, one in enumerate(names, 30)
    )
    connector, store = FakeConnector(fills=fills), FakeStore()
    store.owners, store.not_booked = {one: one for one in names}, set(names)
    await swept(store, connector, busy=names[0])
    await swept(store, connector)
    await a_sweep(store, connector).missing(BTC, MADE)

    assert [since for _, _, since in connector.asked] == [
        MADE - MINUTE, MADE + 29 * HOUR, connector.now - HOUR,
    ]  # fmt: skip


async def test_the_sweep_asks_once_for_the_orders_that_nobody_knows() -> None:
    fills = tuple(
        fill(
            f"f{n}", trade_id=str(n), exchange_order_id=f"unknown-{n}", timestamp=MADE + n * MINUTE
        )
        for n in range(3)
    )
    connector, store = FakeConnector(fills=fills), FakeStore()
    store.not_booked, store.orders = {one.fill_id for one in fills}, []
    missing = await a_sweep(store, connector).missing(BTC, MADE)

    assert [report.exchange_order_id for _, report in missing] == [
        "unknown-0", "unknown-1", "unknown-2",
    ]  # fmt: skip
    assert connector.listed_since == [(BTC, MADE - timedelta(days=1))]


async def test_the_sweep_does_not_pass_a_fill_that_its_order_has_not_taken() -> None:
    """An order between two others may be busy for longer than the overlap lasts."""
    ids = ("4000", "5000", "9000")
    fills = tuple(fill(one, trade_id=one, exchange_order_id=one, timestamp=MADE) for one in ids)
    connector, store = FakeConnector(fills=fills), FakeStore()
    store.owners, store.not_booked = {one: f"of-{one}" for one in ids}, set(ids)

    assert await swept(store, connector, busy="of-5000") == "4000"
    assert await swept(store, connector) == "9000"


async def test_the_sweep_does_not_pass_a_fill_of_an_order_whose_row_cannot_be_read() -> None:
    ids = ("4000", "5000", "9000")
    fills = tuple(fill(one, trade_id=one, exchange_order_id=one, timestamp=MADE) for one in ids)
    connector, store = FakeConnector(fills=fills), FakeStore()
    store.owners, store.not_booked = {one: f"of-{one}" for one in ids}, set(ids)
    store.unreadable = {"of-5000"}

    assert await swept(store, connector) == "4000"
    store.unreadable.clear()
    assert await swept(store, connector) == "9000"


async def test_an_order_whose_row_cannot_be_read_hides_no_withheld_fills_of_another() -> None:
    connector, store = FakeConnector(), FakeStore()
    store.unreadable, connector.silent_about = {"1"}, "2"
    parts = cast("Any", SimpleNamespace(store=store))
    sweep = WithheldFills(parts, cast("Any", FakeDoor("")), cast("Any", connector))

    await sweep.findings(["1", "2"], dry_run=False)

    unreadable, silent = sweep.failed
    assert unreadable.startswith("withheld fills of order 1: the row of order 1 cannot be read")
    assert silent == "withheld fills of order 2: nobody answers"


async def test_the_sweep_does_not_pass_a_fill_that_it_has_left_out() -> None:
    """The newest may be on their way: they are looked after in the next pass."""
    ages = {"5000": 60 * 60, "7000": 1, "9000": 0}
    fills = tuple(
        fill(one, trade_id=one, timestamp=utc_now() - timedelta(seconds=age))
        for one, age in ages.items()
    )

    assert await swept(FakeStore(), FakeConnector(fills=fills)) == "5000"


async def test_binance_is_never_asked_for_an_id_and_a_time_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes `fromId` with a time as another question; the id alone misses nothing."""
    asked: list[dict[str, Any]] = []

    async def call(_call: Any, _method: str, _path: str, parameters: dict[str, Any]) -> list[Any]:
        asked.append(parameters)
        return []

    async with SandboxServer(SandboxConfig(accounts=(parse_account("k:s"),))) as server:
        values = {"exchange": "sandbox", "account": "main", "api_key": "k", "secret": "s"}
        settings = ConnectorSettings.model_validate(values | {"rest_url": server.url})
        connector = BinanceConnector(settings)
        await connector.start()
        monkeypatch.setattr(connector._wire, "call", call)
        await connector.fills_after(BTC, trade_id="7", since=MADE)
        await connector.close()

    (parameters,) = asked
    assert parameters["fromId"] in {7, "7"}
    assert not {"startTime", "endTime"} & parameters.keys()
