"""Reading one field of an exchange's JSON: the value in its right type, or `MalformedError`."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

_PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18}0*)?")
_INTEGER_MAX = 2**63 - 1
_TEXT_LENGTH_MAX = 200
_ID_LENGTH_MAX = 64


class MalformedError(ValueError):
    """An exchange's answer does not have the shape that its documentation promises."""


def object_of(raw: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(raw, dict):
        raise MalformedError(f"{_kind(raw)} instead of an object")
    return raw


def objects_of(raw: Any) -> Sequence[Mapping[str, Any]]:
    """A JSON list of objects."""
    if not isinstance(raw, list):
        raise MalformedError(f"{_kind(raw)} instead of a list")
    return [object_of(item) for item in raw]


def decimal_of(row: Mapping[str, Any], name: str, *, signed: bool = False) -> Decimal:
    """An exact decimal given as text (or a whole JSON number), not below zero unless `signed`."""
    value = row.get(name)
    text = str(number_of(row, name)) if isinstance(value, int) else value
    if not isinstance(text, str) or _PLAIN.fullmatch(text) is None:
        raise MalformedError(f"{name} is {_kind(value)} instead of a decimal")
    number = Decimal(text)
    if number < 0 and not signed:
        raise MalformedError(f"{name} is below zero")
    return number


def positive_or_none(row: Mapping[str, Any], name: str) -> Decimal | None:
    """A decimal above zero; None where it is missing, null or zero (a market order's price)."""
    if row.get(name) is None:
        return None
    return decimal_of(row, name) or None


def number_of(row: Mapping[str, Any], name: str) -> int:
    """A whole number of at most 63 bits (Binance's LONG)."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _INTEGER_MAX:
        raise MalformedError(f"{name} is {_kind(value)} instead of a whole number")
    return value


def text_of(row: Mapping[str, Any], name: str) -> str:
    """A printable text that is not empty."""
    value = text_or_none(row, name)
    if value is None:
        raise MalformedError(f"{name} is missing or empty")
    return value


def text_or_none(row: Mapping[str, Any], name: str) -> str | None:
    """A printable text of bounded length; None where it is missing, null or empty."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or len(value) > _TEXT_LENGTH_MAX:
        raise MalformedError(f"{name} is {_kind(value)} instead of a printable text")
    return value


def id_or_none(row: Mapping[str, Any], name: str) -> str | None:
    """An id of at most 64 characters, which is what the store holds; None as `text_or_none`."""
    value = text_or_none(row, name)
    if value is not None and len(value) > _ID_LENGTH_MAX:
        raise MalformedError(f"{name} has {len(value)} characters, the limit is {_ID_LENGTH_MAX}")
    return value


def _kind(value: Any) -> str:
    return "missing or null" if value is None else f"of the JSON type {type(value).__name__}"
