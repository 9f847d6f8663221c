"""The limits from one TOML file: read, checked, and read again when it has changed.

[limits]                      # for every order; what is not given has its default
max_open_orders = 200
max_price_deviation = 0.05

[[rule]]                      # laid over them for the orders that match, in their order
strategy_id = "momentum"
symbol = "BTC/USDT"
max_position_size = 2.5
max_exposure = "off"
"""

import logging
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trading.oms.errors import StartUpError
from trading.oms.risk.limits import LimitRule, RiskLimits, RiskRules

_log = logging.getLogger(__name__)
_OFF = "off"
_SELECTORS = frozenset(LimitRule.model_fields) - {"limits"}


class RulesFile:
    """The rules in force. A file that has become wrong changes nothing: the last ones stay."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file; without one the defaults hold. Raises `StartUpError`."""
        self._path = path
        self._seen = _stamp(path)
        self.rules = RiskRules() if path is None else read_rules(path)

    def reload_if_changed(self) -> bool:
        """Read the file again where its time or size is another; whether the rules changed."""
        return _stamp(self._path) != self._seen and self.reload()

    def reload(self) -> bool:
        """Read the file again. What is wrong with it is logged, and the rules stay as they are."""
        if self._path is None:
            return False
        self._seen = _stamp(self._path)
        try:
            found = read_rules(self._path)
        except StartUpError as error:
            _log.error("the risk limits stay as they are: %s", error)
            return False
        changed = found != self.rules
        self.rules = found
        if changed:
            _log.warning("the risk limits have changed: %s was read again", self._path)
        return changed


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if found else None


def read_rules(path: Path) -> RiskRules:
    """The rules in a file. Raises `StartUpError` that names the rule, the field and the value."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"the risk file {path} cannot be read: {error.strerror}"
        raise StartUpError(msg) from None
    except UnicodeDecodeError as error:
        msg = f"the risk file {path} is no UTF-8: {error}"
        raise StartUpError(msg) from None
    return parse_rules(text, str(path))


def parse_rules(text: str, source: str) -> RiskRules:
    """The rules in a TOML text; `source` is its name in errors. Raises `StartUpError`."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        msg = f"{source} is no TOML: {error}"
        raise StartUpError(msg) from None
    unknown = sorted(set(raw) - {"limits", "rule"})
    wrong = [f"{name!r} is unknown; allowed are [limits] and [[rule]]" for name in unknown]
    limits = _limits(raw.get("limits", {}), "[limits]", wrong)
    entries = raw.get("rule", [])
    if not isinstance(entries, list):
        wrong.append("rule is a table; write [[rule]]")
        entries = []
    rules = [_rule(entry, f"rule {number}", wrong) for number, entry in enumerate(entries, 1)]
    if wrong:
        raise StartUpError(f"{source}: " + "; ".join(wrong))
    return RiskRules(limits=limits, rules=tuple(rules))


def _rule(entry: Any, where: str, wrong: list[str]) -> LimitRule:
    if not isinstance(entry, dict):
        wrong.append(f"{where} is {entry!r}; must be a table")
        return LimitRule(limits=RiskLimits())
    named = ", ".join(f"{name}={entry[name]}" for name in sorted(_SELECTORS & set(entry)))
    where = f"{where} ({named})" if named else where
    selectors = {name: value for name, value in entry.items() if name in _SELECTORS}
    values = {name: value for name, value in entry.items() if name not in _SELECTORS}
    limits = _limits(values, where, wrong)
    try:
        return LimitRule(limits=limits, **selectors)
    except ValidationError as error:
        wrong += _words(error, where)
        return LimitRule(limits=limits)


def _limits(values: Any, where: str, wrong: list[str]) -> RiskLimits:
    if not isinstance(values, dict):
        wrong.append(f"{where} is {values!r}; must be a table")
        return RiskLimits()
    try:
        return RiskLimits(**{n: None if v == _OFF else v for n, v in values.items()})
    except ValidationError as error:
        wrong += _words(error, where)
        return RiskLimits()


def _words(error: ValidationError, where: str) -> list[str]:
    found = []
    for one in error.errors():
        field = ".".join(str(part) for part in one["loc"])
        rule = one["msg"].removeprefix("Value error, ")
        given = f" is {one['input']}" if not rule.startswith("is ") else ""
        found.append(f"{where}: {field}{given}{':' if given else ''} {rule}")
    return found
