"""What the conformance cards have shown of each kind of connector (`make conformance`).

The records are files beside the code that they speak of, one for each kind, written by a run of
the cards and shipped with the package. A connector is `experimental` until every card has passed
at a venue of its exchange (its test network will do): a run at the sandbox exchange proves that
it keeps the rules, and not that the exchange does.
"""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

SANDBOX = "sandbox"
RECORDS = Path(__file__).parent / "records"


class ConformanceRecord(BaseModel):
    """The newest run of the cards for one kind. `venue` is a host, or `sandbox`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    venue: str
    at: datetime
    ccxt: str
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def is_proof(self) -> bool:
        """Whether the connector is no longer experimental."""
        return bool(self.passed) and not self.failed and self.venue != SANDBOX

    def __str__(self) -> str:
        """One line for `oms doctor`."""
        cards = len(self.passed) + len(self.failed)
        at = "the sandbox exchange alone" if self.venue == SANDBOX else self.venue
        return f"{len(self.passed)} of {cards} cards passed at {at} on {self.at:%Y-%m-%d}"


def record_of(kind: str, folder: Path = RECORDS) -> ConformanceRecord | None:
    """The record of a kind; None where its cards have not run, or the file cannot be read."""
    try:
        return ConformanceRecord.model_validate_json((folder / f"{kind}.json").read_text())
    except (OSError, ValidationError):
        return None


def keep_record(record: ConformanceRecord, folder: Path = RECORDS) -> Path:
    """Write a record in place of the one before; answers where."""
    path = folder / f"{record.kind}.json"
    path.write_text(record.model_dump_json(indent=2) + "\n")
    return path
