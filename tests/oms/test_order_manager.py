"""The order manager: its promises at the door, and both of its doors with all that is real."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any, cast

import pytest
from temporalio.client import Client

from tests.activities.store_builders import new_order, opened
from tests.oms.builders import order as an_unsent_order
from tests.oms.builders import state
from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.commands import checked
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.errors import Closed, InvalidOrder, OrderNotFound, StateUnavailable
from trading.oms.event_bus import EventBus
from trading.oms.events import OrderEvent
from trading.oms.models import Order
from trading.oms.order_client import OrderClient
from trading.oms.order_manager import OrderManager

TEMPORAL = pytest.mark.temporal
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
CANCELLED = OrderStatus.CANCELLED


@pytest.fixture
async def no_task_left_behind() -> None:
    """Here the worker, the exchange and their connections outlive each test."""


@pytest.fixture(scope="module")
async def module_desk(
    temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    url = f"sqlite:///{tmp_path_factory.mktemp('desk') / 'store.sqlite3'}"
    async with a_desk(temporal_client, url) as desk:
        yield desk


@pytest.fixture
async def desk(module_desk: Desk) -> AsyncIterator[Desk]:
    """The module's desk, with an empty book after each test."""
    yield module_desk
    module_desk.exchange.tidy()


@pytest.fixture
async def door() -> AsyncIterator[OrderManager]:
    """A remote door whose client would fail with anything that is asked of it."""
    nobody = cast("Client", object())
    async with OrderManager.remote(client=nobody) as oms:
        yield oms


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def idle(request: pytest.FixtureRequest, temporal_client: Client) -> AsyncIterator[Desk]:
    """A desk without a worker, on each of the two stores."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with a_desk(temporal_client, url, work=False) as desk:
        yield desk


# Its promises, without a worker.


def test_before_it_is_started_it_says_that_it_cannot_know() -> None:
    for oms in (OrderManager(), OrderManager.remote()):
        with pytest.raises(StateUnavailable, match="no store to read"):
            oms.get_order("o-1")
        with pytest.raises(StateUnavailable, match="fetch_order"):
            oms.get_open_orders(symbol="BTC/USDT")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda oms: oms.cancel_order("o-1", wait=-1.0), "wait_s"),
        (lambda oms: oms.cancel_order("o-1", wait=float("nan")), "wait_s"),
        (lambda oms: oms.cancel_order("o-1", exchange=3), "exchange"),
        (lambda oms: oms.modify_order("o-1"), "new_quantity"),
        (lambda oms: oms.modify_order("o-1", new_quantity=Decimal(0)), "new_quantity"),
        (lambda oms: oms.modify_order("o-1", new_price=Decimal("NaN")), "new_price"),
        (lambda oms: oms.resolve_order("o-1", "perhaps", "why", by="me"), "verdict"),
        (lambda oms: oms.resolve_order("o-1", "dead", "", by="me"), "reason"),
    ],
)
async def test_bad_input_is_refused_at_the_door_by_its_name(
    door: OrderManager, call: Callable[[Any], Awaitable[Any]], says: str
) -> None:
    """Nothing is asked of Temporal: the client of this door can do nothing at all."""
    with pytest.raises(InvalidOrder, match=says):
        await call(door)


@pytest.mark.parametrize("order_id", [None, "", "\ud800", "x\0", "x" * 65, 7, an_unsent_order()])
@pytest.mark.parametrize(
    "call",
    [
        lambda oms, order_id: oms.cancel_order(order_id),
        lambda oms, order_id: oms.modify_order(order_id, new_price=Decimal(1)),
        lambda oms, order_id: oms.resolve_order(order_id, "dead", "why"),
        lambda oms, order_id: oms.fetch_order(order_id),
        lambda oms, order_id: oms.fetch_doubt(order_id),
    ],
    ids=["cancel", "modify", "resolve", "fetch", "doubt"],
)
async def test_what_can_be_no_order_s_id_is_refused_in_words(
    door: OrderManager, call: Callable[[Any, Any], Awaitable[Any]], order_id: Any
) -> None:
    with pytest.raises(InvalidOrder, match=r"^order_id: ") as refusal:
        await call(door, order_id)
    assert str(refusal.value).isascii()


async def test_one_that_was_closed_does_nothing_until_it_is_started_again() -> None:
    """A call that starts everything anew would leave a worker that nobody closes."""
    oms = OrderManager.remote(client=cast("Client", object()))
    async with oms:
        pass
    for call in (oms.submit_order(an_unsent_order()), oms.fetch_order("o-1"), oms.reconcile()):
        with pytest.raises(Closed, match="was closed; start it again"):
            await call
    assert oms._orders is None
    async with oms:
        with pytest.raises(InvalidOrder, match="new_quantity"):
            await oms.modify_order("o-1")


class Slow(OrderManager):
    """Its one part takes a moment to start and to end."""

    started = ended = 0

    async def _start(self, parts: contextlib.AsyncExitStack) -> OrderClient:
        await asyncio.sleep(0.01)
        self.started += 1
        parts.push_async_callback(self._end)
        return await super()._start(parts)

    async def _end(self) -> None:
        await asyncio.sleep(0.1)
        self.ended += 1


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_close_while_it_starts_ends_what_was_started(calls: int) -> None:
    oms = Slow.remote(client=cast("Client", object()))
    first_calls = [oms.fetch_order(f"o-{number}") for number in range(calls)]
    await asyncio.gather(*first_calls, oms.close(), return_exceptions=True)
    assert (oms.started, oms.ended) == (1, 1)
    with pytest.raises(Closed):
        await oms.fetch_order("o-1")


async def test_a_close_ends_what_is_being_started() -> None:
    oms = Slow.remote(client=cast("Client", object()))
    await asyncio.gather(oms.start(), oms.close())
    assert (oms.started, oms.ended, oms._orders) == (1, 1, None)


async def test_handlers_that_are_drained_by_a_close_may_still_call(sqlite_url: str) -> None:
    async with opened(sqlite_url) as store:
        oms = OrderManager.remote(client=cast("Client", object()), store_url=sqlite_url)
        asked: list[str] = []

        async def ask(event: OrderEvent) -> None:
            await closing.wait()
            known = await oms.fetch_order(event.order_id)
            asked.append(known.client_order_id if known else "nothing")

        closing = asyncio.Event()
        async with oms:
            subscription = await oms.event_bus.subscribe("*", ask)
            orders = [new_order() for _ in range(3)]
            for order in orders:
                await store.admit(order)
            async with asyncio.timeout(5):
                while subscription.waiting < len(orders):  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
            asyncio.get_running_loop().call_later(0.05, closing.set)
    assert asked == [order.client_order_id for order in orders]
    assert (subscription.handled, subscription.failures) == (3, 0)


async def test_a_handler_that_closes_while_it_is_left_leaves_no_part_running(
    sqlite_url: str,
) -> None:
    """The bus stops that handler after a while: what it was ending then would stay half ended."""

    class Impatient(EventBus):
        async def close(self, drain_s: float = 0.05) -> None:
            await super().close(drain_s)

    async with opened(sqlite_url) as store:
        oms = Slow.remote(
            client=cast("Client", object()), store_url=sqlite_url, event_bus=Impatient()
        )
        begun = asyncio.Event()

        async def close(_: OrderEvent) -> None:
            begun.set()
            await asyncio.sleep(0.01)
            await oms.close()

        async with oms:
            await oms.event_bus.subscribe("*", close)
            await store.admit(new_order())
            await asyncio.wait_for(begun.wait(), 5)
    assert (oms.started, oms.ended, oms.event_bus.subscriptions) == (1, 1, ())


@pytest.mark.parametrize(
    ("update", "says"),
    [
        ({"quantity": 0.123456789}, "quantity: is the float 0.123456789; give an exact decimal"),
        ({"price": Decimal(-1)}, "price: is -1"),
        ({"price": None}, "price is missing"),
        ({"client_order_id": "a b"}, "client_order_id: is 'a b'"),
        ({"quantitty": Decimal(1)}, "quantitty: is not a field"),
    ],
)
async def test_a_copy_of_an_order_is_checked_again(
    door: OrderManager, update: dict[str, Any], says: str
) -> None:
    """Pydantic checks nothing of what `model_copy` is given."""
    with pytest.raises(InvalidOrder, match=says):
        await door.submit_order(an_unsent_order().model_copy(update=update))


@pytest.mark.parametrize("given", [{"symbol": "BTC/USDT"}, None, "buy"])
async def test_what_is_no_order_is_refused_in_words(door: OrderManager, given: Any) -> None:
    with pytest.raises(InvalidOrder, match=f"is a {type(given).__name__}, it must be an Order"):
        await door.submit_order(given)


def test_a_checked_order_is_the_same_with_its_texts_read() -> None:
    order = an_unsent_order()
    assert checked(order) == order
    assert checked(order.model_copy(update={"quantity": "10", "side": "buy"})) == order


def test_an_order_of_a_class_of_ones_own_may_remember_what_it_has_worked_out() -> None:
    class Remembering(Order):
        @functools.cached_property
        def worth(self) -> Decimal:
            return self.quantity * (self.price or 0)

    order = Remembering(**dict(an_unsent_order()))
    assert order.worth
    assert checked(order) == an_unsent_order()


async def test_a_commit_wakes_who_waits_for_that_order_and_with_an_answer_only(
    door: OrderManager,
) -> None:
    outcomes = door._outcomes
    with (
        outcomes.expected("mine") as mine,
        outcomes.expected("mine") as also_mine,
        outcomes.expected("other") as other,
    ):
        on_its_way = state(client_order_id="mine", status=OrderStatus.SUBMITTED)
        door._committed(on_its_way)
        assert not any(one.done() for one in (mine, also_mine, other))
        assert door.tracker.get_order("mine") == on_its_way
        accepted = state(client_order_id="mine", status=ACCEPTED, sequence=9)
        door._committed(accepted)
        again = accepted.model_copy(update={"sequence": 10})
        door._committed(again)  # Who is awake stays as it is.
        assert (mine.result(), also_mine.result(), other.done()) == (accepted, accepted, False)
    assert len(outcomes) == 0


async def test_a_submission_whose_start_fails_leaves_nobody_waiting(door: OrderManager) -> None:
    """On the embedded door the outcome is expected before the start, and no longer after it."""
    with pytest.raises(AttributeError):
        await door._submit_here(await door._started(), an_unsent_order())
    assert len(door._outcomes) == 0


# Both doors, with a worker, a store, Temporal and an exchange.


@TEMPORAL
async def test_the_embedded_door_does_all_in_one_process(idle: Desk) -> None:
    seen: list[OrderEvent] = []
    bus = EventBus()
    await bus.subscribe("order_*", seen.append)
    async with OrderManager(bus, settings=idle.settings, client=idle.client) as oms:
        order = an_order(strategy_id="s1")
        result = await oms.submit_order(order)
        order_id = order.client_order_id
        assert (result.success, result.status) == (True, ACCEPTED)
        assert oms.get_order(order_id) == result.state
        assert [state.client_order_id for state in oms.get_open_orders(strategy_id="s1")] == [
            order_id
        ]
        same, other = await asyncio.gather(
            oms.submit_order(order),
            oms.submit_order(order.model_copy(update={"price": Decimal(31000)})),
        )
        assert (same.status, other.success) == (ACCEPTED, False)
        assert "price is 31000, the known order has 30000" in str(other.error)

        idle.exchange.market("SELL", "30000", "0.004")
        await idle.until(order_id, lambda state: state.filled_quantity == Decimal("0.004"))
        changed = await oms.modify_order(order_id, new_price=Decimal(30100))
        assert (changed.success, oms.get_order(order_id)) == (True, changed.state)
        cancelled = await oms.cancel_order(order_id, idle.exchange.name, "BTC/USDT")
        assert (cancelled.outcome, cancelled.filled_quantity) == (
            CancelOutcome.CANCELLED, Decimal("0.004"),
        )  # fmt: skip
        assert oms.get_open_orders() == []
        state = oms.get_order(order_id)
        assert state is not None
        assert state.status is CANCELLED
        assert oms.get_order("nobody-knows-it") is None
        journal = await idle.names(order_id)
        await until(lambda: _as_many(seen, journal))

    assert [event.name for event in seen] == journal
    assert [event.order_sequence for event in seen] == list(range(1, len(journal) + 1))
    assert sorted({event.sequence for event in seen}) == [event.sequence for event in seen]


@TEMPORAL
async def test_many_orders_at_once_are_answered_each_with_its_own(idle: Desk) -> None:
    idle.exchange.market("SELL", "29000", "0.1", "GTC")
    async with OrderManager(settings=idle.settings, client=idle.client) as oms:
        orders = [an_order(price=price) for price in ["29000", "28000"] * 10]
        results = await asyncio.gather(*(oms.submit_order(order) for order in orders))

        assert [result.order_id for result in results] == [o.client_order_id for o in orders]
        assert [result.status for result in results] == [FILLED, ACCEPTED] * 10
        assert len(oms.get_open_orders()) == 10
        cancels = await asyncio.gather(
            *(oms.cancel_order(state.client_order_id) for state in oms.get_open_orders())
        )
        assert {cancel.outcome for cancel in cancels} == {CancelOutcome.CANCELLED}


@TEMPORAL
async def test_the_remote_door_reads_the_store_it_was_given(desk: Desk) -> None:
    order_id = (await desk.resting()).client_order_id

    state = desk.oms.get_order(order_id)

    assert state is not None
    assert state.status is ACCEPTED
    assert order_id in [one.client_order_id for one in desk.oms.get_open_orders()]


@TEMPORAL
async def test_the_remote_door_without_a_store_says_that_it_cannot_know(desk: Desk) -> None:
    async with OrderManager.remote(client=desk.client, task_queue=desk.task_queue) as oms:
        result = await oms.submit_order(an_order())

        with pytest.raises(StateUnavailable, match="fetch_order"):
            oms.get_order(result.order_id)
        with pytest.raises(StateUnavailable):
            oms.get_open_orders()
        fetched = await oms.fetch_order(result.order_id)
        assert fetched is not None
        assert fetched.status is ACCEPTED
        assert await oms.fetch_order("nobody-knows-it") is None
        assert (await oms.cancel_order(result.order_id)).success


@TEMPORAL
async def test_an_event_bus_at_the_remote_door_gets_every_event_in_order(desk: Desk) -> None:
    seen: list[OrderEvent] = []
    await desk.oms.event_bus.subscribe("order_*", seen.append)
    order_id = (await desk.resting()).client_order_id
    await desk.cancel(order_id)
    journal = await desk.names(order_id)

    await until(lambda: _as_many([e for e in seen if e.order_id == order_id], journal))

    assert [event.name for event in seen if event.order_id == order_id] == journal


@TEMPORAL
async def test_what_is_no_order_of_ours_is_said(desk: Desk) -> None:
    missing = await desk.cancel("nobody-knows-it")
    assert (missing.success, missing.outcome) == (False, CancelOutcome.NOT_FOUND)
    assert "nobody-knows-it" in str(missing.error)
    with pytest.raises(OrderNotFound):
        await desk.oms.modify_order("nobody-knows-it", new_price=Decimal(1))
    with pytest.raises(OrderNotFound):
        await desk.oms.resolve_order("nobody-knows-it", "dead", "lost", by="me")


@TEMPORAL
async def test_a_cancel_that_means_another_order_is_refused_and_changes_nothing(desk: Desk) -> None:
    order_id = (await desk.resting()).client_order_id
    mistakes: list[dict[str, Any]] = [{"exchange": "elsewhere"}, {"symbol": "ETH/USDT"}]
    for wrong in mistakes:
        with pytest.raises(InvalidOrder, match=next(iter(wrong))):
            await desk.oms.cancel_order(order_id, **wrong)
    assert (await desk.state(order_id)).status is ACCEPTED
    right = await desk.oms.cancel_order(order_id, desk.exchange.name, "BTC/USDT")
    assert right.outcome is CancelOutcome.CANCELLED


@TEMPORAL
async def test_one_that_was_closed_starts_again_and_knows_what_was_before(idle: Desk) -> None:
    oms = OrderManager(settings=idle.settings, client=idle.client)
    order_id = (await oms.submit_order(an_order())).order_id  # The first call starts everything.
    await oms.close()
    with pytest.raises(StateUnavailable):
        oms.get_order(order_id)
    await oms.start()
    try:
        known = oms.get_order(order_id)
        assert known is not None
        assert known.status is ACCEPTED
        assert (await oms.cancel_order(order_id)).outcome is CancelOutcome.CANCELLED
    finally:
        await oms.close()


async def _as_many(seen: list[OrderEvent], journal: list[str]) -> bool:
    return len(seen) >= len(journal)
