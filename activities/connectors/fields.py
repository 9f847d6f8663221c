"""Reading one field of an exchange's JSON: the value in its right type, or `MalformedError`."""

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from activities.connectors.clock import at_ms

logger = logging.getLogger(__name__)
_PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,18}0*)?")
_SCIENTIFIC = re.compile(r"-?[0-9](\.[0-9]{1,18})?[eE][+-]?[0-9]{1,2}")
"""How a library writes a JSON number that is very small: as exact as any other."""
_INTEGER_MAX = 2**63 - 1
_TEXT_LENGTH_MAX = 200
_ID_LENGTH_MAX = 64
_ASSET_LENGTH_MAX = 16
_CLOCK_MS_MIN, _CLOCK_MS_MAX = 946_684_800_000, 7_258_118_400_000


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
    if not isinstance(text, str) or (number := _read(text)) is None:
        raise MalformedError(f"{name} is {_kind(value)} instead of a decimal")
    if number < 0 and not signed:
        raise MalformedError(f"{name} is below zero")
    return number


def _read(text: str) -> Decimal | None:
    if _PLAIN.fullmatch(text):
        return Decimal(text)
    if _SCIENTIFIC.fullmatch(text) and _PLAIN.fullmatch(plain := f"{Decimal(text):f}"):
        return Decimal(plain)
    return None


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
    return _bounded(text_or_none(row, name), name, _ID_LENGTH_MAX)


def id_of(row: Mapping[str, Any], name: str) -> str:
    """An id as `id_or_none`, which is there."""
    value = id_or_none(row, name)
    if value is None:
        raise MalformedError(f"{name} is missing or empty")
    return value


def asset_or_none(row: Mapping[str, Any], name: str) -> str | None:
    """An asset's name of at most 16 characters, which is what the store holds."""
    return _bounded(text_or_none(row, name), name, _ASSET_LENGTH_MAX)


def asset_in(row: Mapping[str, Any]) -> str | None:
    """The `asset` of a balance; None, and a warning, for one that the store could not hold.

    It is traded nowhere here, and one such token must not hide the balances of all others.
    """
    try:
        return asset_or_none(row, "asset")
    except MalformedError as error:
        logger.warning("a balance is left out: %s", error)
        return None


def _bounded(value: str | None, name: str, most: int) -> str | None:
    if value is not None and len(value) > most:
        raise MalformedError(f"{name} has {len(value)} characters, the limit is {most}")
    return value


def time_of(row: Mapping[str, Any], name: str) -> datetime:
    """The time of a Unix time stamp in milliseconds."""
    try:
        return at_ms(number_of(row, name))
    except OverflowError:
        raise MalformedError(f"{name} is no time") from None


def clock_of(row: Mapping[str, Any], name: str, *, unit_ms: int = 1) -> int:
    """What a clock shows, in milliseconds since 1970: a year from 2000 to 2199, or it is none.

    The estimate of the exchange's clock is set by it, and every stamp comes from there.
    """
    milliseconds = number_of(row, name) * unit_ms
    if not _CLOCK_MS_MIN <= milliseconds < _CLOCK_MS_MAX:
        raise MalformedError(f"{name} is no time of this world")
    return milliseconds


def _kind(value: Any) -> str:
    return "missing or null" if value is None else f"of the JSON type {type(value).__name__}"
