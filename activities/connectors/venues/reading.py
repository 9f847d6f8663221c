"""Rows of a venue to `ExecutionReport`, `Fill`, `Instrument` and `Balance`, as its record says.

Anything else is `MalformedError`. Numbers are read from their text into exact decimals.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from pydantic import ValidationError

from activities.connectors.clock import at_ms
from activities.connectors.fields import (
    MalformedError,
    decimal_of,
    id_or_none,
    number_of,
    positive_or_none,
    text_of,
    text_or_none,
)
from activities.connectors.venues.listing import Row, at
from activities.connectors.venues.record import Unit, VenueRecord
from trading.oms.enums import OrderSide
from trading.oms.identity import fill_id
from trading.oms.models import Balance, Fill, Instrument, utc_now
from trading.oms.routing.markets import Level
from trading.oms.venue import ExecutionReport, ReportSource, VenueStatus

logger = logging.getLogger(__name__)


class VenueReader:
    """Reads the answers for one account; `listed` has each instrument by the venue's name."""

    def __init__(
        self, record: VenueRecord, names: tuple[str, str], listed: Mapping[str, Instrument]
    ) -> None:
        self._record = record
        self._exchange, self._account = names
        self._listed = listed

    def order(self, row: Row) -> ExecutionReport:
        """One order of a list; carries no fills."""
        fields = self._record.orders_as
        word = _text(row, fields.status)
        if word not in fields.statuses:
            raise MalformedError(f"the status {word!r} is not known")
        executed = _amount(row, fields.executed)
        status = fields.statuses[word]
        if status is VenueStatus.NEW and executed:
            status = VenueStatus.PARTIALLY_FILLED
        times = [at(row, path) for path in fields.at]
        known = [path for path, value in zip(fields.at, times, strict=True) if value]
        if not known:
            raise MalformedError(f"none of {', '.join(fields.at)} is a time")
        try:
            return ExecutionReport(
                exchange=self._exchange,
                account=self._account,
                symbol=self._instrument(row, fields.symbol).symbol,
                exchange_client_id=id_or_none(*_named(row, fields.client_id)),
                exchange_order_id=order_id_of(row, fields.id),
                status=status,
                side=_side(row, fields.side),
                quantity=_first(row, fields.quantity),
                price=_first(row, fields.price),
                cumulative_quantity=executed,
                cumulative_notional=_amount(row, fields.worth) if fields.worth else None,
                reason=text_or_none(*_named(row, fields.reason)) if fields.reason else None,
                at=max(moment(row, path, fields.unit) for path in known),
                received_at=utc_now(),
                source=ReportSource.QUERY,
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def opened(self, row: Row) -> datetime:
        """When an order was taken."""
        fields = self._record.orders_as
        return moment(row, fields.opened, fields.unit)

    def is_of_another(self, row: Row, path: str, symbol: str | None) -> bool:
        """Whether a row is surely not of this symbol; one without a readable symbol may be."""
        name = at(row, path)
        return isinstance(name, str) and name in self._listed and symbol not in {None, name}

    def fill(self, row: Row) -> Fill:
        """One trade."""
        fields = self._record.fills_as
        instrument = self._instrument(row, fields.symbol)
        trade_id, order_id = order_id_of(row, fields.id), order_id_of(row, fields.order)
        price, quantity = _amount(row, fields.price), _amount(row, fields.quantity)
        if fields.in_quote and at(row, fields.in_quote) is True and price:
            quantity = (quantity / price).quantize(instrument.lot_size, ROUND_DOWN)
        fee = fields.fee_sign * _amount(row, fields.fee, signed=True)
        currency = text_or_none(*_named(row, fields.currency)) if fields.currency else None
        if fields.currency and currency is None and fee:
            raise MalformedError("a fee without a currency")
        names = (self._exchange, self._account, instrument.symbol)
        try:
            return Fill(
                fill_id=fill_id(*names, trade_id, order_id),
                order_id="",
                exchange=self._exchange,
                account=self._account,
                symbol=instrument.symbol,
                side=_side(row, fields.side),
                quantity=quantity,
                price=price,
                fee=fee,
                fee_currency=currency or instrument.quote,
                timestamp=moment(row, fields.at, fields.unit),
                received_at=utc_now(),
                trade_id=trade_id,
                exchange_order_id=order_id,
                is_maker=at(row, fields.maker[0]) == fields.maker[1],
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def balances(self, rows: Sequence[Row]) -> dict[str, Balance]:
        """Asset to balance; assets with nothing are left out."""
        fields, found = self._record.balances_as, dict[str, Balance]()
        for row in rows:
            locked = _amount(row, fields.locked)
            free = _amount(row, fields.free) if fields.free else None
            if free is None:
                free = _amount(row, fields.total) - locked
            asset = _text(row, fields.asset)
            if (free or locked) and asset in found:
                raise MalformedError(f"two balances of {asset}")
            if free or locked:
                found[asset] = Balance(asset=asset, free=free, locked=locked)
        return found

    def _instrument(self, row: Row, path: str) -> Instrument:
        name = _text(row, path)
        if name not in self._listed:
            raise MalformedError(f"the symbol {name!r} is not listed")
        return self._listed[name]


def instruments_of(
    record: VenueRecord, exchange: str, rows: Sequence[Row], code: Any
) -> dict[str, Instrument]:
    """The venue's name to the instrument; `code` turns its name of an asset into the usual one.

    A row that cannot be read is left out and logged: it cannot be traded, the others can.
    """
    fields, found = record.instruments_as, dict[str, Instrument]()
    for row in rows:
        try:
            base, quote = (str(code(_text(row, path))) for path in (fields.base, fields.quote))
            lot = (
                Decimal(1).scaleb(-number_of(*_named(row, fields.lot)))
                if fields.lot_in_decimals
                else _step(row, fields.lot)
            )
            found[_text(row, fields.id)] = Instrument(
                exchange=exchange,
                symbol=f"{base}/{quote}",
                base=base,
                quote=quote,
                tick_size=_step(row, fields.tick),
                lot_size=lot,
                min_order_size=_positive(row, fields.least) or lot,
                max_order_size=_positive(row, fields.most) if fields.most else None,
                min_notional=_positive(row, fields.notional) if fields.notional else None,
                is_trading=at(row, fields.trading[0]) == fields.trading[1],
            )
        except (MalformedError, ValidationError) as error:
            logger.warning("%s: an instrument is left out: %s", exchange, error)
    return found


def levels_of(found: Any, keys: tuple[str, str]) -> tuple[Level, ...]:
    """One side of a book, the best level first."""
    if not isinstance(found, list):
        raise MalformedError("a side of the book is no list")
    return tuple(Level(*(_amount({"level": one}, f"level.{key}") for key in keys)) for one in found)


def moment(row: Row, path: str, unit: Unit) -> datetime:
    """A time of a row. Raises `MalformedError`."""
    value = at(row, path)
    try:
        if unit is Unit.ISO:
            found = datetime.fromisoformat(_text(row, path))
            if found.tzinfo is None:
                raise MalformedError(f"{path} has no zone")
            return found.astimezone(UTC)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise MalformedError(f"{path} is no time")
        number = decimal_of({path: str(value)}, path)
        return at_ms(int(number * 1000 if unit is Unit.SECONDS else number))
    except (ValueError, OverflowError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"{path} is no time") from None


def order_id_of(row: Row, path: str) -> str:
    """An id that a venue gives as text or as a whole number."""
    value = at(row, path)
    whole = isinstance(value, int) and not isinstance(value, bool)
    found = id_or_none({path: str(value) if whole else value}, path)
    if found is None:
        raise MalformedError(f"{path} is missing or empty")
    return found


def _named(row: Row, path: str) -> tuple[dict[str, Any], str]:
    return {path: at(row, path)}, path


def _text(row: Row, path: str) -> str:
    return text_of(*_named(row, path))


def _amount(row: Row, path: str, *, signed: bool = False) -> Decimal:
    return decimal_of(*_named(row, path), signed=signed)


def _positive(row: Row, path: str) -> Decimal | None:
    """Above zero; None where it is missing, empty or zero."""
    value = at(row, path)
    return positive_or_none({path: value or None}, path)


def _first(row: Row, paths: tuple[str, ...]) -> Decimal | None:
    return next((found for path in paths if (found := _positive(row, path)) is not None), None)


def _step(row: Row, path: str) -> Decimal:
    step = _positive(row, path)
    if step is None:
        raise MalformedError(f"{path} is missing or zero")
    return step.normalize()


def _side(row: Row, path: str) -> OrderSide:
    word = _text(row, path).lower()
    if word not in {"buy", "sell"}:
        raise MalformedError(f"the side {word!r} is not known")
    return OrderSide(word)
