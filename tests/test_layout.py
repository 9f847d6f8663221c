"""The shape of the project: who may import whom, and how long things may grow.

Imports go one way: `trading.oms` (what an order is) knows nothing of `workflows` (what happens),
which know nothing of the insides of `activities` (what touches the world); `workers` puts all of
them together.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("trading", "workflows", "activities", "workers")

# About 300 and 40 are the aim; these leave room for one more case in a module that is whole.
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
LONGER_FOR_A_REASON = {
    "trading.oms.models": "the specification wants the models in one module",
    "trading.oms.transitions._rows": "a table: one line for each row and its reason",
}

# The client and the command line are doors: they stand beside the domain and may use everything.
DOORS = re.compile(r"trading\.oms\.(order_manager|order_client|journal_reader|cli)(_\w+)?(\..*)?")

# Which of our packages a package may import, itself included. The first match holds.
MAY_IMPORT_OURS = {
    "trading.oms": ("trading.oms",),
    "workflows": ("trading.oms", "activities", "workflows"),
    "activities": ("trading.oms", "activities"),
    # The sandbox stands for somebody else's exchange: what it shared with us, it could not test.
    "workers.sandbox": ("workers.sandbox",),
    "workers": OURS,
}

# Which packages of others a package may import beside the standard library.
MAY_IMPORT_OTHERS = {
    "trading.oms": {"pydantic", "pydantic_core"},
    "workflows": {"pydantic", "temporalio"},
}

# A module of `activities` that workflows import holds signatures only, so that a workflow loads no
# database driver and no exchange library.
SIGNATURES_MAY_IMPORT_OTHERS = {"pydantic", "temporalio"}

FORBIDDEN_MODULE_NAMES = {
    "base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
}  # fmt: skip
ALLOWED_ALL_THE_SAME = {"trading/oms/risk/base.py", "trading/oms/routing/base.py"}

# Where the money is: amounts are Decimal from end to end. A time may be a float.
MONEY = ("trading/oms", "workflows", "activities")
A_TIME = re.compile(r"(seconds|_s|_ms|_at)\b")

# Put together here, so that this file does not hold them itself.
FORBIDDEN_TEXTS = ("/wo" + "rk/", "../sha" + "red", "/ro" + "ot/")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours: its dotted name and its file."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """The dotted names a module imports, at the top or anywhere within."""
    names: list[str] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            # `from workers import sandbox` may name a module or a thing within one.
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules_inside = [name for name in inside if name in modules()]
            names += modules_inside or [node.module or ""]
    return tuple(names)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def package_of(module: str) -> str:
    return next(package for package in MAY_IMPORT_OURS if is_within(module, package))


def is_ours(name: str) -> bool:
    return any(is_within(name, package) for package in OURS)


def others(path: Path) -> set[str]:
    """The packages of others a module imports, without the standard library."""
    tops = {name.partition(".")[0] for name in imports(path) if not is_ours(name)}
    return tops - sys.stdlib_module_names


def signatures() -> Iterator[str]:
    """The modules of `activities` that workflows reach."""
    seen: set[str] = set()
    waiting = [name for name in modules() if is_within(name, "workflows")]
    while waiting:
        for name in imports(modules()[waiting.pop()]):
            if is_within(name, "activities") and name in modules() and name not in seen:
                seen.add(name)
                waiting.append(name)
                yield name


def makes_or_takes_a_float(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether this is `float(...)` or `Decimal(0.1)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    values = [each.value for each in node.args if isinstance(each, ast.Constant)]
    from_float = any(isinstance(value, float) for value in values)
    return node.func.id == "float" or (node.func.id == "Decimal" and from_float)


def test_trading_stays_open_for_the_modules_of_others() -> None:
    assert not (ROOT / "trading" / "__init__.py").exists()


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module: str) -> None:
    if DOORS.fullmatch(module):
        return
    allowed = MAY_IMPORT_OURS[package_of(module)]
    wrong = [
        name
        for name in imports(modules()[module])
        if is_ours(name) and not any(is_within(name, package) for package in allowed)
    ]
    assert not wrong, f"{module} imports {wrong}; allowed are {allowed}"


@pytest.mark.parametrize("module", modules())
def test_only_doors_and_workers_know_the_doors(module: str) -> None:
    # The package itself offers `OrderManager` under the name that users import.
    if DOORS.fullmatch(module) or is_within(module, "workers") or module == "trading.oms":
        return
    assert not [name for name in imports(modules()[module]) if DOORS.fullmatch(name)]


@pytest.mark.parametrize("module", modules())
def test_the_domain_and_the_workflows_are_light(module: str) -> None:
    allowed = MAY_IMPORT_OTHERS.get(package_of(module))
    if allowed is None or DOORS.fullmatch(module):
        return
    assert others(modules()[module]) <= allowed


def test_workflows_see_signatures_of_activities_only() -> None:
    heavy = {name: others(modules()[name]) - SIGNATURES_MAY_IMPORT_OTHERS for name in signatures()}
    assert not {name: what for name, what in heavy.items() if what}


@pytest.mark.parametrize("module", modules())
def test_modules_and_functions_stay_short(module: str) -> None:
    path = modules()[module]
    if "migrations/versions" in path.as_posix():
        return
    lines = len(path.read_text().splitlines())
    too_long = {module: lines} if lines > MODULE_LINES_MAX else {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                too_long[f"{module}.{node.name}"] = length
    assert not {name: n for name, n in too_long.items() if name not in LONGER_FOR_A_REASON}


def test_modules_are_named_for_what_they_hold() -> None:
    named_badly = {
        path.relative_to(ROOT).as_posix()
        for name, path in modules().items()
        if name.rpartition(".")[2] in FORBIDDEN_MODULE_NAMES
    }
    assert named_badly <= ALLOWED_ALL_THE_SAME


@pytest.mark.parametrize("folder", MONEY)
def test_no_amount_passes_through_a_float(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(tree(path))
        if makes_or_takes_a_float(node)
        and not A_TIME.search(path.read_text().splitlines()[node.lineno - 1])
    ]
    assert not found


def test_tracked_files_speak_of_this_project_only() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    found = []
    for name in listing.stdout.split("\0"):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}: {word}" for word in FORBIDDEN_TEXTS if word in text]
    assert not found


def test_the_lock_names_the_public_registry_only() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_every_rule_that_is_switched_off_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    ruff = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.flake8-tidy-imports]")]
    without = [line for line in ruff.splitlines() if re.match(r'    "[A-Z]+\d+",', line)]
    assert [line for line in without if "#" not in line] == []
    assert tomllib.loads(text)["tool"]["ruff"]["lint"]["select"] == ["ALL"]
