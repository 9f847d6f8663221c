"""What commands print: tables and short texts for people, JSON and CSV for programs."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from trading.oms.enums import OrderStatus
from trading.oms.models import OrderState
from trading.oms.reading import number, summary

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from rich.console import Console
    from rich.table import Table

_WIDTH_OF_A_PIPE = 160
STATUS_COLOURS = {
    OrderStatus.FILLED: "green",
    OrderStatus.PARTIALLY_FILLED: "green",
    OrderStatus.ACCEPTED: "cyan",
    OrderStatus.CANCELLED: "yellow",
    OrderStatus.EXPIRED: "yellow",
    OrderStatus.REJECTED: "red",
    OrderStatus.ERROR: "bold red",
}
COLUMNS = (
    "client_order_id",
    "exchange",
    "account",
    "symbol",
    "side",
    "order_type",
    "quantity",
    "price",
    "stop_price",
    "time_in_force",
    "status",
    "pending",
    "in_doubt_since",
    "filled_quantity",
    "remaining_quantity",
    "average_fill_price",
    "fees",
    "reason_code",
    "rejection_reason",
    "exchange_order_id",
    "strategy_id",
    "created_at",
    "last_updated_at",
)
"""The fields of `OrderState` in CSV."""


def console() -> "Console":
    """Stdout for people. Into a pipe it is wide, so that lines stay whole."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


def table(title: str, *columns: str, right: Sequence[str] = ()) -> "Table":
    """A calm table; `right` names the columns of numbers."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def put_json(value: Any) -> None:
    """One JSON document; decimals are text and times are in UTC."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def put_json_line(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def put_csv(states: Iterable[OrderState]) -> None:
    """Orders as CSV with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.model_dump(mode="json") for state in states)
    click.echo(text.getvalue(), nl=False)


def status(state: OrderState) -> str:
    """The status in its colour, with what is unusual about it."""
    colour = STATUS_COLOURS.get(state.status, "default")
    text = f"[{colour}]{state.status.value}[/]"
    if state.in_doubt_since is not None:
        text += " [bold magenta]in doubt[/]"
    if state.pending.value != "none":
        text += f" [dim]{state.pending.value} asked[/]"
    return text


def orders_table(title: str, states: Sequence[OrderState]) -> "Table":
    """Orders as a blotter, one line each."""
    from rich.markup import escape

    columns = ("order", "at", "wanted", "status", "filled", "average", "fees", "strategy", "reason")
    made = table(title, *columns, right=("filled", "average"))
    made.columns[0].no_wrap = True
    for state in states:
        made.add_row(
            state.client_order_id,
            state.exchange or "-",
            summary(state),
            status(state),
            number(state.filled_quantity),
            average(state),
            fees(state),
            state.strategy_id or "-",
            escape(state.rejection_reason or (state.reason_code or "")),
        )
    return made


def average(state: OrderState) -> str:
    """The average price, shortened to eight decimals for the eye."""
    price = state.average_fill_price
    return "-" if price is None else number(round(price, 8))


def fees(state: OrderState) -> str:
    """The fees by currency."""
    return ", ".join(f"{number(fee)} {name}" for name, fee in state.fees_by_currency.items()) or "-"


def amount(value: "Decimal | None") -> str:
    """A number for people."""
    return "-" if value is None else number(value)


def clock(at: "datetime | None") -> str:
    """A time for people, in UTC to the millisecond."""
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for programs.")(
        command
    )
