"""Bybit, spot, on a unified trading account. Source: Bybit API v5, "Trade", "Error Codes".

The fence is the signed stamp with `recv_window`. Amounts are in the base asset, of market orders
too (`marketUnit`; classic accounts, which do not know it, are not for this connector). Stops are
kept elsewhere, with a filter of their own, and are refused here. Orders and cancels are only taken
note of by the answer. Margins in milliseconds are Binance's until somebody has measured them.
"""

import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from http import HTTPStatus
from typing import Any

from activities.connectors.binance_orders import plain
from activities.connectors.classify import Answer, Rule, Verdict
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.answers import ALL, CHANGE, PLACE, Word, reader, rows
from activities.connectors.venues.body import spot_only
from activities.connectors.venues.connector import CcxtConnector
from activities.connectors.venues.listing import Listing, Row, at, by_cursor
from activities.connectors.venues.record import (
    BalanceFields,
    BookFields,
    Command,
    FillFields,
    InstrumentFields,
    OrderFields,
    TimeFields,
    VenueRecord,
)
from trading.oms.enums import OrderType, TimeInForce
from trading.oms.venue import Amend, Capabilities, DedupeScope, OrderRequest, VenueStatus

UNIFIED = {"enableUnifiedMargin": False, "enableUnifiedAccount": True}
HELD = Listing("v5/account/wallet-balance", "result.list.0.coin", {"accountType": "UNIFIED"})
BARRED = "403"
"""Our code for an address that is barred, which lasts ten minutes."""
WEEK_MS = 7 * 86_400_000 - 1
CAPABILITIES = Capabilities(
    exchange_kind="bybit",
    dedupe_scope=DedupeScope.OPEN_ONLY,
    lookup_by_client_id=True,
    fence="recv_window",
    fence_ms=5000,
    processing_bound_ms=10_000,
    amend=Amend.NONE,
    client_id_length=36,
    client_id_alphabet=string.ascii_letters + string.digits + "-_",
    stop_orders=False,
    stale_stamp_codes=("10002",),
    rule_refusal_codes=("170121", "170134", "170136", "170137", "170140"),
    taker_fee=Decimal("0.001"),
)
RULES: tuple[Rule, ...] = (
    Rule("170141", Verdict.DUPLICATE, "an order with our orderLinkId exists"),
    *rows(Verdict.NEVER_REACHED, ALL, {
        "10002": "outside of recv_window: not passed on",
        "10006": "too many requests: refused at the door",
        "10018": "too many requests of this address: refused at the door",
    }),
    *rows(Verdict.REJECTED, ALL, {
        "10001": "the request's form", "10003": "wrong key", "10004": "wrong signature",
        "10005": "the key may not do this", "10010": "not from this address",
        "170115": "invalid time in force", "170116": "invalid order type", "170117": "invalid side",
        "170121": "no such symbol", "170130": "the data of a parameter is invalid",
    }),
    *rows(Verdict.REJECTED, PLACE, {
        "170124": "amount too large", "170131": "the balance is too small",
        "170132": "price too high", "170133": "price too low", "170134": "off the tick",
        "170135": "quantity too large",
        "170136": "less than the smallest order", "170137": "off the lot",
        "170140": "less than the smallest cost", "170193": "price too high",
        "170194": "price too low", "170210": "the engine refused", "170218": "it would take",
    }),
    *rows(Verdict.REJECTED, CHANGE, {
        "170139": "filled already", "170142": "cancelled already", "170143": "not on the book",
        "170213": "no such order",
    }),
)  # fmt: skip
STATUSES = {
    "New": VenueStatus.NEW,
    "PartiallyFilled": VenueStatus.PARTIALLY_FILLED,
    "Untriggered": VenueStatus.NEW,
    "Triggered": VenueStatus.NEW,
    "Filled": VenueStatus.FILLED,
    "Cancelled": VenueStatus.CANCELLED,
    "PartiallyFilledCanceled": VenueStatus.CANCELLED,
    "Deactivated": VenueStatus.CANCELLED,
    # It has an id, so it was taken before the engine refused it, and our book has it as accepted:
    # that ends as cancelled. What is refused at once comes as a code, without an id.
    "Rejected": VenueStatus.CANCELLED,
}
ORDERS = OrderFields(
    id="orderId",
    client_id="orderLinkId",
    symbol="symbol",
    side="side",
    status="orderStatus",
    quantity=("qty",),
    price=("price",),
    executed="cumExecQty",
    worth="cumExecValue",
    at=("updatedTime", "createdTime"),
    opened="createdTime",
    statuses=STATUSES,
    reason="rejectReason",
)
FILLS = FillFields(
    id="execId",
    order="orderId",
    symbol="symbol",
    side="side",
    quantity="execQty",
    price="execPrice",
    fee="execFee",
    currency="feeCurrency",
    at="execTime",
    maker=("isMaker", True),
)
INSTRUMENTS = InstrumentFields(
    id="symbol",
    base="baseCoin",
    quote="quoteCoin",
    tick="priceFilter.tickSize",
    lot="lotSizeFilter.basePrecision",
    least="lotSizeFilter.minOrderQty",
    most="lotSizeFilter.maxOrderQty",
    notional="lotSizeFilter.minOrderAmt",
    trading=("status", "Trading"),
)


def connector(settings: ConnectorSettings) -> CcxtConnector:
    """One account at Bybit."""
    return CcxtConnector(settings, record)


def word_of(body: Mapping[str, Any]) -> Word:
    """`retCode` 0 is a success."""
    code = str(body.get("retCode", "?"))
    return (None if code == "0" else code), str(body.get("retMsg", ""))


def read_answer(
    status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str] = str
) -> Answer:
    """As all are read; the gate before Bybit refuses an address by words alone ("Rate Limit")."""
    answer = reader(word_of)(status, headers, text, scrub)
    is_barred = status == HTTPStatus.FORBIDDEN and "access too frequent" in text.lower()
    return replace(answer, code=BARRED) if is_barred else answer


def order_body(order: OrderRequest, symbol: str) -> dict[str, Any]:
    """The body of POST /v5/order/create; good-till-date is kept by the workflow."""
    spot_only(order, "Bybit's stops are kept elsewhere")
    is_market = order.order_type is OrderType.MARKET
    force = "GTC" if order.time_in_force is TimeInForce.GTD else order.time_in_force.value
    body = {
        "category": "spot",
        "symbol": symbol,
        "side": order.side.value.capitalize(),
        "orderType": "Market" if is_market else "Limit",
        "qty": plain(order.quantity),
        "orderLinkId": order.exchange_client_id,
    }
    if is_market:
        return {**body, "marketUnit": "baseCoin"}
    price = plain(order.price) if order.price is not None else ""
    return {**body, "price": price, "timeInForce": "PostOnly" if order.post_only else force}


@cache
def record() -> VenueRecord:
    """Everything that is asked of Bybit."""
    ours = {"category": "spot", "symbol": "{symbol}", "orderLinkId": "{client_id}"}
    spot = {"category": "spot", "symbol": "{symbol}"}
    span = {"startTime": "{since_ms}", "endTime": "{until_ms}"}
    rows_at, turn = "result.list", by_cursor("result.nextPageCursor", "cursor")
    page = {**spot, "limit": "50"}
    live = Listing("v5/order/realtime", rows_at, {**page, "openOnly": "0"}, turn)
    ended = replace(live, asks={**live.asks, "openOnly": "1"})
    trades, path = {**spot, "limit": "100"}, "v5/execution/list"
    return VenueRecord(
        capabilities=CAPABILITIES,
        ccxt="bybit",
        addresses=_addresses,
        public=frozenset({"v5/market/instruments-info", "v5/market/time", "v5/market/orderbook"}),
        rules=RULES,
        read_answer=read_answer,
        order=order_body,
        headers=lambda order: {
            "X-BAPI-TIMESTAMP": str(order.timestamp_ms),
            "X-BAPI-RECV-WINDOW": str(order.window_ms),
        },
        place=Command("v5/order/create", word="result", id="orderId", client_id="orderLinkId"),
        cancel=Command("v5/order/cancel", ours, "result", "orderId", "orderLinkId"),
        lookups=(
            Listing("v5/order/realtime", rows_at, ours),
            Listing("v5/order/history", rows_at, ours),
        ),
        open_orders=live,
        histories=(
            live,
            ended,
            replace(live, path="v5/order/history", asks={**page, **span}, window_ms=WEEK_MS),
        ),
        fills=Listing(path, rows_at, {**trades, **span}, turn, window_ms=WEEK_MS),
        order_fills=Listing(path, rows_at, {**trades, "orderId": "{order_id}"}, turn),
        instruments=Listing("v5/market/instruments-info", rows_at, {"category": "spot"}),
        balances=HELD,
        orders_as=ORDERS,
        fills_as=FILLS,
        instruments_as=INSTRUMENTS,
        balances_as=BalanceFields(asset="coin", total="walletBalance", locked="locked"),
        book=BookFields("v5/market/orderbook", {**spot, "limit": "50"}, "result.b", "result.a"),
        time=TimeFields("v5/market/time", "time"),
        pauses={"10006": 1.0, "10018": 60.0, BARRED: 600.0},
        options=UNIFIED,
        watch={},
        withdraws=("v5/user/query-api", _may_withdraw),
    )


def _addresses(settings: ConnectorSettings) -> Mapping[str, Any]:
    rest = settings.rest_url.rstrip("/")
    return {
        "public": rest,
        "private": rest,
        "ws": {"private": {"contract": settings.ws_url}},
    }


def _may_withdraw(answer: Row) -> bool | None:
    permissions = at(answer, "result.permissions.Wallet")
    return "Withdraw" in permissions if isinstance(permissions, list) else None
