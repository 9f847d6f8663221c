"""Every command against a stack that runs."""

import asyncio
import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from activities.store import Store
from tests.activities.store_builders import new_order
from tests.e2e.conftest import Program, RunningUp, descendants, until
from trading.oms.cli.failures import Exit

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
FAR = "38000"  # Below the recorded market: it rests.


def rest(up: RunningUp, order_id: str, *options: str) -> None:
    done = up.oms("submit", "buy", "0.02", "BTC/USDT", "--price", FAR, "--id", order_id, *options)
    assert done.returncode == 0, done.stderr


def test_submit_prints_the_id_the_status_and_the_link(up: RunningUp) -> None:
    done = up.oms_process("submit", "buy", "0.01", "btc/usdt", "--id", "market-1")
    assert done.returncode == 0
    assert "BUY 0.01 BTC/USDT market GTC at alpha" in done.stdout
    assert "market-1" in done.stdout
    assert "filled" in done.stdout
    link = f"{up.variables['OMS_UI_URL']}/namespaces/default/workflows/order-market-1"
    assert link in done.stdout.splitlines()[-1]
    assert "LIVE" not in done.stdout
    assert done.stderr == ""


def test_amounts_are_exact_text_in_json(up: RunningUp) -> None:
    answer = up.json("submit", "buy", "0.010000", "BTC/USDT", "--price", FAR, "--id", "exact")
    assert answer["state"]["quantity"] == "0.01"
    assert answer["state"]["price"] == FAR
    assert (answer["success"], answer["status"]) == (True, "accepted")


def test_a_refusal_says_who_and_why_on_stderr(up: RunningUp) -> None:
    denied = up.oms_process("submit", "buy", "0.01", "BTC/USDT", "--price", "38000.001")
    assert denied.returncode == 1
    assert "refused by risk (price_off_tick): price is 38000.001, the tick is 0.01" in denied.stderr
    rejected = up.oms("submit", "sell", "100", "BTC/USDT", "--price", "39000")
    assert rejected.returncode == 1
    assert len(rejected.stderr.splitlines()) == 1


def test_the_same_id_with_other_content_is_refused(up: RunningUp) -> None:
    rest(up, "twice")
    rest(up, "twice")
    other = up.oms("submit", "buy", "0.03", "BTC/USDT", "--price", FAR, "--id", "twice")
    assert other.returncode == 1
    assert "order_exists_with_different_content" in other.stderr


def test_an_order_in_doubt_has_an_exit_code_of_its_own(up: RunningUp) -> None:
    up.control("faults", fault="code_-1007", order="alive", count=1, endpoint="POST /api/v3/order")
    done = up.oms("submit", "buy", "0.02", "BTC/USDT", "--price", FAR, "--id", "doubtful")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "in doubt" in done.stderr
    until(lambda: up.json("show", "doubtful")["order"]["status"] == "accepted", 30)


def test_check_runs_all_checks_and_sends_nothing(up: RunningUp) -> None:
    order = ("submit", "buy", "0.01", "BTC/USDT", "--id", "only-checked", "--check")
    good = up.json(*order, "--price", FAR)
    assert good["passed"]
    assert "price_valid" in good["checks_run"]
    bad = up.oms(*order, "--price", "38000.001")
    assert bad.returncode == 1
    assert "price_off_tick" in bad.stderr
    assert up.oms("show", "only-checked").returncode == 2


def test_cancel_says_how_it_ended(up: RunningUp) -> None:
    rest(up, "to-cancel")
    wrong = up.oms("cancel", "to-cancel", "--symbol", "ETH/USDT")
    assert wrong.returncode == 2
    assert "ETH/USDT" in wrong.stderr
    assert up.json("cancel", "to-cancel", "--exchange", "alpha")["outcome"] == "cancelled"
    ended = up.oms("cancel", "to-cancel", "--symbol", "ETH/USDT")
    assert ended.returncode == 2
    assert up.json("cancel", "nobody", code=2)["outcome"] == "not_found"


def test_modify_changes_quantity_and_price(up: RunningUp) -> None:
    rest(up, "to-modify")
    smaller = up.json("modify", "to-modify", "--quantity", "0.015")
    assert smaller["state"]["quantity"] == "0.015"
    moved = up.oms("modify", "to-modify", "--price", "38100")
    assert moved.returncode == 0
    assert "@ 38100" in moved.stdout
    assert up.oms("modify", "to-modify").returncode == 2
    assert up.oms("modify", "nobody", "--price", "1").returncode == 2


def test_show_tells_the_whole_story(up: RunningUp) -> None:
    up.oms("submit", "buy", "0.01", "BTC/USDT", "--id", "story")
    told = up.json("show", "story")
    assert told["events"][0]["name"] == "order_created"
    assert sum(float(fill["quantity"]) for fill in told["fills"]) == pytest.approx(0.01)
    assert [send["outcome"] for send in told["sends"]] == ["accepted"]
    people = up.oms("show", "story").stdout
    assert all(word in people for word in ("History", "Fills", "Sends", "order-story"))


def test_lists_are_tables_csv_and_json_with_filters(up: RunningUp) -> None:
    rest(up, "listed", "--strategy", "lists")
    assert [one["client_order_id"] for one in up.json("list", "--strategy", "lists")] == ["listed"]
    table = up.oms("list", "--strategy", "lists").stdout
    assert "listed" in table
    rows = list(csv.DictReader(io.StringIO(up.oms("list", "--all", "--csv").stdout)))
    assert {"listed"} <= {row["client_order_id"] for row in rows}
    up.oms("cancel", "listed")
    assert up.json("list", "--strategy", "lists") == []
    assert len(up.json("list", "--strategy", "lists", "--all")) == 1
    assert up.json("list", "--exchange", "beta", "--symbol", "btc/usdt", "--in-doubt") == []


def test_watch_prints_each_event_as_one_line_of_json(
    up: RunningUp, start: Callable[..., Program]
) -> None:
    rest(up, "watched", "--strategy", "watching")
    everything = start("watch", "--after", "0", "--strategy", "watching", "--json")
    until(lambda: "order_accepted" in everything.output)
    up.oms("cancel", "watched")
    until(lambda: "order_cancelled" in everything.output)
    assert everything.end(signal.SIGINT) == 0
    events = [json.loads(line) for line in everything.output.splitlines()]
    assert [event["order_sequence"] for event in events] == list(range(1, len(events) + 1))
    one = up.oms("watch", "watched")  # It has ended, so this does too.
    assert one.returncode == 0
    assert len(one.stdout.splitlines()) == len(events)


def test_limits_show_what_all_workers_have_used(up: RunningUp) -> None:
    found = up.json("limits", "--exchange", "alpha")["alpha"]
    assert found["pools"]["weight_1m"]["limit"] == 6000
    assert found["pools"]["weight_1m"]["used"] > 0
    assert "orders_10s:main" in up.oms("limits").stdout
    assert up.oms("limits", "--exchange", "alpha", "--lift").returncode == 0
    assert up.oms("limits", "--lift").returncode == 2


def test_balances_and_positions_agree(up: RunningUp) -> None:
    up.oms("submit", "buy", "0.01", "BTC/USDT", "--exchange", "beta", "--id", "a-position")
    [position] = up.json("positions", "--exchange", "beta")
    [bitcoin] = [one for one in up.json("balances", "--exchange", "beta") if one["asset"] == "BTC"]
    assert f"{10 + float(position['quantity']):.8f}" == f"{float(bitcoin['total']):.8f}"
    assert "0.01 at" in up.oms("positions").stdout
    assert "USDT" in up.oms("balances").stdout


def test_doctor_finds_all_in_order(up: RunningUp) -> None:
    report = up.json("doctor")
    assert report["ok"]
    names = {check["what"] for check in report["checks"]}
    assert names >= {"Temporal", "store", "workers", "alpha/main", "beta/main"}


def test_doctor_reports_what_fails_and_a_live_account(up: RunningUp) -> None:
    variables = {**up.variables, "OMS_ALPHA_API_SECRET": "wrong", "OMS_BETA_LIVE": "true"}
    done = up.oms("doctor", **variables)
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "LIVE" in done.stdout


def test_a_live_account_shows_on_submit(up: RunningUp) -> None:
    variables = {**up.variables, "OMS_BETA_LIVE": "true"}
    order = ("submit", "buy", "0.01", "BTC/USDT", "--price", FAR, "--exchange", "beta")
    assert "LIVE" in up.oms(*order, **variables).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("submit", "buy", "abc", "BTC/USDT"), "quantity"),
        (("submit", "buy", "-1", "BTC/USDT"), "greater than 0"),
        (("submit", "buy", "0", "BTC/USDT"), "must be greater than 0"),
        (("submit", "hold", "1", "BTC/USDT"), "hold"),
        (("submit", "buy", "1", "BTCUSDT"), "BASE/QUOTE"),
        (("submit", "buy", "1", "BTC/USDT", "--type", "limit"), "price is missing"),
        (("show", "nobody"), "nobody"),
        (("balances", "--exchange", "gamma"), "alpha,beta"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    up: RunningUp, arguments: tuple[str, ...], words: str
) -> None:
    done = up.oms(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_reached_is_one_line_and_exit_code_four(up: RunningUp) -> None:
    order = ("submit", "buy", "1", "BTC/USDT")
    away = [
        up.oms(*order, TEMPORAL_ADDRESS="127.0.0.1:1"),
        up.oms("list", OMS_STORE_URL="sqlite:////nowhere/oms.sqlite3"),
        up.oms("list", OMS_STORE_URL="postgresql://oms:hush@127.0.0.1:1/oms"),
        up.oms("list", XDG_CACHE_HOME="/nowhere"),
    ]
    for done in away:
        assert done.returncode == 4, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("error: ")
        assert "hush" not in done.stderr


def test_a_second_up_is_refused(up: RunningUp) -> None:
    done = up.oms("up")
    assert done.returncode == 4
    assert str(up.program.process.pid) in done.stderr


def test_up_replaces_a_worker_that_dies(up: RunningUp) -> None:
    def workers() -> set[int]:
        return {pid for pid in descendants(up.program.process.pid) if is_worker(pid)}

    [old] = workers()
    os.kill(old, signal.SIGKILL)
    until(lambda: "It works." in up.program.output)
    assert workers() != {old}
    rest(up, "after-the-death")


def is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"workers"]
    except OSError:
        return False


def test_operators_reconcile_and_let_orders_be_sent_again(up: RunningUp) -> None:
    assert up.oms("reconcile", "--dry-run").returncode == 0
    past = up.oms("reconcile", "--last", "3", "--exchange", "alpha", "--json")
    assert {report["exchange"] for report in json.loads(past.stdout)} == {"alpha"}
    assert "alpha / main: looked at" in up.oms("reconcile", "--last", "9").stdout
    everywhere = up.oms("resume", "--reason", "looked at it")
    assert everywhere.returncode == 0, everywhere.stderr
    assert "trading is active everywhere" in everywhere.stdout
    there = up.oms("resume", "alpha", "main", "--reason", "they have explained it")
    assert there.returncode == 0, there.stderr
    assert up.oms("resume", "alpha", "--reason", "half a name").returncode == 2


def test_a_load_tells_rates_latencies_and_outcomes(up: RunningUp) -> None:
    wish = ("buy", "0.002", "BTC/USDT", "--price", FAR, "--exchange", "alpha", "--cancel")
    figures = up.json("bench", "load", *wish, "--rate", "20", "--at-once", "4", "--seconds", "0.3")
    assert figures["orders"] == 6
    assert figures["outcomes"] == {"cancelled": 6}
    assert float(figures["answer_p50_ms"]) > 0
    refused = up.oms("bench", "load", *wish, **{**up.variables, "OMS_ALPHA_LIVE": "1"})
    assert (refused.returncode, "set to trade live" in refused.stderr) == (2, True)
    unknown = up.oms("bench", "load", *wish, **{**up.variables, "OMS_EXCHANGES": ""})
    assert (unknown.returncode, "OMS_EXCHANGES is not set" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        ["show", "nobody"],
        ["cancel", "nobody"],
        ["modify", "nobody", "--price", "39000"],
        ["resolve", "nobody", "dead", "--reason", "a test"],
        ["resolve", "nobody", "dead", "--reason", "and once more"],
        ["cancel", "nobody", "--wait", "1"],
    ],
    ids=" ".join,
)
def test_an_unknown_order_is_named_and_has_its_exit_code(up: RunningUp, command: list[str]) -> None:
    done = up.oms(*command)
    assert done.returncode == Exit.BAD_INPUT
    assert done.stderr == "error: no order has the id 'nobody'\n"
    assert done.stdout == ""


def test_ctrl_c_ends_a_command_with_one_line_at_any_moment(
    environment: dict[str, str], start: Callable[..., Program]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        waiting = start("cancel", "an-order", TEMPORAL_ADDRESS=address)
        connection, _ = silent.accept()
        with connection:  # It will never be answered.
            assert waiting.end(signal.SIGINT) == Exit.INTERRUPTED
        assert waiting.output == "error: stopped\n"


def test_ctrl_c_while_the_program_is_loaded_ends_with_one_line() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from trading.oms.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (Exit.INTERRUPTED, "error: stopped\n")


def test_a_folder_with_the_orders_of_a_former_run_is_refused(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'oms.sqlite3'}"
    asyncio.run(with_an_order(url))
    done = start("up", "--folder", str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert done.process.wait(60) == Exit.UNREACHABLE
    assert "the orders of a former run" in done.output
    assert "Traceback" not in done.output


async def with_an_order(url: str) -> None:
    store = await Store.open(url, create=True)
    await store.admit(new_order())
    await store.close()
