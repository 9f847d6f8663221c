"""Somebody else's orders: recorded once, alarmed once, and ended as their owner ends them."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from activities.foreign_orders import ForeignOrders
from activities.store import Store
from tests.activities.store_builders import opened
from tests.activities.store_builders import report as a_report
from tests.oms.builders import fill
from trading.oms.alarms import Alarm, alarm_of
from trading.oms.enums import OrderSide, OrderStatus
from trading.oms.models import OrderState
from trading.oms.venue import ExecutionReport, VenueStatus


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    async with opened(sqlite_url) as store:
        yield store


def report(**fields: Any) -> ExecutionReport:
    terms = {"side": OrderSide.BUY, "price": Decimal(100), "quantity": Decimal(2)}
    ids = {"exchange_client_id": "by-hand", "exchange_order_id": "x-1"}
    total = Decimal(0)
    given = {"status": VenueStatus.NEW, "cumulative_quantity": total, **terms, **ids, **fields}
    return a_report(**given)


async def recorded(store: Store) -> OrderState:
    (known,) = await store.orders()
    return known


async def test_an_order_that_its_owner_has_reduced_is_filled_by_the_rest(store: Store) -> None:
    foreign = ForeignOrders(store)
    assert await foreign.record(report())
    traded = fill("f-1", "1", account="main", exchange_order_id="x-1")
    reduced = {"quantity": Decimal(1), "cumulative_quantity": Decimal(1)}

    await foreign.record(report(status=VenueStatus.FILLED, fills=(traded,), **reduced))

    known = await recorded(store)
    assert (known.status, known.quantity) == (OrderStatus.FILLED, Decimal(1))
    assert not await foreign.record(report(status=VenueStatus.FILLED, fills=(traded,), **reduced))


async def test_it_is_alarmed_although_the_first_try_was_cut_off(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_cut_off(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as cut:
        cut.setattr(store, "record", is_cut_off)
        with pytest.raises(asyncio.CancelledError):
            await ForeignOrders(store).record(report())

    for _ in range(2):
        await ForeignOrders(store).record(report())

    known = await recorded(store)
    entries = await store.events_of(known.client_order_id)
    alarms = [alarm_of(entry.alarm) for entry in entries if entry.alarm]
    assert (known.status, alarms) == (OrderStatus.ACCEPTED, [Alarm.EXTERNAL_ORDER])
