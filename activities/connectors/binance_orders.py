"""An `OrderRequest` as Binance's parameters, and the check of the bytes made from it.

Source: rest-api.md, "New order" and "Cancel an Existing Order and Send a New Order". The check is
written against the request and not against the parameters, so that a fault in either (or in the
library that encodes them) is seen.
"""

import re
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from trading.oms.enums import OrderType, TimeInForce
from trading.oms.errors import ExchangeUnavailable
from trading.oms.venue import OrderRequest

CLIENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
}
_TIMED = {"LIMIT", "STOP_LOSS_LIMIT"}
_SIGNING = {"signature"}


def replaced_by(request: OrderRequest) -> dict[str, str]:
    """What a cancel-replace says besides; nothing where the request replaces no order.

    ONLY_NEW: an order with a fill is left alone, or the order would trade more than its total.
    DO_NOTHING: over the limit of unfilled orders the old one stays too.
    """
    old = request.replaces
    if old is None:
        return {}
    named = {"cancelOrigClientOrderId": old.exchange_client_id}
    if old.exchange_order_id is not None:
        named["cancelOrderId"] = old.exchange_order_id
    return {
        **named,
        "cancelReplaceMode": "STOP_ON_FAILURE",
        "cancelRestrictions": "ONLY_NEW",
        "orderRateLimitExceededMode": "DO_NOTHING",
    }


def binance_type(request: OrderRequest) -> str:
    """Binance's order type; a post-only limit order is a LIMIT_MAKER."""
    return "LIMIT_MAKER" if request.post_only else TYPES[request.order_type]


def plain(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros, which Binance counts as precision."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def order_parameters(request: OrderRequest, symbol: str) -> dict[str, str]:
    """The parameters of POST /api/v3/order, or of …/cancelReplace; GTD is sent as GTC.

    FULL answers carry the fills of what trades at once; stop orders answer with an ACK.
    """
    kind = binance_type(request)
    parameters = {
        "symbol": symbol,
        "side": request.side.value.upper(),
        "type": kind,
        "quantity": plain(request.quantity),
        "newClientOrderId": request.exchange_client_id,
        "newOrderRespType": "FULL",
        "timestamp": str(request.timestamp_ms),
        "recvWindow": str(request.window_ms),
        **replaced_by(request),
    }
    if request.price is not None:
        parameters["price"] = plain(request.price)
    if request.stop_price is not None:
        parameters["stopPrice"] = plain(request.stop_price)
    if kind in _TIMED:
        force = request.time_in_force
        parameters["timeInForce"] = "GTC" if force is TimeInForce.GTD else force.value
    return parameters


def check_bytes(request: OrderRequest, symbol: str, body: str) -> None:
    """Raise `ExchangeUnavailable` (code `local_request`) if the body is not this very order."""
    wrong = differences(request, symbol, body)
    if wrong:
        raise ExchangeUnavailable(
            f"the request built is not the order, nothing was sent: {'; '.join(wrong)}",
            code="local_request",
        )


def differences(request: OrderRequest, symbol: str, body: str) -> list[str]:
    """One sentence per field of the built request that is not the order's."""
    pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=False)
    built = dict(pairs)
    wrong = [] if len(built) == len(pairs) else ["a parameter appears twice"]
    force = {TimeInForce.GTD: "GTC"}.get(request.time_in_force, request.time_in_force.value)
    kind = binance_type(request)
    texts = {
        "symbol": symbol,
        "side": request.side.value.upper(),
        "type": kind,
        "timeInForce": force if kind in _TIMED else None,
        "newClientOrderId": request.exchange_client_id,
        "newOrderRespType": "FULL",
        "timestamp": str(request.timestamp_ms),
        "recvWindow": str(request.window_ms),
        **_replaces(request),
    }
    numbers = {
        "quantity": request.quantity,
        "price": request.price,
        "stopPrice": request.stop_price,
    }
    wrong += [
        f"{name} is {built.get(name)!r}, the order has {value!r}"
        for name, value in texts.items()
        if built.get(name) != value
    ]
    wrong += [
        f"{name} is {built.get(name)!r}, the order has {value}"
        for name, value in numbers.items()
        if not _same_number(built.get(name), value)
    ]
    unknown = built.keys() - texts.keys() - numbers.keys() - _SIGNING
    return wrong + [f"{name} is not a parameter of the order" for name in sorted(unknown)]


def _replaces(request: OrderRequest) -> dict[str, str | None]:
    """Every parameter that a cancel-replace may have; None: it must not be there."""
    old = request.replaces
    words = ("STOP_ON_FAILURE", "ONLY_NEW", "DO_NOTHING") if old is not None else (None,) * 3
    return {
        "cancelOrigClientOrderId": old.exchange_client_id if old is not None else None,
        "cancelOrderId": old.exchange_order_id if old is not None else None,
        "cancelReplaceMode": words[0],
        "cancelRestrictions": words[1],
        "orderRateLimitExceededMode": words[2],
    }


def _same_number(text: str | None, value: Decimal | None) -> bool:
    if text is None or value is None:
        return text is None and value is None
    try:
        return Decimal(text) == value and re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is not None
    except InvalidOperation:
        return False
