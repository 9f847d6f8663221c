"""The execution inbox and the cursors."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.util import await_only

from activities.store import ClaimKey, InboxItem, Store
from activities.store.prepared import Prepared
from activities.store.schema import execution_inbox, orders, send_claims
from tests.activities.store_builders import accepted, claimed, new_order, opened, report
from tests.oms.builders import after, event, fill
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order, utc_now
from trading.oms.venue import VenueStatus


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


async def test_a_report_waits_for_its_order_until_it_is_delivered(store: Store) -> None:
    order = await claimed(store, new_order())
    first, second = report(order), report(order, status=VenueStatus.FILLED)
    ids = await store.inbox_add([first, second])
    items = await undelivered(store)
    assert [item.id for item in items] == ids
    assert [item.report for item in items] == [first, second]
    assert {item.claim for item in items} == {ClaimKey(order.client_order_id, 1, 1)}
    assert items[0].order_id == order.client_order_id
    assert not items[0].external
    assert await store.inbox_oldest("sandbox", "main") == items[0].added_at
    for _ in range(2):
        await store.inbox_delivered([ids[0]])
    assert [i.id for i in await store.inbox_undelivered("sandbox", "main")] == [ids[1]]
    await store.inbox_delivered(ids)
    assert await store.inbox_oldest("sandbox", "main") is None


async def test_the_same_report_is_kept_once(store: Store) -> None:
    one = report(fills=(fill("f-1", account="main"),), status=VenueStatus.PARTIALLY_FILLED)
    again = one.model_copy(update={"received_at": after(9)})
    others = [
        report(fills=(fill("f-2", account="main"),), status=VenueStatus.PARTIALLY_FILLED),
        report(exchange_client_id="c-1"),
        report(exchange_client_id="c-1", cumulative_quantity=Decimal(1)),
        report(exchange_client_id="c-1", at=after(1)),
        report(exchange_client_id="c-1", account="other"),
    ]
    [first, second, *rest] = await store.inbox_add([one, again, *others])
    assert first == second
    assert len({first, *rest}) == 6
    assert await store.inbox_add([again]) == [first]
    await store.inbox_delivered([first])
    assert await store.inbox_add([one]) == [first]
    assert first not in {i.id for i in await store.inbox_undelivered("sandbox", "main")}


async def test_two_feeds_that_overlap_keep_one_report_each(store: Store, store_url: str) -> None:
    reports = [report(exchange_client_id=f"c-{n}") for n in range(20)]
    async with opened(store_url) as other:
        one = await store.inbox_add(reports)
        two = await other.inbox_add(list(reversed(reports)))
    assert two == list(reversed(one))


@pytest.mark.postgres
async def test_a_feed_that_another_is_always_ahead_of_keeps_its_reports(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one commits a report between the look and the insert, each time that is tried."""
    reports = [report(exchange_client_id=f"c-{n}") for n in range(3)]
    ahead = reports[:2]
    run = Prepared.run
    async with opened(postgres_url) as one, opened(postgres_url) as other:

        def overtaken(
            self: Prepared, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]
        ) -> None:
            rows = list(rows)
            if ahead and len(rows) > 1:
                await_only(other.inbox_add([ahead.pop(0)]))
            run(self, connection, rows)

        monkeypatch.setattr(Prepared, "run", overtaken)
        ids = await one.inbox_add(reports)
        assert len(set(ids)) == 3
        assert await other.inbox_add(reports) == ids


async def test_a_report_of_an_order_that_is_not_ours_is_external(store: Store) -> None:
    await store.inbox_add([report(exchange_client_id="foreign", exchange_order_id="x-9")])
    [item] = await undelivered(store)
    assert item.external
    assert item.claim is None


async def test_a_report_without_our_id_is_matched_by_the_exchanges(store: Store) -> None:
    order = await accepted(store, new_order(), "x-5")
    await store.inbox_add([report(exchange_order_id="x-5"), report(exchange_order_id="x-6")])
    ours, foreign = await undelivered(store)
    assert ours.order_id == order.client_order_id
    assert ours.claim == ClaimKey(order.client_order_id, 1, 1)
    assert foreign.external


async def test_a_report_without_our_id_goes_to_the_order_of_its_symbol(store: Store) -> None:
    """Binance counts its order ids per symbol: two orders of an account may share one."""
    symbols = ("ETH/USDT", "BTC/USDT")
    eth, btc = [await accepted(store, new_order(symbol=one), "x-5") for one in symbols]
    routed = event(EventKind.ROUTED, exchange="sandbox", account="main")
    late = event(EventKind.ACCEPTED, exchange_order_id="x-6")
    unclaimed = [new_order(symbol=one) for one in symbols]
    for order in unclaimed:
        await store.admit(order)
        await store.record(order.client_order_id, [routed, late])
    ids = ("x-5", "x-6")
    await store.inbox_add(
        [report(symbol=one, exchange_order_id=id_) for id_ in ids for one in symbols]
    )
    await store.inbox_add([report(symbol="SOL/USDT", exchange_order_id="x-5")])

    items = await undelivered(store)
    expected = [order.client_order_id for order in (eth, btc, *unclaimed)]
    assert [item.order_id for item in items] == [*expected, None]


async def test_reports_and_claims_that_an_older_worker_has_written_find_each_other(
    store: Store,
) -> None:
    """It runs beside the schema 0011, and names no symbol."""
    order, unclaimed = await accepted(store, new_order(), "x-5"), new_order()
    await store.admit(unclaimed)
    routed = event(EventKind.ROUTED, exchange="sandbox", account="main")
    late = event(EventKind.ACCEPTED, exchange_order_id="x-6")
    await store.record(unclaimed.client_order_id, [routed, late])
    ids = [order.client_order_id, unclaimed.client_order_id]
    await store.inbox_add([report(exchange_order_id=one) for one in ("x-5", "x-6")])

    await write(store, sa.update(execution_inbox).values(symbol=None))
    assert [item.order_id for item in await undelivered(store)] == ids
    await write(store, sa.update(send_claims).values(symbol=""))
    assert [item.order_id for item in await undelivered(store)] == ids
    await write(store, sa.update(execution_inbox).values(symbol=order.symbol))
    assert [item.order_id for item in await undelivered(store)] == ids


async def test_an_order_is_found_by_the_claim_of_its_symbol_else_by_one_without(
    store: Store,
) -> None:
    eth = await accepted(store, new_order(symbol="ETH/USDT"), "x-5")
    btc = await accepted(store, new_order(), "x-5")
    await write(store, without_symbol(btc))
    # The order itself has another id by now: only its claim tells.
    await write(store, sa.update(orders).values(exchange_order_id="x-9"))
    for order in (eth, btc):
        where = ("sandbox", "main", order.symbol)
        assert await store.find_order(where, "x-5") == order.client_order_id


async def test_a_report_goes_to_one_order_where_the_claim_of_another_names_no_symbol(
    store: Store,
) -> None:
    """Else the other one drops it with an alarm, and notes it as delivered."""
    eth = await accepted(store, new_order(symbol="ETH/USDT"), "x-5")
    btc = await accepted(store, new_order(), "x-5")
    ids = await store.inbox_add(
        [report(symbol=one.symbol, exchange_order_id="x-5") for one in (eth, btc)]
    )
    expected = list(zip(ids, [eth.client_order_id, btc.client_order_id], strict=True))
    for older in (
        without_symbol(btc),
        without_symbol(eth),
        sa.update(execution_inbox).values(symbol=None),
    ):
        await write(store, older)
        assert [(item.id, item.order_id) for item in await undelivered(store)] == expected


async def test_a_stuck_order_does_not_hide_the_reports_behind_it(store: Store) -> None:
    ids = await store.inbox_add([report(exchange_client_id=f"c-{n}") for n in range(5)])
    page = await store.inbox_undelivered("sandbox", "main", 2)
    assert [item.id for item in page] == ids[:2]
    page = await store.inbox_undelivered("sandbox", "main", 2, after=page[-1].id)
    assert [item.id for item in page] == ids[2:4]
    assert await store.inbox_undelivered("sandbox", "other") == []


async def test_the_reports_of_some_orders_and_young_foreign_ones_can_be_left_out(
    store: Store,
) -> None:
    busy, idle = await claimed(store, new_order()), await claimed(store, new_order())
    foreign = report(exchange_client_id="foreign", exchange_order_id="x-9")
    ids = await store.inbox_add([report(busy), report(idle), foreign])

    async def left(**wanted: Any) -> list[int]:
        return [item.id for item in await store.inbox_undelivered("sandbox", "main", **wanted)]

    assert await left(but={busy.client_order_id}) == ids[1:]
    assert await left(but={busy.client_order_id, idle.client_order_id}) == ids[2:]
    assert await left(foreign_before=utc_now() - timedelta(minutes=1)) == ids[:2]
    assert await left(foreign_before=utc_now() + timedelta(minutes=1)) == ids


async def test_only_delivered_reports_are_forgotten(store: Store) -> None:
    ids = await store.inbox_add([report(exchange_client_id=f"c-{n}") for n in range(3)])
    await store.inbox_delivered(ids[:2])
    assert await store.inbox_prune(utc_now() - timedelta(minutes=1)) == 0
    assert await store.inbox_prune(utc_now() + timedelta(minutes=1)) == 2
    assert [i.id for i in await store.inbox_undelivered("sandbox", "main")] == ids[2:]


async def test_adding_and_delivering_nothing_is_fine(store: Store) -> None:
    assert await store.inbox_add([]) == []
    await store.inbox_delivered([])


async def test_a_cursor_moves_by_compare_and_set_and_never_back(store: Store) -> None:
    assert await store.cursor("c") is None
    assert not await store.advance_cursor("c", "5", "6")
    assert await store.advance_cursor("c", None, "9")
    assert await store.advance_cursor("c", None, "9")
    assert not await store.advance_cursor("c", None, "10")
    assert await store.advance_cursor("c", "9", "10")
    assert not await store.advance_cursor("c", "10", "9")
    assert await store.cursor("c") == "10"
    assert await store.advance_cursor("c", "10", "page-b")
    assert await store.advance_cursor("c", "page-b", "page-a")
    assert await store.cursor("c") == "page-a"


def without_symbol(order: Order) -> sa.Update:
    """The order's claim as an older worker writes it."""
    mine = send_claims.c.order_id == order.client_order_id
    return sa.update(send_claims).where(mine).values(symbol="")


async def write(store: Store, statement: sa.Update) -> None:
    await store._engines.writes.run(lambda connection: connection.execute(statement))


async def undelivered(store: Store) -> list[InboxItem]:
    items = await store.inbox_undelivered("sandbox", "main")
    return [item for item in items if isinstance(item, InboxItem)]
