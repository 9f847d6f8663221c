"""JSON with exact numbers, and times as Kraken writes them.

REST has amounts as text; WebSocket v2 has them as JSON numbers, which no float is to spoil.
"""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from workers.sandbox.exact import short
from workers.sandbox.kraken.errors import invalid

_MARK = "\x01"
_MARKED = re.compile(r'"\\u0001(-?[0-9.]+)"')
_PLAIN = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)


def exact(value: Decimal) -> str:
    """A number for ``dumps`` to write without its quotes."""
    return _MARK + short(value)


def dumps(body: Any) -> str:
    return _MARKED.sub(r"\1", json.dumps(body, separators=(",", ":")))


def rfc3339(milliseconds: int) -> str:
    """``2023-09-22T10:33:05.709950Z``."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(milliseconds: int) -> float:
    """``1733815269.37``: REST's times."""
    return milliseconds / 1000


def read_amount(params: dict[str, str], name: str) -> Decimal:
    """A positive decimal. Errors: EGeneral:Invalid arguments:NAME."""
    raw = params.get(name, "")
    try:
        value = Decimal(raw) if _PLAIN.fullmatch(raw) else Decimal(0)
    except InvalidOperation:
        value = Decimal(0)
    if not value:
        raise invalid(name)
    return value


def read_deadline_ms(raw: str) -> int:
    """An RFC 3339 time in milliseconds since 1970. Errors: EGeneral:Invalid arguments:deadline."""
    try:
        at = datetime.fromisoformat(raw)
    except ValueError:
        raise invalid("deadline") from None
    if at.tzinfo is None:
        raise invalid("deadline")
    return int(at.timestamp() * 1000)
