"""`python -m tests.chaos.harness`: one run; the last line printed is one line of JSON.

Exit code 0 when the three books are equal, 1 when anything differs.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.harness.plan import Settings
from tests.chaos.harness.run import run
from trading.oms.models import utc_now


def settings_of(arguments: Sequence[str]) -> tuple[Settings, Path | None]:
    """The settings that a command line describes, and where its logs are to stay."""
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.harness")
    add = parser.add_argument
    add("--orders", type=int, default=usual.orders)
    add("--seed", type=int, default=usual.seed, help="the same seed is the same plan")
    add("--minutes", type=float, default=usual.minutes, help="how long things break")
    add("--store", choices=("sqlite", "postgresql"), default=usual.store)
    add("--workers", type=int, default=usual.workers)
    add("--patience-s", type=float, default=usual.patience_s, help="for the settling, seconds")
    add("--pause-s", type=float, default=usual.pause_s, help="between two disasters, the mean")
    add("--without", choices=("claims", "catch-up"), default="", help="to see that it is seen")
    add("--keep", type=Path, help="a folder for the logs and the databases of the run")
    given = vars(parser.parse_args(arguments))
    keep = given.pop("keep")
    return Settings(**given), keep


def main() -> int:
    """Run, and say what was found."""
    settings, keep = settings_of(sys.argv[1:])
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="oms-chaos-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            place = keep
        summary = asyncio.run(run(settings, place, say_when))
    say(json.dumps(summary.as_json()))
    return 0 if summary.is_clean else 1


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)  # noqa: T201


def say_when(line: str) -> None:
    """The same, with the time."""
    say(f"{utc_now():%H:%M:%S} {line}")


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
