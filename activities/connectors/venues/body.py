"""The check of a new order's signed body against what was asked for."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading.oms.errors import ExchangeUnavailable
from trading.oms.venue import OrderRequest


def check_json(_order: OrderRequest, expected: Mapping[str, Any], body: str) -> None:
    """Raise `ExchangeUnavailable` (code `local_request`) if the body is not this very order.

    Amounts are text, never JSON numbers; nothing may be there twice, or that was not asked for.
    """
    try:
        built = json.loads(body, parse_float=Decimal, object_pairs_hook=_no_twice)
    except (ValueError, RecursionError) as error:
        raise refused(f"the body cannot be read: {error}") from None
    if not isinstance(built, dict):
        raise refused("the body is no object")
    ours, theirs = _flat(expected), _flat(built)
    wrong = [
        f"{name} is {theirs.get(name)!r}, the order has {ours.get(name)!r}"
        for name in sorted({*ours, *theirs})
        if type(ours.get(name)) is not type(theirs.get(name)) or ours.get(name) != theirs.get(name)
    ]
    if wrong:
        raise refused("; ".join(wrong))


def spot_only(order: OrderRequest, why: str) -> None:
    """Refuse a stop, where `why` it cannot be placed."""
    if order.stop_price is not None:
        raise refused(why)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {
        name: one
        for key, inner in value.items()
        for name, one in _flat(inner, f"{path}.{key}" if path else key).items()
    }


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a parameter appears twice")
    return found


def refused(why: str) -> ExchangeUnavailable:
    """The refusal of our own request; nothing was sent."""
    text = f"the request built is not the order, nothing was sent: {why}"
    return ExchangeUnavailable(text, code="local_request")
