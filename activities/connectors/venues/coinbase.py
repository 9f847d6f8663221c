"""Coinbase Advanced, spot. Source: Coinbase Advanced Trade API, "Orders".

There is no fence: a late request is taken whenever it arrives, and an order in doubt that is not
found stays so until an operator says what became of it. Orders are looked up and cancelled by
Coinbase's own id; one of which only ours is known is looked for in the list of the last days.
Market buys are in the quote asset there, and are refused here like stops. ccxt signs JWTs.
"""

import string
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from activities.connectors.binance_orders import plain
from activities.connectors.classify import Operation, Rule, Verdict
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.answers import ALL, PLACE, Word, reader, rows
from activities.connectors.venues.body import refused, spot_only
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
    Unit,
    VenueRecord,
)
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.venue import Amend, Capabilities, DedupeScope, OrderRequest, VenueStatus

CAPABILITIES = Capabilities(
    exchange_kind="coinbase",
    dedupe_scope=DedupeScope.NONE,
    lookup_by_client_id=False,
    fence=None,
    fence_ms=5000,
    processing_bound_ms=10_000,
    amend=Amend.NONE,
    client_id_length=36,
    client_id_alphabet=string.ascii_letters + string.digits + "-",
    stop_orders=False,
    market_buys=False,
    rule_refusal_codes=("INVALID_PRICE_PRECISION", "INVALID_SIZE_PRECISION", "INVALID_PRODUCT_ID"),
    taker_fee=Decimal("0.012"),
    fee_in_quote=True,
)
RULES: tuple[Rule, ...] = (
    *rows(Verdict.NEVER_REACHED, ALL, {
        "rate_limit_exceeded": "too many requests: refused at the door",
        "resource_exhausted": "too many requests: refused at the door",
    }),
    *rows(Verdict.REJECTED, ALL, {
        "authentication_error": "the key or its signature", "unauthorized": "not authorised",
        "PERMISSION_DENIED": "the key may not do this", "INVALID_ARGUMENT": "the request's form",
        "invalid_request": "the request's form", "validation_error": "the request's form",
    }),
    *rows(Verdict.REJECTED, PLACE, {
        "INSUFFICIENT_FUND": "the balance is too small",
        "ORDER_ENTRY_DISABLED": "no orders are taken", "INELIGIBLE_PAIR": "not to be traded",
        "UNSUPPORTED_ORDER_CONFIGURATION": "no such order type here",
        "INVALID_SIDE": "no such side", "INVALID_PRODUCT_ID": "no such product",
        "INVALID_SIZE_PRECISION": "off the lot", "INVALID_PRICE_PRECISION": "off the tick",
        "INVALID_LIMIT_PRICE": "the price is not allowed",
        "INVALID_LIMIT_PRICE_POST_ONLY": "it would take, and was to make",
    }),
    *rows(Verdict.REJECTED, frozenset({Operation.CANCEL}), {
        "UNKNOWN_CANCEL_ORDER": "no such order", "INVALID_CANCEL_REQUEST": "the request's form",
    }),
)  # fmt: skip
STATUSES = {
    "PENDING": VenueStatus.NEW,
    "QUEUED": VenueStatus.NEW,
    "OPEN": VenueStatus.NEW,
    "CANCEL_QUEUED": VenueStatus.NEW,
    "FILLED": VenueStatus.FILLED,
    "CANCELLED": VenueStatus.CANCELLED,
    "EXPIRED": VenueStatus.EXPIRED,
    # It has an id, so it was taken before the engine refused it, and our book has it as accepted:
    # that ends as cancelled. What is refused at once comes as a code, without an id.
    "FAILED": VenueStatus.CANCELLED,
}
_CONFIGURATIONS = ("limit_limit_gtc", "limit_limit_gtd", "limit_limit_fok", "sor_limit_ioc")
_TOLD = frozenset(
    {"accounts", "can_view", "epochMillis", "fills", "order", "orders", "pricebook", "products"}
)
"""What an answer to a query has: it says nothing of success."""


def _paths(name: str, *more: str) -> tuple[str, ...]:
    """Where an amount is: in the configuration that the order was placed with."""
    return tuple(f"order_configuration.{one}.{name}" for one in (*_CONFIGURATIONS, *more))


ORDERS = OrderFields(
    id="order_id",
    client_id="client_order_id",
    symbol="product_id",
    side="side",
    status="status",
    quantity=_paths("base_size", "market_market_ioc"),
    price=_paths("limit_price"),
    executed="filled_size",
    worth="filled_value",
    at=("last_fill_time", "created_time"),
    opened="created_time",
    statuses=STATUSES,
    reason="reject_message",
    unit=Unit.ISO,
)
FILLS = FillFields(
    id="trade_id",
    order="order_id",
    symbol="product_id",
    side="side",
    quantity="size",
    in_quote="size_in_quote",
    price="price",
    fee="commission",
    at="trade_time",
    maker=("liquidity_indicator", "MAKER"),
    unit=Unit.ISO,
)
BOOK = BookFields(
    "brokerage/product_book",
    {"product_id": "{symbol}", "limit": "100"},
    "pricebook.bids",
    "pricebook.asks",
    level=("price", "size"),
)
INSTRUMENTS = InstrumentFields(
    id="product_id",
    base="base_currency_id",
    quote="quote_currency_id",
    tick="price_increment",
    lot="base_increment",
    least="base_min_size",
    most="base_max_size",
    notional="quote_min_size",
    trading=("trading_disabled", False),
)


def connector(settings: ConnectorSettings) -> CcxtConnector:
    """One portfolio at Coinbase."""
    return CcxtConnector(settings, record)


def word_of(body: Mapping[str, Any]) -> Word:
    """A command has succeeded where `success` is true; a cancel says it in its one result."""
    if _TOLD & body.keys() and not {"success", "error", "results"} & body.keys():
        return None, ""
    found = body.get("results")
    word = found[0] if isinstance(found, list) and len(found) == 1 else body
    if not isinstance(word, dict):
        return "?", ""
    if word.get("success") is True:
        return None, ""
    inner = word.get("error_response")
    row = inner if isinstance(inner, dict) else word
    code = row.get("error") or row.get("failure_reason") or "?"
    return str(code), str(row.get("message", ""))


def order_body(order: OrderRequest, symbol: str) -> dict[str, Any]:
    """The body of POST /api/v3/brokerage/orders; good-till-date is kept by the workflow."""
    spot_only(order, "Coinbase's stops are refused here")
    size = {"base_size": plain(order.quantity)}
    if order.order_type is OrderType.MARKET:
        if order.side is OrderSide.BUY:
            raise refused("Coinbase takes market buys in the quote asset alone")
        configuration: dict[str, Any] = {"market_market_ioc": size}
    else:
        priced = {**size, "limit_price": plain(order.price) if order.price is not None else ""}
        configuration = {
            TimeInForce.IOC: {"sor_limit_ioc": priced},
            TimeInForce.FOK: {"limit_limit_fok": priced},
        }.get(order.time_in_force, {"limit_limit_gtc": {**priced, "post_only": order.post_only}})
    return {
        "client_order_id": order.exchange_client_id,
        "product_id": symbol,
        "side": order.side.value.upper(),
        "order_configuration": configuration,
    }


@cache
def record() -> VenueRecord:
    """Everything that is asked of Coinbase."""
    batch, turn = "brokerage/orders/historical/batch", by_cursor("cursor", "cursor")
    listed = {"product_ids": ["{symbol}"], "limit": "100"}
    since = Listing(batch, "orders", {**listed, "start_date": "{since}"}, turn)
    resting = Listing(batch, "orders", {**listed, "order_status": ["OPEN"]}, turn)
    fills = "brokerage/orders/historical/fills"
    return VenueRecord(
        capabilities=CAPABILITIES,
        ccxt="coinbase",
        addresses=lambda settings: {"rest": settings.rest_url.rstrip("/"), "ws": settings.ws_url},
        groups=(["v3", "public"], ["v3", "private"]),
        public=frozenset({"brokerage/time"}),
        rules=RULES,
        read_answer=reader(word_of),
        order=order_body,
        place=Command(
            "brokerage/orders", word="success_response", id="order_id", client_id="client_order_id"
        ),
        cancel=Command(
            "brokerage/orders/batch_cancel", {"order_ids": ["{order_id}"]}, "results.0", "order_id"
        ),
        lookups=(
            Listing(
                "brokerage/orders/historical/{order_id}",
                "order",
                {"order_id": "{order_id}"},
                single=True,
                needs="order_id",
            ),
            since,
        ),
        not_found=frozenset({(404, "NOT_FOUND")}),
        open_orders=resting,
        histories=(resting, since),
        fills=Listing(fills, "fills", {**listed, "start_sequence_timestamp": "{since}"}, turn),
        order_fills=Listing(fills, "fills", {"order_ids": ["{order_id}"], "limit": "100"}, turn),
        instruments=Listing("brokerage/products", "products", {"product_type": "SPOT"}),
        balances=Listing("brokerage/accounts", "accounts", {"limit": "250"}, turn),
        orders_as=ORDERS,
        fills_as=FILLS,
        instruments_as=INSTRUMENTS,
        balances_as=BalanceFields(
            asset="currency", free="available_balance.value", locked="hold.value"
        ),
        book=BOOK,
        time=TimeFields("brokerage/time", "epochMillis"),
        watch={},
        withdraws=("brokerage/key_permissions", _may_withdraw),
    )


def _may_withdraw(answer: Row) -> bool | None:
    may = at(answer, "can_transfer")
    return may if isinstance(may, bool) else None
