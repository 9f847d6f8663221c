"""Binance's exchangeInfo to `Instrument`s. Source: "Exchange information" and filters.md."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from activities.connectors.fields import (
    MalformedError,
    decimal_of,
    number_of,
    object_of,
    objects_of,
    positive_or_none,
    text_of,
)
from trading.oms.models import Instrument

logger = logging.getLogger(__name__)


def instruments_of(exchange: str, raw: Any) -> dict[str, Instrument]:
    """Binance's symbol name to its instrument, spot markets only.

    A symbol whose entry cannot be read is left out and logged: it cannot be traded, the others
    can. Raises `MalformedError` where the list itself is missing.
    """
    found: dict[str, Instrument] = {}
    for row in objects_of(object_of(raw).get("symbols")):
        if row.get("isSpotTradingAllowed") is not True:
            continue
        try:
            found[text_of(row, "symbol")] = _instrument(exchange, row)
        except (MalformedError, ValidationError) as error:
            logger.warning("%s: a symbol is left out: %s", exchange, error)
    return found


def _instrument(exchange: str, row: Mapping[str, Any]) -> Instrument:
    filters = {text_of(entry, "filterType"): entry for entry in objects_of(row.get("filters"))}
    price, lot = filters.get("PRICE_FILTER", {}), filters.get("LOT_SIZE", {})
    notional = filters.get("NOTIONAL", filters.get("MIN_NOTIONAL", {}))
    base, quote = text_of(row, "baseAsset"), text_of(row, "quoteAsset")
    lot_size = _step(lot, "stepSize", row, "baseAssetPrecision")
    return Instrument(
        exchange=exchange,
        symbol=f"{base}/{quote}",
        base=base,
        quote=quote,
        tick_size=_step(price, "tickSize", row, "quotePrecision"),
        lot_size=lot_size,
        min_order_size=positive_or_none(lot, "minQty") or lot_size,
        max_order_size=positive_or_none(lot, "maxQty"),
        min_notional=positive_or_none(notional, "minNotional"),
        is_trading=row.get("status", "TRADING") == "TRADING",
    )


def _step(rule: Mapping[str, Any], name: str, row: Mapping[str, Any], precision: str) -> Decimal:
    """A filter's step; a step of 0 switches the filter off, then the precision is the step."""
    step = decimal_of(rule, name) if name in rule else Decimal(0)
    return step.normalize() if step else Decimal(1).scaleb(-number_of(row, precision))
