"""Alembic's entry: migrate over the connection that `activities.store.migrate` gives."""
# ruff: noqa: INP001 - Alembic loads this file by its path

from alembic import context

from activities.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
