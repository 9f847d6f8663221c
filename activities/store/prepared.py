"""Statements for many rows that are compiled once, with the values in the driver's own form.

SQLAlchemy binds each row through a dictionary and a look-up per parameter; a journal has many
rows. This does the same once per statement and leaves a tuple per row.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import TextClause

_Process = Callable[[Any], Any]


class Prepared:
    """One INSERT or UPDATE, compiled for each dialect when it is first used."""

    def __init__(
        self, statement: UpdateBase | TextClause, names: Iterable[str] | None = None
    ) -> None:
        """`names` are the columns of an INSERT; an UPDATE has its own bound parameters."""
        self._statement = statement
        self._names = None if names is None else list(names)
        self._compiled: dict[str, tuple[str, list[tuple[str, _Process | None]]]] = {}

    def run(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for every row; nothing is sent where there are none."""
        text, plan = self._for(connection.dialect)
        values = [
            tuple([row[name] if form is None else form(row[name]) for name, form in plan])
            for row in rows
        ]
        if values:
            connection.exec_driver_sql(text, values)

    def _for(self, dialect: sa.Dialect) -> tuple[str, list[tuple[str, _Process | None]]]:
        known = self._compiled.get(dialect.name)
        if known is None:
            options: dict[str, Any] = {} if self._names is None else {"column_keys": self._names}
            compiled = self._statement.compile(dialect=dialect, **options)
            plan: list[tuple[str, _Process | None]] = [
                (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
                for name in compiled.positiontup or ()
            ]
            known = self._compiled[dialect.name] = (str(compiled), plan)
        return known
