"""Admission, events, fills and the lists of orders, on both databases."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from activities.store import OrderFilter, Store
from tests.activities.store_builders import accepted, fill_event, new_order, opened
from tests.oms.builders import NOW, event, fill, state
from trading.oms.enums import OrderStatus, OrderType, Pending, ReasonCode, RejectedBy, TimeInForce
from trading.oms.errors import OrderNotFound, UnreadableOrder
from trading.oms.lifecycle import EventKind
from trading.oms.models import OrderState

TINY = Decimal("0.000000000000000001")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


async def test_an_admitted_order_is_there_as_the_trader_gave_it(store: Store) -> None:
    order = new_order(
        quantity=Decimal("12345678901234567890.123456789012345678"),
        price=TINY,
        time_in_force=TimeInForce.GTD,
        expire_at=NOW + timedelta(microseconds=1),
        metadata={"note": "for the book", "nested": {"list": [1, "2", None]}},
        strategy_id="s-1",
        post_only=True,
        reduce_only=True,
    )
    admission = await store.admit(order)
    assert admission.created
    assert admission.known is None
    assert await store.trader_order(order.client_order_id) == order
    found = await store.order(order.client_order_id)
    assert found == admission.state
    assert found == OrderState.of(order).model_copy(update={"sequence": 1})
    assert found.status is OrderStatus.CREATED


async def test_an_order_whose_row_cannot_be_read_keeps_no_other_from_being_listed(
    tmp_path: Path,
) -> None:
    """A worker of a newer version has written it, beside one that is not replaced yet."""
    async with opened(f"sqlite:///{tmp_path}/store.sqlite3") as store:
        newer, known = new_order(), new_order()
        for order in (newer, known):
            await store.admit(order)
        with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite3")) as there:
            change = "UPDATE orders SET reason_code = 'of_tomorrow' WHERE client_order_id = ?"
            there.execute(change, (newer.client_order_id,))
            there.commit()

        orders, unreadable = await store.listing(OrderFilter())
        assert [one.client_order_id for one in orders] == [known.client_order_id]
        (error,) = unreadable
        assert error.client_order_id == newer.client_order_id
        assert "of_tomorrow" in str(error)
        assert await store.open_orders() == orders
        assert await store.risk.mend() == []
        with pytest.raises(UnreadableOrder):
            await store.order(newer.client_order_id)


async def test_the_same_order_again_is_the_order_that_exists(store: Store) -> None:
    order = new_order()
    await store.admit(order)
    again = await store.admit(order.model_copy(update={"created_at": NOW + timedelta(days=1)}))
    assert not again.created
    assert again.known == order
    assert again.differs == []
    assert again.state.sequence == 1
    assert await store.head() == 1


async def test_the_same_id_with_other_content_is_told_with_the_difference(store: Store) -> None:
    order = new_order()
    await store.admit(order)
    again = await store.admit(order.model_copy(update={"quantity": Decimal(11)}))
    assert not again.created
    assert again.differs == ["quantity is 11, the known order has 10"]
    assert again.state.quantity == Decimal(10)


async def test_an_unknown_order_cannot_be_recorded(store: Store) -> None:
    with pytest.raises(OrderNotFound, match="no order has the id 'nobody'"):
        await store.record("nobody", [event(EventKind.SUBMITTING)])
    assert await store.order("nobody") is None
    assert await store.trader_order("nobody") is None


async def test_events_move_the_order_and_are_kept(store: Store) -> None:
    order = await accepted(store, new_order())
    left = await store.record(
        order.client_order_id,
        [
            fill_event(order, "t1", "4", fee=TINY),
            event(EventKind.CANCEL_REQUESTED, at=1),
            event(
                EventKind.CANCELLED,
                at=2,
                reason_code=ReasonCode.CANCEL_REQUESTED,
                rejected_by=RejectedBy.OMS,
                reason="asked for\x00",
            ),
        ],
    )
    assert left.status is OrderStatus.CANCELLED
    assert left.filled_quantity == Decimal(4)
    found = await store.order(order.client_order_id)
    assert found is not None
    assert found.rejection_reason == "asked for\ufffd"
    assert found == left.model_copy(update={"rejection_reason": "asked for\ufffd"})
    assert found.fees_by_currency == {"USDT": TINY}


async def test_a_fill_is_booked_once_however_often_it_is_recorded(store: Store) -> None:
    order = await accepted(store, new_order())
    first = await store.record(order.client_order_id, [fill_event(order, "t1", "4")])
    both = [fill_event(order, "t1", "4"), fill_event(order, "t2", "6"), fill_event(order, "t2")]
    second = await store.record(order.client_order_id, both)
    third = await store.record(order.client_order_id, both)
    assert first.filled_quantity == Decimal(4)
    assert second.filled_quantity == Decimal(10)
    assert second.status is OrderStatus.FILLED
    assert third == second
    fills = await store.fills(order.client_order_id)
    assert [one.quantity for one in fills] == [Decimal(4), Decimal(6)]
    assert {one.order_id for one in fills} == {order.client_order_id}
    ids = [one.fill_id for one in fills]
    assert await store.fills_known([*ids, "other"]) == set(ids)


async def test_a_change_that_was_answered_is_not_begun_again(store: Store) -> None:
    """A process that stood still begins a task again whose other try has refused the change."""
    order = await accepted(store, new_order())
    asked, ended = EventKind.MODIFY_REQUESTED, EventKind.REQUEST_ENDED

    async def pending(kind: EventKind, request: str | None) -> Pending:
        told = event(kind, details=request and {"request": request, "new_price": "2"})
        return (await store.record(order.client_order_id, [told])).pending

    assert await pending(asked, "one") is Pending.MODIFY
    assert await pending(ended, "one") is Pending.NONE
    assert await pending(asked, "one") is Pending.NONE
    assert await pending(asked, "two") is Pending.MODIFY
    assert await pending(ended, None) is Pending.NONE
    assert await pending(asked, "two") is Pending.MODIFY


async def test_an_overfill_is_booked_and_alarmed_once(store: Store) -> None:
    order = await accepted(store, new_order(quantity=Decimal(1)))
    events = [fill_event(order, "t1"), fill_event(order, "t2")]
    for _ in range(2):
        found = await store.record(order.client_order_id, events)
    assert found.filled_quantity == Decimal(2)
    assert found.remaining_quantity == Decimal(-1)
    names = [entry.name for entry in await store.events_of(order.client_order_id)]
    assert names[-3:] == ["order_filled", "order_fill", "order_alarm"]


async def test_fills_keep_eighteen_decimals(store: Store) -> None:
    order = await accepted(store, new_order())
    quantity, price = "1.123456789012345678", "98765432109876543210.123456789012345678"
    one = fill_event(order, "t1", quantity, price=price, fee=TINY, is_maker=True, trade_id="t1")
    await store.record(order.client_order_id, [one])
    [found] = await store.fills(order.client_order_id)
    assert one.fill is not None
    wanted = {"order_id": order.client_order_id, "received_at": found.received_at}
    assert found == one.fill.model_copy(update=wanted)
    kept = await store.order(order.client_order_id)
    assert kept is not None
    assert kept.filled_notional == Decimal("110958695223578722643.624447479989330895")
    [*_, entry] = await store.events_of(order.client_order_id)
    assert entry.state == kept


async def test_an_external_order_has_a_row_for_its_fills(store: Store) -> None:
    foreign = state(client_order_id="foreign-1", status=OrderStatus.ACCEPTED, account="main")
    for _ in range(2):
        admitted = await store.admit_external(foreign)
    assert admitted == foreign.model_copy(update={"sequence": 1})
    one = fill("f-1", order_id="")
    found = await store.record("foreign-1", [event(EventKind.FILL, fill=one)])
    assert found.filled_quantity == Decimal(1)
    assert [o.client_order_id for o in await store.orders(OrderFilter(external=True))] == [
        "foreign-1"
    ]
    assert await store.trader_order("foreign-1") is None
    taken = await store.admit(new_order(client_order_id="foreign-1"))
    assert not taken.created
    assert taken.differs == ["the id belongs to an order that was not placed by this system"]


async def test_orders_are_listed_newest_first_and_by_filter(store: Store) -> None:
    orders = [
        new_order(created_at=NOW + timedelta(seconds=n), strategy_id=f"s-{n % 2}") for n in range(4)
    ]
    orders.append(new_order(created_at=NOW, symbol="ETH/USDT", parent_order_id="parent"))
    for order in orders:
        await store.admit(order)
    ids = [order.client_order_id for order in orders]
    doubted = [event(EventKind.SUBMITTED), event(EventKind.IN_DOUBT)]
    await store.record(ids[1], doubted)
    ended = event(EventKind.DENIED, reason_code=ReasonCode.NO_EXCHANGE)
    await store.record(ids[2], [ended])

    async def listed(limit: int | None = None, **wanted: Any) -> list[str]:
        found = await store.orders(OrderFilter()._replace(**wanted), limit=limit)
        return [order.client_order_id for order in found]

    assert await listed(strategy_id="s-1") == [ids[3], ids[1]]
    assert await listed(limit=2) == [ids[3], ids[2]]
    assert await listed(created_before=NOW + timedelta(seconds=2), strategy_id="s-0") == [ids[0]]
    assert await listed(in_doubt_only=True) == [ids[1]]
    assert await listed(parent_order_id="parent") == [ids[4]]
    assert await listed(statuses=frozenset({OrderStatus.REJECTED})) == [ids[2]]
    assert ids[2] not in {order.client_order_id for order in await store.open_orders()}
    found = await store.open_orders("sandbox", "main", "BTC/USDT", "s-1")
    assert [order.client_order_id for order in found] == [ids[3], ids[1]]


async def test_a_market_order_without_a_price_round_trips(store: Store) -> None:
    order = new_order(order_type=OrderType.MARKET)
    admission = await store.admit(order)
    assert await store.order(order.client_order_id) == admission.state


async def test_a_real_fill_takes_back_what_was_inferred_and_a_late_inference_is_nothing(
    store: Store,
) -> None:
    order = new_order()
    order_id = order.client_order_id
    await accepted(store, order)
    there: dict[str, Any] = {"exchange_order_id": "x1", "price": "100"}
    inferred = fill_event(order, "inferred", "10", **there, inferred=True, fee=Decimal(0))
    inferred = inferred.model_copy(update={"quantity": Decimal(10)})
    first = fill_event(order, "1", "4", **there)
    late = fill_event(order, "late", "6", **there, inferred=True)
    late = late.model_copy(update={"quantity": Decimal(9)})

    filled = await store.record(order_id, [inferred])
    assert (filled.status, filled.inferred_quantity) == (OrderStatus.FILLED, Decimal(10))
    part = await store.record(order_id, [first, late, inferred])
    assert (part.filled_quantity, part.inferred_quantity) == (Decimal(10), Decimal(6))
    whole = await store.record(order_id, [fill_event(order, "2", "6", **there), first])

    assert (whole.filled_quantity, whole.inferred_quantity) == (Decimal(10), Decimal(0))
    assert (whole.filled_notional, whole.status) == (Decimal(1000), OrderStatus.FILLED)
    assert whole.fees == Decimal("0.2")
    booked = await store.fills(order_id)
    assert sorted(fill.quantity for fill in booked if fill.inferred) == [-10, -6, 6, 10]
    assert sorted(fill.quantity for fill in booked if not fill.inferred) == [4, 6]
    told = [e for e in await store.events_of(order_id) if e.name == "order_fill" and e.fill]
    assert {e.fill.fill_id for e in told if e.fill} == {fill.fill_id for fill in booked}
    assert sum(e.fill.quantity for e in told if e.fill) == 10
    assert sum(e.alarm is not None for e in await store.events_of(order_id)) == 1
