"""The connector by records, at the two protocols that the sandbox exchange speaks.

Two exchanges that really differ pass it through every card; its records of OKX, Bybit and Coinbase
have no exchange here, and are looked at byte by byte (`tests/activities/test_venue_records.py`).
"""

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from activities.connectors import binance_orders, kraken_orders
from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.capabilities import binance_spot, kraken_spot
from activities.connectors.classify import Answer
from activities.connectors.fields import MalformedError
from activities.connectors.kraken_codes import KRAKEN_RULES, read_answer
from activities.connectors.kraken_reports import STATUSES as KRAKENS
from activities.connectors.reports import STATUSES
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.connector import CcxtConnector
from activities.connectors.venues.listing import Listing, Page, Row, at
from activities.connectors.venues.record import (
    BalanceFields,
    BookFields,
    Command,
    FillFields,
    InstrumentFields,
    OrderFields,
    Switch,
    TimeFields,
    Unit,
    VenueRecord,
)
from activities.connectors.venues.wire import VenueWire
from trading.oms.venue import Amend

MARGINS: dict[str, Any] = {
    "fence_ms": 5000,
    "processing_bound_ms": 10_000,
    "clock_skew_ms": 1000,
    "data_lag_ms": 1000,
}


def binance(settings: ConnectorSettings) -> CcxtConnector:
    return CcxtConnector(settings, binance_record)


def kraken(settings: ConnectorSettings) -> CcxtConnector:
    return CcxtConnector(settings, kraken_record)


@cache
def binance_record() -> VenueRecord:
    named = {"symbol": "{symbol}", "origClientOrderId": "{client_id}", "orderId": "{order_id}"}
    trades = {
        "symbol": "{symbol}",
        "fromId": "{trade_id}",
        "startTime": "{since_ms}",
        "endTime": "{until_ms}",
        "limit": "1000",
    }
    orders = {
        "symbol": "{symbol}",
        "startTime": "{since_ms}",
        "endTime": "{until_ms}",
        "limit": "1000",
    }
    return VenueRecord(
        # Not what the connector by records does.
        capabilities=binance_spot(**MARGINS).model_copy(
            update={"cancel_all": False, "cancel_replace": False}
        ),
        ccxt="binance",
        addresses=_binances,
        public=frozenset({"time", "exchangeInfo", "depth"}),
        rules=BINANCE_RULES,
        read_answer=Answer.read,
        order=binance_orders.order_parameters,
        check=lambda order, body, text: binance_orders.check_bytes(order, body["symbol"], text),
        place=Command("order", id="orderId", client_id="clientOrderId"),
        cancel=Command(
            "order", named, id="orderId", client_id="origClientOrderId", method="DELETE"
        ),
        cancel_is_done=True,
        reduce=Command(
            "order/amend/keepPriority",
            {**named, "newQty": "{quantity}", "newClientOrderId": "{client_id}"},
            word="amendedOrder",
            id="orderId",
            client_id="clientOrderId",
            method="PUT",
        ),
        lookups=(Listing("order", "", named, single=True),),
        not_found=frozenset({(400, "-2013")}),
        open_orders=Listing("openOrders", "", {"symbol": "{symbol}"}),
        histories=(Listing("allOrders", "", orders, window_ms=86_400_000),),
        symbols_needed=True,
        fills=Listing("myTrades", "", trades, shape=_with_side, window_ms=86_400_000),
        order_fills=Listing(
            "myTrades",
            "",
            {"symbol": "{symbol}", "orderId": "{order_id}", "limit": "1000"},
            shape=_with_side,
        ),
        instruments=Listing("exchangeInfo", "symbols", shape=_with_filters),
        balances=Listing("account", "balances", {"omitZeroBalances": "true"}),
        orders_as=OrderFields(
            id="orderId",
            client_id="clientOrderId",
            symbol="symbol",
            side="side",
            status="status",
            quantity=("origQty",),
            price=("price",),
            executed="executedQty",
            worth="cummulativeQuoteQty",
            at=("updateTime", "time"),
            opened="time",
            statuses=STATUSES,
        ),
        fills_as=FillFields(
            id="id",
            order="orderId",
            symbol="symbol",
            side="side",
            quantity="qty",
            price="price",
            fee="commission",
            currency="commissionAsset",
            at="time",
            maker=("isMaker", True),
        ),
        instruments_as=InstrumentFields(
            id="symbol",
            base="baseAsset",
            quote="quoteAsset",
            tick="PRICE_FILTER.tickSize",
            lot="LOT_SIZE.stepSize",
            least="LOT_SIZE.minQty",
            most="LOT_SIZE.maxQty",
            notional="NOTIONAL.minNotional",
            trading=("status", "TRADING"),
        ),
        balances_as=BalanceFields(asset="asset", free="free", locked="locked"),
        book=BookFields("depth", {"symbol": "{symbol}", "limit": "100"}, "bids", "asks"),
        time=TimeFields("time", "serverTime"),
        watch={},
    )


@cache
def kraken_record() -> VenueRecord:
    ours = {"cl_ord_id": "{client_id}"}
    return VenueRecord(
        capabilities=kraken_spot(**MARGINS).model_copy(update={"amend": Amend.IN_PLACE_REDUCE}),
        ccxt="kraken",
        wire=_KrakenWire,
        addresses=_krakens,
        public=frozenset({"Time", "Assets", "AssetPairs", "Ticker", "Depth"}),
        rules=KRAKEN_RULES,
        read_answer=read_answer,
        order=kraken_orders.order_parameters,
        check=lambda order, body, text: kraken_orders.check_bytes(order, body["pair"], text),
        place=Command("AddOrder", id="txid.0"),
        cancel=Command("CancelOrder", ours),
        cancel_is_done=True,
        reduce=Command("AmendOrder", {**ours, "order_qty": "{quantity}"}),
        dead_man=Switch(Command("CancelAllOrdersAfter", {"timeout": "{timeout_s}"}), 1, 86_399),
        lookups=(_krakens_list("OpenOrders", "open", ours), _closed(ours)),
        open_orders=_krakens_list("OpenOrders", "open", {}),
        histories=(
            _krakens_list("OpenOrders", "open", {"start": "{since_s}"}),
            _closed({"start": "{since_s}"}),
        ),
        fills=_krakens_trades({"start": "{since_s}"}),
        order_fills=_krakens_trades({"start": "{since_s}"}),
        instruments=Listing("AssetPairs", "", keyed="id"),
        balances=_krakens_list("BalanceEx", "", {}),
        orders_as=OrderFields(
            id="txid",
            client_id="cl_ord_id",
            symbol="descr.pair",
            side="descr.type",
            status="status",
            quantity=("vol",),
            price=("descr.price2", "descr.price"),
            executed="vol_exec",
            worth="cost",
            at=("closetm", "opentm"),
            opened="opentm",
            statuses=KRAKENS,
            reason="reason",
            unit=Unit.SECONDS,
        ),
        fills_as=FillFields(
            id="trade_id",
            order="ordertxid",
            symbol="pair",
            side="type",
            quantity="vol",
            price="price",
            fee="fee",
            at="time",
            maker=("maker", True),
            unit=Unit.SECONDS,
        ),
        instruments_as=InstrumentFields(
            id="altname",
            base="base",
            quote="quote",
            tick="tick_size",
            lot="lot_decimals",
            lot_in_decimals=True,
            least="ordermin",
            notional="costmin",
            trading=("status", "online"),
        ),
        balances_as=BalanceFields(asset="txid", total="balance", locked="hold_trade"),
        book=BookFields(
            "Depth", {"pair": "{symbol}", "count": "100"}, "XBTUSDT.bids", "XBTUSDT.asks"
        ),
        time=TimeFields("Time", "unixtime", Unit.SECONDS, step_ms=1000),
    )


class _KrakenWire(VenueWire):
    _last_nonce = 0

    def incrementing_nonce(self) -> int:
        self._last_nonce = max(self._last_nonce + 1, time.time_ns() // 1000)
        return self._last_nonce


def _binances(settings: ConnectorSettings) -> Mapping[str, Any]:
    api = f"{settings.rest_url}/api/v3"
    return {"public": api, "private": api, "ws": {"ws-api": {"spot": settings.ws_url}}}


def _krakens(settings: ConnectorSettings) -> Mapping[str, Any]:
    rest = settings.rest_url
    return {"public": rest, "private": rest, "ws": {"privateV2": settings.ws_url}}


def _krakens_list(path: str, rows: str, asks: Mapping[str, str]) -> Listing:
    return Listing(path, rows, asks, method="POST", keyed="txid")


def _closed(asks: Mapping[str, str]) -> Listing:
    return Listing(
        "ClosedOrders", "closed", asks, _by_offset("closed"), method="POST", keyed="txid"
    )


def _krakens_trades(asks: Mapping[str, str]) -> Listing:
    asks = {"consolidate_taker": "false", **asks}
    return Listing(
        "TradesHistory", "trades", asks, _by_offset("trades"), method="POST", keyed="txid"
    )


def _by_offset(_name: str) -> Callable[[Page], Mapping[str, str | None] | None]:
    def turn(page: Page) -> Mapping[str, str | None] | None:
        count = at(page.answer, "count")
        if not isinstance(count, int):
            raise MalformedError("count is no number")
        offset = int(page.asked.get("ofs", 0)) + len(page.rows)
        return {"ofs": str(offset)} if page.rows and offset < count else None

    return turn


def _with_filters(row: Row) -> Row:
    return {**row, **{one["filterType"]: one for one in row["filters"]}}


def _with_side(row: Row) -> Row:
    return {**row, "side": "BUY" if row.get("isBuyer") is True else "SELL"}
