"""The benchmark runs and says something; how fast it is, no test asserts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
