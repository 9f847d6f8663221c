"""The custom risk checks that installed packages bring, by the entry points `oms.risk_checks`."""

from importlib.metadata import entry_points

from trading.oms.errors import StartUpError
from trading.oms.risk.base import IRiskChecker
from trading.oms.risk.checker import RiskChecker

GROUP = "oms.risk_checks"


def with_installed_checks(checker: IRiskChecker | None) -> IRiskChecker:
    """The checker, or a new one, with every installed check that it has not got already.

    Each entry point is `name = "module:function"`, the function as for `add_check`. Raises
    `StartUpError`: an order must not pass because its check could not be loaded.
    """
    checker = checker or RiskChecker()
    known = checker.check_names if isinstance(checker, RiskChecker) else []
    for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        if entry.name in known:
            continue
        try:
            check = entry.load()
        except Exception as error:
            msg = f"the risk check {entry.name!r} ({entry.value}) cannot be loaded: {error}"
            raise StartUpError(msg) from error
        checker.add_check(entry.name, check)
    return checker
