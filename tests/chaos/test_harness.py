"""The chaos harness itself, in its short form: see docs/chaos.md for the long one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.harness.plan import Breaks, Settings, disasters, wishes
from tests.chaos.harness.run import Summary, run


@pytest.mark.parametrize(
    "settings",
    [
        Settings(orders=120, minutes=0.25, seed=116, patience_s=60),
        pytest.param(Settings(orders=500, minutes=2, seed=1), marks=pytest.mark.chaos_long),
        pytest.param(
            Settings(orders=500, minutes=2, seed=2, store="postgresql"),
            marks=pytest.mark.chaos_long,
        ),
    ],
    ids=lambda settings: f"{settings.orders} on {settings.store}",
)
@pytest.mark.timeout(600)
async def test_after_all_that_breaks_the_three_books_are_equal(
    tmp_path: Path, say: Callable[[str], None], settings: Settings
) -> None:
    summary = await run(settings, tmp_path, say)
    told(summary, say)
    assert summary.is_clean, summary
    assert summary.orders == settings.orders
    assert summary.faults > 0


@pytest.mark.chaos_long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("without", "found"), [("claims", "doubled"), ("catch-up", "fills_missing")]
)
async def test_without_a_safeguard_the_books_differ(
    tmp_path: Path, say: Callable[[str], None], without: str, found: str
) -> None:
    settings = Settings(orders=200, minutes=0.5, without=without, patience_s=20)
    summary = await run(settings, tmp_path, say)
    told(summary, say)
    assert summary.counts[found] > 0


def told(summary: Summary, say: Callable[[str], None]) -> None:
    say(str(summary.as_json()))


def test_a_seed_repeats_a_plan() -> None:
    once, again = Settings(orders=50), Settings(orders=50)
    assert wishes(once) == wishes(again)
    assert disasters(once) == disasters(again)
    assert wishes(once) != wishes(Settings(orders=50, seed=2))
    assert disasters(once) != disasters(Settings(orders=50, seed=2))


def test_five_minutes_break_everything_that_can_break() -> None:
    plan = disasters(Settings(minutes=5, store="postgresql"))
    assert {disaster.what for disaster in plan} == set(Breaks)
