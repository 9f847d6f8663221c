"""`python -m bench`: orders per second, latencies and CPU per order, beside the bare workflow.

Prints a table for people and, as the last line, one line of JSON. Progress goes to stderr.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import page
from bench.plan import SHORT, Plan, run
from bench.processes import machine
from bench.report import detail, show, summary
from trading.oms.errors import StartUpError

_RESULTS = Path(__file__).parent / "results"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.short:
        return SHORT
    given = {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "names": arguments.only and tuple(arguments.only),
    }
    return Plan(**{name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--short", action="store_true", help="a few seconds, to see that it works")
    add("--rounds", type=int, help=f"how often each contender has its turn ({Plan.rounds})")
    add("--seconds", type=float, help=f"how long one cell is measured ({Plan.seconds:g})")
    add("--only", nargs="+", choices=Plan.names, metavar="NAME", help=", ".join(Plan.names))
    return parser


def main() -> int:
    """Measure, show, keep; the exit code."""
    plan = _plan(_parser().parse_args())
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    facts = machine()
    started = datetime.now(UTC)
    try:
        results = asyncio.run(run(plan, _say))
    except StartUpError as error:
        _say(f"cannot start: {error}")
        return 1
    facts["load_after"] = round(os.getloadavg()[0], 2)
    show(results, facts)
    line = summary(results)
    if not plan.is_short:
        about = {"at": started.isoformat(), "machine": facts, "summary": line}
        path = _RESULTS / f"{started:%Y-%m-%dT%H%M%SZ}.json"
        path.write_text(json.dumps({**about, **detail(results)}, indent=1) + "\n")
        _say(f"kept in {path}")
        if plan.names == Plan.names:
            page.write(path)
            _say("docs/performance.md has its figures")
    print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(code)
