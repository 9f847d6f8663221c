"""Kraken's JSON to `ExecutionReport`, `Fill` and `Instrument`, exactly.

Anything else is `MalformedError`. Sources: "Get Open Orders", "Get Trades History", "Executions" of
WebSocket v2, "Get Tradable Asset Pairs". REST has amounts as text, the stream as JSON numbers,
which are kept as their text; a fee is in the quote asset unless the stream says otherwise.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError

from activities.connectors.clock import at_ms
from activities.connectors.fields import (
    MalformedError,
    asset_in,
    asset_or_none,
    decimal_of,
    id_of,
    id_or_none,
    number_of,
    object_of,
    objects_of,
    positive_or_none,
    text_of,
    text_or_none,
)
from activities.connectors.transfers import kraken_transfer
from trading.oms.enums import OrderSide
from trading.oms.identity import fill_id
from trading.oms.models import Balance, Fill, Instrument, utc_now
from trading.oms.venue import ExecutionReport, OrderRequest, ReportSource, Transfer, VenueStatus

logger = logging.getLogger(__name__)
STATUSES = {
    "pending": VenueStatus.NEW,
    "open": VenueStatus.NEW,
    "closed": VenueStatus.FILLED,
    "canceled": VenueStatus.CANCELLED,
    "expired": VenueStatus.EXPIRED,
}
STREAM_STATUSES = {
    "new": VenueStatus.NEW,
    "amended": VenueStatus.NEW,
    "filled": VenueStatus.FILLED,
    "canceled": VenueStatus.CANCELLED,
    "expired": VenueStatus.EXPIRED,
}
REMEMBERED = 10_000
_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


class Known(NamedTuple):
    """What an order is, for messages that name it by its identifier alone."""

    symbol: str
    client_id: str | None


class KrakenReader:
    """Reads the answers for one account; `pairs` has each instrument by all of Kraken's names."""

    def __init__(self, exchange: str, account: str, pairs: Mapping[str, Instrument]) -> None:
        self._exchange = exchange
        self._account = account
        self._pairs = pairs
        self._known: OrderedDict[str, Known] = OrderedDict()

    # REST

    def placed(self, raw: Any, request: OrderRequest, at: datetime) -> ExecutionReport:
        """The answer to AddOrder: an identifier and no status. It was taken; what it did comes."""
        ids = object_of(raw).get("txid")
        if not isinstance(ids, list) or len(ids) != 1:
            raise MalformedError("txid is not a list of one identifier")
        order_id = id_of({"txid": ids[0]}, "txid")
        self._remember(order_id, Known(request.symbol, request.exchange_client_id))
        return self._report(
            order_id,
            Known(request.symbol, request.exchange_client_id),
            at,
            ReportSource.RESPONSE,
            status=VenueStatus.NEW,
            side=request.side,
            quantity=request.quantity,
            price=request.price,
        )

    def changed(
        self, known: Known, order_id: str | None, at: datetime, **fields: Any
    ) -> ExecutionReport:
        """What a cancel or an amendment said, which is little: the order by its names."""
        return self._report(order_id, known, at, ReportSource.RESPONSE, **fields)

    def queried(self, order_id: str, raw: Any) -> ExecutionReport:
        """One order of OpenOrders, ClosedOrders or QueryOrders; carries no fills."""
        row = object_of(raw)
        described = object_of(row.get("descr"))
        word = text_of(row, "status")
        if word not in STATUSES:
            raise MalformedError(f"the status {word!r} is not known")
        filled, is_open = decimal_of(row, "vol_exec"), word in {"open", "pending"}
        status = VenueStatus.PARTIALLY_FILLED if is_open and filled else STATUSES[word]
        is_stop = "stop" in text_of(described, "ordertype")
        known = Known(self._pair(described, "pair").symbol, id_or_none(row, "cl_ord_id"))
        self._remember(id_of({"id": order_id}, "id"), known)
        return self._report(
            order_id,
            known,
            _seconds(row, "opentm" if is_open else "closetm"),
            ReportSource.QUERY,
            status=status,
            side=_side(described, "type"),
            quantity=decimal_of(row, "vol"),
            price=positive_or_none(described, "price2" if is_stop else "price"),
            cumulative_quantity=filled,
            cumulative_notional=decimal_of(row, "cost") if "cost" in row else None,
            reason=text_or_none(row, "reason"),
        )

    def may_be_of(self, raw: Any, symbol: str) -> bool:
        """Whether a trade's pair is the symbol's; what names no pair may be, and is not dropped."""
        name = object_of(raw).get("pair")
        instrument = self._pairs.get(name) if isinstance(name, str) else None
        return not isinstance(name, str) or (instrument is not None and instrument.symbol == symbol)

    def traded(self, raw: Any) -> Fill:
        """One trade of TradesHistory or QueryTrades."""
        row = object_of(raw)
        instrument = self._pair(row, "pair")
        return self._fill(
            instrument,
            order_id=id_of(row, "ordertxid"),
            trade_id=number_of(row, "trade_id"),
            side=_side(row, "type"),
            quantity=decimal_of(row, "vol"),
            price=decimal_of(row, "price"),
            fee=decimal_of(row, "fee", signed=True),
            fee_currency=instrument.quote,
            timestamp=_seconds(row, "time"),
            is_maker=row.get("maker") is True,
        )

    # The stream

    def streamed(self, raw: Any) -> ExecutionReport | Transfer | None:
        """One entry of `executions` or `balances`; None for one that says nothing to us."""
        row = object_of(raw)
        if "exec_type" not in row and "asset" in row:
            asset = row["asset"]
            named = {**row, "asset": _NAMES.get(asset, asset) if isinstance(asset, str) else asset}
            return kraken_transfer(self._exchange, self._account, named, _timestamp)
        kind, order_id = text_of(row, "exec_type"), id_of(row, "order_id")
        if kind != "trade" and kind not in STREAM_STATUSES:
            return None
        known = self._identity(row, order_id)
        at = _timestamp(row)
        status = STREAM_STATUSES.get(kind)
        filled = decimal_of(row, "cum_qty") if "cum_qty" in row else None
        if status is VenueStatus.NEW and filled:
            status = VenueStatus.PARTIALLY_FILLED
        report = self._report(
            order_id,
            known,
            at,
            ReportSource.STREAM,
            status=status,
            side=_side(row, "side") if "side" in row else None,
            quantity=positive_or_none(row, "order_qty"),
            price=positive_or_none(row, "limit_price"),
            cumulative_quantity=filled,
            reason=text_or_none(row, "reason"),
        )
        if kind != "trade":
            return report
        instrument = self._pair(row, "symbol")
        fee, currency = _stream_fee(row, instrument)
        fill = self._fill(
            instrument,
            order_id=order_id,
            trade_id=number_of(row, "trade_id"),
            side=_side(row, "side"),
            quantity=decimal_of(row, "last_qty"),
            price=decimal_of(row, "last_price"),
            fee=fee,
            fee_currency=currency,
            timestamp=at,
            is_maker=row.get("liquidity_ind") == "m",
        )
        return report.model_copy(update={"fills": (fill,)})

    def _identity(self, row: Mapping[str, Any], order_id: str) -> Known:
        """Ends of orders come without a symbol: then it is the one that the order had before."""
        before = self._known.get(order_id)
        client_id = id_or_none(row, "cl_ord_id") or (before.client_id if before else None)
        if "symbol" in row:
            known = Known(self._pair(row, "symbol").symbol, client_id)
        elif before is not None:
            known = Known(before.symbol, client_id)
        else:
            raise MalformedError(f"order {order_id} has no symbol and was never seen before")
        self._remember(order_id, known)
        return known

    # Both

    def _remember(self, order_id: str, known: Known) -> None:
        self._known[order_id] = known
        self._known.move_to_end(order_id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _report(
        self,
        order_id: str | None,
        known: Known,
        at: datetime,
        source: ReportSource,
        **fields: Any,
    ) -> ExecutionReport:
        try:
            return ExecutionReport(
                exchange=self._exchange,
                account=self._account,
                symbol=known.symbol,
                exchange_client_id=known.client_id,
                exchange_order_id=order_id,
                at=at,
                received_at=utc_now(),
                source=source,
                **fields,
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def _fill(self, instrument: Instrument, *, order_id: str, trade_id: int, **fields: Any) -> Fill:
        """Trade ids are numbers of a pair, the same for both sides of a match."""
        names = (self._exchange, self._account, instrument.symbol)
        try:
            return Fill(
                fill_id=fill_id(*names, str(trade_id), order_id),
                order_id="",
                exchange=self._exchange,
                account=self._account,
                symbol=instrument.symbol,
                received_at=utc_now(),
                trade_id=str(trade_id),
                exchange_order_id=order_id,
                **fields,
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def _pair(self, row: Mapping[str, Any], name: str) -> Instrument:
        text = text_of(row, name)
        instrument = self._pairs.get(text)
        if instrument is None:
            raise MalformedError(f"the pair {text!r} is not listed")
        return instrument


def asset_names(raw: Any) -> dict[str, str]:
    """Assets: Kraken's id (XXBT) to the name that the rest of the world uses (BTC)."""
    found = {}
    for asset_id, row in object_of(raw).items():
        name = text_of(object_of(row), "altname")
        found[asset_id] = _NAMES.get(name, name)
    return found


def instruments_of(exchange: str, raw: Any, assets: Mapping[str, str]) -> dict[str, Instrument]:
    """AssetPairs: each instrument by its id, altname, wsname and symbol.

    A pair that cannot be read is left out and logged: it cannot be traded, the others can.
    """
    found: dict[str, Instrument] = {}
    for pair_id, raw_row in object_of(raw).items():
        try:
            row = object_of(raw_row)
            instrument = _instrument(exchange, row, assets)
            names = {pair_id, text_of(row, "altname"), instrument.symbol}
            found |= dict.fromkeys(names | {text_or_none(row, "wsname") or pair_id}, instrument)
        except (MalformedError, ValidationError) as error:
            logger.warning("%s: the pair %s is left out: %s", exchange, pair_id, error)
    return found


def _instrument(exchange: str, row: Mapping[str, Any], assets: Mapping[str, str]) -> Instrument:
    base, quote = (assets.get(text_of(row, name), text_of(row, name)) for name in ("base", "quote"))
    tick = positive_or_none(row, "tick_size") or _step(row, "pair_decimals")
    lot = _step(row, "lot_decimals")
    return Instrument(
        exchange=exchange,
        symbol=f"{base}/{quote}",
        base=base,
        quote=quote,
        tick_size=tick.normalize(),
        lot_size=lot,
        min_order_size=positive_or_none(row, "ordermin") or lot,
        max_order_size=None,
        min_notional=positive_or_none(row, "costmin"),
        is_trading=row.get("status", "online") == "online",
    )


def balances_of(raw: Any, assets: Mapping[str, str]) -> dict[str, Balance]:
    """BalanceEx: asset to balance; assets with nothing are left out."""
    found: dict[str, Balance] = {}
    for asset_id, raw_row in object_of(raw).items():
        row = object_of(raw_row)
        total, locked = decimal_of(row, "balance"), decimal_of(row, "hold_trade")
        asset = asset_in({"asset": assets.get(asset_id, asset_id)})
        if total and asset is not None:
            found[asset] = Balance(asset=asset, free=total - locked, locked=locked)
    return found


def first_of(raw: Any) -> Mapping[str, Any]:
    """The only entry of an answer by pair, whatever name Kraken gives the pair there."""
    rows = list(object_of(raw).values())
    if len(rows) != 1:
        raise MalformedError(f"{len(rows)} pairs instead of one")
    return object_of(rows[0])


def levels(row: Mapping[str, Any], side: str) -> Sequence[tuple[Decimal, Decimal]]:
    """Price and quantity of each level: `a` and `b` of Ticker are one, `asks` of Depth many."""
    entries = row.get(side)
    if not isinstance(entries, list) or not entries:
        return []
    rows = entries if isinstance(entries[0], list) else [[entries[0], *entries[2:]]]
    return [_level(row) for row in rows]


def _level(row: Any) -> tuple[Decimal, Decimal]:
    if not isinstance(row, list) or len(row) < 2:  # noqa: PLR2004 - a price and a quantity
        raise MalformedError("a level of the book is no pair")
    pair = {"price": row[0], "quantity": row[1]}
    return decimal_of(pair, "price"), decimal_of(pair, "quantity")


def _stream_fee(row: Mapping[str, Any], instrument: Instrument) -> tuple[Decimal, str]:
    fees = objects_of(row.get("fees") or [])
    currencies = {asset_or_none(fee, "asset") or instrument.quote for fee in fees}
    if len(currencies) > 1:
        raise MalformedError("fees in two currencies")
    currency = next(iter(currencies), instrument.quote)
    total = sum((decimal_of(fee, "qty", signed=True) for fee in fees), Decimal(0))
    return total, _NAMES.get(currency, currency)


def _step(row: Mapping[str, Any], name: str) -> Decimal:
    return Decimal(1).scaleb(-number_of(row, name))


def _side(row: Mapping[str, Any], name: str) -> OrderSide:
    word = text_of(row, name)
    if word not in {"buy", "sell"}:
        raise MalformedError(f"the side {word!r} is not known")
    return OrderSide(word)


def _seconds(row: Mapping[str, Any], name: str) -> datetime:
    """Unix seconds with a fraction, which the JSON reader kept as text."""
    try:
        return at_ms(int(decimal_of(row, name) * 1000))
    except OverflowError:
        raise MalformedError(f"{name} is no time") from None


def _timestamp(row: Mapping[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(text_of(row, "timestamp"))
    except ValueError:
        raise MalformedError("timestamp is no time") from None
    if at.tzinfo is None:
        raise MalformedError("timestamp has no zone")
    return at
