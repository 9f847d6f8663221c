"""Statements that are compiled once, and run by the driver's own cursor.

SQLAlchemy makes a context, a dictionary of binds and a result for each execution, which together
take longer than PostgreSQL takes to answer. Here text, binds and results are worked out once per
statement and dialect; what is left of an execution is a tuple of values and a tuple per row.
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import TextClause

_Process = Callable[[Any], Any]
_Statement = sa.Select[Any] | UpdateBase | TextClause
_NOTHING: Mapping[str, Any] = {}


class Prepared:
    """One statement, compiled for each dialect when it is first used."""

    def __init__(self, statement: _Statement, names: Iterable[str] | None = None) -> None:
        """`names` are the columns of an INSERT; all else has its own bound parameters."""
        self._statement = statement
        self._names = None if names is None else list(names)
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it for every row; nothing is sent where there are none."""
        compiled = self._for(connection.dialect)
        if values := [compiled.bound(row) for row in rows]:
            execute(connection, compiled.text, values)

    def read(self, connection: sa.Connection, values: Mapping[str, Any] = _NOTHING) -> list[Any]:
        """Execute it once: named tuples, or of a text without types the driver's own rows."""
        compiled = self._for(connection.dialect)
        cursor = execute(connection, compiled.text, [compiled.bound(values)])
        rows = cursor.fetchall() if cursor.description else []
        return compiled.typed(rows, cursor.description) if rows else rows

    def _for(self, dialect: sa.Dialect) -> "_Compiled":
        known = self._compiled.get(dialect.name)
        if known is None:
            known = _Compiled(self._statement, self._names, dialect)
            self._compiled[dialect.name] = known
        return known


class _Compiled:
    """The statement in one dialect: its text, and how values go to the driver and come back."""

    def __init__(self, statement: _Statement, names: list[str] | None, dialect: sa.Dialect) -> None:
        options: dict[str, Any] = {} if names is None else {"column_keys": names}
        compiled = statement.compile(dialect=dialect, **options)
        self.text = str(compiled)
        self._dialect = dialect
        self._binds: list[tuple[str, _Process | None]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        columns = () if isinstance(statement, TextClause) else statement.exported_columns
        self._types = [column.type.dialect_impl(dialect) for column in columns]
        names_of = [str(column.key) for column in columns]
        row: Any = namedtuple("Row", names_of, rename=True)  # type: ignore[misc]  # noqa: PYI024
        self._make = row._make
        self._results: list[_Process | None] | None = None

    def bound(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the order and the form in which the driver takes them."""
        return tuple(
            [values[name] if form is None else form(values[name]) for name, form in self._binds]
        )

    def typed(self, rows: Sequence[Any], description: Sequence[Any]) -> list[Any]:
        """The rows with the values of the columns' types."""
        if not self._types:
            return list(rows)
        if self._results is None:
            pairs = zip(self._types, description, strict=True)
            self._results = [kind.result_processor(self._dialect, d[1]) for kind, d in pairs]
        make, forms = self._make, self._results
        return [
            make([v if form is None else form(v) for v, form in zip(row, forms, strict=True)])
            for row in rows
        ]


def execute(connection: sa.Connection, text: str, values: Sequence[tuple[Any, ...]]) -> Any:
    """The cursor after one execution, or many. Raises what SQLAlchemy would raise.

    As there, a connection that has died, and one that was left in the middle, is not used again.
    """
    cursor = connection.connection.cursor()
    try:
        if len(values) == 1:
            cursor.execute(text, values[0])
        else:
            cursor.executemany(text, values)
    except Exception as error:
        driver = connection.dialect.loaded_dbapi
        if not isinstance(error, driver.Error):
            raise
        raise _known(connection, text, error, cursor) from error
    except BaseException:
        connection.invalidate()
        raise
    return cursor


def _known(connection: sa.Connection, text: str, error: Any, cursor: Any) -> Exception:
    """The driver's error as SQLAlchemy's."""
    dialect = connection.dialect
    # After a migration in another process a statement may have to be prepared anew.
    lost = dialect.is_disconnect(error, connection.connection, cursor) or isinstance(
        error, dialect.loaded_dbapi.NotSupportedError
    )
    if lost:
        connection.invalidate(error)
    found: Exception = sa.exc.DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=dialect,
    )
    return found
