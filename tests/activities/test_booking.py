"""Booking reports: what late ones are not taken for, and what a fill proves."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from activities.booking import Booking
from activities.store import ClaimOutcome, Store, TradingState, resend_scope
from activities.store.types import Sent
from tests.activities.store_builders import (
    accepted,
    new_order,
    opened,
    report,
    request_of,
)
from tests.oms.builders import event, fill
from trading.oms.enums import OrderStatus, ReasonCode
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order
from trading.oms.venue import VenueStatus

THERE = {"exchange_order_id": "x-1"}


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


async def increased(store: Store) -> Order:
    """An order of 10 that rests, made 15 in place."""
    order = await accepted(store, new_order(quantity=Decimal(10)))
    more = event(EventKind.MODIFIED, revision=1, quantity=Decimal(15), price=order.price)
    await store.record(order.client_order_id, [more])
    return order


async def test_a_late_report_from_before_an_increase_takes_nothing_back(store: Store) -> None:
    order = await increased(store)
    late = report(order, quantity=Decimal(10), **THERE)
    booked = await Booking(store).book(order.client_order_id, [late])
    assert (booked.state.quantity, booked.state.revision) == (Decimal(15), 1)


async def lives_long(store: Store, order: Order) -> None:
    """More has been with it than is read at once."""
    events = [event(EventKind.ALARM, reason=f"news {number}") for number in range(1001)]
    await store.record(order.client_order_id, events)


async def test_a_late_report_takes_nothing_back_however_much_has_been_with_the_order(
    store: Store,
) -> None:
    order = await accepted(store, new_order(quantity=Decimal(5)))
    await lives_long(store, order)
    for revision, quantity in enumerate((10, 15), 1):
        terms: dict[str, Any] = {"quantity": Decimal(quantity), "price": order.price}
        changed = event(EventKind.MODIFIED, revision=revision, **terms)
        await store.record(order.client_order_id, [changed])

    late = report(order, quantity=Decimal("10.0"), **THERE)
    booked = await Booking(store).book(order.client_order_id, [late])

    assert (booked.state.quantity, booked.state.revision) == (Decimal(15), 2)


async def test_an_alarm_that_was_cleared_halts_nothing_again_however_old_the_order_is(
    store: Store,
) -> None:
    order = new_order()
    order_id = order.client_order_id
    await store.admit(order)
    await store.claim_send(order_id, 1, 1, request_of(order), claimant="me")
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED)
    await lives_long(store, order)
    again = request_of(order, generation=2)
    await store.claim_send(order_id, 1, 2, again, claimant="me")
    await store.settle_claim(order_id, 1, 2, outcome=ClaimOutcome.ACCEPTED)
    lives = {"exchange_order_id": "x-1", "status": VenueStatus.PARTIALLY_FILLED}
    older = report(order, fills=(fill("t-1", "1", account="main", order_id=""),), **lives)
    scope = resend_scope("sandbox", "main")

    await Booking(store).book(order_id, [older])
    assert (await store.trading_states())[scope] is TradingState.HALTED
    await store.set_trading_state(scope, TradingState.ACTIVE, by="ann")
    newer = {"exchange_client_id": again.exchange_client_id, "exchange_order_id": "x-2"}
    for state in (TradingState.HALTED, TradingState.ACTIVE):
        await Booking(store).book(order_id, [report(order, **newer)])
        assert (await store.trading_states())[scope] is state
        await store.set_trading_state(scope, TradingState.ACTIVE, by="ann")


@pytest.mark.parametrize(
    ("quantity", "status"),
    [("12", VenueStatus.NEW), ("10", VenueStatus.CANCELLED)],
    ids=["another quantity", "its end"],
)
async def test_what_somebody_else_has_reduced_is_still_believed(
    store: Store, quantity: str, status: VenueStatus
) -> None:
    order = await increased(store)
    said = report(order, quantity=Decimal(quantity), status=status, **THERE)
    booked = await Booking(store).book(order.client_order_id, [said])
    assert booked.state.quantity == Decimal(quantity)


@pytest.mark.parametrize("filled", ["10", "4"], ids=["whole", "in part"])
async def test_only_a_whole_fill_ends_the_doubt_about_a_replacement(
    store: Store, filled: str
) -> None:
    order = await accepted(store, new_order(quantity=Decimal(10)))
    order_id = order.client_order_id
    begun = event(EventKind.REPLACE_STARTED, leg=1)
    doubt = event(EventKind.IN_DOUBT, leg=2)
    request = request_of(order, leg=2)
    await store.claim_send(order_id, 2, 1, request, claimant="me", events=[begun])
    await store.settle_claim(order_id, 2, 1, outcome=ClaimOutcome.UNKNOWN, events=[doubt])
    one = fill("t-1", filled, account="main", order_id="", exchange_order_id="x-1")

    booked = await Booking(store).book(order_id, [report(order, fills=(one,), **THERE)])

    claim = await store.claim(order_id, 2, 1)
    assert claim is not None
    if filled == "10":
        assert booked.state.status is OrderStatus.FILLED
        assert claim.outcome is ClaimOutcome.NOT_PLACED
    else:
        assert claim.outcome is ClaimOutcome.UNKNOWN


async def test_what_a_look_up_finds_after_the_stream_was_no_surprise(store: Store) -> None:
    order = await in_doubt(store)
    whole = report(
        order,
        exchange_order_id="x-1",
        status=VenueStatus.FILLED,
        cumulative_quantity=Decimal(1),
        fills=(fill("t-1", "1", account="main", order_id=""),),
    )
    assert (await Booking(store).book(order.client_order_id, [whole])).state.is_terminal

    await Booking(store).book(order.client_order_id, [whole], generation=2)

    assert [e.alarm for e in await store.events_of(order.client_order_id) if e.alarm] == []


async def test_a_late_send_that_has_ended_does_not_keep_the_next_from_being_sent(
    store: Store,
) -> None:
    """It was proved absent, and the exchange had it for a moment: nothing of it can trade."""
    order = await in_doubt(store)
    order_id = order.client_order_id
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED)
    again = request_of(order, generation=2)
    await store.claim_send(order_id, 1, 2, again, claimant="me")
    await store.settle_claim(order_id, 1, 2, outcome=ClaimOutcome.NEVER_REACHED)
    over = report(order, exchange_order_id="x-1", status=VenueStatus.EXPIRED)
    await Booking(store).book(order_id, [over], generation=2)

    cancelled = event(EventKind.CANCELLED, reason_code=ReasonCode.CANCELLED_BEFORE_SEND)
    claim = await store.reclaim(order_id, 1, 2, stamp=1, request=again, claimant="me")
    assert (claim.won, claim.refusal) == (True, None)
    await store.settle_claim(order_id, 1, 2, outcome=ClaimOutcome.NEVER_REACHED, stamp=2)
    ended = await store.record(order_id, [cancelled], Sent(1, 2, 2))
    assert ended.status is OrderStatus.CANCELLED


async def in_doubt(store: Store) -> Order:
    order = new_order(quantity=Decimal(1))
    order_id = order.client_order_id
    await store.admit(order)
    await store.claim_send(order_id, 1, 1, request_of(order), claimant="me")
    doubt = [event(EventKind.IN_DOUBT)]
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.UNKNOWN, events=doubt)
    return order
