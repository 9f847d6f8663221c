"""The symbol filters, as checks and as ``exchangeInfo`` shows them ("Filters").

A failed filter is -1013 with the filter's name: the request did not reach the matching engine.
"""

from decimal import Decimal
from typing import Any

from workers.sandbox.config import SymbolSpec
from workers.sandbox.errors import filter_failure
from workers.sandbox.exact import text
from workers.sandbox.market import Market
from workers.sandbox.model import MARKET, STOP_TYPES, Account, NewOrder


def check_new_order(order: NewOrder, market: Market, account: Account) -> None:
    """All filters of a new order, in Binance's order of exchangeInfo."""
    spec = market.spec
    for price in (order.price, order.stop_price):
        if price:
            check_price(price, spec)
    if order.quantity:
        check_quantity(order.quantity, spec)
        if order.type == MARKET:
            _check_market_quantity(order.quantity, spec)
    check_notional(order, market)
    _check_percent_price(order, market)
    _check_open_orders(order, spec, account)


def check_price(price: Decimal, spec: SymbolSpec) -> None:
    """PRICE_FILTER. The bound comes first, so that the remainder is exact."""
    if not spec.min_price <= price <= spec.max_price or (spec.tick_size and price % spec.tick_size):
        raise filter_failure("PRICE_FILTER")


def check_quantity(quantity: Decimal, spec: SymbolSpec) -> None:
    """LOT_SIZE."""
    if not spec.min_quantity <= quantity <= spec.max_quantity or quantity % spec.step_size:
        raise filter_failure("LOT_SIZE")


def _check_market_quantity(quantity: Decimal, spec: SymbolSpec) -> None:
    if quantity > spec.market_max_quantity:
        raise filter_failure("MARKET_LOT_SIZE")


def check_notional(order: NewOrder, market: Market) -> None:
    """NOTIONAL; a market order's price is the average price."""
    spec = market.spec
    if order.quote_quantity:
        notional: Decimal | None = order.quote_quantity
    else:
        price = order.price or order.stop_price or market.average.value()
        notional = None if price is None else price * order.quantity
    if notional is not None and not spec.min_notional <= notional <= spec.max_notional:
        raise filter_failure("NOTIONAL")


def _check_percent_price(order: NewOrder, market: Market) -> None:
    average = market.average.value()
    if average is None or not order.price:
        return
    spec = market.spec
    if not average * spec.multiplier_down <= order.price <= average * spec.multiplier_up:
        raise filter_failure("PERCENT_PRICE_BY_SIDE")


def _check_open_orders(order: NewOrder, spec: SymbolSpec, account: Account) -> None:
    open_orders = account.open_orders.get(spec.symbol, {})
    if len(open_orders) >= spec.max_num_orders:
        raise filter_failure("MAX_NUM_ORDERS")
    if order.type in STOP_TYPES:
        algos = sum(1 for other in open_orders.values() if other.type in STOP_TYPES)
        if algos >= spec.max_num_algo_orders:
            raise filter_failure("MAX_NUM_ALGO_ORDERS")


def describe(spec: SymbolSpec) -> list[dict[str, Any]]:
    """The ``filters`` of one symbol of exchangeInfo."""
    up, down = f"{spec.multiplier_up:f}", f"{spec.multiplier_down:f}"
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(spec.min_price),
            "maxPrice": text(spec.max_price),
            "tickSize": text(spec.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": text(spec.min_quantity),
            "maxQty": text(spec.max_quantity),
            "stepSize": text(spec.step_size),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": text(Decimal(0)),
            "maxQty": text(spec.market_max_quantity),
            "stepSize": text(Decimal(0)),
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": spec.average_price_minutes,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": text(spec.min_notional),
            "applyMinToMarket": True,
            "maxNotional": text(spec.max_notional),
            "applyMaxToMarket": True,
            "avgPriceMins": spec.average_price_minutes,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": spec.max_num_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": spec.max_num_algo_orders},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": spec.max_num_order_amends},
    ]
