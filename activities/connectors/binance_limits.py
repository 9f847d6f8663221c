"""The rate limits of Binance Spot and of Binance US.

Sources: "LIMITS" in rest-api.md, the weights at each endpoint there, "Spot Unfilled Order Count
Rules"; for Binance US its own rest-api.md (github.com/binance-us/binance-us-api-docs, 2023-09-06).
exchangeInfo's `rateLimits` replace the limits given here.

Orders and cancels that succeed cost no weight since April 2026; those that fail do. They are
counted as if they cost it, and what the exchange gives back shows in its own count.
"""

from collections.abc import Mapping
from typing import Any

from activities.connectors.binance_replace import code_of_new_order
from activities.connectors.classify import Answer
from activities.connectors.fields import MalformedError, number_of, object_of, objects_of, text_of
from trading.oms.rate_card import URGENT_SHARE, EndpointCost, RateCard, RatePool
from trading.oms.rate_card import PoolScope as Scope
from trading.oms.request_gate import Response

WEIGHT, ORDERS, REQUESTS = "weight", "orders", "requests"
TOO_MANY_ORDERS = "-1015"
_KINDS: Mapping[str, tuple[str, Scope, str]] = {
    "REQUEST_WEIGHT": (WEIGHT, Scope.ADDRESS, "x-mbx-used-weight-"),
    "ORDERS": (ORDERS, Scope.ACCOUNT, "x-mbx-order-count-"),
    "RAW_REQUESTS": (REQUESTS, Scope.ADDRESS, ""),
}
_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}


def _pool(kind: str, interval: str, number: int, limit: int) -> RatePool:
    family, scope, header = _KINDS[kind]
    letters = f"{number}{interval[0]}".lower()
    return RatePool(
        name=f"{family}_{letters}",
        family=family,
        scope=scope,
        limit=limit,
        window_s=number * _SECONDS[interval],
        # Only new orders are counted there: nothing urgent could use a share of it.
        urgent_share=0 if family == ORDERS else URGENT_SHARE,
        count_header=f"{header}{letters}" if header else "",
    )


def pools_of(raw: Any) -> list[RatePool]:
    """exchangeInfo: the limits in force; a kind or an interval that is not known is left out."""
    found = []
    for row in objects_of(object_of(raw).get("rateLimits", [])):
        try:
            kind, interval = text_of(row, "rateLimitType"), text_of(row, "interval")
            number, limit = number_of(row, "intervalNum"), number_of(row, "limit")
        except MalformedError:
            continue
        if kind in _KINDS and interval in _SECONDS and number > 0 and limit > 0:
            found.append(_pool(kind, interval, number, limit))
    return found


def response_of(answer: Answer) -> Response:
    """What an answer says of limits. -1015 stops orders alone, 429 and 418 stop everything."""
    said = {answer.code, code_of_new_order(answer)}
    return Response(
        headers={name.lower(): value for name, value in answer.headers.items()},
        pauses=answer.is_too_many,
        pauses_family=ORDERS if TOO_MANY_ORDERS in said else None,
        retry_after_s=answer.retry_after,
    )


def _costs(weight: int, *, orders: int = 0, urgent: bool = False, **other: int) -> EndpointCost:
    """`other` are the weights where a parameter of that name is given."""
    return EndpointCost(
        costs={WEIGHT: weight, ORDERS: orders, REQUESTS: 1},
        with_parameter={name: {WEIGHT: w, REQUESTS: 1} for name, w in other.items()},
        urgent=urgent,
    )


BINANCE_CARD = RateCard(
    pools=(
        _pool("REQUEST_WEIGHT", "MINUTE", 1, 6000),
        _pool("ORDERS", "SECOND", 10, 50),
        _pool("ORDERS", "DAY", 1, 160_000),
        _pool("RAW_REQUESTS", "MINUTE", 5, 300_000),
    ),
    endpoints={
        "POST order": _costs(1, orders=1),
        # One order is counted also where it was not attempted.
        "POST order/cancelReplace": _costs(1, orders=1),
        # A question is urgent where it is asked for an order in doubt, never by itself: sweeps and
        # reconciliation may ask more than a minute allows.
        "DELETE order": _costs(1, urgent=True),
        "DELETE openOrders": _costs(1, urgent=True),
        "PUT order/amend/keepPriority": _costs(4, urgent=True),
        "GET order": _costs(4),
        "GET openOrders": _costs(80, symbol=6),
        "GET allOrders": _costs(20),
        "GET myTrades": _costs(20, orderId=5),
        "GET time": _costs(1),
        "GET account": _costs(20),
        "GET exchangeInfo": _costs(20),
        "GET ticker/bookTicker": _costs(4, symbol=2),
        "GET account/apiRestrictions": _costs(1),
        "WS userDataStream.subscribe.signature": _costs(4),
    },
    place="POST order",
    unlisted=20,
)

BINANCE_US_CARD = RateCard(
    pools=(
        _pool("REQUEST_WEIGHT", "MINUTE", 1, 1200),
        _pool("ORDERS", "SECOND", 10, 50),
        _pool("ORDERS", "DAY", 1, 160_000),
    ),
    endpoints={
        "POST order": _costs(1, orders=1),
        "DELETE order": _costs(1, urgent=True),
        "DELETE openOrders": _costs(1, urgent=True),
        "GET order": _costs(2),
        "GET openOrders": _costs(40, symbol=3),
        "GET allOrders": _costs(10),
        "GET myTrades": _costs(10),
        "GET time": _costs(1),
        "GET account": _costs(10),
        "GET exchangeInfo": _costs(10),
        "GET ticker/bookTicker": _costs(2, symbol=1),
        "GET depth": _costs(1),
        "GET account/apiRestrictions": _costs(1),
    },
    place="POST order",
    unlisted=20,
)
