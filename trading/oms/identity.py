"""Names that prove identity: content hashes, exchange client ids, fill ids. All pure hashes."""

import hashlib
import json
from decimal import Context, Decimal
from typing import Any

from trading.oms.models import Order

GENERATED_FIELDS = frozenset({"client_order_id", "created_at"})
"""Fields of `Order` that we make up when the trader does not give them; not its content."""
HEXADECIMAL = "0123456789abcdef"
_MARK_LENGTH = 6
_ALL_DIGITS = Context(prec=80)


def order_content(order: Order) -> dict[str, Any]:
    """The trader's own fields as plain JSON values; equal decimals are equal text."""
    content: dict[str, Any] = {}
    for name in type(order).model_fields:
        if name in GENERATED_FIELDS:
            continue
        value = getattr(order, name)
        if isinstance(value, Decimal):
            value = format(value.normalize(_ALL_DIGITS), "f")
        content[name] = value
    return json.loads(json.dumps(content, default=str, sort_keys=True))  # type: ignore[no-any-return]


def content_hash(order: Order) -> str:
    """64 hexadecimal digits that are equal exactly when the trader's fields are equal."""
    text = json.dumps(order_content(order), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_difference(known: Order, given: Order) -> list[str]:
    """One sentence per field that differs: "quantity is 2, the known order has 1"."""
    old, new = order_content(known), order_content(given)
    return [
        f"{name} is {new[name]}, the known order has {old[name]}"
        for name in new
        if new[name] != old[name]
    ]


def deployment_mark(deployment: str) -> str:
    """Six hexadecimal digits that begin each exchange client id of this deployment."""
    return hashlib.sha256(b"deployment:" + deployment.encode()).hexdigest()[:_MARK_LENGTH]


def exchange_client_id(deployment: str, order_id: str, leg: int, generation: int) -> str:
    """The id under which one send of an order is known at the exchange: 32 hexadecimal digits.

    Fits Binance (36 of a wider alphabet) and OKX (32 alphanumeric). It begins with the mark of
    the deployment, so an order of ours that the store does not know is recognised.
    """
    text = json.dumps([deployment, order_id, leg, generation])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return deployment_mark(deployment) + digest[: 32 - _MARK_LENGTH]


def fill_id(exchange: str, account: str, symbol: str, trade_id: str, exchange_order_id: str) -> str:
    """The key of a fill, 32 hexadecimal digits.

    The exchange order id is part of it because both sides of a self-trade share a trade id, and
    the symbol because trade ids are unique per symbol only (Binance).
    """
    text = json.dumps([exchange, account, symbol, trade_id, exchange_order_id])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
