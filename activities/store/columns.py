"""Column types that keep the same exact values on SQLite and on PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pydantic_core
from sqlalchemy import DateTime, Dialect, Numeric, String, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

from trading.oms.exact import EXACT

_NUL = "\x00"


def plain(value: Decimal) -> str:
    """The shortest digits of an exact decimal, without an exponent: "10.5", never "1.05E+1"."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class Exact(TypeDecorator[Decimal]):
    """An exact decimal: NUMERIC on PostgreSQL, its digits as text on SQLite, which has none."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = 38, scale: int = 18) -> None:
        """`precision` digits in all, `scale` of them after the point."""
        super().__init__(precision, scale)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text where the database would compute with floats."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(80))
        return dialect.type_descriptor(self.impl_instance)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Exact digits for SQLite; PostgreSQL's driver takes decimals."""
        if value is None or dialect.name != "sqlite":
            return value
        return plain(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """The same digits from both: PostgreSQL pads with zeros."""
        if value is None:
            return None
        return Decimal(value if dialect.name == "sqlite" else plain(value))


def exact_add(one: str, other: str) -> str:
    """The sum of two of SQLite's digits; an SQL function of each connection to it."""
    return plain(EXACT.add(Decimal(one), Decimal(other)))


class ExactSum:
    """`sum` over SQLite's digits, as an SQL aggregate of each connection to it."""

    def __init__(self) -> None:
        """Nothing is added yet."""
        self._total = Decimal(0)

    def step(self, value: str | None) -> None:
        """Add one; NULL is nothing, as in `sum`."""
        if value is not None:
            self._total = EXACT.add(self._total, Decimal(value))

    def finalize(self) -> str:
        """The digits of the sum."""
        return plain(self._total)


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC: TIMESTAMPTZ, or on SQLite text of one length that sorts by time."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Both come back aware: the PostgreSQL driver reads TIMESTAMPTZ as UTC."""
        if dialect.name == "sqlite":
            return String(32)
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse a time without a zone, whose meaning nobody knows."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value.isoformat()} has no time zone; the store takes aware times only"
            raise ValueError(msg)
        if dialect.name != "sqlite":
            return value
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Read as aware UTC."""
        if value is None or dialect.name != "sqlite":
            return value  # type: ignore[no-any-return]
        return datetime.fromisoformat(value)


class Json(TypeDecorator[Any]):
    """A JSON value: JSONB on PostgreSQL (which cannot hold NUL), text on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The engine's own JSON functions are set in `activities.store.engine`."""
        kind: TypeEngine[Any] = Text() if dialect.name == "sqlite" else postgresql.JSONB()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Text for SQLite, the value itself for PostgreSQL."""
        return to_json(value) if dialect.name == "sqlite" and value is not None else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Parse SQLite's text."""
        if value is None or dialect.name != "sqlite":
            return value
        return pydantic_core.from_json(value)


class Keys(TypeDecorator[Sequence[str]]):
    """A list of keys bound as one parameter, so that a statement has one text for any length."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """An array, or a JSON list."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        return dialect.type_descriptor(postgresql.ARRAY(Text()))

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        """Write it as the database wants it."""
        return to_json(list(value or ())) if dialect.name == "sqlite" else value


def to_json(value: Any) -> str:
    """A JSON text of plain values, times and decimals; NUL, which JSONB refuses, is replaced."""
    text = pydantic_core.to_json(value).decode()
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text


def clean(text: str | None) -> str | None:
    """A text without NUL, which PostgreSQL refuses."""
    return text.replace(_NUL, "\ufffd") if text and _NUL in text else text
