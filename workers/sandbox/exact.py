"""Exact decimals: how they are read from a request, and how Binance writes them."""

import re
from decimal import ROUND_DOWN, Decimal

from workers.sandbox.errors import ApiError, bad_precision, illegal_characters, overflowed

ZERO = Decimal(0)
UNIT = Decimal("0.00000001")  # Every asset here has eight decimals, as on Binance.
DECIMALS_MAX = 8
LONG_MAX = 2**63 - 1

DECIMAL_RANGE = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
LONG_RANGE = r"^[0-9]{1,20}$"
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_LONG = re.compile(r"[0-9]{1,20}", re.ASCII)


def text(value: Decimal) -> str:
    """Eight decimals, as in every Binance payload: ``"0.10000000"``."""
    return f"{value:.8f}"


def short(value: Decimal) -> str:
    """The same number without trailing zeros and without an exponent: ``"0.1"``."""
    return f"{value.normalize():f}" if value else "0"


def round_down(value: Decimal, unit: Decimal = UNIT) -> Decimal:
    """The largest multiple of a power of ten that does not exceed ``value``."""
    return value.quantize(unit, rounding=ROUND_DOWN)


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of ``step`` that does not exceed ``value``."""
    return value - value % step


def read_decimal(name: str, raw: str) -> Decimal:
    """A DECIMAL parameter.

    Errors: -1100 when it is no plain decimal number (so neither ``1e5`` nor ``NaN``), -1111 when it
    has more than eight decimals ("Error codes for Binance").
    """
    if _DECIMAL.fullmatch(raw) is None:
        raise illegal_characters(name, DECIMAL_RANGE)
    point = raw.find(".")
    if point >= 0 and len(raw.rstrip("0")) - point - 1 > DECIMALS_MAX:
        raise bad_precision(name)
    return Decimal(raw)


def read_long(name: str, raw: str) -> int:
    """A LONG parameter. Errors: -1100 when it is no natural number, -1108 above 2^63 - 1."""
    if _LONG.fullmatch(raw) is None:
        raise illegal_characters(name, LONG_RANGE)
    value = int(raw)
    if value > LONG_MAX:
        raise overflowed(name)
    return value


def amount_of(value: object, name: str) -> Decimal:
    """A number given to the control endpoint or on the command line.

    Raises:
        ApiError: it is not a non-negative decimal of at most 15 digits and 8 decimals.
    """
    raw = str(value)
    number = read_decimal(name, raw) if isinstance(value, str | int | Decimal) else None
    if number is None or len(raw.partition(".")[0]) > 15:  # noqa: PLR2004 - stated above
        raise ApiError(-1100, f"{name} is {raw[:40]!r}; a plain decimal below 10^15 is allowed.")
    return number
