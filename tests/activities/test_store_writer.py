"""Group commit, races between processes, and databases that fail."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from activities.store import Claim, ClaimOutcome, Store, StoreSettings, TradingState
from tests.activities.store_builders import (
    QUICK,
    accepted,
    claimed,
    fill_event,
    new_order,
    opened,
    request_of,
)
from tests.oms.builders import event
from trading.oms.errors import OrderNotFound, StoreRefused, StoreUnavailable
from trading.oms.lifecycle import EventKind
from trading.oms.models import OrderState

ROOT = Path(__file__).parents[2]


async def test_what_comes_together_is_committed_together(store_url: str) -> None:
    async with opened(store_url) as store:
        orders = [new_order() for _ in range(200)]
        await asyncio.gather(*(store.admit(order) for order in orders))
        assert store.commits <= 3
        assert await store.head() == 200


async def test_one_bad_command_of_a_batch_fails_alone(store_url: str) -> None:
    async with opened(store_url) as store:
        taken = await claimed(store, new_order())
        good, bad = new_order(), new_order()
        for order in (good, bad):
            await store.admit(order)
        results = await asyncio.gather(
            store.claim_send(good.client_order_id, 1, 1, request_of(good), claimant="me"),
            # The same client id at the exchange as another order's: the database refuses it.
            store.claim_send(bad.client_order_id, 1, 1, request_of(taken), claimant="me"),
            store.record("nobody", [event(EventKind.SUBMITTING)]),
            store.record(taken.client_order_id, [fill_event(taken, "t1")]),
            store.advance_cursor("c", None, "1"),
            return_exceptions=True,
        )
        won, refused, unknown, filled, moved = results
        assert isinstance(won, Claim)
        assert won.won
        assert isinstance(refused, StoreRefused)
        assert isinstance(unknown, OrderNotFound)
        assert isinstance(filled, OrderState)
        assert filled.filled_quantity == 1
        assert moved is True
        sequences = [entry.sequence for entry in await store.events_after(0)]
        assert sequences == list(range(1, len(sequences) + 1))
        assert await store.claim(bad.client_order_id, 1, 1) is None


async def test_a_text_that_the_database_cannot_hold_fails_alone(store_url: str) -> None:
    async with opened(store_url, QUICK) as store:
        order = await claimed(store, new_order())
        bad = event(EventKind.REJECTED, reason="half a character: \ud800")
        results = await asyncio.gather(
            store.record(order.client_order_id, [bad]),
            store.admit(new_order()),
            return_exceptions=True,
        )
        assert isinstance(results[0], Exception)
        assert not isinstance(results[0], StoreUnavailable)
        assert not isinstance(results[1], BaseException)


async def test_several_commands_on_one_order_in_one_batch_follow_each_other(
    store_url: str,
) -> None:
    async with opened(store_url) as store:
        order = new_order()
        name = order.client_order_id
        admitted, again, claim, taken, settled, filled = await asyncio.gather(
            store.admit(order),
            store.admit(order),
            store.claim_send(name, 1, 1, request_of(order), claimant="me"),
            store.claim_send(name, 1, 1, request_of(order), claimant="other"),
            store.settle_claim(name, 1, 1, outcome=ClaimOutcome.ACCEPTED),
            store.record(name, [fill_event(order, "t1", "10"), fill_event(order, "t1", "10")]),
        )
        assert (admitted.created, again.created) == (True, False)
        assert (claim.won, taken.won) == (True, False)
        assert settled == filled == await store.order(name)
        assert store.commits == 1


async def test_a_claim_has_one_winner_however_often_two_processes_race(store_url: str) -> None:
    async with opened(store_url) as one, opened(store_url) as two:
        orders = [new_order() for _ in range(200)]
        await asyncio.gather(*(one.admit(order) for order in orders))

        async def race(store: Store, name: str, index: int) -> bool:
            order = orders[index]
            await asyncio.sleep(0.001 * (index % 20))
            claim = await store.claim_send(
                order.client_order_id, 1, 1, request_of(order), claimant=name
            )
            return claim.won

        wins = await asyncio.gather(
            *(race(one, "one", n) for n in range(200)), *(race(two, "two", n) for n in range(200))
        )
        assert [wins[n] + wins[200 + n] for n in range(200)] == [1] * 200


async def test_two_processes_that_book_the_same_fills_book_them_once(store_url: str) -> None:
    async with opened(store_url) as one, opened(store_url) as two:
        orders = await asyncio.gather(*(accepted(one, new_order(), f"x-{n}") for n in range(50)))
        await asyncio.gather(
            *(
                store.record(order.client_order_id, [fill_event(order, trade, "2")])
                for order in orders
                for trade in ("t1", "t2", "t3")
                for store in (one, two)
            )
        )
        for order in orders:
            state = await one.order(order.client_order_id)
            assert state is not None
            assert state.filled_quantity == 6
            assert len(await two.fills(order.client_order_id)) == 3


async def test_two_processes_admit_an_order_once(store_url: str) -> None:
    async with opened(store_url) as one, opened(store_url) as two:
        orders = [new_order() for _ in range(100)]
        admissions = await asyncio.gather(
            *(one.admit(order) for order in orders),
            *(two.admit(order) for order in reversed(orders)),
        )
        assert sum(admission.created for admission in admissions) == 100
        assert await one.head() == 100


async def test_a_halt_and_a_claim_that_race_leave_no_send_after_the_halt(store_url: str) -> None:
    async with opened(store_url) as one, opened(store_url) as two:
        orders = [new_order() for _ in range(60)]
        await asyncio.gather(*(one.admit(order) for order in orders))
        halted = asyncio.Event()

        async def claim(n: int) -> bool:
            await asyncio.sleep(0.001 * n)
            was_halted = halted.is_set()
            order = orders[n]
            claim = await one.claim_send(
                order.client_order_id, 1, 1, request_of(order), claimant="me"
            )
            return was_halted and claim.won

        async def halt() -> None:
            await asyncio.sleep(0.02)
            await two.set_trading_state("all", TradingState.HALTED, by="me")
            halted.set()

        late, _ = await asyncio.gather(asyncio.gather(*(claim(n) for n in range(60))), halt())
        assert not any(late)


async def test_closing_commits_what_is_queued(store_url: str) -> None:
    async with opened(store_url) as store:
        order = new_order()
        task = asyncio.create_task(store.admit(order))
        await asyncio.sleep(0)
        await store.close()
        assert (await task).created
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.admit(new_order())
    async with opened(store_url) as store:
        assert await store.order(order.client_order_id) is not None


async def test_a_caller_that_left_does_not_disturb_the_others(store_url: str) -> None:
    async with opened(store_url) as store:
        left = asyncio.create_task(store.admit(new_order()))
        stays = asyncio.create_task(store.admit(new_order()))
        await asyncio.sleep(0)
        left.cancel()
        assert (await stays).created


KILLED = """
import asyncio, os, signal, sys
from activities.store import Store
from tests.activities.store_builders import new_order, request_of

async def main():
    store = await Store.open(sys.argv[1])
    order = new_order(client_order_id="killed")
    await store.admit(order)
    claim = await store.claim_send("killed", 1, 1, request_of(order), claimant="me")
    assert claim.won
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.chaos
async def test_a_claim_outlives_the_process_that_was_killed_right_after_it(store_url: str) -> None:
    async with opened(store_url) as store:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, store_url, cwd=ROOT, env={**os.environ}
        )
        assert await process.wait() == -signal.SIGKILL
        claim = await store.claim("killed", 1, 1)
        assert claim is not None
        assert claim.outcome is None
        state = await store.order("killed")
        assert state is not None
        assert state.status == "submitted"


async def test_a_sqlite_file_that_another_process_holds_is_unavailable(sqlite_url: str) -> None:
    async with opened(sqlite_url, StoreSettings(answer_within_s=0.3)) as store:
        order = new_order()
        holder = sqlite3.connect(make_url(sqlite_url).database or "", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable, match="safe to repeat"):
            await store.admit(order)
        assert asyncio.get_running_loop().time() - began < 0.6
        holder.execute("ROLLBACK")
        holder.close()
        await store.admit(order)
        assert await store.head() == 1


class Wire:
    """A Unix socket in front of PostgreSQL's, which can be cut in interesting places."""

    def __init__(self, folder: Path, url: str) -> None:
        self._socket = str(Path(str(make_url(url).query["host"])) / ".s.PGSQL.5432")
        self._folder = folder
        self.url = (
            make_url(url)
            .update_query_dict({"host": str(folder)})
            .render_as_string(hide_password=False)
        )
        self.swallow_the_reply_to: bytes | None = None
        self.swallowed = 0
        self.refuses = False
        self.flows = asyncio.Event()
        self.flows.set()
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Wire"]:
        path = self._folder / ".s.PGSQL.5432"
        async with await asyncio.start_unix_server(self._client, path):
            yield self
            self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _client(self, read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
        if self.refuses:
            write.close()
            return
        server_read, server_write = await asyncio.open_unix_connection(self._socket)
        self._writers |= {write, server_write}
        cut = asyncio.Event()
        await asyncio.gather(
            self._copy(read, server_write, cut, asks=True),
            self._copy(server_read, write, cut, asks=False),
        )

    async def _copy(
        self,
        read: asyncio.StreamReader,
        write: asyncio.StreamWriter,
        cut: asyncio.Event,
        *,
        asks: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await read.read(65536):
                if asks and self.swallow_the_reply_to and self.swallow_the_reply_to in data:
                    self.swallow_the_reply_to = None
                    self.swallowed += 1
                    cut.set()
                if cut.is_set() and not asks:
                    break
                await self.flows.wait()
                write.write(data)
                await write.drain()
        write.close()


@pytest.fixture
async def wire(postgres_url: str, tmp_path: Path) -> AsyncIterator[Wire]:
    async with Wire(tmp_path, postgres_url).open() as wire:
        yield wire


@pytest.mark.postgres
async def test_a_commit_whose_reply_was_lost_is_repeated_and_counts_once(wire: Wire) -> None:
    async with opened(wire.url) as store:
        order = new_order()
        await store.admit(order)
        wire.swallow_the_reply_to = b"COMMIT;"
        claim = await store.claim_send(
            order.client_order_id, 1, 1, request_of(order), claimant="me"
        )
        # It is our own claim that the repeated command finds.
        assert claim.won
        assert claim.stamp == 1
        wire.swallow_the_reply_to = b"COMMIT;"
        state = await store.record(order.client_order_id, [fill_event(order, "t1", "4")])
        assert wire.swallowed == 2
        assert state.filled_quantity == 4
        sequences = [entry.sequence for entry in await store.events_after(0)]
        assert sequences == list(range(1, 6))


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_a_database_that_is_away_is_unavailable_in_bounded_time(wire: Wire, how: str) -> None:
    async with opened(wire.url, QUICK) as store:
        order = await claimed(store, new_order())
        if how == "refuses":
            wire.refuses = True
            wire.cut()
        else:
            wire.flows.clear()
        clock = asyncio.get_running_loop().time
        began = clock()
        with pytest.raises(StoreUnavailable, match="safe to repeat"):
            await store.record(order.client_order_id, [fill_event(order, "t1")])
        written = clock()
        assert written - began < 1.5 * QUICK.answer_within_s
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await store.order(order.client_order_id)
        # The driver takes up to 2 s more to take leave of a connection that hangs.
        assert clock() - written < QUICK.answer_within_s + 2.5
        wire.refuses = False
        wire.flows.set()
        state = await store.record(order.client_order_id, [fill_event(order, "t1")])
        assert state.filled_quantity == 1


@pytest.mark.postgres
async def test_a_follower_goes_on_after_the_connection_was_lost(wire: Wire) -> None:
    async with opened(wire.url, QUICK) as store:
        await store.admit(new_order())
        followers = store.follow(0)
        assert [entry.sequence for entry in await anext(followers)] == [1]
        wire.cut()
        await store.admit(new_order())
        assert [entry.sequence for entry in await anext(followers)] == [2]
        await followers.aclose()


@pytest.mark.postgres
async def test_connections_that_the_server_ends_are_made_anew(postgres_url: str) -> None:
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        await store.admit(new_order())
        end_others = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other._engines.writes.run(lambda connection: connection.execute(end_others))
        await store.admit(new_order())
        assert await store.head() == 2


@pytest.mark.postgres
async def test_a_statement_that_a_migration_has_outdated_is_prepared_anew(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as store, opened(postgres_url) as other:
        assert await store.advance_cursor("c", None, "1")
        assert await store.cursor("c") == "1"
        wider = sa.text("ALTER TABLE cursors ALTER COLUMN value TYPE varchar(200)")
        await other._engines.writes.run(lambda connection: connection.execute(wider))
        assert await store.advance_cursor("c", "1", "2")
        assert await store.cursor("c") == "2"


@pytest.mark.postgres
async def test_a_statement_that_the_server_cancels_is_tried_again(postgres_url: str) -> None:
    def limit(connection: sa.Connection) -> None:
        name = make_url(postgres_url).database
        connection.execute(sa.text(f"ALTER DATABASE {name} SET statement_timeout = 300"))

    def stall(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT sequence FROM journal_head FOR UPDATE"))
        held.set()
        connection.execute(sa.text("SELECT pg_sleep(1)"))

    held = asyncio.Event()
    async with opened(postgres_url) as other:
        # It is connected before the limit holds, and so is without one.
        await other._engines.writes.run(limit)
        async with opened(postgres_url) as store:
            order = await claimed(store, new_order())
            stalls = asyncio.create_task(other._engines.writes.run(stall))
            await held.wait()
            state = await store.record(order.client_order_id, [fill_event(order, "t1")])
            assert state.filled_quantity == 1
            await stalls
