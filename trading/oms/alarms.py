"""Every alarm there is: how its text begins or what it says, and who raises it.

An alarm is an entry of an order's journal; one about an account is the reason of its trading state
and a finding of reconciliation. Each has a page under `docs/runbooks/`: what it means,
what to look at, what to do. A test compares this list with the code and with the pages.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Alarm(StrEnum):
    """The alarms, by the names of their pages."""

    DOUBT_LASTS = "doubt-lasts"
    DECLARED_DEAD = "declared-dead"
    REVIVED = "revived"
    CONTRADICTION = "contradiction"
    OVERFILL = "overfill"
    UNKNOWN_TRANSITION = "unknown-transition"
    ANOTHER_ORDER_UNDER_OUR_ID = "another-order-under-our-id"
    TWO_SENDS_ALIVE = "two-sends-alive"
    LATE_EXPIRY = "late-expiry"
    RECONCILIATION = "reconciliation"
    INFERRED_FILL = "inferred-fill"
    RECOVERED = "recovered"
    EXTERNAL_ORDER = "external-order"
    BALANCE_DRIFT = "balance-drift"
    RESTORED_STORE = "restored-store"
    UNDELIVERED = "undelivered"
    UNREADABLE_REPORT = "unreadable-report"


class Source(NamedTuple):
    """Where an alarm is raised, and what its text matches."""

    modules: tuple[str, ...]
    pattern: re.Pattern[str]


_TABLE = ("trading.oms.transitions",)

ALARMS: Mapping[Alarm, Source] = {
    Alarm.DOUBT_LASTS: Source(("workflows.doubt",), re.compile(r"^in doubt since ")),
    Alarm.DECLARED_DEAD: Source(
        (*_TABLE, "workflows.verdict"), re.compile(r"an operator's verdict$|^leg \d+ was declared")
    ),
    Alarm.REVIVED: Source(
        (*_TABLE, "activities.carriers"),
        re.compile(r"proof of life revives|lives, which was .*; it carries the order$"),
    ),
    Alarm.CONTRADICTION: Source(_TABLE, re.compile(r"the exchange contradicts")),
    Alarm.OVERFILL: Source((*_TABLE, "activities.store.journal"), re.compile(r"overfill")),
    Alarm.UNKNOWN_TRANSITION: Source(
        ("trading.oms.lifecycle",), re.compile(r"^the lifecycle has no row")
    ),
    Alarm.ANOTHER_ORDER_UNDER_OUR_ID: Source(
        ("activities.look_up",), re.compile(r"^the exchange has another order under our id")
    ),
    Alarm.TWO_SENDS_ALIVE: Source(
        ("activities.carriers", "activities.booking"),
        re.compile(r"^two sends of leg .* cancelled$"),
    ),
    Alarm.LATE_EXPIRY: Source(("workflows.expiry",), re.compile(r"after its expiry$")),
    Alarm.RECONCILIATION: Source(("activities.reconciling",), re.compile(r"^reconciliation, ")),
    Alarm.INFERRED_FILL: Source(("trading.oms.lifecycle",), re.compile(r"^inferred: ")),
    Alarm.RECOVERED: Source(("activities.foreign_orders",), re.compile(r"^recovered: ")),
    Alarm.EXTERNAL_ORDER: Source(("activities.foreign_orders",), re.compile(r"^external: ")),
    Alarm.BALANCE_DRIFT: Source(("activities.balance_check",), re.compile(r"^balance drift: ")),
    Alarm.RESTORED_STORE: Source(
        ("activities.store_marks", "activities.store.writer"),
        re.compile(r"nothing is sent until `oms resume`$"),
    ),
    Alarm.UNDELIVERED: Source(("activities.delivery",), re.compile(r"^undelivered: ")),
    Alarm.UNREADABLE_REPORT: Source(("activities.delivery",), re.compile(r"^unreadable: ")),
}


def alarm_of(text: str) -> Alarm | None:
    """Which alarm a text is; None for one that this release does not know."""
    return next((one for one, source in ALARMS.items() if source.pattern.search(text)), None)
