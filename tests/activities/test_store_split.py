"""An order that is split, in the store: its legs at once or not at all, and always their sum."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import pytest

from activities.store import Claim, OrderFilter, Store
from activities.store.reservations import ReserveWish
from activities.store.types import Sent
from tests.activities.risk_builders import LOOSE, d, fetched
from tests.activities.store_builders import fill_event, new_order, opened, request_of
from tests.oms.builders import event
from trading.oms.enums import OrderStatus, ReasonCode, RejectedBy
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order, OrderState
from trading.oms.split import is_leg, leg_id, summed

VENUES = ("sandbox", "other")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        for exchange in VENUES:
            await fetched(store, "1000", exchange=exchange)
        yield store


def legs_for(parent: Order, *quantities: str, first: int = 1) -> list[Order]:
    return [
        parent.model_copy(
            update={
                "client_order_id": leg_id(parent.client_order_id, number),
                "parent_order_id": parent.client_order_id,
                "exchange": exchange,
                "quantity": d(quantity),
            }
        )
        for number, (exchange, quantity) in enumerate(zip(VENUES, quantities, strict=True), first)
    ]


def wishes(legs: Sequence[Order]) -> list[ReserveWish]:
    return [ReserveWish(order=leg, limits=LOOSE) for leg in legs]


async def split(store: Store, *quantities: str) -> tuple[Order, list[Order]]:
    parent = new_order(exchange=None, account=None)
    await store.admit(parent)
    legs = [leg.model_copy(update={"account": "main"}) for leg in legs_for(parent, *quantities)]
    state, denied = await store.risk.split(parent.client_order_id, wishes(legs))
    assert denied is None
    assert (state.is_split, state.status) == (True, OrderStatus.PENDING_SUBMISSION)
    return parent, legs


async def the_sum(store: Store, parent: Order) -> OrderState:
    state = await store.order(parent.client_order_id)
    assert state is not None
    legs = await store.orders(OrderFilter(parent_order_id=parent.client_order_id))
    assert summed(state, filter(is_leg, legs)) == state
    return state


async def held(store: Store) -> list[Decimal]:
    return [(await store.risk.book(exchange, "main")).reserved("USDT") for exchange in VENUES]


async def test_all_legs_reserve_in_one_step_and_the_parent_nothing(store: Store) -> None:
    parent, legs = await split(store, "6", "4")

    assert await held(store) == [d(600), d(400)]
    commits = store.commits
    again, denied = await store.risk.split(parent.client_order_id, wishes(legs))
    assert (denied, again) == (None, await the_sum(store, parent))
    assert store.commits == commits + 1
    assert await held(store) == [d(600), d(400)]
    # The sweep has nothing to mend, and finds no reservation for the parent.
    assert await store.risk.mend() == []
    entries = await store.events_of(parent.client_order_id)
    assert [entry.name for entry in entries] == ["order_created", "order_split", "order_pending"]
    assert dict(entries[1].details or {}) == {
        legs[0].client_order_id: "6 at sandbox", legs[1].client_order_id: "4 at other"
    }  # fmt: skip


async def test_the_whole_of_an_order_that_was_split_is_not_sent_by_a_try_that_stalled(
    store: Store,
) -> None:
    """It had found one exchange for the whole, and had reserved there."""
    parent = new_order(exchange=None, account=None)
    await store.admit(parent)
    whole = parent.model_copy(update={"exchange": VENUES[0], "account": "main"})
    await store.risk.reserve(ReserveWish(order=whole, limits=LOOSE))
    legs = [leg.model_copy(update={"account": "main"}) for leg in legs_for(parent, "6", "3")]
    state, denied = await store.risk.split(parent.client_order_id, wishes(legs))
    assert (denied, state.is_split) == (None, True)
    assert await held(store) == [d(600), d(300)]

    again = await store.risk.reserve(ReserveWish(order=whole, limits=LOOSE))
    assert again.denial is None
    assert await held(store) == [d(600), d(300)], "the legs hold everything"

    late = await claim(store, whole)

    assert (late.won, late.refusal) == (False, ReasonCode.CANCELLED_BEFORE_SEND)
    denial = event(EventKind.DENIED, rejected_by=RejectedBy.RISK)
    await store.record(parent.client_order_id, [denial], Sent(1, 1, 0))
    assert (await the_sum(store, parent)).ended_as is None

    assert (await claim(store, legs[0])).won
    assert (await the_sum(store, parent)).submitted_at is not None
    assert await store.risk.mend() == []
    assert await held(store) == [d(600), d(300)]


async def test_an_order_whose_whole_was_claimed_is_not_split(store: Store) -> None:
    parent = new_order(exchange=None, account=None)
    await store.admit(parent)
    whole = parent.model_copy(update={"exchange": VENUES[0], "account": "main"})
    await store.risk.reserve(ReserveWish(order=whole, limits=LOOSE))
    assert (await claim(store, whole)).won
    legs = [leg.model_copy(update={"account": "main"}) for leg in legs_for(parent, "6", "3")]

    state, denied = await store.risk.split(parent.client_order_id, wishes(legs))

    assert (denied, state.is_split) == (None, False)
    assert not await store.orders(OrderFilter(parent_order_id=parent.client_order_id))


async def test_one_leg_that_is_denied_leaves_none(store: Store) -> None:
    parent = new_order(exchange=None, account=None)
    await store.admit(parent)
    legs = [leg.model_copy(update={"account": "main"}) for leg in legs_for(parent, "6", "11")]

    state, denied = await store.risk.split(parent.client_order_id, wishes(legs))

    assert denied is not None
    assert (denied.exchange, denied.denial.code) == ("other", ReasonCode.INSUFFICIENT_FUNDS)
    assert not state.is_split
    assert await held(store) == [d(0), d(0)]
    assert not await store.orders(OrderFilter(parent_order_id=parent.client_order_id))


async def test_a_cancel_of_the_parent_stops_a_leg_at_its_claim(store: Store) -> None:
    parent, legs = await split(store, "6", "4")
    first, second = legs
    assert (await claim(store, first)).won
    await store.record(parent.client_order_id, [event(EventKind.CANCEL_REQUESTED)])

    refused = await claim(store, second)

    assert (refused.won, refused.refusal) == (False, ReasonCode.CANCELLED_BEFORE_SEND)
    late, denied = await store.risk.split(
        parent.client_order_id, wishes(legs_for(parent, "3", "1", first=3))
    )
    assert denied is not None
    assert denied.denial.code is ReasonCode.CANCELLED_BEFORE_SEND
    assert late == await the_sum(store, parent)


async def claim(store: Store, leg: Order) -> Claim:
    request = request_of(leg, exchange=leg.exchange)
    return await store.claim_send(leg.client_order_id, 1, 1, request, claimant="test")


async def test_two_processes_that_book_for_two_legs_leave_the_whole_sum(store_url: str) -> None:
    """Each locks its leg and then the parent, and reads the other's leg behind that lock."""
    dice = random.Random(1)  # noqa: S311 - repeatable on purpose
    async with opened(store_url) as one, opened(store_url) as two:
        for exchange in VENUES:
            await fetched(one, "100000", exchange=exchange)
        parents = [await split(one, "6", "4") for _ in range(10)]
        bookings = []
        for _, legs in parents:
            for store, leg in ((one, legs[0]), (two, legs[1])):
                bookings += [
                    store.record(
                        leg.client_order_id,
                        [fill_event(leg, f"t{n}", "0.5", exchange=leg.exchange)],
                    )
                    for n in range(8)
                ]
        dice.shuffle(bookings)
        await asyncio.gather(*bookings)
        for parent, _ in parents:
            state = await the_sum(one, parent)
            assert state.filled_quantity == d(8)
            assert state.status is OrderStatus.PARTIALLY_FILLED
            entries = await one.events_of(parent.client_order_id)
            numbers = [entry.order_sequence for entry in entries]
            assert numbers == list(range(1, len(entries) + 1))
            assert "order_fill" not in {entry.name for entry in entries}
            booked = [entry.state.filled_quantity for entry in entries]
            assert booked == sorted(booked)


async def test_the_order_has_what_its_legs_have_become_in_the_same_commit(store: Store) -> None:
    parent, legs = await split(store, "6", "4")
    ids = [leg.client_order_id for leg in legs]
    smaller = event(EventKind.MODIFIED, revision=1, quantity=d("4.5"), price=d(99))
    await store.record(ids[0], [smaller])
    state = await the_sum(store, parent)
    assert (state.quantity, state.remaining_quantity, state.price) == (d("8.5"), d("8.5"), d(100))
    greater = event(EventKind.LEG_STARTED, leg=2, revision=1, quantity=d(7), exchange_client_id="x")
    await asyncio.gather(
        store.record(ids[1], [greater]),
        store.record(ids[0], [fill_event(legs[0], "t", "4.5", exchange="sandbox")]),
    )
    state = await the_sum(store, parent)
    assert (state.quantity, state.filled_quantity, state.remaining_quantity) == (
        d("11.5"), d("4.5"), d(7)
    )  # fmt: skip
    names = [entry.name for entry in await store.events_of(parent.client_order_id)]
    assert names.count("order_modified") == 2


async def test_further_legs_are_routed_again_or_make_the_order_greater(store: Store) -> None:
    parent, _ = await split(store, "6", "4")

    def further(first: int) -> list[ReserveWish]:
        made = legs_for(parent, "0.5", "1", first=first)
        return wishes([leg.model_copy(update={"account": "main"}) for leg in made])

    again, denied = await store.risk.split(parent.client_order_id, further(3))
    assert denied is None
    assert (again.quantity, again.rerouted_quantity) == (d(10), d("1.5"))
    for _ in range(2):  # Whoever asks again gets what there is.
        more, denied = await store.risk.split(parent.client_order_id, further(5), adds=True)
        assert denied is None
        assert (more.quantity, more.rerouted_quantity, more.remaining_quantity) == (
            d("11.5"), d("1.5"), d("11.5")
        )  # fmt: skip
    assert more == await the_sum(store, parent)


async def test_an_order_that_only_calls_another_its_parent_is_no_leg_of_it(store: Store) -> None:
    parent, legs = await split(store, "6", "4")
    other = new_order(parent_order_id=parent.client_order_id)
    await store.admit(other)
    await store.record(other.client_order_id, [fill_event(other, "t")])

    assert (await the_sum(store, parent)).filled_quantity == 0
    overfill = [fill_event(legs[0], f"t{n}", "6", exchange="sandbox") for n in range(2)]
    await store.record(legs[0].client_order_id, overfill)
    state = await the_sum(store, parent)
    assert (state.status, state.remaining_quantity) == (OrderStatus.FILLED, d(-2))
    alarms = [entry.alarm for entry in await store.events_of(parent.client_order_id)]
    assert alarms[-1] == "overfill: the legs have traded more than the quantity"
