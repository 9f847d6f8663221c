"""`python -m bench.page [RESULTS.json]`: the tables and plots of docs/performance.md, from results.

What stands between the page's marks is written anew from one file of `bench/results/` (the newest
one by default); `make bench` does so at its end. With `--growth FILE` it is the growth part, from
the lines of JSON that runs of `bench.growth` have printed. The plots are drawn by hand as SVG:
bars, no more.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bench import growth_page
from bench.tables import WRITES, rate_text, table, written_row

_ROOT = Path(__file__).parent.parent
_PAGE = _ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_TITLES = {
    "floor": "bare workflow",
    "sqlite": "embedded, SQLite",
    "postgres": "embedded, PostgreSQL",
    "remote": "remote, SQLite",
    "dbos": "DBOS, PostgreSQL",
}
_BAR_PX, _ROW_PX, _LABEL_PX = 420, 28, 190
_OWN = ("client and worker", "worker")

Cell = dict[str, Any]


def write(path: Path, page: Path = _PAGE) -> None:
    """Write the page's measured part, and its plots beside it, from a file of results."""
    results = json.loads(path.read_text())
    images = page.parent / "images"
    images.mkdir(exist_ok=True)
    rates = {name: _median(cells, "orders_per_s") for name, cells in _many(results).items()}
    (images / "orders_per_s.svg").write_text(_bars("orders/s, resting, 50 at once", rates))
    cpu = {name: _own_cpu(cells) for name, cells in _many(results).items()}
    (images / "cpu_per_order.svg").write_text(_bars("own CPU, ms per resting order", cpu))
    _put(page, (BEGIN, END), _measured(results, path.name))


def write_growth(path: Path, page: Path = _PAGE) -> None:
    """Write the page's growth part from a file with one line of JSON for each run."""
    lines = path.read_text().splitlines()
    runs = [json.loads(line) for line in lines if line.startswith("{")]
    _put(page, (growth_page.BEGIN, growth_page.END), growth_page.growth_part(runs))


def _put(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between two marks of the page."""
    begin, end = marks
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        msg = f"{page} has no {begin} and {end}"
        raise ValueError(msg)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _measured(results: dict[str, Any], name: str) -> str:
    machine, line = results["machine"], results["summary"]
    parts = [
        (
            f"From `{name}`, {results['rounds']} rounds, {results['seconds_per_cell']:g} s a cell: "
            f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, load "
            f"{machine['load_before']} before and {machine['load_after']} after. "
            "Medians of the rounds, with the least and the most."
        ),
        "![orders per second](images/orders_per_s.svg)",
        "![own CPU per order](images/cpu_per_order.svg)",
    ]
    kinds = dict.fromkeys((cell["life"], cell["at_once"]) for cell in results["cells"])
    parts += [_latencies(results, life, at_once) for life, at_once in kinds]
    parts += [_cpu(results), _weights(results), _writes(results), _stores(results), _line(line)]
    return "\n\n".join(part for part in parts if part)


def _latencies(results: dict[str, Any], life: str, at_once: int) -> str:
    rows = []
    for title, cells in _by_contender(results, life, at_once).items():
        rate = rate_text([cell["orders_per_s"] for cell in cells])
        times = (_pair(cells, kind) for kind in ("wire", "answer", "event"))
        rows.append([_TITLES.get(title, title), rate, *times])
    head = ["", "orders/s", "to exchange", "to answer", "fill to event"]
    about = f"A {life} order, {at_once} at once; p50 / p99 / p99.9 in ms:"
    return f"{about}\n\n{table(head, rows)}"


def _cpu(results: dict[str, Any]) -> str:
    many = _many(results)
    parts = list(dict.fromkeys(p for cells in many.values() for c in cells for p in c["cpu_ms"]))
    rows = []
    for name, cells in many.items():
        used = [[c["cpu_ms"][part] for c in cells if part in c["cpu_ms"]] for part in parts]
        shown = [f"{statistics.median(one):.1f}" if one else "-" for one in used]
        rows.append([_TITLES.get(name, name), *shown])
    return f"CPU, ms per resting order, many at once:\n\n{table(['', *parts], rows)}"


def _weights(results: dict[str, Any]) -> str:
    rows = []
    for name, cells in _many(results).items():
        row = [_TITLES.get(name, name)]
        for field in ("transitions", "history_events", "history_bytes"):
            values = [value for cell in cells for value in cell[field]]
            row.append(f"{statistics.median(values):.0f}" if values else "-")
        rows.append(row)
    head = ["", "state transitions", "history events", "history bytes"]
    return f"In Temporal, per resting order:\n\n{table(head, rows)}"


def _writes(results: dict[str, Any]) -> str:
    """What was counted in the last round; nothing where results are older than the counting."""
    many = _many(results).items()
    counted = {name: c["database"] for name, cells in many for c in cells if "database" in c}
    if not counted:
        return ""
    rows = [[_TITLES.get(name, name), *written_row(counted.get(name, {}))] for name, _ in many]
    return f"The database, per resting order:\n\n{table(['', *WRITES.values()], rows)}"


def _stores(results: dict[str, Any]) -> str:
    rows = [
        [
            name,
            *(f"{one[f'{step}_ms']:.2f}" for step in ("admit", "claim", "settle")),
            f"{one['lives_per_s']:.0f}",
        ]
        for name, one in results["stores"].items()
    ]
    head = ["", "admit, ms", "claim, ms", "settle, ms", "lives/s, 50 at once"]
    return f"The store alone, step by step, each a durable commit:\n\n{table(head, rows)}"


def _line(line: dict[str, float]) -> str:
    rows = [[f"`{name}`", f"{value:g}"] for name, value in line.items()]
    return f"The line of JSON:\n\n{table(['figure', 'value'], rows)}"


def _by_contender(results: dict[str, Any], life: str, at_once: int) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in results["cells"]:
        if (cell["life"], cell["at_once"]) == (life, at_once):
            found.setdefault(cell["contender"], []).append(cell)
    return found


def _many(results: dict[str, Any]) -> dict[str, list[Cell]]:
    most = max(cell["at_once"] for cell in results["cells"])
    at_once = 50 if any(cell["at_once"] == 50 for cell in results["cells"]) else most  # noqa: PLR2004
    return _by_contender(results, "resting", at_once)


def _median(cells: list[Cell], name: str) -> float:
    return statistics.median(float(cell[name]) for cell in cells)


def _own_cpu(cells: list[Cell]) -> float:
    return statistics.median(
        float(sum(cell["cpu_ms"].get(part, 0.0) for part in _OWN)) for cell in cells
    )


def _pair(cells: list[Cell], kind: str) -> str:
    """The median over the rounds of each quantile."""
    names = [f"{kind}_p{share}_ms" for share in ("50", "99", "99.9")]
    if not all(name in cell for cell in cells for name in names):
        return "-"
    return " / ".join(f"{_median(cells, name):.1f}" for name in names)


def _bars(title: str, values: dict[str, float]) -> str:
    """A horizontal bar for each contender, with its figure."""
    most, height = max(values.values()), _ROW_PX * (len(values) + 1) + 8
    width = _LABEL_PX + _BAR_PX + 70
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-weight="bold">{title}</text>',
    ]
    for row, (name, value) in enumerate(values.items(), 1):
        y, length = row * _ROW_PX, max(1, round(value / most * _BAR_PX))
        colour = "#8a8a8a" if name in {"floor", "dbos"} else "#2f6fb0"
        out += [
            f'<text x="8" y="{y + 17}">{_TITLES.get(name, name)}</text>',
            f'<rect x="{_LABEL_PX}" y="{y + 3}" width="{length}" height="20" fill="{colour}"/>',
            f'<text x="{_LABEL_PX + length + 6}" y="{y + 17}">{value:.1f}</text>',
        ]
    return "\n".join([*out, "</svg>", ""])


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, help="of `make bench`: the newest one")
    parser.add_argument("--growth", type=Path, metavar="FILE", help="what bench.growth has printed")
    wanted = parser.parse_args()
    if wanted.growth is not None:
        write_growth(wanted.growth)
        return
    newest = sorted((_ROOT / "bench" / "results").glob("2*.json"))[-1:]
    write(wanted.results or newest[0])


if __name__ == "__main__":
    main()
