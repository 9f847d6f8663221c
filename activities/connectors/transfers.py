"""What an exchange's stream says of money that came or went without a trade.

Sources: Binance "User Data Streams", `balanceUpdate`; Kraken "Balances" of WebSocket v2.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from activities.connectors.fields import (
    MalformedError,
    asset_or_none,
    decimal_of,
    id_of,
    text_of,
    time_of,
)
from trading.oms.models import utc_now
from trading.oms.venue import Transfer

_TRADE = "trade"
"""Kraken's ledger has a trade's two sides too; those are fills."""


def binance_transfer(exchange: str, account: str, row: Mapping[str, Any]) -> Transfer:
    """`balanceUpdate`, which has no id: asset, amount and time name it."""
    at, asset = time_of(row, "T"), _asset(row, "a")
    amount = decimal_of(row, "d", signed=True)
    named = f"{asset}|{amount.normalize()}|{at.isoformat()}"
    transfer_id = hashlib.sha256(named.encode()).hexdigest()[:32]
    return _made(exchange, account, asset, amount, transfer_id=transfer_id, at=at)


def kraken_transfer(
    exchange: str, account: str, row: Mapping[str, Any], time_of_row: Callable[[Any], datetime]
) -> Transfer | None:
    """A ledger entry of the channel `balances`; None for a trade's, and for a bare balance.

    The fee is taken besides the amount.
    """
    if "ledger_id" not in row or text_of(row, "type") == _TRADE:
        return None
    amount = decimal_of(row, "amount", signed=True)
    if "fee" in row:
        amount -= decimal_of(row, "fee", signed=True)
    return _made(
        exchange,
        account,
        _asset(row, "asset"),
        amount,
        transfer_id=id_of(row, "ledger_id"),
        at=time_of_row(row),
    )


def _asset(row: Mapping[str, Any], name: str) -> str:
    asset = asset_or_none(row, name)
    if asset is None:
        raise MalformedError(f"{name} is missing or empty")
    return asset


def _made(
    exchange: str, account: str, asset: str, amount: Decimal, *, transfer_id: str, at: datetime
) -> Transfer:
    try:
        return Transfer(
            exchange=exchange,
            account=account,
            transfer_id=transfer_id,
            asset=asset,
            amount=amount,
            at=at,
            received_at=utc_now(),
        )
    except ValidationError as error:
        raise MalformedError(str(error)) from None
