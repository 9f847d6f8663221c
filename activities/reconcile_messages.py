"""What the reconciliation tells its activities, and what they report."""

from enum import StrEnum

from pydantic import ConfigDict, Field

from activities.messages import Account, Message
from trading.oms.models import Exact, Id, NameOrAll, Utc

_HEAD_MAX = 2**63 - 1


class StoreMark(Message):
    """Which store it is, how far its journal has come, and a hash of the newest entry there.

    The head never goes back, and the entry at a head never becomes another: a restored store that
    has gone on to the same number has other entries.
    """

    epoch: Id
    head: int = Field(ge=0, le=_HEAD_MAX)
    entry: Id = ""


class OrderMark(Message):
    """What Temporal knows of an order: that it was admitted, and how far its journal had come.

    `sequence` is 0 where that is not known; `at` is when its run ended or, of one that runs, began.
    """

    order_id: str
    sequence: int
    at: Utc


class ReconcileRequest(Message):
    """Compare accounts with their exchanges; `dry_run` only says what differs.

    Without an account all of the exchange's are meant, without an exchange every exchange.
    `store_before` is the store as the schedule's last run saw it; Temporal has kept it since.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: NameOrAll = ""
    account: NameOrAll = ""
    dry_run: bool = False
    store_before: StoreMark | None = None


class Outcome(StrEnum):
    """What became of a difference in one pass."""

    MENDED = "mended"
    ALARMED = "alarmed"
    RECORDED = "recorded"
    LEFT = "left"


class Finding(Message):
    """One thing that differed, and what became of it; `numbers` are those compared."""

    kind: str
    symbol: str
    message: str
    outcome: Outcome
    order_id: str | None = None
    numbers: dict[str, Exact] = Field(default_factory=dict)


class ReconcileReport(Message):
    """One pass over one account. A query that `failed` is no observation: nothing follows from it.

    `looked_at` counts what was compared, `balances` are the exchange's totals by asset (free and
    locked).
    """

    exchange: str
    account: str
    started_at: Utc
    ended_at: Utc
    dry_run: bool = False
    looked_at: dict[str, int] = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    balances: dict[str, Exact] = Field(default_factory=dict)
    failed: tuple[str, ...] = ()
    store: StoreMark | None = None

    @property
    def is_left(self) -> bool:
        """Whether something differs still."""
        return any(one.outcome in {Outcome.LEFT, Outcome.ALARMED} for one in self.findings)

    def count(self, outcome: Outcome) -> int:
        """How many differences had this outcome."""
        return sum(1 for finding in self.findings if finding.outcome is outcome)

    @property
    def sums(self) -> str:
        """In one line: "differed 3: mended 2, alarmed 1, recorded 0, left 0"."""
        counts = ", ".join(f"{one.value} {self.count(one)}" for one in Outcome)
        return f"differed {len(self.findings)}: {counts}"


class Accounts(Message):
    """The accounts that a worker is connected to."""

    accounts: tuple[Account, ...]


class ReconcileReports(Message):
    """The reports of one run, one for each account."""

    reports: tuple[ReconcileReport, ...]
