"""Migrations, start-up checks and addresses."""

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from activities.store import Store
from activities.store.columns import Exact, Json, UtcTime
from activities.store.engine import masked, store_url
from activities.store.migrate import LOCK, alembic_config, migrate_url
from activities.store.reservations import MendSums
from activities.store.rows import STATE_COLUMNS
from activities.store.schema import SCHEMA_VERSION, execution_inbox, fills, metadata, orders
from activities.store.types import StoreSettings
from tests.activities.risk_builders import HERE, buy, fetched, reserve
from tests.activities.store_builders import QUICK, accepted, new_order, opened, report
from trading.oms.errors import StartUpError, StoreRefused, StoreUnavailable
from trading.oms.models import Fill, OrderState

SPECIFIED = {
    "orders": (
        "client_order_id exchange_order_id exchange symbol side order_type quantity price "
        "stop_price time_in_force status filled_quantity average_fill_price created_at "
        "submitted_at last_updated_at strategy_id fees rejection_reason metadata"
    ),
    "fills": (
        "fill_id order_id exchange symbol side quantity price fee fee_currency timestamp "
        "trade_id is_maker"
    ),
}
SPECIFIED_INDEXES = {
    "orders": {
        "idx_orders_status": ["status"],
        "idx_orders_exchange_symbol": ["exchange", "symbol"],
        "idx_orders_strategy": ["strategy_id"],
        "idx_orders_created_at": ["created_at"],
    },
    "fills": {"idx_fills_order_id": ["order_id"], "idx_fills_timestamp": ["timestamp"]},
}


def same_type(_context: Any, _column: Any, _metadata: Any, found: Any, wanted: Any) -> bool | None:
    """Our own types look like what they are made of."""
    return False if isinstance(wanted, Exact | Json | UtcTime) else None


async def test_the_migrations_make_the_schema_of_the_code(store_url: str) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_type": same_type, "target_metadata": metadata}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    async with opened(store_url) as store:
        assert await store._engines.reads.run(differences) == []


@pytest.mark.parametrize("table", SPECIFIED)
async def test_the_specified_columns_and_indexes_are_there(store_url: str, table: str) -> None:
    def names(connection: sa.Connection) -> tuple[set[str], dict[str | None, list[str | None]]]:
        inspector = sa.inspect(connection)
        columns = {column["name"] for column in inspector.get_columns(table)}
        found = inspector.get_indexes(table)
        return columns, {index["name"]: index["column_names"] for index in found}

    async with opened(store_url) as store:
        columns, indexes = await store._engines.reads.run(names)
    assert set(SPECIFIED[table].split()) <= columns
    assert {name: indexes.get(name) for name in SPECIFIED_INDEXES[table]} == SPECIFIED_INDEXES[
        table
    ]


def test_every_field_of_an_order_and_of_a_fill_has_a_column() -> None:
    assert [column.name for column in STATE_COLUMNS] == list(OrderState.model_fields)
    assert set(Fill.model_fields) <= set(fills.c.keys())
    assert set(OrderState.model_fields) <= set(orders.c.keys())


def test_the_newest_migration_is_the_version_of_the_code() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [SCHEMA_VERSION]


async def test_migrating_twice_is_fine_and_keeps_the_epoch(store_url: str) -> None:
    async with opened(store_url) as store:
        epoch = await store.epoch()
        assert re.fullmatch("[0-9a-f]{32}", epoch)
        await store.migrate()
        assert await store.epoch() == epoch
        assert await store.check() == []


async def test_a_migration_may_take_longer_than_any_answer(postgres_url: str) -> None:
    settings = StoreSettings(answer_within_s=2.0)
    another = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    try:
        await another.execute(f"SELECT pg_advisory_lock({LOCK})")  # It migrates, and is not done.
        opening = asyncio.create_task(Store.open(postgres_url, create=True, settings=settings))
        await asyncio.sleep(1.5 * settings.answer_within_s)
        assert not opening.done()
        await another.execute(f"SELECT pg_advisory_unlock({LOCK})")
        await (await opening).close()
    finally:
        await another.close()


async def test_the_running_sums_are_filled_from_the_reservations_that_are_there(
    store_url: str,
) -> None:
    async with opened(store_url) as store:
        await fetched(store)
        for quantity, strategy in (("1", "a"), ("2", "a"), ("4", None)):
            await reserve(store, buy(quantity, strategy_id=strategy))
        before = (await store.risk.book(*HERE)).held

        def migrate_again(connection: sa.Connection) -> None:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.downgrade(config, "0007")
            command.upgrade(config, "head")

        await store._engines.writes.run(migrate_again)
        assert (await store.risk.book(*HERE)).held == before
        assert await store.risk._writer.do(MendSums(*HERE)) == []


async def test_reports_that_wait_get_their_symbol_when_they_are_migrated(store_url: str) -> None:
    def migrate_again(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0010")
        unreadable = sa.update(execution_inbox).where(execution_inbox.c.id == spoilt)
        connection.execute(unreadable.values(report="{"))
        command.upgrade(config, "head")

    async with opened(store_url) as store:
        order = await accepted(store, new_order(symbol="ETH/USDT"), "x-1")
        waits, spoilt = [
            (await store.inbox_add([report(symbol=order.symbol, exchange_order_id=one)]))[0]
            for one in ("x-1", "x-2")
        ]
        await store._engines.writes.run(migrate_again)

        found = await store.inbox_undelivered("sandbox", "main")
        assert [(item.id, item.order_id) for item in found] == [
            (waits, order.client_order_id),
            (spoilt, None),
        ]


def test_the_command_line_can_migrate(tmp_path: Path) -> None:
    migrate_url(f"sqlite:///{tmp_path}/new/folder/store.db")
    assert (tmp_path / "new/folder/store.db").is_file()


async def test_a_database_without_a_store_is_told_apart(postgres_url: str) -> None:
    with pytest.raises(StartUpError, match=r"has no order store yet; migrate it first"):
        await Store.open(postgres_url)


async def test_a_file_that_is_not_there_is_not_made_by_looking(sqlite_url: str) -> None:
    with pytest.raises(StartUpError, match=r"there is no store at .*store\.sqlite3; migrate it"):
        await Store.open(sqlite_url)
    assert not Path(store_url(sqlite_url).database or "").exists()


@pytest.mark.parametrize(("version", "advice"), [("0000", "migrate it"), ("9999", "run a newer")])
async def test_another_schema_version_is_refused(store_url: str, version: str, advice: str) -> None:
    change = sa.text("UPDATE alembic_version SET version_num = :version")
    async with opened(store_url) as store:
        await store._engines.writes.run(lambda c: c.execute(change, {"version": version}))
    with pytest.raises(StartUpError, match=f"has schema {version}.*{advice}"):
        await Store.open(store_url)


async def test_a_newer_store_is_not_migrated(store_url: str) -> None:
    change = sa.text("UPDATE alembic_version SET version_num = '9999'")
    async with opened(store_url) as store:
        await store._engines.writes.run(lambda c: c.execute(change))
    with pytest.raises(StartUpError, match=r"has schema 9999, which is newer .* run a newer"):
        await Store.open(store_url, create=True)


@pytest.mark.postgres
async def test_postgres_that_forgets_commits_is_refused(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        forget = sa.text(f"ALTER DATABASE {store._url.database} SET synchronous_commit = off")
        await store._engines.reads.run(lambda c: c.execute(forget))
    with pytest.raises(StartUpError, match="synchronous_commit is off; it must be on"):
        await Store.open(postgres_url)


async def test_nobody_at_the_address_is_unavailable_without_the_password() -> None:
    url = "postgresql://trader:geheim@127.0.0.1:1/orders"
    with pytest.raises(StoreUnavailable, match=r"trader:\*\*\*@127.0.0.1:1/orders does not") as e:
        await Store.open(url, settings=QUICK)
    assert "geheim" not in str(e.value)
    assert "geheim" not in repr(Store(store_url(url), QUICK))


@pytest.mark.parametrize(
    "url", ["mysql://root:geheim@db/orders", "orders.db", "sqlite://", "sqlite:///:memory:", ""]
)
def test_an_address_of_something_else_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(StartUpError) as refused:
        store_url(url)
    assert "geheim" not in str(refused.value)
    assert "sqlite" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///x.db", "sqlite"),
        ("postgres://h/d", "postgresql+asyncpg"),
        ("postgresql://h/d", "postgresql+asyncpg"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg"),
    ],
)
def test_the_usual_addresses_get_their_driver(given: str, driver: str) -> None:
    assert store_url(given).drivername == driver


def test_passwords_in_the_query_are_masked_too() -> None:
    url = store_url("postgresql://h/d?user=u&password=geheim")
    assert "geheim" not in masked(url)


async def test_a_refused_value_is_not_repeated_in_the_error(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        order = new_order(metadata={"note": "geheim"})
        # The domain's model bounds this id; a model that was made without validation does not.
        long = order.model_copy(update={"client_order_id": "x" * 70})
        with pytest.raises(StoreRefused) as refused:
            await store.admit(long)
        assert "geheim" not in str(refused.value)
