"""Orders, trades and balances as Kraken's REST API writes them; amounts are text."""

from decimal import Decimal
from typing import Any

from workers.sandbox.exact import ZERO, short, text
from workers.sandbox.kraken.names import Names, Pair, asset_id, given_client_id
from workers.sandbox.kraken.numbers import seconds
from workers.sandbox.model import (
    BUY,
    CANCELED,
    EXPIRED,
    FILLED,
    LIMIT_MAKER,
    STOP_TYPES,
    UNPRICED_TYPES,
    Account,
    AccountTrade,
    Order,
)

Json = dict[str, Any]
GTD_EXPIRED = "GTD"
ORDER_TYPES = {
    "LIMIT": "limit",
    "LIMIT_MAKER": "limit",
    "MARKET": "market",
    "STOP_LOSS": "stop-loss",
    "STOP_LOSS_LIMIT": "stop-loss-limit",
    "TAKE_PROFIT": "take-profit",
    "TAKE_PROFIT_LIMIT": "take-profit-limit",
}
REASONS = {
    "UNFILLED_IOC_QUANTITY_EXPIRED": "Immediate or cancel",
    "INSUFFICIENT_LIQUIDITY": "Insufficient liquidity",
    "EXCHANGE_CANCELED": "Canceled by the exchange",
}


def status(order: Order) -> str:
    """``open``, ``closed`` (filled), ``canceled`` or ``expired`` (GTD only)."""
    if order.is_open:
        return "open"
    if order.status == FILLED:
        return "closed"
    return "expired" if order.expiry_reason == GTD_EXPIRED else "canceled"


def reason(order: Order) -> str | None:
    if order.status == CANCELED:
        return "User requested"
    if order.status == EXPIRED:
        return REASONS.get(order.expiry_reason or "", order.expiry_reason)
    return None if order.is_open or order.status == FILLED else "Self trade prevention"


def fee(order: Order) -> Decimal:
    sides = (
        trade.buyer_commission if trade.buyer is order else trade.seller_commission
        for trade in order.fills
    )
    return sum(sides, ZERO)


def average(order: Order) -> Decimal:
    return order.executed_quote / order.executed if order.executed else ZERO


def flags(order: Order) -> str:
    return "fciq,post" if order.type == LIMIT_MAKER else "fciq"


def description(order: Order, pair: Pair) -> Json:
    """``descr``: a stop's ``price`` is its trigger and ``price2`` its limit."""
    kind = ORDER_TYPES[order.type]
    stop, limit = pair.price(order.stop_price), pair.price(order.price)
    price, price2 = (stop, limit) if order.type in STOP_TYPES else (limit, "0")
    if order.type in UNPRICED_TYPES:
        price2 = "0"
        price = price if order.type in STOP_TYPES else "0"
    words = f"{order.side.lower()} {text(order.quantity)} {pair.altname} @ {kind.replace('-', ' ')}"
    return {
        "pair": pair.altname,
        "type": order.side.lower(),
        "ordertype": kind,
        "price": price,
        "price2": price2,
        "leverage": "none",
        "order": words if price == "0" else f"{words} {price}",
        "close": "",
    }


def order_info(order: Order, names: Names) -> Json:
    """An order as OpenOrders, ClosedOrders and QueryOrders show it."""
    pair = names.of(order.symbol)
    body: Json = {
        "refid": None,
        "userref": order.strategy_id,
        "cl_ord_id": given_client_id(order),
        "status": status(order),
        "opentm": seconds(order.created_ms),
        "starttm": 0,
        "expiretm": 0,
        "descr": description(order, pair),
        "vol": text(order.quantity),
        "vol_exec": text(order.executed),
        "cost": short(order.executed_quote),
        "fee": short(fee(order)),
        "price": short(average(order).quantize(Decimal("1e-10"))),
        "stopprice": pair.price(order.stop_price),
        "limitprice": pair.price(order.price),
        "misc": "",
        "oflags": flags(order),
        "timeinforce": order.time_in_force,
    }
    if not order.is_open:
        body.update(closetm=seconds(order.updated_ms), reason=reason(order))
    return body


def rows_of(sides: list[AccountTrade], *, merged: bool) -> list[list[AccountTrade]]:
    """The trades of each row of a list, in its order: ``merged`` has one for a taker's."""
    rows: dict[tuple[int, int], list[AccountTrade]] = {}
    for side in sides:
        own = 0 if merged and not side.is_maker else side.trade.id
        rows.setdefault((id(side.order), own), []).append(side)
    return list(rows.values())


def trade_txids(order: Order, names: Names, *, merged: bool) -> list[str]:
    """The identifiers of an order's trades, the oldest first."""
    sides = order.account.trades.get(order.symbol, ())
    rows = rows_of([side for side in sides if side.order is order], merged=merged)
    return [names.trade_txid(row[0]) for row in rows]


def trade_info(row: list[AccountTrade], names: Names) -> Json:
    """A row of TradesHistory and QueryTrades; the fee is in the quote asset."""
    side = row[-1]
    trade, order = side.trade, side.order
    pair = names.of(trade.symbol)
    quantity = sum((one.trade.quantity for one in row), ZERO)
    cost = sum((one.trade.quote_quantity for one in row), ZERO)
    return {
        "ordertxid": names.txid(order),
        "postxid": "TKH2SE-M7IF5-CFI7LT",
        "pair": pair.id,
        "time": seconds(trade.time_ms),
        "type": "buy" if order.side == BUY else "sell",
        "ordertype": ORDER_TYPES[order.type],
        "price": pair.price(trade.price if len(row) == 1 else cost / quantity),
        "cost": short(cost),
        "fee": short(sum((one.commission for one in row), ZERO)),
        "vol": text(quantity),
        "margin": "0.00000",
        "leverage": "0",
        "misc": "",
        "trade_id": trade.id,
        "maker": side.is_maker,
    }


def balances(account: Account) -> dict[str, tuple[Decimal, Decimal]]:
    """Kraken's asset id to (total, held by orders)."""
    return {
        asset_id(asset): (balance.free + balance.locked, balance.locked)
        for asset, balance in sorted(account.balances.items())
    }
