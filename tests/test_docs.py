"""The reference pages say what the code says."""

import re
import subprocess
import sys
from pathlib import Path

from trading.oms.enums import ReasonCode
from trading.oms.reasons import MEANINGS

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\]\(([^)#\s]*)#?([^)\s]*)\)")


def test_the_reference_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/build.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_reason_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ReasonCode)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_link_between_our_pages_leads_somewhere() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dead = []
    for page in (ROOT / name for name in listed.stdout.splitlines()):
        for target, anchor in _LINK.findall(page.read_text()):
            if "://" in target:
                continue
            goal = (page.parent / target).resolve() if target else page
            if not goal.exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and goal.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", goal.read_text(), flags=re.MULTILINE)
                if anchor not in {_anchor(heading) for heading in headings}:
                    dead.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert not dead
