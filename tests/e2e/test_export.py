"""`oms export` against a stack that runs."""

import csv
import io
import json
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import RunningUp

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
MINE = ("--strategy", "exported")


@pytest.fixture(scope="module")
def traded(up: RunningUp) -> None:
    """Two orders of one strategy: one filled, one that rests and is cancelled."""
    order = ("submit", "buy", "0.01", "BTC/USDT", *MINE)
    assert up.oms(*order, "--id", "exported-1").returncode == 0
    assert up.oms(*order, "--id", "exported-2", "--price", "38000").returncode == 0
    assert up.oms("cancel", "exported-2").returncode == 0


@pytest.mark.usefixtures("traded")
def test_the_three_forms_say_the_same(up: RunningUp, tmp_path: Path) -> None:
    for kind in ("orders", "fills", "events"):
        made = {form: tmp_path / f"{kind}.{form}" for form in ("csv", "jsonl", "parquet")}
        for form, path in made.items():
            done = up.oms("export", kind, "--format", form, *MINE, "--output", str(path))
            assert (done.returncode, done.stdout) == (0, ""), done.stderr
        from_csv = list(csv.DictReader(io.StringIO(made["csv"].read_text())))
        from_json = [json.loads(line) for line in made["jsonl"].read_text().splitlines()]
        from_parquet = pq.read_table(made["parquet"]).to_pylist()
        assert len(from_csv) == len(from_json) == len(from_parquet) > 0
        assert list(from_csv[0]) == list(from_json[0]) == list(from_parquet[0])
        assert sorted(path.name for path in tmp_path.glob(f"{kind}*")) == sorted(
            path.name for path in made.values()
        )
        if kind == "orders":
            assert {row["client_order_id"] for row in from_csv} == {"exported-1", "exported-2"}
            assert [row["quantity"] for row in from_csv] == ["0.01", "0.01"]
            assert [row["quantity"] for row in from_json] == ["0.01", "0.01"]
            assert [row["quantity"] for row in from_parquet] == [Decimal("0.01")] * 2
            assert from_parquet[0]["created_at"].isoformat() == from_json[0]["created_at"]
        if kind == "events":
            assert from_json[0]["name"] == "order_created"
            assert from_json[0]["state"]["quantity"] == "0.01"


@pytest.mark.usefixtures("traded")
def test_without_a_file_it_is_written_to_stdout(up: RunningUp) -> None:
    done = up.oms("export", "fills", *MINE, "--until", "2020-01-01")
    assert done.stdout.splitlines()[1:] == []
    assert done.stderr == "0 fills\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("orders", "--format", "parquet"), "give --output"),
        (("orders", "--since", "yesterday"), "'yesterday' is no time"),
        (("trades",), "'trades' is not one of"),
    ],
)
def test_a_wrong_wish_is_refused(up: RunningUp, arguments: tuple[str, ...], said: str) -> None:
    done = up.oms("export", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_pyarrow_it_says_what_to_install(
    up: RunningUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    made = tmp_path / "orders.parquet"
    done = up.oms("export", "orders", "--format", "parquet", "--output", str(made))
    assert done.returncode == 2
    assert "pip install pyarrow" in done.stderr
    assert list(tmp_path.iterdir()) == []
