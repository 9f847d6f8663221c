"""The limits' file: what it may say, what its errors say, and how it is read again."""

import os
from decimal import Decimal
from pathlib import Path

import pytest

from tests.oms.builders import order
from trading.oms.errors import StartUpError
from trading.oms.risk.limits import RiskLimits, WithoutQuote
from trading.oms.risk.rules_file import RulesFile, parse_rules

GOOD = """
[limits]
max_open_orders = 200
max_exposure = 1_000_000

[[rule]]
strategy_id = "momentum"
max_position_size = 2.5
max_exposure = "off"
without_quote = "skip"

[[rule]]
exchange = "alpha"
account = "main"
check_capital = false
"""


def test_rules_are_laid_over_the_limits_of_all() -> None:
    rules = parse_rules(GOOD, "risk.toml")
    plain = rules.limits_for(order(), "beta", "main")
    assert (plain.max_open_orders, plain.max_exposure) == (200, Decimal(1_000_000))
    assert plain.max_price_deviation == Decimal("0.05")
    both = rules.limits_for(order(strategy_id="momentum"), "alpha", "main")
    assert (both.max_position_size, both.max_exposure) == (None, Decimal(1_000_000))
    [own] = both.own
    assert (own.scope.strategy_id, own.max_position_size) == ("momentum", Decimal("2.5"))
    assert (both.without_quote, both.check_capital) == (WithoutQuote.SKIP, False)
    assert both.max_open_orders == 200


def test_numbers_are_exact() -> None:
    rules = parse_rules("[limits]\nmax_price_deviation = 0.1", "x")
    assert rules.limits.max_price_deviation == Decimal("0.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits = 1", r"\[limits\] is 1; must be a table"),
        ("[limits]\nmax_exposure = -5", r"\[limits\]: max_exposure is -5; must be greater than 0"),
        ("[limits]\nmax_exposre = 5", r"\[limits\]: max_exposre is 5: Extra inputs"),
        ("[limits]\nmax_open_orders = 1.5", r"max_open_orders is 1.5"),
        ('[[rule]]\nstrategy_id = "s"\nmax_exposure = "x"', r"rule 1 \(strategy_id=s\): max_expo"),
        ("[[rule]]\nexchange = 3", r"rule 1 \(exchange=3\): exchange is 3"),
        ("[rule]\nexchange = 3", r"rule is a table; write \[\[rule\]\]"),
        ("rule = [1]", r"rule 1 is 1; must be a table"),
        (
            '[[rule]]\nsymbol = "btc/usdt"',
            r"rule 1 .*: symbol is .btc/usdt.; must be BASE/QUOTE in capitals",
        ),
        (
            '[[rule]]\nsymbol = "BTCUSDT"',
            r"rule 1 .*: symbol is .BTCUSDT.; must be BASE/QUOTE in capitals",
        ),
        ('[[rule]]\nstrategy_id = "a b"', r"rule 1 .*: strategy_id is .a b.; must be 1 to 64"),
        ('[[rule]]\naccount = "alpha/main"', r"rule 1 .*: account is .alpha/main.; must be 1"),
        ('[[rule]]\nexchange = ""', r"rule 1 .*: exchange is ..; must be 1 to 32"),
        ("[limit]", r"'limit' is unknown; allowed are \[limits\] and \[\[rule\]\]"),
        ("[limits", r"risk.toml is no TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(StartUpError, match=words):
        parse_rules(text, "risk.toml")


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(StartUpError) as wrong:
        parse_rules("[limits]\nmax_exposure = 0\n[[rule]]\nmax_open_orders = -1", "risk.toml")
    assert "[limits]" in str(wrong.value)
    assert "rule 1" in str(wrong.value)


def _changed(path: Path, text: str) -> None:
    path.write_text(text)
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "risk.toml"
    path.write_text("[limits]\nmax_open_orders = 1")
    rules = RulesFile(path)
    assert not rules.reload_if_changed()
    _changed(path, "[limits]\nmax_open_orders = 2")
    assert rules.reload_if_changed()
    assert rules.rules.limits.max_open_orders == 2
    _changed(path, "[limits]\nmax_open_orders = -2  ")
    assert not rules.reload_if_changed()
    assert rules.rules.limits.max_open_orders == 2
    path.unlink()
    assert not rules.reload()
    assert rules.rules.limits.max_open_orders == 2


def test_a_file_that_is_no_text_ends_the_start_and_changes_nothing_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "risk.toml"
    path.write_bytes(b"[limits]\nmax_open_orders = 2 # \xff")
    with pytest.raises(StartUpError, match=r"the risk file .*risk\.toml is no UTF-8"):
        RulesFile(path)
    path.write_text("[limits]\nmax_open_orders = 1")
    rules = RulesFile(path)
    path.write_bytes(b"\xff\xfe")
    assert not rules.reload()
    assert rules.rules.limits.max_open_orders == 1
    assert "the risk limits stay as they are" in caplog.text
    assert "Traceback" not in caplog.text


def test_without_a_file_the_defaults_hold() -> None:
    rules = RulesFile()
    assert rules.rules.limits == RiskLimits()
    assert not rules.reload()


def test_a_file_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartUpError, match=r"the risk file .*none\.toml cannot be read"):
        RulesFile(tmp_path / "none.toml")
