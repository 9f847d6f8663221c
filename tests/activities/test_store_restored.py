"""A store that was restored from a backup: noticed by a mark of it, and by who had it open."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from activities.store import Store, TradingState, follow
from activities.store.types import JournalEntry
from activities.store_marks import halt_if_gone_back, mark_of
from tests.activities.store_builders import QUICK, new_order, opened, request_of, restore
from trading.oms.enums import ReasonCode
from trading.oms.errors import JournalWentBack, StoreUnavailable
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now


async def some_orders(store: Store, count: int) -> None:
    for _ in range(count):
        await store.admit(new_order())


async def halted(store: Store) -> bool:
    return (await store.trading_state()) is TradingState.HALTED


def copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as there,
        contextlib.closing(sqlite3.connect(target)) as here,
    ):
        there.backup(here)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.mark.parametrize("written_since", [0, 1, 2, 5])
async def test_a_restored_store_is_known_however_far_its_journal_has_come_since(
    file: Path, tmp_path: Path, written_since: int
) -> None:
    """With as many new entries as were lost the head is the same, and the entries are others."""
    backup = tmp_path / "backup.sqlite3"
    async with opened(f"sqlite:///{file}") as store:
        await some_orders(store, 3)
        copy_database(file, backup)
        await some_orders(store, 2)
        mark = await mark_of(store)
    copy_database(backup, file)

    async with opened(f"sqlite:///{file}") as store:
        await some_orders(store, written_since)
        assert await halt_if_gone_back(store, mark, dry_run=True) is not None
        assert not await halted(store)
        assert await halt_if_gone_back(store, mark) is not None
        assert await halted(store)

        await store.set_trading_state("all", TradingState.ACTIVE, by="ann")
        await halt_if_gone_back(store, mark)
        assert not await halted(store), "what was resumed is not halted again by the same mark"


async def test_a_store_that_has_gone_on_is_not_halted(store_url: str) -> None:
    async with opened(store_url) as store:
        assert await halt_if_gone_back(store, await mark_of(store)) is None
        await some_orders(store, 2)
        mark = await mark_of(store)
        assert await halt_if_gone_back(store, mark) is None
        await some_orders(store, 2)
        assert await halt_if_gone_back(store, mark) is None
        assert not await halted(store)


async def test_another_store_is_halted(store_url: str) -> None:
    async with opened(store_url) as store:
        mark = (await mark_of(store)).model_copy(update={"epoch": "another"})
        text = await halt_if_gone_back(store, mark)
        assert text is not None
        assert "was another" in text
        assert await halted(store)


async def test_a_process_that_had_the_store_open_sends_nothing_on_the_restored_one(
    file: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with opened(f"sqlite:///{file}") as store:
        order = new_order()
        await store.admit(order)
        copy_database(file, backup)
        await some_orders(store, 2)
        copy_database(backup, file)

        routed = LifecycleEvent(
            kind=EventKind.ROUTED, at=utc_now(), exchange="sandbox", account="main"
        )
        claim = await store.claim_send(
            order.client_order_id, 1, 1, request_of(order), claimant="me", before=[routed]
        )

        assert (claim.won, claim.refusal) == (False, ReasonCode.TRADING_HALTED)
        assert await halted(store)
        await store.set_trading_state("all", TradingState.ACTIVE, by="ann")
        second = new_order()
        await store.admit(second)
        again = await store.claim_send(
            second.client_order_id, 1, 1, request_of(second), claimant="me", before=[routed]
        )
        assert again.won


@pytest.mark.parametrize("whose", ["ours", "another's", "nobody's"])
@pytest.mark.parametrize("written_since", [1, 20, 30])
async def test_a_follower_is_told_from_where_on_the_journal_is_another(
    store_url: str, whose: str, written_since: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the new journal is as long as the lost one, or has passed it."""
    monkeypatch.setattr(follow, "_CLOCKS", timedelta(0))
    async with opened(store_url, QUICK) as store, opened(store_url, QUICK) as other:
        await some_orders(store, 3)
        following = store.follow(0)
        await some_orders(other if whose == "another's" else store, 20)
        while (await anext(following))[-1].sequence < 23:
            pass
        await restore(other, 3)
        if whose != "nobody's":
            await some_orders(store if whose == "ours" else other, written_since)
        async with asyncio.timeout(5):
            with pytest.raises(JournalWentBack, match="does not hold the entry 23") as gone:
                await anext(following)
        assert gone.value.shared == 3


async def test_a_read_that_fails_after_the_restoration_does_not_hide_it(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process has written since is at hand, and its numbers alone follow on the lost."""
    monkeypatch.setattr(follow, "_CLOCKS", timedelta(0))
    async with opened(store_url, QUICK) as store, opened(store_url, QUICK) as other:
        await some_orders(store, 5)
        following = store.follow(0)
        while (await anext(following))[-1].sequence < 5:
            pass
        await restore(other, 3)
        await some_orders(store, 4)
        read, failures = store._followers._read, 1

        async def away_once(after: int, limit: int) -> list[JournalEntry]:
            nonlocal failures
            if failures:
                failures -= 1
                raise StoreUnavailable("gone")
            return await read(after, limit)

        monkeypatch.setattr(store._followers, "_read", away_once)
        async with asyncio.timeout(5):
            with pytest.raises(JournalWentBack) as gone:
                await anext(following)
        assert (gone.value.shared, failures) == (3, 0)


async def test_who_follows_from_beyond_the_journal_is_told_where_it_ends(store_url: str) -> None:
    async with opened(store_url, QUICK) as store:
        await some_orders(store, 3)
        with pytest.raises(JournalWentBack, match="has no entry 23; it ends with 3") as gone:
            await anext(store.follow(23))
        assert gone.value.shared == 3
