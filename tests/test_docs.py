"""The reference pages say what the code says."""

import subprocess
import sys
from pathlib import Path

from trading.oms.enums import ReasonCode
from trading.oms.reasons import MEANINGS

ROOT = Path(__file__).parent.parent


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
