"""Whole tables come out page by page, each row once, exact and filtered."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.store import ExportFilter, ExportKind, Store, export, export_columns
from tests.activities.store_builders import fill_event, new_order, opened

FIRST = datetime(2026, 7, 1, tzinfo=UTC)


async def filled(store: Store, minute: int, **fields: Any) -> str:
    """An order created in that minute, with a fill in it."""
    at = FIRST + timedelta(minutes=minute)
    one = new_order(created_at=at, **fields)
    await store.admit(one)
    await store.record(one.client_order_id, [fill_event(one, "t", timestamp=at)])
    return one.client_order_id


async def rows_of(store: Store, kind: ExportKind, **wanted: Any) -> list[dict[str, Any]]:
    pages = store.exports.pages(kind, ExportFilter(**wanted))
    return [row async for page in pages for row in page]


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_every_row_comes_once_whatever_the_pages(
    store_url: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", page)
    async with opened(store_url) as store:
        # Several at the same time: the key's second part keeps them apart.
        made = [await filled(store, minute) for minute in (0, 1, 1, 1, 2)]
        by_kind = {kind: await rows_of(store, kind) for kind in ExportKind}
        head = await store.head()
    found = [row["client_order_id"] for row in by_kind[ExportKind.ORDERS]]
    assert sorted(found) == sorted(made)
    assert len({row["fill_id"] for row in by_kind[ExportKind.FILLS]}) == len(made)
    assert [row["sequence"] for row in by_kind[ExportKind.EVENTS]] == list(range(1, head + 1))
    for kind, rows in by_kind.items():
        assert list(rows[0]) == list(export_columns(kind))


async def test_amounts_and_times_are_exact(store_url: str) -> None:
    async with opened(store_url) as store:
        await filled(store, 3, quantity="1.000000000000000001")
        [order] = await rows_of(store, ExportKind.ORDERS)
        [fill] = await rows_of(store, ExportKind.FILLS)
    assert order["quantity"] == Decimal("1.000000000000000001")
    assert order["remaining_quantity"] == Decimal("0.000000000000000001")
    assert fill["timestamp"] == FIRST + timedelta(minutes=3)


async def test_the_filters_hold_for_all_three(store_url: str) -> None:
    async with opened(store_url) as store:
        mine = await filled(store, 5, strategy_id="s1", symbol="ETH/USDT")
        await filled(store, 5, strategy_id="s2", symbol="ETH/USDT")
        await filled(store, 5, strategy_id="s1", symbol="BTC/USDT")
        for kind in ExportKind:
            found = await rows_of(store, kind, strategy_id="s1", symbol="ETH/USDT")
            ids = {row.get("order_id", row.get("client_order_id")) for row in found}
            assert ids == {mine}, kind


async def test_a_time_counts_from_its_start_and_not_at_its_end(store_url: str) -> None:
    async with opened(store_url) as store:
        made = [await filled(store, minute) for minute in range(4)]
        wanted = {"since": FIRST + timedelta(minutes=1), "until": FIRST + timedelta(minutes=3)}
        for kind in (ExportKind.ORDERS, ExportKind.FILLS):
            found = await rows_of(store, kind, **wanted)
            ids = [row.get("order_id", row.get("client_order_id")) for row in found]
            assert ids == made[1:3], kind
        assert await rows_of(store, ExportKind.EVENTS, **wanted) == []
