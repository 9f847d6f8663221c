"""Whatever happens, the store holds what the pure lifecycle makes of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.store import Store
from tests.activities.store_builders import fill_event, new_order, opened
from tests.oms.builders import after, event
from trading.oms.enums import ReasonCode, RejectedBy
from trading.oms.lifecycle import EventKind, LifecycleEvent, apply
from trading.oms.models import Order, OrderState

QUANTITIES = st.decimals(min_value="0.000000000000000001", max_value=20, places=18)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "leg": st.integers(1, 3),
    "exchange": st.sampled_from(["sandbox", "other"]),
    "account": st.sampled_from(["main", "second"]),
    "exchange_order_id": st.sampled_from([None, "x-1", "x-2"]),
    "exchange_client_id": st.sampled_from([None, "c-1", "c-2"]),
    "quantity": st.none() | QUANTITIES,
    "price": st.none() | QUANTITIES,
    "revision": st.integers(0, 3),
    "rejected_by": st.sampled_from([None, *RejectedBy]),
    "reason_code": st.sampled_from([None, *ReasonCode]),
    "reason": st.sampled_from([None, "because", "Grüße ☃"]),
}
NEED_MORE = {EventKind.FILL, EventKind.SPLIT}
"""A fill comes with its numbers; a split with its legs, of which the order is then the sum."""
KINDS = st.sampled_from([kind for kind in EventKind if kind not in NEED_MORE])
PLAIN = st.builds(
    lambda kind, seconds, fields: event(kind, seconds, **fields),
    KINDS,
    st.integers(0, 10**6).map(lambda micros: micros / 10**6),
    st.fixed_dictionaries({}, optional=OPTIONS),
)
FILLS = st.tuples(st.integers(1, 4), QUANTITIES, QUANTITIES, st.sampled_from(["BTC", "USDT", "X"]))
HAPPENINGS = st.lists(st.one_of(PLAIN, FILLS), max_size=12)


def events_of(order: Order, happenings: list[Any]) -> list[LifecycleEvent]:
    """Fills get the order's id; one trade is always the same fill."""
    events, trades = [], {}
    for happened in happenings:
        if isinstance(happened, LifecycleEvent):
            events.append(happened)
            continue
        trade, quantity, price, currency = happened
        if trade not in trades:
            trades[trade] = fill_event(
                order, str(trade), str(quantity), price=price, fee=price, fee_currency=currency
            )
        events.append(trades[trade])
    return events


def folded(order: Order, events: list[LifecycleEvent]) -> OrderState:
    state, booked = OrderState.of(order), set()
    for happened in events:
        if happened.fill is not None:
            if happened.fill.fill_id in booked:
                continue
            booked.add(happened.fill.fill_id)
        state = apply(state, happened).state
    return state


@pytest.fixture
async def stores(store_url: str) -> AsyncIterator[tuple[Store, Store]]:
    async with opened(store_url) as one, opened(store_url) as two:
        yield one, two


async def test_recording_equals_folding(stores: tuple[Store, Store]) -> None:
    """Any split into commits, by two processes in turn, each commit made twice."""
    loop = asyncio.get_running_loop()

    async def check(happenings: list[Any], cuts: list[int]) -> None:
        order = new_order(created_at=after(0.5))
        events = events_of(order, happenings)
        await stores[0].admit(order)
        bounds = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
        for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
            await stores[number % 2].record(order.client_order_id, events[begin:end])
        kept = await stores[0].order(order.client_order_id)
        assert kept is not None
        assert kept == folded(order, events).model_copy(update={"sequence": kept.sequence})
        entries = await stores[1].events_of(order.client_order_id)
        assert [entry.order_sequence for entry in entries] == list(range(1, kept.sequence + 1))
        unimportant = {"last_updated_at": kept.last_updated_at}
        assert entries[-1].state.model_copy(update=unimportant) == kept
        booked = {event.fill.fill_id for event in events if event.fill is not None}
        assert {one.fill_id for one in await stores[0].fills(order.client_order_id)} == booked

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(HAPPENINGS, st.lists(st.integers(0, 12), max_size=3))
    def prove(happenings: list[Any], cuts: list[int]) -> None:
        asyncio.run_coroutine_threadsafe(check(happenings, cuts), loop).result(30)

    await asyncio.to_thread(prove)
