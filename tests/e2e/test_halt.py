"""Halting, resuming and cancelling many from the command line."""

import pytest

from tests.e2e.conftest import RunningUp

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
ORDER = ("submit", "buy", "0.02", "BTC/USDT", "--price", "38000", "--strategy", "halted-one")


def test_a_halt_cancels_and_denies_until_it_is_taken_back(up: RunningUp) -> None:
    assert up.oms(*ORDER, "--id", "halt-1").returncode == 0
    told = up.json("halt", "--strategy", "halted-one", "--reason", "strange", "--cancel")
    assert told["states"]["strategy:halted-one"] == "halted"
    assert [one["outcome"] for one in told["cancelled"]] == ["cancelled"]
    denied = up.oms(*ORDER, "--id", "halt-2")
    assert denied.returncode == 1
    assert "trading_halted" in denied.stderr
    checked = up.oms(*ORDER, "--check")
    assert "trading_halted" in checked.stderr
    back = up.oms("resume", "--strategy", "halted-one", "--reason", "calm")
    assert (back.returncode, back.stdout) == (0, "trading is active everywhere\n")
    assert up.oms(*ORDER, "--id", "halt-3").returncode == 0
    reducing = up.oms("halt", "--strategy", "halted-one", "--reducing")
    assert reducing.stdout == "strategy:halted-one: reducing\n"
    assert "not_reducing" in up.oms(*ORDER, "--id", "halt-4").stderr
    assert up.oms("resume", "--strategy", "halted-one", "--reason", "calm").returncode == 0
    cancelled = up.oms("cancel", "--strategy", "halted-one", "--symbol", "BTC/USDT")
    assert cancelled.stdout == "halt-3: cancelled\n"
    assert up.json("cancel", "--strategy", "halted-one") == []


def test_each_form_of_resume_ends_its_own_stop(up: RunningUp) -> None:
    assert up.oms("halt", "--account", "alpha/main").returncode == 0
    assert up.oms("halt").stdout == "account:alpha/main: halted\nall: halted\n"
    resent = up.oms("resume", "alpha", "main", "--reason", "explained")
    assert resent.stdout == "alpha / main: what proved not to be placed may be sent again\n"
    assert "trading_halted" in up.oms(*ORDER, "--id", "resume-1").stderr
    told = up.json("resume", "--reason", "seen enough")
    assert {one["exchange"] for one in told["reports"]} == {"alpha", "beta"}
    assert told["states"]["all"] == "active"
    assert told["states"]["account:alpha/main"] == "halted"
    back = up.oms("resume", "--account", "alpha/main", "--reason", "calm")
    assert back.stdout == "trading is active everywhere\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cancel",), "give an order's id, or which orders"),
        (("cancel", "x", "--all"), "not both"),
        (("halt", "--account", "alpha"), "write EXCHANGE/ACCOUNT"),
        (("resume",), "Missing option '--reason'"),
        (("resume", "alpha", "--reason", "x"), "give both EXCHANGE and ACCOUNT"),
        (("resume", "alpha", "main", "--strategy", "s", "--reason", "x"), "say one"),
    ],
)
def test_what_is_meant_must_be_said(up: RunningUp, arguments: tuple[str, ...], words: str) -> None:
    done = up.oms(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
