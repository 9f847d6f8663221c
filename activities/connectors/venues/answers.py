"""Answers of exchanges that refuse with HTTP 200, by a code of their own in the JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from activities.connectors.classify import Answer, Operation, Rule, Verdict, parse_json, shown
from activities.connectors.venues.record import ReadAnswer

PLACE = frozenset({Operation.PLACE})
CHANGE = frozenset({Operation.CANCEL, Operation.AMEND})
ALL = PLACE | CHANGE
Word = tuple[str | None, str]
"""The code (None: a success) and the message."""


@dataclass(frozen=True)
class SpokenAnswer(Answer):
    """A response whose word is in its JSON."""

    @property
    def is_refusal(self) -> bool:
        """A code with HTTP 200, or a 4xx."""
        return self.code is not None and (self.status == HTTPStatus.OK or super().is_refusal)

    @property
    def is_success(self) -> bool:
        """HTTP 200 with JSON and without a code."""
        return self.status == HTTPStatus.OK and isinstance(self.body, dict) and self.code is None


def reader(word_of: Callable[[Mapping[str, Any]], Word]) -> ReadAnswer:
    """Reads responses by what `word_of` finds in their JSON. Anything may come; nothing raises."""

    def read(
        status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
    ) -> Answer:
        body = parse_json(text)
        code, message = word_of(body) if isinstance(body, dict) else (None, text)
        words = shown(scrub(message))
        return SpokenAnswer(status, text, headers, body, code, message, words)

    return read


def rows(
    verdict: Verdict, operations: frozenset[Operation], codes: Mapping[str, str]
) -> list[Rule]:
    """A table's rows with one verdict: code to reason."""
    return [Rule(code, verdict, reason, operations=operations) for code, reason in codes.items()]
