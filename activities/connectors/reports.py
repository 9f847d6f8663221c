"""Binance's JSON to `ExecutionReport` and `Fill`, exactly; anything else is `MalformedError`.

An exchange's answer is input like any other: fields may be missing, null, of another type or
absurd. Numbers are read from their text into exact decimals and never pass through a float.
Sources: rest-api.md, "Trading endpoints"; user-data-stream.md, "Order Update".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from activities.connectors.fields import (
    MalformedError,
    asset_or_none,
    decimal_of,
    id_or_none,
    number_of,
    object_of,
    objects_of,
    positive_or_none,
    text_of,
    text_or_none,
    time_of,
)
from activities.connectors.transfers import binance_transfer
from trading.oms.enums import OrderSide
from trading.oms.identity import fill_id
from trading.oms.models import Fill, Instrument, utc_now
from trading.oms.venue import ExecutionReport, ReportSource, Transfer, VenueStatus

STATUSES: dict[str, VenueStatus] = {
    "NEW": VenueStatus.NEW,
    "PENDING_NEW": VenueStatus.NEW,
    "PARTIALLY_FILLED": VenueStatus.PARTIALLY_FILLED,
    "FILLED": VenueStatus.FILLED,
    "CANCELED": VenueStatus.CANCELLED,
    "PENDING_CANCEL": VenueStatus.NEW,  # Documented as unused.
    "REJECTED": VenueStatus.REJECTED,
    "EXPIRED": VenueStatus.EXPIRED,
    "EXPIRED_IN_MATCH": VenueStatus.EXPIRED,
}
NO_TRADE = -1


@dataclass(frozen=True)
class BinanceReader:
    """Reads the answers for one account; `symbols` maps Binance's names to the instruments."""

    exchange: str
    account: str
    symbols: Mapping[str, Instrument]

    def placed(self, raw: Any) -> ExecutionReport:
        """The answer to POST /api/v3/order: ACK (a bare id means it rests), RESULT or FULL."""
        row = object_of(raw)
        at = time_of(row, "transactTime")
        accepted = row if "status" in row else {**row, "status": "NEW"}
        report = self._report(accepted, ReportSource.RESPONSE, at)
        fills = tuple(
            self._fill(row, self._execution(part, at))
            for part in objects_of(row.get("fills") or [])
        )
        return report.model_copy(update={"fills": fills})

    def cancelled(self, raw: Any) -> ExecutionReport:
        """The answer to DELETE /api/v3/order: ours is `origClientOrderId`, not `clientOrderId`."""
        row = object_of(raw)
        at = time_of(row, "transactTime")
        return self._report(row, ReportSource.RESPONSE, at, client_id="origClientOrderId")

    def amended(self, raw: Any) -> ExecutionReport:
        """The answer to PUT /api/v3/order/amend/keepPriority."""
        answer = object_of(raw)
        row = object_of(answer.get("amendedOrder"))
        row = {**row, "origQty": row.get("qty")}
        at = time_of(answer, "transactTime")
        return self._report(row, ReportSource.RESPONSE, at)

    def queried(self, raw: Any) -> ExecutionReport:
        """One order of GET /api/v3/order, /allOrders or /openOrders; carries no fills."""
        row = object_of(raw)
        at = time_of(row, "updateTime")
        return self._report(row, ReportSource.QUERY, at)

    def traded(self, raw: Any) -> Fill:
        """One trade of GET /api/v3/myTrades."""
        row = object_of(raw)
        buyer = row.get("isBuyer")
        if not isinstance(buyer, bool):
            raise MalformedError("isBuyer is not true or false")
        execution = _Execution(
            trade_id=number_of(row, "id"),
            quantity=decimal_of(row, "qty"),
            price=decimal_of(row, "price"),
            fee=decimal_of(row, "commission", signed=True),
            fee_currency=asset_or_none(row, "commissionAsset"),
            is_maker=row.get("isMaker") is True,
            at=time_of(row, "time"),
        )
        return self._fill({**row, "side": "BUY" if buyer else "SELL"}, execution)

    def streamed(self, raw: Any) -> ExecutionReport | Transfer:
        """One `executionReport` or `balanceUpdate` of the user data stream."""
        row = object_of(raw)
        if row.get("e") == "balanceUpdate":
            return binance_transfer(self.exchange, self.account, row)
        at = time_of(row, "T")
        named = {
            "symbol": row.get("s"),
            "orderId": row.get("i"),
            "side": row.get("S"),
            "status": row.get("X"),
            "origQty": row.get("q"),
            "price": row.get("p"),
            "executedQty": row.get("z"),
            "clientOrderId": _own_client_id(row),
            "expiryReason": _reason(row),
        }
        traded = row.get("x") == "TRADE"
        report = self._report(named, ReportSource.STREAM, at, carries_trade=traded)
        if not traded:
            return report
        execution = _Execution(
            trade_id=number_of(row, "t"),
            quantity=decimal_of(row, "l"),
            price=decimal_of(row, "L"),
            fee=decimal_of(row, "n", signed=True),
            fee_currency=asset_or_none(row, "N"),
            is_maker=row.get("m") is True,
            at=at,
        )
        return report.model_copy(update={"fills": (self._fill(named, execution),)})

    def _report(
        self,
        row: Mapping[str, Any],
        source: ReportSource,
        at: datetime,
        *,
        client_id: str = "clientOrderId",
        carries_trade: bool = False,
    ) -> ExecutionReport:
        word = text_of(row, "status")
        if word not in STATUSES and not carries_trade:
            raise MalformedError(f"the status {word!r} is not known")
        reason = text_or_none(row, "expiryReason")
        if word == "EXPIRED_IN_MATCH":
            reason = f"{word}: {reason}" if reason else word
        try:
            return ExecutionReport(
                exchange=self.exchange,
                account=self.account,
                symbol=self._instrument(row).symbol,
                exchange_client_id=id_or_none(row, client_id),
                exchange_order_id=str(number_of(row, "orderId")),
                status=STATUSES.get(word),
                side=_side(row) if "side" in row else None,
                quantity=positive_or_none(row, "origQty"),
                price=positive_or_none(row, "price"),
                cumulative_quantity=(
                    decimal_of(row, "executedQty") if "executedQty" in row else None
                ),
                cumulative_notional=_worth(row),
                reason=reason,
                at=at,
                received_at=utc_now(),
                source=source,
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def _fill(self, row: Mapping[str, Any], execution: "_Execution") -> Fill:
        instrument = self._instrument(row)
        side = _side(row)
        trade_id, order_id = str(execution.trade_id), str(number_of(row, "orderId"))
        if execution.trade_id <= NO_TRADE or execution.quantity <= 0:
            raise MalformedError("a trade without an id or a quantity")
        if execution.fee_currency is None and execution.fee != 0:
            raise MalformedError("a fee without a currency")
        names = (self.exchange, self.account, instrument.symbol)
        try:
            return Fill(
                fill_id=fill_id(*names, trade_id, order_id),
                order_id="",
                exchange=self.exchange,
                account=self.account,
                symbol=instrument.symbol,
                side=side,
                quantity=execution.quantity,
                price=execution.price,
                fee=execution.fee,
                fee_currency=execution.fee_currency or instrument.quote,
                timestamp=execution.at,
                received_at=utc_now(),
                trade_id=trade_id,
                exchange_order_id=order_id,
                is_maker=execution.is_maker,
            )
        except ValidationError as error:
            raise MalformedError(str(error)) from None

    def _execution(self, part: Mapping[str, Any], at: datetime) -> "_Execution":
        """One of the `fills` of a FULL answer: what traded at once, so always as the taker."""
        return _Execution(
            trade_id=number_of(part, "tradeId"),
            quantity=decimal_of(part, "qty"),
            price=decimal_of(part, "price"),
            fee=decimal_of(part, "commission", signed=True),
            fee_currency=asset_or_none(part, "commissionAsset"),
            is_maker=False,
            at=at,
        )

    def _instrument(self, row: Mapping[str, Any]) -> Instrument:
        name = text_of(row, "symbol")
        instrument = self.symbols.get(name)
        if instrument is None:
            raise MalformedError(f"the symbol {name!r} is not listed")
        return instrument


@dataclass(frozen=True)
class _Execution:
    trade_id: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_currency: str | None
    is_maker: bool
    at: datetime


def _worth(row: Mapping[str, Any]) -> Decimal | None:
    """The executed total in the quote asset; below zero Binance says that it has none."""
    if "cummulativeQuoteQty" not in row:
        return None
    worth = decimal_of(row, "cummulativeQuoteQty", signed=True)
    return worth if worth >= 0 else None


def _side(row: Mapping[str, Any]) -> OrderSide:
    word = text_of(row, "side")
    if word not in {"BUY", "SELL"}:
        raise MalformedError(f"the side {word!r} is not known")
    return OrderSide(word.lower())


def _own_client_id(row: Mapping[str, Any]) -> Any:
    """On a cancel `c` names the cancel and `C` the order; on a replacement presumably likewise."""
    if row.get("x") in ("CANCELED", "REPLACED"):
        return row.get("C") or row.get("c")
    return row.get("c")


def _reason(row: Mapping[str, Any]) -> str | None:
    expiry = text_or_none(row, "eR")
    refusal = text_or_none(row, "r")
    return expiry or (refusal if refusal != "NONE" else None)
