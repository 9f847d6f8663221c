"""Bring a database to the newest schema, from Python or from the command line."""

import asyncio
import time
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL

from activities.store.engine import (
    about_version,
    make_engines,
    masked,
    schema_version,
    sqlite_file,
    store_url,
)
from activities.store.schema import SCHEMA_VERSION
from activities.store.transactions import Transactions
from activities.store.types import StoreSettings
from trading.oms.errors import StartUpError

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x6F6D_7301
_RETRY_S = 0.05
_WITHIN_S = 3600.0


def alembic_config() -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: sa.Connection, name: str) -> None:
    if connection.dialect.name == "postgresql":
        # Two processes that start at once migrate one after the other.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    version = schema_version(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise StartUpError(about_version(version, name))
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def migrate(url: URL, settings: StoreSettings) -> None:
    """Run the missing migrations in one transaction; nothing to do is fine.

    Raises `StartUpError` where the schema is newer than this program's. It may take long where the
    tables are large, and waits for another process that is migrating: on PostgreSQL an hour in
    all, on SQLite as long as for any answer.
    """
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    engines = make_engines(url, settings, _WITHIN_S)
    try:
        await _run(engines.writes, masked(url), settings.answer_within_s)
    finally:
        await engines.dispose()


async def _run(writes: Transactions, name: str, patience_s: float) -> None:
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            await writes.run(lambda connection: _upgrade(connection, name))
        except sa.exc.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(_RETRY_S)
        else:
            return


def migrate_url(text: str) -> None:
    """Migrate the store at the URL `text`; for the command line, where no event loop runs."""
    asyncio.run(migrate(store_url(text), StoreSettings()))
