"""What may be given to a command: text that says something, reasons, amounts."""

from decimal import Decimal
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from trading.oms.models import Exact

_AMOUNTS: TypeAdapter[Decimal] = TypeAdapter(Exact)


class Text(click.ParamType[str]):
    """A text that is not empty: an empty one would mean "all", where a variable was not set."""

    name = "text"

    def __init__(self, length_max: int | None = None) -> None:
        """`length_max` is in characters; without it any length will do."""
        self._length_max = length_max

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The text as it was given."""
        text = str(value)
        if not text.strip():
            self.fail("is empty; give it a value, or leave it out", param, ctx)
        if self._length_max is not None and len(text) > self._length_max:
            self.fail(f"has {len(text)} characters, the limit is {self._length_max}", param, ctx)
        return text


TEXT = Text()
REASON = Text(200)
"""As much as the journal takes."""
BY = Text(100)


class Amount(click.ParamType[Decimal]):
    """An exact decimal of the base asset."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        """A finite decimal that the store can hold."""
        try:
            amount: Decimal = _AMOUNTS.validate_python(value)
        except ValidationError as error:
            self.fail(f"{value!r} is no amount: {error.errors()[0]['msg']}", param, ctx)
        return amount
