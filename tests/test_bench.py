"""The benchmark runs and says something; how fast it is, no test asserts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.page import BEGIN, END, write
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
