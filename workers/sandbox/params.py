"""Reading the parameters of a request, with the error Binance gives for each thing wrong."""

import re
from collections.abc import Mapping
from decimal import Decimal

from workers.sandbox import errors
from workers.sandbox.exact import ZERO, read_decimal, read_long
from workers.sandbox.market import Market
from workers.sandbox.model import (
    BUY,
    GTC,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    ORDER_TYPES,
    SELL,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    STP_MODES,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
    TIMES_IN_FORCE,
    NewOrder,
)

Parameters = Mapping[str, str]

CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,36}$"
SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
_CLIENT_ID = re.compile(r"[a-zA-Z0-9\-_]{1,36}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}", re.ASCII)
_FOREIGN_SYMBOL = re.compile(
    r"[^\x00-\x7f]{1,20}"
)  # Symbols may be non-ASCII: unknown, not illegal.
STRATEGY_TYPE_MIN = 1_000_000
LIMIT_MAX = 1000
LIMIT_DEFAULT = 500

# Mandatory and forbidden parameters by order type ("New order").
REQUIRED: dict[str, tuple[str, ...]] = {
    LIMIT: ("timeInForce", "quantity", "price"),
    LIMIT_MAKER: ("quantity", "price"),
    MARKET: (),
    STOP_LOSS: ("quantity", "stopPrice"),
    STOP_LOSS_LIMIT: ("timeInForce", "quantity", "price", "stopPrice"),
    TAKE_PROFIT: ("quantity", "stopPrice"),
    TAKE_PROFIT_LIMIT: ("timeInForce", "quantity", "price", "stopPrice"),
}
FORBIDDEN: dict[str, tuple[str, ...]] = {
    LIMIT: ("stopPrice", "quoteOrderQty"),
    LIMIT_MAKER: ("timeInForce", "stopPrice", "quoteOrderQty"),
    MARKET: ("timeInForce", "price", "stopPrice"),
    STOP_LOSS: ("timeInForce", "price", "quoteOrderQty"),
    STOP_LOSS_LIMIT: ("quoteOrderQty",),
    TAKE_PROFIT: ("timeInForce", "price", "quoteOrderQty"),
    TAKE_PROFIT_LIMIT: ("quoteOrderQty",),
}
UNSUPPORTED: dict[str, str] = {
    "icebergQty": "Iceberg orders are not supported for this symbol.",
    "trailingDelta": "Trailing stop orders are not supported for this symbol.",
    "pegPriceType": "Pegged orders are not supported for this symbol.",
    "pegOffsetType": "Pegged orders are not supported for this symbol.",
    "pegOffsetValue": "Pegged orders are not supported for this symbol.",
}


def need(params: Parameters, name: str) -> str:
    """A mandatory parameter. Errors: -1102."""
    value = params.get(name)
    if not value:
        raise errors.mandatory(name)
    return value


def optional(params: Parameters, name: str) -> str | None:
    """A parameter that may be missing but not empty. Errors: -1105."""
    value = params.get(name)
    if value == "":
        raise errors.empty(name)
    return value


def decimal(params: Parameters, name: str) -> Decimal:
    """A DECIMAL, zero where it is missing."""
    value = optional(params, name)
    return ZERO if value is None else read_decimal(name, value)


def long(params: Parameters, name: str) -> int | None:
    value = optional(params, name)
    return None if value is None else read_long(name, value)


def boolean(params: Parameters, name: str, default: bool) -> bool:  # noqa: FBT001
    value = optional(params, name)
    if value is None:
        return default
    if value.lower() not in {"true", "false"}:
        raise errors.illegal_characters(name, "^(true|false)$")
    return value.lower() == "true"


def limit(params: Parameters, default: int = LIMIT_DEFAULT, most: int = LIMIT_MAX) -> int:
    """``limit``; more than the most is the most. Errors: -1130 for zero."""
    value = long(params, "limit")
    if value == 0:
        raise errors.invalid_data("limit")
    return min(default if value is None else value, most)


def client_id(params: Parameters, name: str) -> str:
    """A client order id, or nothing where it is missing. Errors: -1100, -1105."""
    value = optional(params, name)
    if value is None:
        return ""
    if _CLIENT_ID.fullmatch(value) is None:
        raise errors.illegal_characters(name, CLIENT_ID_RANGE)
    return value


DELISTED = "DELISTED"
"""A state of ours: the symbol is known to the control endpoint alone."""


def known_symbol(name: str, markets: Mapping[str, Market]) -> Market:
    """Errors: -1100 for characters no symbol has, -1121 for a symbol that is not listed."""
    market = markets.get(name)
    if market is not None and market.spec.status != DELISTED:
        return market
    if _SYMBOL.fullmatch(name) is None and _FOREIGN_SYMBOL.fullmatch(name) is None:
        raise errors.illegal_characters("symbol", SYMBOL_RANGE)
    raise errors.bad_symbol()


def market_of(params: Parameters, markets: Mapping[str, Market]) -> Market:
    return known_symbol(need(params, "symbol"), markets)


def new_order(params: Parameters, market: Market) -> NewOrder:
    """The order that the parameters of "New order" describe. Errors: -1100 to -1134, -2010."""
    side = need(params, "side")
    if side not in {BUY, SELL}:
        raise errors.invalid_side()
    kind = need(params, "type")
    if kind not in ORDER_TYPES:
        raise errors.invalid_order_type()
    _check_presence(params, kind)
    order = NewOrder(
        symbol=market.spec.symbol,
        side=side,
        type=kind,
        time_in_force=_time_in_force(params),
        quantity=decimal(params, "quantity"),
        quote_quantity=decimal(params, "quoteOrderQty"),
        price=decimal(params, "price"),
        stop_price=decimal(params, "stopPrice"),
        client_id=client_id(params, "newClientOrderId"),
        stp=_stp(params),
        strategy_id=long(params, "strategyId"),
        strategy_type=long(params, "strategyType"),
    )
    if order.strategy_type is not None and order.strategy_type < STRATEGY_TYPE_MIN:
        raise errors.ApiError(-1134, "`strategyType` was less than 1000000.")
    _check_amounts(params)
    return order


def _check_presence(params: Parameters, kind: str) -> None:
    for name in REQUIRED[kind]:
        need(params, name)
    for name in FORBIDDEN[kind]:
        if name in params:
            raise errors.not_required(name)
    if kind == MARKET:
        if not params.get("quantity") and not params.get("quoteOrderQty"):
            raise errors.either("quantity", "quoteOrderQty")
        if "quantity" in params and "quoteOrderQty" in params:
            raise errors.not_required("quoteOrderQty")
    for name, message in UNSUPPORTED.items():
        if name in params:
            raise errors.rejected(message)


def _check_amounts(params: Parameters) -> None:
    """Zero where a number was sent: the filters' own failures."""
    names = {
        "quantity": "LOT_SIZE",
        "price": "PRICE_FILTER",
        "stopPrice": "PRICE_FILTER",
        "quoteOrderQty": "NOTIONAL",
    }
    for name, failure in names.items():
        if name in params and not decimal(params, name):
            raise errors.filter_failure(failure)


def _time_in_force(params: Parameters) -> str:
    value = optional(params, "timeInForce") or GTC
    if value not in TIMES_IN_FORCE:
        raise errors.invalid_time_in_force()
    return value


def _stp(params: Parameters) -> str:
    value = optional(params, "selfTradePreventionMode") or "NONE"
    if value not in STP_MODES:
        raise errors.ApiError(
            -1013, "This symbol does not allow the specified self-trade prevention mode."
        )
    return value


def response_type(params: Parameters, kind: str) -> str:
    """ACK, RESULT or FULL; MARKET and LIMIT default to FULL, the others to ACK."""
    value = optional(params, "newOrderRespType")
    if value is None:
        return "FULL" if kind in {MARKET, LIMIT} else "ACK"
    if value not in {"ACK", "RESULT", "FULL"}:
        raise errors.invalid_data("newOrderRespType")
    return value
