"""The benchmark runs and says something; how fast it is, no test asserts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import growth_page
from bench.database import per_order
from bench.growth import per_open_order
from bench.page import BEGIN, END, write, write_growth
from bench.tables import rate_text, written_row
from workers.temporal_server import TemporalServer

ROOT = Path(__file__).parent.parent
FIGURES = (
    "floor_orders_per_s",
    "embedded_orders_per_s",
    "remote_orders_per_s",
    "ratio_to_floor",
    "submit_to_wire_p50_ms",
    "submit_to_wire_p99_ms",
    "submit_to_wire_ratio",
    "submit_to_answer_p50_ms",
    "fill_to_event_p50_ms",
    "risk_us",
    "state_update_us",
    "pure_orders_per_s",
)


@pytest.mark.temporal
@pytest.mark.timeout(240)
def test_the_short_benchmark_ends_with_a_line_of_figures(temporal_server: TemporalServer) -> None:
    # The fixture has found (or built) the Temporal program; the benchmark starts its own server.
    ended = subprocess.run(
        [sys.executable, "-m", "bench", "--short"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert {name: figures[name] for name in FIGURES if not figures[name] > 0} == {}
    # Between two cells as short as these the difference may be anything.
    assert isinstance(figures["own_cpu_ms_per_order"], float)


def test_the_committed_sample_has_the_same_figures() -> None:
    sample = json.loads((ROOT / "bench" / "results" / "sample.json").read_text())
    assert set(FIGURES) <= set(sample["summary"])
    assert {cell["contender"] for cell in sample["cells"]} == {
        "floor",
        "sqlite",
        "postgres",
        "remote",
        "dbos",
    }


def test_the_page_is_written_from_the_results(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    sample = ROOT / "bench" / "results" / "sample.json"
    for _ in range(2):  # Writing it again replaces what was there.
        write(sample, page)
    text = page.read_text()
    figures = json.loads(sample.read_text())["summary"]
    assert text.count(f"| `ratio_to_floor` | {figures['ratio_to_floor']:g} |") == 1
    measured = text.partition(BEGIN)[2].partition(END)[0]
    assert measured.count("| DBOS, PostgreSQL |") == 5
    assert "## What was tried" in text
    for plot in ("orders_per_s", "cpu_per_order"):
        drawn = (tmp_path / "images" / f"{plot}.svg").read_text()
        assert drawn.startswith("<svg")
        assert drawn.endswith("</svg>\n")


def test_a_crowd_and_what_an_order_writes_have_tables_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    results = json.loads((ROOT / "bench" / "results" / "sample.json").read_text())
    resting = [c for c in results["cells"] if (c["life"], c["at_once"]) == ("resting", 50)]
    resting[-1]["database"] = {"commits": 7.04, "transactions": 26, "rows": 10, "wal_bytes": 5619.3}
    results["cells"] += [{**cell, "at_once": 500, "orders_per_s": 41.2} for cell in resting[:1]]
    (tmp_path / "results.json").write_text(json.dumps(results))
    write(tmp_path / "results.json", page)
    text = page.read_text()
    _, _, crowd = text.partition("A resting order, 500 at once;")
    assert "| bare workflow | 41 |" in crowd.partition("\n\nCPU")[0]
    _, _, written = text.partition("The database, per resting order:")
    assert "| DBOS, PostgreSQL | 7.0 | 26.0 | 10.0 | 5619 |" in written.partition("\n\nThe")[0]
    assert "| bare workflow | - | - | - | - |" in written


def test_figures_are_the_difference_of_two_readings_for_each_order() -> None:
    before, after = {"commits": 10, "rows": 7}, {"commits": 40, "rows": 7}
    assert per_order(before, after, 20) == {"commits": 1.5, "rows": 0}
    assert written_row({"commits": 1.5}) == ["1.5", "-", "-", "-"]
    assert rate_text([41.2]) == "41"
    assert rate_text([40, 41, 45]) == "41 (40-45)"


def test_an_open_order_weighs_what_has_come_since_the_level_before() -> None:
    levels = [
        {"open_orders": 100, "memory_mib": 183.0},
        {"open_orders": 1124, "memory_mib": 283.0},
    ]
    assert per_open_order(levels) == [levels[0], {**levels[1], "kib_per_open_order": 100.0}]


RUN = {
    "at": "2026-11-29T15:24+00:00",
    "machine": {"processor": "AMD EPYC", "cores": 2, "load_before": 2.32},
    "store": "sqlite",
    "at_once": 50,
    "seconds_per_cell": 10.0,
}
RESTART = {"trades_s": 0.17, "knows_all_s": 0.5}


def _measured(first: str, value: int, **cpu_ms: float) -> dict[str, object]:
    return {first: value, "orders_per_s": 38.7, "cpu_ms": cpu_ms, "memory_mib": 183.0}


def test_each_run_of_growth_has_a_table_in_the_page(tmp_path: Path) -> None:
    page, printed = tmp_path / "performance.md", tmp_path / "growth.jsonl"
    shutil.copy(ROOT / "docs" / "performance.md", page)
    more = {**_measured("open_orders", 2500, Temporal=21.4), "kib_per_open_order": 115.0}
    levels = [_measured("open_orders", 100, Temporal=16.1), more]
    journal = [_measured("old_rows", rows, Temporal=16.1) for rows in (0, 1_000_000)]
    runs = [
        {**RUN, "levels": levels, "restart": RESTART},
        {**RUN, "workers": [_measured("workers", 4, client=3.1, workers=26.4)]},
        {**RUN, "journal": journal, "old_orders": 125_000, "fill_s": 30.0, "restart": RESTART},
    ]
    printed.write_text("".join(json.dumps(run) + "\n" for run in runs))
    for _ in range(2):  # Writing it again replaces what was there.
        write_growth(printed, page)
    text = page.read_text()
    grown = text.partition(growth_page.BEGIN)[2].partition(growth_page.END)[0]
    assert grown.count("| 100 | 38.7 | 16.1 | 183 | - |") == 1
    assert "| 2,500 | 38.7 | 21.4 | 183 | 115 |" in grown
    assert "**The remote door on SQLite**, 50 orders at once, 10 s each (29 November 2026" in grown
    assert "| worker processes | orders/s | client | workers |" in grown
    assert "| 4 | 38.7 | 3.1 | 26.4 |" in grown
    assert "| 1,000,000 | 38.7 | 16.1 |" in grown
    assert grown.count("accepted an order after 0.17 s") == 2
    assert text.count("## What was tried") == 1


def test_a_page_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    page, printed = tmp_path / "performance.md", tmp_path / "growth.jsonl"
    page.write_text("nothing\n")
    printed.write_text(json.dumps({**RUN, "workers": [_measured("workers", 1)]}))
    with pytest.raises(ValueError, match="has no <!-- growth: begin -->"):
        write_growth(printed, page)
    assert page.read_text() == "nothing\n"
