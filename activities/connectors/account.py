"""Binance's balances, best prices and books, read exactly."""

from decimal import Decimal
from typing import Any

from activities.connectors.fields import (
    MalformedError,
    asset_in,
    decimal_of,
    object_of,
    objects_of,
)
from trading.oms.models import Balance
from trading.oms.routing.markets import Level


def balances_of(raw: Any) -> dict[str, Balance]:
    """GET /api/v3/account: asset to balance; assets with nothing are left out."""
    found: dict[str, Balance] = {}
    for row in objects_of(object_of(raw).get("balances")):
        asset = asset_in(row)
        free, locked = decimal_of(row, "free"), decimal_of(row, "locked")
        if asset is not None and (free or locked):
            found[asset] = Balance(asset=asset, free=free, locked=locked)
    return found


def best_of(raw: Any) -> tuple[Decimal, Decimal]:
    """GET /api/v3/ticker/bookTicker: best bid and ask; refused where a side is empty (0)."""
    row = object_of(raw)
    bid, ask = decimal_of(row, "bidPrice"), decimal_of(row, "askPrice")
    if not bid or not ask:
        raise MalformedError("a side of the book is empty")
    return bid, ask


def levels_of(raw: Any, side: str) -> tuple[Level, ...]:
    """GET /api/v3/depth: one side of the book, `bids` or `asks`, the best level first."""
    rows = object_of(raw).get(side)
    if not isinstance(rows, list):
        raise MalformedError(f"{side} is no list")
    return tuple(_level(row) for row in rows)


def _level(row: Any) -> Level:
    if not isinstance(row, list) or len(row) < 2:  # noqa: PLR2004 - a price and a quantity
        raise MalformedError("a level of the book is no pair")
    pair = {"price": row[0], "quantity": row[1]}
    return Level(decimal_of(pair, "price"), decimal_of(pair, "quantity"))
