"""Faults on demand, all off by default.

A fault is set over the control endpoint as JSON: ``{"fault": kind, …}`` with, all optional,
``count`` (how often, default until cleared), ``probability`` (decimal text, default "1") and
``seed``, and the filters ``account``, ``symbol``, ``endpoint`` (``"POST /api/v3/order"`` or
``"order.place"``) and, for streams, ``event`` (an event type such as ``executionReport`` or an
execution type such as ``TRADE``). The kinds and their own fields are in ``KINDS``.
"""

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from workers.sandbox.errors import ApiError, invalid_data, mandatory
from workers.sandbox.exact import read_decimal, read_long

KINDS: dict[str, str] = {
    "reply_lost": "the connection is closed without an answer; order: alive (default) or dead",
    "reply_delayed_ms": "the answer comes ms later, after the order was placed",
    "accept_delayed_ms": "the request waits ms before the engine; ignore_fence: no second check",
    "http_503": "HTTP 503 instead of the answer; order: alive or dead (default)",
    "code_-1006": "unexpected response, outcome unknown; order: alive or dead (default)",
    "code_-1007": "timeout, outcome unknown; order: alive or dead (default)",
    "code_-1008": "overloaded; order: alive or dead (default)",
    "half_refused": "cancelReplace: the cancel is done, the new order is refused with code (-1015)",
    "rate_429": "429 with Retry-After of retry_after seconds (default 1)",
    "ban_418": "418 with Retry-After; the address stays banned for retry_after seconds",
    "key_refused": "-2015 to every signed request: the key has expired or was taken back",
    "garbled": "how: malformed (default), truncated, null, empty or missing (with fields: […])",
    "row_garbled": "fields: […] of the first row of a list (openOrders, allOrders) are null",
    "rest_lag_ms": "queries do not see orders and trades younger than ms",
    "stream_duplicate": "an event comes twice",
    "stream_delay_ms": "an event comes ms late",
    "stream_reorder": "an event comes after the next one",
    "stream_drop": "an event does not come",
    "stream_disconnect": "the connection closes instead of an event, which is lost",
}
DELAYS = frozenset({"reply_delayed_ms", "accept_delayed_ms", "rest_lag_ms", "stream_delay_ms"})
STREAM_KINDS = frozenset(kind for kind in KINDS if kind.startswith("stream_"))
KEY_KINDS = frozenset({"key_refused"})
LIMIT_KINDS = frozenset({"rate_429", "ban_418"})
QUERY_KINDS = frozenset({"rest_lag_ms", "row_garbled"})
ORDER_KINDS = frozenset(KINDS) - STREAM_KINDS - KEY_KINDS - LIMIT_KINDS - QUERY_KINDS
MILLION = 1_000_000

About = dict[str, tuple[str, ...]]  # What a filter may name: {"symbol": ("BTCUSDT",), …}


@dataclass(slots=True)
class Fault:
    """One fault that is set. ``left`` is how often it still strikes, None for ever."""

    id: int
    kind: str
    left: int | None
    parts_per_million: int
    random: random.Random
    filters: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    @property
    def ms(self) -> int:
        return int(self.options.get("ms", 0))

    @property
    def seconds(self) -> float:
        return self.ms / 1000

    @property
    def order_lives(self) -> bool:
        """Whether the request still reaches the engine."""
        return bool(self.options["order"] == "alive")

    def strikes(self, about: About) -> bool:
        """Whether it strikes here; counts a hit if so."""
        if any(wanted not in about.get(name, ()) for name, wanted in self.filters.items()):
            return False
        if self.random.randrange(MILLION) >= self.parts_per_million:
            return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "fault": self.kind,
            "left": self.left,
            "hits": self.hits,
            **self.filters,
            **self.options,
        }


class Faults:
    """All faults that are set, in the order in which they were."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self._next_id = 1

    def set(self, wanted: dict[str, Any]) -> Fault:
        """Set one fault. Raises ApiError(-1102, -1130, -1100) for what it does not understand."""
        kind = wanted.get("fault")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ApiError(-1130, f"fault is {kind!r}; one of {', '.join(KINDS)} is allowed.")
        count = wanted.get("count")
        fault = Fault(
            id=self._next_id,
            kind=kind,
            left=None if count is None else read_long("count", str(count)),
            parts_per_million=_parts_per_million(wanted.get("probability", "1")),
            random=random.Random(str(wanted.get("seed", 0))),  # noqa: S311 - repeatable on purpose
            filters={
                name: str(wanted[name])
                for name in ("account", "symbol", "endpoint", "event")
                if wanted.get(name) is not None
            },
            options=_options(kind, wanted),
        )
        self._next_id += 1
        self.active.append(fault)
        return fault

    def clear(self, which: object) -> int:
        """Clear ``"all"``, all of one kind, or one by its id; answers how many."""
        kept = [
            fault for fault in self.active if which != "all" and which not in {fault.kind, fault.id}
        ]
        cleared = len(self.active) - len(kept)
        self.active = kept
        return cleared

    def draw(self, kinds: frozenset[str], about: About) -> dict[str, Fault]:
        """The faults of these kinds that strike now, by kind; the first of each kind wins."""
        if not self.active:
            return {}
        struck: dict[str, Fault] = {}
        for fault in self.active:
            if fault.kind in kinds and fault.kind not in struck and fault.strikes(about):
                struck[fault.kind] = fault
        if struck:
            self.active = [fault for fault in self.active if fault.left != 0]
        return struck


def _parts_per_million(raw: object) -> int:
    value = read_decimal("probability", str(raw))
    if value > 1:
        raise invalid_data("probability")
    return int(value * MILLION)


def _options(kind: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of a fault's own, with their defaults."""
    options: dict[str, Any] = {}
    if kind in DELAYS:
        if wanted.get("ms") is None:
            raise mandatory("ms")
        options["ms"] = read_long("ms", str(wanted["ms"]))
    if kind == "accept_delayed_ms":
        options["ignore_fence"] = bool(wanted.get("ignore_fence", False))
    if kind == "reply_lost" or kind.startswith(("http_", "code_")):
        options["order"] = str(wanted.get("order", "alive" if kind == "reply_lost" else "dead"))
        if options["order"] not in {"alive", "dead"}:
            raise invalid_data("order")
    options.update(_refusal(kind, wanted))
    if kind == "row_garbled":
        options["fields"] = [str(name) for name in _listed(wanted.get("fields", ["status"]))]
    if kind == "garbled":
        options["how"] = str(wanted.get("how", "malformed"))
        options["fields"] = [str(name) for name in _listed(wanted.get("fields", []))]
        if options["how"] not in {"malformed", "truncated", "null", "empty", "missing"}:
            raise invalid_data("how")
    return options


def _refusal(kind: str, wanted: dict[str, Any]) -> dict[str, Any]:
    if kind == "half_refused":
        return {"code": -read_long("code", str(wanted.get("code", -1015)).removeprefix("-"))}
    if kind in LIMIT_KINDS:
        return {"retry_after": str(read_decimal("retry_after", str(wanted.get("retry_after", 1))))}
    return {}


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise invalid_data("fields")
    return value


def retry_after_s(fault: Fault) -> Decimal:
    return Decimal(fault.options["retry_after"])
