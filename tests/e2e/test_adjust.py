"""`oms adjust-position` and its audit, against a stack that runs."""

import pytest

from tests.e2e.conftest import RunningUp

pytestmark = [pytest.mark.e2e, pytest.mark.temporal]
# The strategy's own position: the account's is other tests' business.
WHERE = ("alpha/main", "ETH/USDT")
WHY = ("--strategy", "adjusted", "--reason", "a transfer", "--by", "ann")


def test_a_position_is_set_and_the_audit_says_why_and_by_whom(up: RunningUp) -> None:
    answer = up.json("adjust-position", *WHERE, "2.50", *WHY)
    assert answer == {"symbol": "ETH/USDT", "before": "0", "after": "2.50"}
    done = up.oms("adjust-position", *WHERE, "3", "--was", "2.5", *WHY)
    assert done.stdout == "alpha / main: ETH/USDT 2.5 -> 3\n"
    audit = [one for one in up.json("adjustments", "alpha/main") if one["by"] == "ann"]
    assert [(one["before"], one["after"]) for one in audit] == [("0", "2.5"), ("2.5", "3")]
    assert {one["reason"] for one in audit} == {"a transfer"}
    assert "a transfer" in up.oms("adjustments", "alpha/main").stdout


def test_a_position_that_has_moved_is_left_alone(up: RunningUp) -> None:
    done = up.oms("adjust-position", *WHERE, "9", "--was", "7", *WHY)
    assert done.returncode == 1
    assert "not 7; nothing was changed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("alpha", "ETH/USDT", "1"), "write EXCHANGE/ACCOUNT"),
        (("alpha/other", "ETH/USDT", "1"), "no account alpha/other is known"),
        (("alpha/main", "ETHUSDT", "1"), "must be BASE/QUOTE in capitals, as in BTC/USDT"),
        (("alpha/main", "ETH/USDT", "nan"), "'nan' is no amount"),
        (("alpha/main", "ETH/USDT", "a lot"), "'a lot' is no amount"),
    ],
)
def test_a_wrong_wish_is_refused(up: RunningUp, arguments: tuple[str, ...], said: str) -> None:
    done = up.oms("adjust-position", *arguments, "--reason", "x")
    assert done.returncode == 2
    assert said in done.stderr
