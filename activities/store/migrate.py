"""Bring a database to the newest schema, from Python or from the command line."""

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

from activities.store.engine import make_engines, store_url
from activities.store.types import StoreSettings

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6F6D_7301


def alembic_config() -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Two processes that start at once migrate one after the other.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def migrate(engine: AsyncEngine) -> None:
    """Run the missing migrations in one transaction; nothing to do is fine."""
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)


def migrate_url(url: str) -> None:
    """Migrate the store at `url`; for the command line, where no event loop runs."""

    async def run() -> None:
        engines = make_engines(store_url(url), StoreSettings())
        try:
            await migrate(engines.writer)
        finally:
            await engines.dispose()

    asyncio.run(run())
