"""What an exchange's answer means for the request that it answers.

Judged are the raw HTTP status, code and text of that very response, never a library's exception
class: ccxt maps the refusal of a cancel and an unknown order to one class, and a duplicate order
to the class of any rejection. The tables are data (`binance_codes`). The rule that keeps money
safe: after a command was written, whatever the table does not know is *outcome unknown*.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Any

from trading.oms.errors import (
    DuplicateOrder,
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)

TEXT_LENGTH_MAX = 300
LOCAL_UNREADABLE = "local_unreadable"
"""Our code for an answer to a query that cannot be read; asking again at once will not help."""


class Operation(Enum):
    """What was asked. Queries change nothing, so their failures are never in doubt."""

    PLACE = "place"
    CANCEL = "cancel"
    AMEND = "amend"
    REPLACE = "replace"
    QUERY = "query"

    @property
    def is_command(self) -> bool:
        """Whether the request can change something at the exchange."""
        return self is not Operation.QUERY


COMMANDS = frozenset(operation for operation in Operation if operation.is_command)


class Verdict(Enum):
    """What an answer proves about a command."""

    REJECTED = "rejected"
    NEVER_REACHED = "never_reached"
    UNKNOWN = "unknown"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class Rule:
    """One row: an exchange's code (and a piece of its text) and what it proves, with the reason.

    `code` None stands for an answer without a code. `status` narrows it to one HTTP status,
    `contains` to answers whose text has these words, `operations` to these commands.
    """

    code: str | None
    verdict: Verdict
    reason: str
    contains: str = ""
    status: int | None = None
    operations: frozenset[Operation] = COMMANDS

    def fits(self, answer: "Answer", operation: Operation) -> bool:
        """Whether this row speaks about that answer to that command."""
        return (
            self.code == answer.code
            and self.status in {None, answer.status}
            and self.contains.lower() in answer.message.lower()
            and operation in self.operations
        )


@dataclass(frozen=True)
class Answer:
    """A response of an exchange, as it came: HTTP status, headers, text and its JSON if any.

    `code` and `message` are the exchange's own, read from the JSON object's `code` and `msg`.
    `words` is the message as it may be shown: without secrets, printable and short.
    """

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    code: str | None = None
    message: str = ""
    words: str = ""

    @classmethod
    def read(
        cls,
        status: int,
        headers: Mapping[str, str],
        text: str,
        scrub: Callable[[str], str] = str,
    ) -> "Answer":
        """Read a response. Anything may come back, so nothing here raises.

        `scrub` takes secrets out of a text; only `words` goes through it, never what is judged.
        """
        body = parse_json(text)
        code, message = None, text
        if _is_plain(status, body):
            return cls(status, text, headers, body)
        if isinstance(body, dict) and ("code" in body or "msg" in body):
            code = _code(body.get("code"))
            message = str(body.get("msg") or "")
        return cls(status, text, headers, body, code, message, shown(scrub(message)))

    @property
    def retry_after(self) -> float | None:
        """The pause in seconds that the exchange asks for, or None."""
        for name, value in self.headers.items():
            if name.lower() == "retry-after":
                return _seconds(value)
        return None

    @property
    def is_too_many(self) -> bool:
        """Whether its status alone asks for a pause: 429, and 418 for who has not kept one."""
        return self.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT}

    @property
    def is_refusal(self) -> bool:
        """Whether it is the exchange's word on the request: a 4xx, unless it says it otherwise."""
        return 400 <= self.status < 500  # noqa: PLR2004 - the class of refusals in HTTP

    @property
    def is_success(self) -> bool:
        """A 2xx with JSON that is not an error of the exchange."""
        return (
            200 <= self.status < 300  # noqa: PLR2004 - the class of success in HTTP
            and isinstance(self.body, dict | list)
            and (self.code is None or not self.code.startswith("-"))
        )


def judge(answer: Answer, operation: Operation, rules: Sequence[Rule]) -> ExchangeError | None:
    """The error that this answer means, or None where it is a success."""
    if answer.is_success:
        return None
    text = answer.words or f"HTTP {answer.status} without a text"
    if not operation.is_command:
        return ExchangeUnavailable(
            text, code=answer.code, status=answer.status, retry_after=answer.retry_after
        )
    match verdict(answer, operation, rules):
        case Verdict.REJECTED:
            return ExchangeRejected(text, code=answer.code, status=answer.status)
        case Verdict.NEVER_REACHED:
            return ExchangeUnavailable(
                text, code=answer.code, status=answer.status, retry_after=answer.retry_after
            )
        case Verdict.DUPLICATE:
            return DuplicateOrder(text, code=answer.code, status=answer.status)
        case Verdict.UNKNOWN:
            return OutcomeUnknown(text, code=answer.code, status=answer.status)


def verdict(answer: Answer, operation: Operation, rules: Sequence[Rule]) -> Verdict:
    """What the answer proves about a command: the first row that fits, else unknown.

    Only a refusal can prove anything. A 5xx is unknown whatever its code says (Binance: "NOT to
    treat this as a failure"), and a 2xx or 3xx that is no success contradicts itself.
    """
    if not answer.is_refusal:
        return Verdict.UNKNOWN
    for rule in rules:
        if rule.fits(answer, operation):
            return rule.verdict
    return Verdict.UNKNOWN


def transport_failure(what: str, operation: Operation, *, written: bool) -> ExchangeError:
    """The error for a request without an answer.

    `written` says that bytes of it may have left us: before that nothing was sent (connection
    refused, DNS, TLS); after it (time-out, reset, a broken response) a command's outcome is
    unknown.
    """
    if operation.is_command and written:
        return OutcomeUnknown(f"no answer after the request was written: {what}")
    if written:
        return ExchangeUnavailable(f"no answer to the query: {what}")
    return ExchangeUnavailable(f"nothing was sent: {what}")


def malformed_answer(
    what: str, operation: Operation, *, status: int | None = None
) -> ExchangeError:
    """The error for a success whose content cannot be read."""
    text = f"the exchange's answer cannot be read: {what}"
    if operation.is_command:
        return OutcomeUnknown(text, status=status)
    return ExchangeUnavailable(text, code=LOCAL_UNREADABLE, status=status)


def parse_json(text: str) -> Any:
    """JSON with exact numbers (a fraction stays its text), or None where it is none."""
    try:
        return json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _is_plain(status: int, body: Any) -> bool:
    """A success without any trace of an error; there is nothing in it to show."""
    return status == HTTPStatus.OK and isinstance(body, dict | list) and "code" not in body


def shown(text: str) -> str:
    """A text from outside, safe to log and to store: one line, printable, of bounded length."""
    line = " ".join(text[: 2 * TEXT_LENGTH_MAX].split())[:TEXT_LENGTH_MAX]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _code(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return shown(str(value))[:32] or None


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
