"""What can be asked of an order, and how it is read at the doors.

Payloads come from strategies in any language, from the Temporal web UI and from its CLI, so each
is decoded here by hand: exact decimals, no unknown fields, and a refusal that names the field.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trading.oms.enums import Verdict
from trading.oms.errors import InvalidOrder
from trading.oms.models import ClientOrderId, Order, OrderState, Positive
from trading.oms.venue import ExecutionReport

PAYLOAD_BYTES_MAX = 64 * 1024
_SHOWN_MAX = 80
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
CANCEL_WAIT_S = 5.0
RESOLVE_WAIT_S = 10.0
_Model = TypeVar("_Model", bound=BaseModel)


class OrderInput(BaseModel):
    """The input of an order workflow: an order to submit, or the id of a known one to resume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    order: Order | None = None
    resume: ClientOrderId | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.order is None) == (self.resume is None):
            msg = 'must have exactly one of the fields "order" and "resume"'
            raise ValueError(msg)
        return self


class KnownOrder(BaseModel):
    """An order by its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: ClientOrderId


class CancelRequest(BaseModel):
    """Cancel the order. `wait_s` is how long the answer may wait for the exchange, in seconds.

    `exchange` and `symbol`, where given, must be the order's own; they guard against a wrong id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str | None = Field(default=None, max_length=200)
    wait_s: float = Field(default=CANCEL_WAIT_S, ge=0, le=60)
    exchange: str | None = None
    symbol: str | None = None

    def mismatch(self, state: OrderState | None) -> str | None:
        """What it says of exchange and symbol that is not so, as far as is known."""
        for name in ("exchange", "symbol"):
            given, own = getattr(self, name), getattr(state, name, "")
            if given is not None and own and given != own:
                return f"{name} is {given!r}, the order is on {own!r}"
        return None


class ModifyRequest(BaseModel):
    """Change the total quantity (base asset, what is filled included), the price, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    new_quantity: Positive | None = None
    new_price: Positive | None = None
    wait_s: float = Field(default=CANCEL_WAIT_S, ge=0, le=60)

    @model_validator(mode="after")
    def _something_changes(self) -> Self:
        if self.new_quantity is None and self.new_price is None:
            msg = "must have new_quantity, new_price or both"
            raise ValueError(msg)
        return self


class ResolveRequest(BaseModel):
    """An operator's verdict on an order in doubt; the journal keeps who gave it, and why.

    `adopt`: look it up, and take what the exchange has. `dead`: end it as ERROR; a confirmed one
    that the exchange has no more, as CANCELLED. `retry`: send it again as its next generation.
    `wait_s` is how long the answer may wait, in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    verdict: Verdict
    reason: str = Field(min_length=1, max_length=200)
    by: str = Field(min_length=1, max_length=100)
    wait_s: float = Field(default=RESOLVE_WAIT_S, ge=0, le=60)


class OutcomeRequest(BaseModel):
    """Wait for the outcome of the submission; `content_hash` says which order the caller means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_hash: str | None = None
    wait_s: float = Field(default=30.0, ge=0, le=60)


class ExecutionBatch(BaseModel):
    """What the exchange said about this order, from the execution feed.

    Without reports it only makes the workflow read what the store has of its order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reports: tuple[ExecutionReport, ...] = Field(max_length=1000)


def decode(data: bytes, model: type[_Model]) -> _Model:
    """Read a JSON payload as `model`, numbers as exact decimals.

    Raises `InvalidOrder` that names the field, the value and what is allowed.
    """
    if len(data) > PAYLOAD_BYTES_MAX and model is not ExecutionBatch:
        msg = f"the payload has {len(data)} bytes, the limit is {PAYLOAD_BYTES_MAX}"
        raise InvalidOrder(msg)
    try:
        text = data.decode()
        value = json.loads(
            text or "{}", parse_float=Decimal, parse_int=_integer, parse_constant=_refuse_constant
        )
        half = next(_halves(value), None) if _HALF_ESCAPED.search(text) else None
    except (ValueError, ArithmeticError, RecursionError) as error:
        msg = f"the payload is not JSON: {str(error)[:200]}"
        raise InvalidOrder(msg) from None
    if half is not None:
        raise InvalidOrder(half)
    return validated(value, model)


def validated(value: Any, model: type[_Model]) -> _Model:
    """Check a plain value against `model`. Raises `InvalidOrder` as `decode` does."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        msg = f"the payload is a JSON {type(value).__name__}, it must be an object"
        raise InvalidOrder(msg)
    try:
        return model.model_validate(value)
    except (ValidationError, RecursionError) as error:
        raise InvalidOrder(problem(error)) from None


def checked(order: object) -> Order:
    """The order with each field checked again: a copy may hold what no `Order` was made with.

    Raises `InvalidOrder`, also for what is no `Order`.
    """
    if not isinstance(order, Order):
        msg = f"the order is a {type(order).__name__}, it must be an Order"
        raise InvalidOrder(msg)
    known, own = Order.model_fields, type(order)  # A `cached_property` keeps its value there too.
    given = {n: v for n, v in vars(order).items() if n in known or not hasattr(own, n)}
    return validated(given, Order)


def problem(error: ValidationError | RecursionError) -> str:
    """Every problem of a validation in one line each: "order.quantity: is -1; must be ..."."""
    if isinstance(error, RecursionError):
        return "the payload is nested too deeply"
    lines = []
    for item in error.errors(include_url=False, include_context=False)[:5]:
        where = ".".join(str(part)[:_SHOWN_MAX] for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error":
            lines.append(f"{where}: {text}" if where else text)
        elif item["type"] in {"missing", "extra_forbidden"}:
            lines.append(f"{where}: {_PLAIN[item['type']]}")
        else:
            name = where or "a field of the payload"
            lines.append(f"{name}: is {str(item['input'])[:_SHOWN_MAX]!r}; {text}")
    return "; ".join(lines)


_PLAIN = {"missing": "is missing", "extra_forbidden": "is not a field of this message"}


def _integer(text: str) -> int | Decimal:
    """Integers of any length; the interpreter's own limit would speak of digits, not of us."""
    return int(text) if len(text) < 40 else Decimal(text)  # noqa: PLR2004 - 40 digits are plenty


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not a number that JSON allows"
    raise ValueError(msg)


def _halves(value: Any, where: str = "") -> Iterator[str]:
    """What is wrong with texts that JSON can escape and nobody can write: half a surrogate pair."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _halves(name, "the name of a field")
            yield from _halves(item, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _halves(item, where)
    elif isinstance(value, str) and _HALF.search(value):
        text = f"is {value[:_SHOWN_MAX]!r}; must be whole characters"
        yield f"{where[:_SHOWN_MAX] or 'the payload'}: {text}"
