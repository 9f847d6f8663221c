"""OKX, spot and without margin. Source: OKX API v5, "Order Book Trading", "Error Code".

The fence is the header `expTime`, which ccxt does not send: the exchange drops what comes later.
Amounts are in the base asset, of market orders too (`tgtCcy`). Stops are kept elsewhere there,
under other ids, and are refused here. A cancel's answer says that it was taken note of.

Codes that could not be found in the documents are left out, and so is outcome unknown; the same
holds for what the documents call undecided (50004: "does not indicate success or failure", 51149:
an order request that timed out). Margins in milliseconds are Binance's until somebody has measured.
"""

import string
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from activities.connectors.binance_orders import plain
from activities.connectors.classify import Rule, Verdict
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.answers import ALL, CHANGE, PLACE, Word, reader, rows
from activities.connectors.venues.body import spot_only
from activities.connectors.venues.connector import CcxtConnector
from activities.connectors.venues.listing import Listing, Row, after_last, at
from activities.connectors.venues.record import (
    BalanceFields,
    BookFields,
    Command,
    FillFields,
    InstrumentFields,
    OrderFields,
    Switch,
    TimeFields,
    VenueRecord,
)
from trading.oms.enums import OrderType, TimeInForce
from trading.oms.venue import Amend, Capabilities, DedupeScope, OrderRequest, VenueStatus

PAGE = 100
CAPABILITIES = Capabilities(
    exchange_kind="okx",
    dedupe_scope=DedupeScope.OPEN_ONLY,
    lookup_by_client_id=True,
    fence="expTime",
    fence_ms=5000,
    processing_bound_ms=10_000,
    amend=Amend.NONE,
    client_id_length=32,
    client_id_alphabet=string.ascii_letters + string.digits,
    order_history_days=7,
    cancel_all_after="cancel-all-after",
    stop_orders=False,
    stale_stamp_codes=("50102",),
    rule_refusal_codes=("51001", "51006", "51020", "51121"),
    taker_fee=Decimal("0.0015"),
)
RULES: tuple[Rule, ...] = (
    Rule("51016", Verdict.DUPLICATE, "an order with our clOrdId exists"),
    *rows(Verdict.NEVER_REACHED, ALL, {
        "50011": "too many requests: refused at the door",
        "50061": "too many orders of this account: refused at the door",
        "50102": "the stamp has expired: not looked at",
    }),
    *rows(Verdict.REJECTED, ALL, {
        "50103": "no key", "50105": "wrong passphrase", "50111": "wrong key",
        "50113": "wrong signature", "50114": "not authorised", "51000": "the request's form",
        "51001": "no such instrument", "51010": "not for this account",
        "51024": "the account is blocked",
    }),
    *rows(Verdict.REJECTED, PLACE, {
        "51006": "price out of the limit", "51008": "the balance is too small",
        "51020": "less than the smallest order", "51121": "off the lot",
        "51131": "the balance is too small",
    }),
    *rows(Verdict.REJECTED, CHANGE, {
        "51400": "no such order", "51401": "cancelled already", "51402": "filled already",
        "51503": "no such order", "51603": "no such order",
    }),
)  # fmt: skip
STATUSES = {
    "live": VenueStatus.NEW,
    "partially_filled": VenueStatus.PARTIALLY_FILLED,
    "filled": VenueStatus.FILLED,
    "canceled": VenueStatus.CANCELLED,
    "mmp_canceled": VenueStatus.CANCELLED,
}
_FORCES = {TimeInForce.IOC: "ioc", TimeInForce.FOK: "fok"}
ORDERS = OrderFields(
    id="ordId",
    client_id="clOrdId",
    symbol="instId",
    side="side",
    status="state",
    quantity=("sz",),
    price=("px",),
    executed="accFillSz",
    at=("uTime", "cTime"),
    opened="cTime",
    statuses=STATUSES,
    reason="cancelSourceReason",
)
FILLS = FillFields(
    id="tradeId",
    order="ordId",
    symbol="instId",
    side="side",
    quantity="fillSz",
    price="fillPx",
    fee="fee",
    fee_sign=-1,
    currency="feeCcy",
    at="ts",
    maker=("execType", "M"),
)
INSTRUMENTS = InstrumentFields(
    id="instId",
    base="baseCcy",
    quote="quoteCcy",
    tick="tickSz",
    lot="lotSz",
    least="minSz",
    most="maxLmtSz",
    trading=("state", "live"),
)


def connector(settings: ConnectorSettings) -> CcxtConnector:
    """One account at OKX."""
    return CcxtConnector(settings, record)


def word_of(body: Mapping[str, Any]) -> Word:
    """`code` "0" is a success; "1" and "2" say that the word is in the row's `sCode`."""
    code, message = str(body.get("code", "?")), str(body.get("msg", ""))
    found = body.get("data")
    row = found[0] if isinstance(found, list) and len(found) == 1 else None
    if isinstance(row, dict) and row.get("sCode") not in {None, "0"}:
        return str(row["sCode"]), str(row.get("sMsg", ""))
    return (None if code == "0" else code), message


def order_body(order: OrderRequest, symbol: str) -> dict[str, Any]:
    """The body of POST /api/v5/trade/order; good-till-date is kept by the workflow."""
    spot_only(order, "OKX's stops are kept elsewhere, under other ids")
    body = {
        "instId": symbol,
        "tdMode": "cash",
        "clOrdId": order.exchange_client_id,
        "side": order.side.value,
        "ordType": _kind(order),
        "sz": plain(order.quantity),
    }
    if order.order_type is OrderType.MARKET:
        body["tgtCcy"] = "base_ccy"
    if order.price is not None:
        body["px"] = plain(order.price)
    return body


@cache
def record() -> VenueRecord:
    """Everything that is asked of OKX."""
    ours = {"instId": "{symbol}", "clOrdId": "{client_id}"}
    spot = {"instType": "SPOT", "instId": "{symbol}", "limit": str(PAGE)}
    by_order, by_bill = after_last("ordId", "after", PAGE), after_last("billId", "after", PAGE)
    pending = Listing("trade/orders-pending", "data", spot, by_order)
    since = {**spot, "begin": "{since_ms}"}
    return VenueRecord(
        capabilities=CAPABILITIES,
        ccxt="okx",
        addresses=lambda settings: {"rest": settings.rest_url.rstrip("/"), "ws": settings.ws_url},
        public=frozenset({"public/instruments", "public/time", "market/books"}),
        rules=RULES,
        read_answer=reader(word_of),
        order=order_body,
        headers=lambda order: {"expTime": str(order.deadline_ms)},
        demo_headers={"x-simulated-trading": "1"},
        place=Command("trade/order", word="data.0", id="ordId", client_id="clOrdId"),
        cancel=Command("trade/cancel-order", ours, "data.0", "ordId", "clOrdId"),
        dead_man=Switch(Command("trade/cancel-all-after", {"timeOut": "{timeout_s}"}), 10, 120),
        lookups=(Listing("trade/order", "data", ours),),
        not_found=frozenset({(200, "51603")}),
        open_orders=pending,
        histories=(pending, Listing("trade/orders-history", "data", since, by_order)),
        fills=Listing("trade/fills-history", "data", since, by_bill),
        order_fills=Listing("trade/fills", "data", {**spot, "ordId": "{order_id}"}, by_bill),
        instruments=Listing("public/instruments", "data", {"instType": "SPOT"}),
        balances=Listing("account/balance", "data.0.details"),
        orders_as=ORDERS,
        fills_as=FILLS,
        instruments_as=INSTRUMENTS,
        balances_as=BalanceFields(asset="ccy", free="availBal", locked="frozenBal"),
        book=BookFields("market/books", {"instId": "{symbol}", "sz": "100"}, *_SIDES),
        time=TimeFields("public/time", "data.0.ts"),
        pauses={"50011": 2.0, "50061": 2.0},
        watch={"params": {"type": "spot"}},
        withdraws=("account/config", _may_withdraw),
    )


_SIDES = ("data.0.bids", "data.0.asks")


def _kind(order: OrderRequest) -> str:
    if order.post_only:
        return "post_only"
    return _FORCES.get(order.time_in_force, "limit") if order.price is not None else "market"


def _may_withdraw(answer: Row) -> bool | None:
    permissions = at(answer, "data.0.perm")
    return "withdraw" in permissions.split(",") if isinstance(permissions, str) else None
