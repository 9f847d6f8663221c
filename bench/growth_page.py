"""The growth part of docs/performance.md: a table for each line that `bench.growth` has printed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.tables import short, table

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
_STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
_CACHE = (
    "Memory is that of client and worker together; a worker keeps 5,000 workflows in its cache, so "
    "beyond those an open order costs less of it."
)
Found = dict[str, Any]


def growth_part(runs: Sequence[Found]) -> str:
    """What stands between the marks: one part for each run, in the order given."""
    parts = []
    for run in runs:
        make = next(make for key, make in _MAKERS.items() if key in run)
        parts += [_about(run), make(run)]
    return "\n\n".join(parts)


def _levels(run: Found) -> str:
    firsts = [f"{row['open_orders']:,}" for row in run["levels"]]
    head = ("orders open beside", "memory, MiB", "KiB per open order")
    more = [
        (_number(row, "memory_mib"), _number(row, "kib_per_open_order")) for row in run["levels"]
    ]
    return f"{_figures(run['levels'], firsts, head, more)}\n\n{_CACHE} {_restart(run)}"


def _workers(run: Found) -> str:
    firsts = [str(row["workers"]) for row in run["workers"]]
    return _figures(run["workers"], firsts, ("worker processes",), [() for _ in firsts])


def _journal(run: Found) -> str:
    firsts = [f"{row['old_rows']:,}" for row in run["journal"]]
    about = f"The old rows are {run['old_orders']:,} closed orders; the turns are in their order."
    rows = _figures(run["journal"], firsts, ("old rows in the journal",), [() for _ in firsts])
    return f"{rows}\n\n{about} {_restart(run)}"


_MAKERS = {"levels": _levels, "workers": _workers, "journal": _journal}


def _about(run: Found) -> str:
    machine, door = run["machine"], "remote" if "workers" in run else "embedded"
    at = datetime.fromisoformat(run["at"])
    return (
        f"**The {door} door on {_STORES[run['store']]}**, {run['at_once']} orders at once, "
        f"{run['seconds_per_cell']:g} s each ({at.day} {at:%B %Y}, {machine['processor']}, "
        f"{machine['cores']} cores, load {machine['load_before']} before); CPU in ms per order:"
    )


def _figures(
    rows: Sequence[Found],
    firsts: Sequence[str],
    head: Sequence[str],
    more: Sequence[Sequence[str]],
) -> str:
    """`head` has the title of the first column, and those of `more`, which come last."""
    parts = list(dict.fromkeys(part for row in rows for part in row["cpu_ms"]))
    lines = [
        [first, _number(row, "orders_per_s"), *(_number(row["cpu_ms"], p) for p in parts), *last]
        for first, row, last in zip(firsts, rows, more, strict=True)
    ]
    return table([head[0], "orders/s", *parts, *head[1:]], lines)


def _number(row: Found, name: str) -> str:
    return short(row[name]) if name in row else "-"


def _restart(run: Found) -> str:
    trades_s, knows_s = (run["restart"][name] for name in ("trades_s", "knows_all_s"))
    return (
        f"Client and worker stopped and started anew accepted an order after {trades_s:g} s, and "
        f"knew all that were open after {knows_s:g} s."
    )
