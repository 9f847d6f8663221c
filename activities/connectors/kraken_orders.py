"""An `OrderRequest` as Kraken's parameters, and the check of the bytes made from it.

Source: "Add Order". A stop's `price` is its trigger and `price2` its limit. There is no
fill-or-kill. The check is written against the request and not against the parameters, so that a
fault in either (or in the library that encodes them) is seen.
"""

import re
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from activities.connectors.binance_orders import plain
from activities.connectors.clock import at_ms
from trading.oms.enums import OrderType, TimeInForce
from trading.oms.errors import ExchangeUnavailable
from trading.oms.venue import OrderRequest

CLIENT_ID = re.compile(r"[0-9a-f]{32}")
TYPES = {
    OrderType.MARKET: "market",
    OrderType.LIMIT: "limit",
    OrderType.STOP: "stop-loss",
    OrderType.STOP_LIMIT: "stop-loss-limit",
}
_NUMBERS = ("volume", "price", "price2")


def deadline_of(deadline_ms: int) -> str:
    """The fence as RFC 3339 in milliseconds: "2026-11-23T10:00:05.123Z"."""
    return at_ms(deadline_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def order_parameters(request: OrderRequest, pair: str) -> dict[str, str]:
    """The parameters of AddOrder; good-till-date is sent as GTC, the workflow keeps the date.

    Raises `ExchangeUnavailable` (code `local_request`) for what Kraken does not have.
    """
    if request.time_in_force is TimeInForce.FOK:
        raise _refused("Kraken Spot has no fill-or-kill orders")
    if CLIENT_ID.fullmatch(request.exchange_client_id) is None:
        raise _refused(f"the id {request.exchange_client_id[:80]!r} is not 32 hexadecimal digits")
    return {name: value for name, value in _expected(request, pair).items() if value is not None}


def check_bytes(request: OrderRequest, pair: str, body: str) -> None:
    """Raise `ExchangeUnavailable` (code `local_request`) if the body is not this very order."""
    pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=False)
    built = dict(pairs)
    wrong = [] if len(built) == len(pairs) else ["a parameter appears twice"]
    expected = _expected(request, pair)
    wrong += [
        f"{name} is {built.get(name)!r}, the order has {value!r}"
        for name, value in expected.items()
        if not _same(name, built.get(name), value)
    ]
    unknown = built.keys() - expected.keys() - {"nonce"}
    wrong += [f"{name} is not a parameter of the order" for name in sorted(unknown)]
    if wrong:
        raise _refused(f"the request built is not the order: {'; '.join(wrong)}")


def _expected(request: OrderRequest, pair: str) -> dict[str, str | None]:
    """Every parameter that an order may have; None: it must not be there."""
    is_stop = request.stop_price is not None
    first = request.stop_price if is_stop else request.price
    second = request.price if is_stop else None
    is_ioc = request.time_in_force is TimeInForce.IOC
    return {
        "pair": pair,
        "type": request.side.value,
        "ordertype": TYPES[request.order_type],
        "volume": plain(request.quantity),
        "price": None if first is None else plain(first),
        "price2": None if second is None else plain(second),
        "cl_ord_id": request.exchange_client_id,
        "deadline": deadline_of(request.deadline_ms),
        "timeinforce": "IOC" if is_ioc and request.order_type is not OrderType.MARKET else None,
        "oflags": "post" if request.post_only else None,
    }


def _same(name: str, text: str | None, expected: str | None) -> bool:
    if name not in _NUMBERS or text is None or expected is None:
        return text == expected
    try:
        return Decimal(text) == Decimal(expected) and re.fullmatch(r"[0-9.]+", text) is not None
    except InvalidOperation:
        return False


def _refused(why: str) -> ExchangeUnavailable:
    return ExchangeUnavailable(f"{why}, nothing was sent", code="local_request")
