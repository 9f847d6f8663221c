"""The USER_DATA endpoints: account, orders, trades, counts. Source: "Account Endpoints".

Queries leave out what is younger than ``Call.lag_ns``: the exchange's database lags behind its
engine when a fault says so.
"""

import time
from typing import Any

from workers.sandbox import errors, params, reports
from workers.sandbox.engine import Engine
from workers.sandbox.exact import text
from workers.sandbox.limits import Limits
from workers.sandbox.model import AccountTrade, Order
from workers.sandbox.routes import SIGNATURE_PARAMETERS, USER_DATA, Call, Route
from workers.sandbox.trading_api import find_order, which_order

DAY_MS = 86_400_000
FOREVER_MS = 2**63
OPEN_ORDERS_WEIGHT = 6
ALL_OPEN_ORDERS_WEIGHT = 80
RANGE = frozenset({"startTime", "endTime", "limit"})


class AccountApi:
    """The account routes over an engine."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    def routes(self) -> list[Route]:
        one = SIGNATURE_PARAMETERS | {"symbol"}
        which = one | {"orderId", "origClientOrderId"}
        return [
            Route(
                "GET /api/v3/account", "account.status", USER_DATA, 20,
                SIGNATURE_PARAMETERS | {"omitZeroBalances"}, self.account,
            ),
            Route("GET /api/v3/order", "order.status", USER_DATA, 4, which, self.order),
            Route(
                "GET /api/v3/openOrders", "openOrders.status", USER_DATA,
                lambda p: OPEN_ORDERS_WEIGHT if p.get("symbol") else ALL_OPEN_ORDERS_WEIGHT,
                one, self.open_orders,
            ),
            Route(
                "GET /api/v3/allOrders", "allOrders", USER_DATA, 20,
                one | RANGE | {"orderId"}, self.all_orders,
            ),
            Route(
                "GET /api/v3/myTrades", "myTrades", USER_DATA,
                lambda p: 5 if p.get("orderId") else 20,
                one | RANGE | {"orderId", "fromId"}, self.my_trades,
            ),
            Route(
                "GET /api/v3/rateLimit/order", "account.rateLimits.orders", USER_DATA, 40,
                SIGNATURE_PARAMETERS, self.order_counts,
            ),
            Route(
                "GET /api/v3/account/commission", "account.commission", USER_DATA, 20,
                one, self.commission,
            ),
            Route(
                "GET /api/v3/order/amendments", "order.amendments", USER_DATA, 4,
                one | {"orderId", "fromExecutionId", "limit"}, self.amendments,
            ),
        ]  # fmt: skip

    def account(self, call: Call) -> Any:
        omit_zero = params.boolean(call.params, "omitZeroBalances", False)
        return reports.account_information(call.owner, self._engine.config, omit_zero)

    def order(self, call: Call) -> Any:
        symbol = self._symbol(call)
        order = find_order(call.owner, symbol, *which_order(call, "orderId", "origClientOrderId"))
        if order is None or not _visible(order.created_ns, call):
            raise errors.no_such_order()
        return reports.query(order)

    def open_orders(self, call: Call) -> Any:
        if params.optional(call.params, "symbol") is None:
            symbols = list(self._engine.markets)
        else:
            symbols = [self._symbol(call)]
        return [
            reports.query(order)
            for symbol in symbols
            for order in call.owner.open_orders.get(symbol, {}).values()
            if _visible(order.created_ns, call)
        ]

    def all_orders(self, call: Call) -> Any:
        """From ``orderId`` on, or the most recent; whatever their status."""
        symbol = self._symbol(call)
        start, end = _range(call)
        from_id = params.long(call.params, "orderId")
        most = params.limit(call.params)
        orders: list[Order] = [
            order
            for order in call.owner.orders.get(symbol, {}).values()
            if _visible(order.created_ns, call) and start <= order.created_ms <= end
            and (from_id is None or order.id >= from_id)
        ]  # fmt: skip
        oldest_first = from_id is not None or "startTime" in call.params
        return [
            reports.query(order) for order in (orders[:most] if oldest_first else orders[-most:])
        ]

    def my_trades(self, call: Call) -> Any:
        """From ``fromId`` on, or the most recent. A self-trade is there twice, once per side."""
        symbol = self._symbol(call)
        _refuse_mixed(call)
        start, end = _range(call)
        from_id = params.long(call.params, "fromId")
        order_id = params.long(call.params, "orderId")
        most = params.limit(call.params)
        trades: list[AccountTrade] = [
            side
            for side in call.owner.trades.get(symbol, ())
            if _visible(side.trade.time_ns, call) and start <= side.trade.time_ms <= end
            and (from_id is None or side.trade.id >= from_id)
            and (order_id is None or side.order.id == order_id)
        ]  # fmt: skip
        oldest_first = from_id is not None or "startTime" in call.params
        return [
            reports.my_trade(side) for side in (trades[:most] if oldest_first else trades[-most:])
        ]

    def order_counts(self, call: Call) -> Any:
        now = time.time()
        return [counter.describe(now) for counter in self._limits.orders(call.owner)]

    def commission(self, call: Call) -> Any:
        config = self._engine.config
        zero = dict.fromkeys(("maker", "taker", "buyer", "seller"), reports.NONE)
        return {
            "symbol": self._symbol(call),
            "standardCommission": {
                **zero,
                "maker": text(config.maker_fee),
                "taker": text(config.taker_fee),
            },
            "specialCommission": zero,
            "taxCommission": zero,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "BNB",
                "discount": reports.NONE,
            },
        }

    def amendments(self, call: Call) -> Any:
        symbol = self._symbol(call)
        params.need(call.params, "orderId")
        order = find_order(call.owner, symbol, params.long(call.params, "orderId"), "")
        if order is None:
            raise errors.no_such_order()
        first = params.long(call.params, "fromExecutionId") or 0
        most = params.limit(call.params)
        entries = [a for a in order.amendments if a.execution_id >= first]
        return [reports.amendment_entry(order, amendment) for amendment in entries[:most]]

    def _symbol(self, call: Call) -> str:
        return params.market_of(call.params, self._engine.markets).spec.symbol


def _visible(since_ns: int, call: Call) -> bool:
    return not call.lag_ns or time.monotonic_ns() - since_ns >= call.lag_ns


def _range(call: Call) -> tuple[int, int]:
    """``startTime`` and ``endTime`` in ms. Errors: -1127 when they are over 24 hours apart."""
    start = params.long(call.params, "startTime")
    end = params.long(call.params, "endTime")
    if start is not None and end is not None and not 0 <= end - start <= DAY_MS:
        raise errors.more_than_hours(24)
    return start or 0, FOREVER_MS if end is None else end


def _refuse_mixed(call: Call) -> None:
    """Only the documented combinations of myTrades. Errors: -1128."""
    timed = "startTime" in call.params or "endTime" in call.params
    if timed and ("fromId" in call.params or "orderId" in call.params):
        raise errors.bad_combination()
