"""`oms export`: orders, fills and events as files, for an audit or a spreadsheet."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from trading.oms.cli.failures import Exit, Failed, run
from trading.oms.cli.given import TEXT
from trading.oms.cli.output import examples
from trading.oms.cli.target import find_target

if TYPE_CHECKING:
    Row = dict[str, Any]
    Write = Callable[[list[Row]], None]

_KINDS = ("orders", "fills", "events")
_JSON = frozenset({"metadata", "fees_by_currency", "state", "fill", "details"})
"""Columns that hold a JSON value, whatever the database makes of them."""
_DIGITS, _SCALE = 38, 18


class Moment(click.ParamType[datetime]):
    """A day or a time in ISO 8601; UTC where it says no zone."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """An aware time."""
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write 2026-07-01 or 2026-07-01T12:00:00Z", param, ctx)
        return at if at.tzinfo else at.replace(tzinfo=UTC)


@click.command(
    epilog=examples(
        "oms export fills --since 2026-07-01 --until 2026-08-01 --output july.csv",
        "oms export orders --strategy momentum --format jsonl",
        "oms export events --format parquet --output events.parquet",
    )
)
@click.argument("kind", type=click.Choice(_KINDS))
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
    help="How it is written.",
)
@click.option("--since", type=Moment(), help="From this time on: created, traded or committed.")
@click.option("--until", type=Moment(), help="Before this time.")
@click.option("--exchange", type=TEXT, help="Only orders at this exchange.")
@click.option("--symbol", type=TEXT, help="Only orders of this symbol.")
@click.option("--strategy", type=TEXT, help="Only orders of this strategy.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; else stdout."
)
def export(kind: str, form: str, output: Path | None, **wanted: Any) -> None:
    """Write orders, fills or events, oldest first, for an audit.

    Amounts are exact: text in CSV and JSON lines, decimal128(38, 18) in Parquet, which needs
    pyarrow (the extra `parquet`). Times are in UTC. A file appears when it is whole.
    """
    if form == "parquet" and output is None:
        msg = "parquet is no text for a terminal: give --output"
        raise click.UsageError(msg)
    with _writer(form, kind, output) as write:
        count = run(_export(kind, wanted, write))
    click.echo(f"{count} {kind}" + (f" in {output}" if output else ""), err=True)


async def _export(kind: str, wanted: dict[str, Any], write: "Write") -> int:
    from activities.store import ExportFilter, ExportKind

    symbol: str | None = wanted["symbol"]
    which = ExportFilter(
        since=wanted["since"],
        until=wanted["until"],
        exchange=wanted["exchange"],
        symbol=symbol.upper() if symbol else None,
        strategy_id=wanted["strategy"],
    )
    count = 0
    async with find_target().store() as store:
        async for rows in store.exports.pages(ExportKind(kind), which):
            write(rows)
            count += len(rows)
    return count


@contextlib.contextmanager
def _writer(form: str, kind: str, output: Path | None) -> "Iterator[Write]":
    """What takes the pages; at the end without a failure the file gets its name."""
    if output is None:
        yield _text_writer(form, kind, sys.stdout)
        return
    draft = output.with_name(f"{output.name}.part")
    try:
        if form == "parquet":
            with _parquet_writer(kind, draft) as write:
                yield write
        else:
            with draft.open("w", newline="") as file:
                yield _text_writer(form, kind, file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.replace(output)


def _text_writer(form: str, kind: str, file: IO[str]) -> "Write":
    if form == "csv":
        table = csv.DictWriter(file, _names(kind), lineterminator="\n")
        table.writeheader()
        return lambda rows: table.writerows(
            {n: _cell(n, v) for n, v in row.items()} for row in rows
        )

    def write(rows: "list[Row]") -> None:
        for row in rows:
            values = {name: _json_value(name, value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")

    return write


def _json_value(name: str, value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    return json.loads(value) if name in _JSON and isinstance(value, str) else value


def _cell(name: str, value: Any) -> Any:
    """As in JSON lines, but what JSON has structure for is one text."""
    value = _json_value(name, value)
    if value is None or isinstance(value, str | int):
        return value
    return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _parquet_writer(kind: str, path: Path) -> "Iterator[Write]":
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        msg = "parquet needs pyarrow, which is not installed: pip install pyarrow"
        raise Failed(msg, Exit.BAD_INPUT) from None
    schema = pa.schema([(name, _arrow_type(pa, name, kind)) for name in _names(kind)])

    with pq.ParquetWriter(path, schema) as file:

        def write(rows: "list[Row]") -> None:
            try:
                table = pa.Table.from_pylist([_arrow_row(row) for row in rows], schema)
            except pa.ArrowInvalid as error:
                msg = f"an amount does not fit decimal128({_DIGITS}, {_SCALE}); use csv: {error}"
                raise Failed(msg, Exit.REFUSED) from None
            file.write_table(table)

        yield write


def _arrow_row(row: "Row") -> "Row":
    return {name: _cell(name, value) if name in _JSON else value for name, value in row.items()}


def _arrow_type(pa: Any, name: str, kind: str) -> Any:
    python = _columns(kind)[name]
    if python is Decimal:
        return pa.decimal128(_DIGITS, _SCALE)
    if python is datetime:
        return pa.timestamp("us", tz="UTC")
    return {bool: pa.bool_(), int: pa.int64()}.get(python, pa.string())


def _names(kind: str) -> list[str]:
    return list(_columns(kind))


def _columns(kind: str) -> dict[str, type]:
    """The columns with the Python type of what they hold."""
    from activities.store import ExportKind, export_columns

    return export_columns(ExportKind(kind))
