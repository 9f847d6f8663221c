"""The page of requirements names what exists, and is honest about what does not hold."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "requirements.md"
NAMED = re.compile(r"`([\w./-]+\.(?:py|md|toml|yml|json))(?:::(\w+))?`")


class Row(NamedTuple):
    requirement: str
    holds: str
    code: str
    tests: str


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if cells and cells[0] not in {"requirement", "---"}:
            assert len(cells) == 4, line
            yield Row(*cells)


@cache
def text_of(path: str) -> str:
    return (ROOT / path).read_text()


def is_defined(name: str, text: str) -> bool:
    """Whether a function, a class or a value of this name is made there."""
    return bool(re.search(rf"^\s*(async def|def|class) {name}\b|^{name}\b.*=", text, re.MULTILINE))


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.requirement[:50])
def test_what_a_row_names_exists(row: Row) -> None:
    code, tests = NAMED.findall(row.code), NAMED.findall(row.tests)
    assert code, "a row names the code, or where it would be"
    for path, name in code + tests:
        assert (ROOT / path).is_file(), path
        assert not name or is_defined(name, text_of(path)), f"{path} has no {name}"
    for path, name in tests:
        assert re.match(r"tests/.*test_\w+\.py$", path), path
        assert name.startswith("test_"), path


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.requirement[:50])
def test_a_row_holds_by_a_test_or_says_why_not(row: Row) -> None:
    word, _, why = row.holds.partition(": ")
    assert word in {"yes", "partly", "no"}, row.holds
    assert why or (word == "yes" and NAMED.search(row.tests)), "neither a test nor a reason"


def test_no_requirement_stands_there_twice() -> None:
    names = [row.requirement for row in rows()]
    assert len(names) == len(set(names)) > 80
