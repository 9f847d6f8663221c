"""Makes the reference pages from the code: `python docs/build.py`. A test checks them.

With `--check` nothing is written; the exit code is 1 where a page is not what the code says.
"""

import sys
from pathlib import Path

from trading.oms.cli.reference import reference
from trading.oms.enums import OPEN_STATUSES, OrderStatus, ReasonCode
from trading.oms.events import EVENT_TYPES
from trading.oms.reasons import MEANINGS
from trading.oms.transitions import TABLE, Step
from workers.settings import EXCHANGE_VARIABLES, VARIABLES, Variable

HERE = Path(__file__).parent
_STATUS = (
    "Status is the exchange's truth. What we have asked for is `pending`, and not knowing is "
    "`in_doubt_since`; both are fields of their own. Each event is evidence for a status, and "
    "the strongest evidence stands: therefore any order of arrival ends in the same status. An "
    "order that was modified may have had several exchange orders, its legs: the end of one is not "
    "the order's while another replaces it, and proof of the next leg takes back an end that was "
    "taken for the order's.\n"
)
_WORDS = (
    "*denied*: refused by our own checks, nothing was sent. *rejected*: refused by the "
    "exchange. *ended*: what became of an order that lived or was never sent.\n"
)
_SOURCES = (
    "All settings come from the environment. The connection to Temporal is read by its SDK: "
    "`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS…`.\n"
)
_PER_EXCHANGE = (
    "`<NAME>` is the exchange's name in `OMS_EXCHANGES`, in capitals. A variable that holds a "
    "secret can name a file instead, with `_FILE` behind it.\n"
)
_PUBLISHED = (
    "Every change of an order is published once it is committed, in the journal's order, at "
    'least once. Subscribe by name or wildcard: `await event_bus.subscribe("order_*", f)`.\n'
)
MADE = "<!-- Made by docs/build.py from the code. Do not edit. -->\n"


def lifecycle() -> str:
    """The transition table, its odd rows and the diagram."""
    steps = list(Step)
    lines = [MADE, "# The life of an order\n"]
    lines += [
        _STATUS,
        "```mermaid\nstateDiagram-v2",
        "  [*] --> created",
    ]
    for (status, step), row in TABLE.items():
        if status is not row.status and not row.reason:
            lines.append(f"  {status.value} --> {row.status.value}: {step.value}")
    lines += ["```\n", "## The table\n"]
    lines.append("| from \\ event | " + " | ".join(step.value for step in steps) + " |")
    lines.append("|---" * (len(steps) + 1) + "|")
    for status in OrderStatus:
        cells = []
        for step in steps:
            row = TABLE.get((status, step))
            text = "-" if row is None else "·" if row.status is status else row.status.value
            cells.append(text + (" ⚠" if row is not None and row.alarm else ""))
        name = status.value if status in OPEN_STATUSES else f"*{status.value}*"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append(
        "\n`·` the status stays; `⚠` it is alarmed; `-` no row: recorded and alarmed, the status "
        "stays. Statuses in *italics* are ends; a late fill can still change an ended order.\n"
    )
    lines += ["## The odd rows\n", "| in | on | becomes | because |", "|---|---|---|---|"]
    for (status, step), row in TABLE.items():
        if row.reason and (row.status is not status or row.alarm):
            lines.append(f"| {status.value} | {step.value} | {row.status.value} | {row.reason} |")
    return "\n".join(lines) + "\n"


def reason_codes() -> str:
    """Every reason code."""
    lines = [
        MADE,
        "# Reason codes\n",
        _WORDS,
        "| code | word | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{c.value}` | {MEANINGS[c].word} | {MEANINGS[c].text} |" for c in ReasonCode]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Every environment variable."""
    lines = [
        MADE,
        "# Settings\n",
        _SOURCES,
        *_variables(VARIABLES),
        "\n## Per exchange\n",
        _PER_EXCHANGE,
        *_variables(EXCHANGE_VARIABLES),
    ]
    return "\n".join(lines) + "\n"


def _variables(variables: tuple[Variable, ...]) -> list[str]:
    rows = [f"| `{v.name}` | {v.meaning} | {v.default or '-'} |" for v in variables]
    return ["| variable | meaning | default |", "|---|---|---|", *rows]


def events() -> str:
    """Every published event."""
    lines = [
        MADE,
        "# Events\n",
        _PUBLISHED,
        "| name | class | when |",
        "|---|---|---|",
    ]
    for name, event in sorted(EVENT_TYPES.items()):
        summary = (event.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{name}` | `{event.__name__}` | {summary} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "lifecycle.md": lifecycle,
    "reason-codes.md": reason_codes,
    "settings.md": settings,
    "events.md": events,
    "cli.md": lambda: f"{MADE}\n{reference()}",
}


def main() -> int:
    """Write the pages, or say which ones are not what the code says."""
    stale = 0
    for name, make in PAGES.items():
        page, text = HERE / "reference" / name, make()
        if "--check" in sys.argv:
            if not page.is_file() or page.read_text() != text:
                sys.stderr.write(f"{name} is stale: run python docs/build.py\n")
                stale += 1
        else:
            page.parent.mkdir(exist_ok=True)
            page.write_text(text)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
