"""Nothing is alarmed without a page that says what to do."""

import re
from pathlib import Path

import pytest

from trading.oms.alarms import ALARMS, Alarm, alarm_of
from trading.oms.transitions import TABLE

ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs" / "runbooks"
RAISES = "EventKind.ALARM"
THE_MECHANISM = {"trading.oms.lifecycle", "activities.store.journal"}


NAMES = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "README")


def test_every_alarm_has_a_page_and_every_page_is_in_the_list_of_pages() -> None:
    listed = re.findall(
        r"^- \[[^]]+\]\(([a-z0-9-]+)\.md\)", (PAGES / "README.md").read_text(), re.MULTILINE
    )
    assert {alarm.value for alarm in Alarm} <= set(NAMES)
    assert sorted(listed) == NAMES
    assert set(ALARMS) == set(Alarm)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()

    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## What it means", "## What to look at", "## What to do"]


def test_every_module_that_raises_an_alarm_is_listed() -> None:
    raising = set()
    for package in ("trading", "workflows", "activities", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            if RAISES in path.read_text():
                raising.add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    listed = {module for source in ALARMS.values() for module in source.modules}

    assert raising - THE_MECHANISM <= listed


def test_every_alarm_of_the_lifecycle_is_one_of_the_list() -> None:
    texts = [
        f"{step.value} in {status.value}: {row.reason}"
        for (status, step), row in TABLE.items()
        if row.alarm
    ]

    assert texts
    assert [text for text in texts if alarm_of(text) is None] == []


@pytest.mark.parametrize(
    ("text", "alarm"),
    [
        ("in doubt since 2026-01-01T00:00:00+00:00: not_yet", Alarm.DOUBT_LASTS),
        ("leg 2 was declared dead by ann: why", Alarm.DECLARED_DEAD),
        ("still open 30 s after its expiry", Alarm.LATE_EXPIRY),
        ("reconciliation, price_mismatch: price of order a is 1 here", Alarm.RECONCILIATION),
        (
            "leg 1, generation 1 lives, which was proved not to be placed; it carries the order",
            Alarm.REVIVED,
        ),
        ("something new", None),
    ],
)
def test_an_alarm_is_recognised_by_its_text(text: str, alarm: Alarm | None) -> None:
    assert alarm_of(text) is alarm
