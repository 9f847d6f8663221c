"""The worked examples of the documentation run as they stand there, against a stack that runs."""

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

from tests.e2e.conftest import ROOT, RunningUp

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
EXAMPLES = ROOT / "docs" / "examples"
LINES_MAX = 39


@pytest.fixture
def with_own_worker(up: RunningUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `oms exec --own-queue` gives a program; in this process, to spare its imports."""
    with mock.patch("os.execvpe") as execvpe:
        assert up.oms("exec", "--own-queue", "python", "x.py").returncode == 0
    program, arguments, environment = execvpe.call_args.args
    assert (program, arguments) == ("python", ("python", "x.py"))
    assert environment["OMS_TASK_QUEUE"] == f"oms-orders-{os.getpid()}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMS_ALPHA_KIND", "binance")  # One example sets it; undone with the rest.
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(name: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return out.getvalue()


@pytest.mark.usefixtures("with_own_worker")
def test_a_check_of_ones_own_denies() -> None:
    said = "bid: accepted; offer: rejected, the check no_self_trade has denied the order\n"
    assert run("custom_check.py") == said


@pytest.mark.usefixtures("with_own_worker")
def test_a_router_of_ones_own_chooses_the_exchange() -> None:
    assert run("custom_router.py") == "0.01 at beta\n0.1 at alpha\n"


@pytest.mark.usefixtures("with_own_worker")
def test_a_connector_of_ones_own_trades() -> None:
    said = "rejected by the exchange: dry_run: a dry run: buy 0.01 BTC/USDT at 38500\n"
    assert run("custom_connector.py") == said


def test_a_strategy_and_a_book_keeper_run_beside_the_stack(up: RunningUp, tmp_path: Path) -> None:
    book = tmp_path / "fills.txt"
    keep = ("exec", sys.executable, str(EXAMPLES / "event_handler.py"), str(book))
    strategy = up.oms_process("exec", sys.executable, str(EXAMPLES / "strategy.py"))
    assert strategy.returncode == 0, strategy.stderr
    assert strategy.stdout.startswith("offered at ")
    assert strategy.stdout.endswith(": accepted\n")
    [first, again] = [up.oms_process(*keep) for _ in range(2)]
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    fills = book.read_text().splitlines()
    assert first.stdout.startswith(f"{len(fills)} fills, up to event ")
    assert again.stdout.startswith("0 fills, up to event ")
    assert any(" buy " in line for line in fills)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX
