"""The control endpoint: truth, faults and a hand in the market. No part of Binance's protocol.

JSON in, JSON out; amounts are decimal text. What is wrong with a request is answered with 400 and
``{"code", "msg"}``. The paths are in ``Control.paths`` and described in ``README.md``.
"""

import asyncio
import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from workers.sandbox import errors, params, reports
from workers.sandbox.config import SymbolSpec
from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import amount_of, read_long, text
from workers.sandbox.faults import Faults
from workers.sandbox.gateway import dumps
from workers.sandbox.limits import Limits
from workers.sandbox.model import BUY, GTC, IOC, SELL, Account, Order, Trade
from workers.sandbox.replay import MarketMaker
from workers.sandbox.requests_log import RequestsLog
from workers.sandbox.user_streams import UserStreams

STATUSES = ("TRADING", "HALT", "BREAK", "CANCEL_ONLY", "END_OF_DAY", params.DELISTED)
REQUESTS_DEFAULT = 1000
SYMBOL_NUMBERS = frozenset(
    field.name for field in dataclasses.fields(SymbolSpec) if field.type in {Decimal, int}
)

Json = dict[str, Any]


class Control:
    """Serves ``/control/*``."""

    def __init__(
        self,
        engine: Engine,
        maker: MarketMaker,
        faults: Faults,
        limits: Limits,
        streams: UserStreams,
        log: RequestsLog,
    ) -> None:
        self._engine = engine
        self._maker = maker
        self._faults = faults
        self._limits = limits
        self._streams = streams
        self._log = log
        self.lift_lockouts: Callable[[], None] = lambda: None
        self.refused: Callable[[], int] = lambda: limits.refused
        self.paths: dict[str, Callable[[Json], Any]] = {
            "GET /control/config": self.config,
            "GET /control/ledger": self.ledger,
            "GET /control/requests": self.requests,
            "GET /control/faults": self.faults,
            "POST /control/faults": self.set_faults,
            "POST /control/deposit": self.deposit,
            "POST /control/market_order": self.market_order,
            "POST /control/quote": self.quote,
            "POST /control/trade": self.trade,
            "POST /control/symbol": self.symbol,
            "POST /control/cancel": self.cancel,
            "POST /control/disconnect": self.disconnect,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, _ = request.raw_path.partition("?")
        action = self.paths.get(f"{request.method} {path}")
        try:
            if action is None:
                raise errors.unknown_path(request.method, path[:200])
            body = action(await _json(request))
        except ApiError as error:
            return web.Response(status=error.status, text=dumps(error.body()))
        return web.Response(text=dumps(body), content_type="application/json")

    # Reading.

    def config(self, _: Json) -> Json:
        config = self._engine.config
        return {
            "name": config.name,
            "market": config.market,
            "speed": str(config.speed),
            "maker_fee": str(config.maker_fee),
            "taker_fee": str(config.taker_fee),
            "default_recv_window_ms": config.default_recv_window_ms,
            "max_recv_window_ms": config.max_recv_window_ms,
            "processing_bound_ms": config.processing_bound_ms,
            "accounts": list(self._engine.accounts),
            "symbols": list(self._engine.markets),
        }

    def ledger(self, _: Json) -> Json:
        """Everything that is true: all orders, all trades with both sides, all balances, fees."""
        engine = self._engine
        return {
            "name": engine.config.name,
            "time_ms": engine.clock.now_ms(),
            "orders": [_order(order) for order in engine.orders],
            "trades": [_trade(trade) for trade in engine.matcher.trades],
            "balances": {key: _balances(account) for key, account in engine.accounts.items()},
            "market_balances": _balances(engine.market_account),
            "fees": {asset: text(fee) for asset, fee in engine.ledger.fees.items()},
            "deposited": {asset: text(sum_) for asset, sum_ in engine.ledger.deposited.items()},
        }

    def requests(self, asked: Json) -> Json:
        most = read_long("last", str(asked.get("last", REQUESTS_DEFAULT)))
        return {
            "count": self._log.count,
            "refused_for_limits": self.refused(),
            "requests": self._log.last(most),
        }

    def faults(self, _: Json) -> Json:
        return {"faults": [fault.describe() for fault in self._faults.active]}

    # Faults.

    def set_faults(self, asked: Json) -> Json:
        """``{"fault": …}``, ``{"faults": [{…}, …]}`` or ``{"clear": "all" | kind | id}``."""
        if "clear" in asked:
            return {"cleared": self._clear(asked["clear"])}
        wanted = asked.get("faults", [asked])
        if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
            raise errors.invalid_data("faults")
        return {"set": [self._set(one) for one in wanted]}

    def _set(self, wanted: Json) -> Json:
        """Three kinds are states or deeds of the exchange and take no count or probability."""
        kind = wanted.get("fault")
        if kind == "clock_skew_ms":
            self._engine.clock.skew_ms = _whole(wanted.get("ms"), "ms")
            return {"fault": kind, "ms": self._engine.clock.skew_ms}
        if kind == "symbol_status":
            return self.symbol({"symbol": wanted.get("symbol"), "status": wanted.get("status")})
        if kind == "unsolicited_cancel":
            return self.cancel(wanted)
        return self._faults.set(wanted).describe()

    def _clear(self, which: Any) -> int:
        if not isinstance(which, str | int):
            raise errors.invalid_data("clear")
        if which in {"all", "clock_skew_ms"}:
            self._engine.clock.skew_ms = 0
        if which in {"all", "symbol_status"}:
            for market in self._engine.markets.values():
                market.spec.status = "TRADING"
        if which in {"all", "ban_418"}:
            self._limits.lift_bans()
            self.lift_lockouts()
        return self._faults.clear(which)

    # Deeds.

    def deposit(self, asked: Json) -> Json:
        """``{"account", "asset", "amount"}``; an amount with a minus is a withdrawal."""
        account = self._account(asked)
        asset = str(asked.get("asset") or "")
        if not asset:
            raise errors.mandatory("asset")
        raw = str(asked.get("amount"))
        amount = amount_of(raw.removeprefix("-"), "amount")
        if raw.startswith("-"):
            amount = -amount
        if account.balance(asset).free + amount < 0:
            raise errors.rejected(errors.INSUFFICIENT_BALANCE)
        self._engine.deposit(account, asset, amount)
        return {"balances": _balances(account)}

    def market_order(self, asked: Json) -> Json:
        """An order of the market: ``{"symbol", "side", "price", "quantity"}``, IOC if not told."""
        symbol, side, price, quantity = self._trade_of(asked)
        time_in_force = str(asked.get("time_in_force", IOC))
        if time_in_force not in {GTC, IOC}:
            raise errors.invalid_time_in_force()
        order = self._maker.place(symbol, side, price, quantity, time_in_force=time_in_force)
        return {
            "order_id": order.id,
            "executed": text(order.executed),
            "status": order.status,
        }

    def trade(self, asked: Json) -> Json:
        """A trade that is printed in any case, through whoever waits at the price or better."""
        self._maker.trade(*self._trade_of(asked))
        return {}

    def quote(self, asked: Json) -> Json:
        """``{"symbol", "bid", "bid_quantity", "ask", "ask_quantity"}``; 0 empties a side."""
        market = self._market(asked)
        bid, bid_quantity, ask, ask_quantity = (
            amount_of(asked.get(name, "0"), name)
            for name in ("bid", "bid_quantity", "ask", "ask_quantity")
        )
        if bid_quantity and ask_quantity and bid >= ask:
            raise ApiError(-1130, f"bid is {bid}, ask is {ask}; a bid below the ask is allowed.")
        self._maker.quote(market, (bid, bid_quantity), (ask, ask_quantity))
        return {}

    def symbol(self, asked: Json) -> Json:
        """Change a symbol: ``status``, or any number of its filters by its name in SymbolSpec."""
        spec = self._engine.markets[self._market(asked)].spec
        status = asked.get("status")
        if status is not None and status not in STATUSES:
            raise ApiError(-1130, f"status is {status!r}; {', '.join(STATUSES)} are allowed.")
        numbers = {name: value for name, value in asked.items() if name in SYMBOL_NUMBERS}
        for name, value in numbers.items():
            number = amount_of(value, name)
            if name == "step_size" and not number:
                raise errors.invalid_data(name)
            setattr(spec, name, number if isinstance(getattr(spec, name), Decimal) else int(number))
        spec.status = status or spec.status
        return {"symbol": spec.symbol, "status": spec.status}

    def cancel(self, asked: Json) -> Json:
        """The exchange cancels an order of its own accord: EXPIRED with EXCHANGE_CANCELED."""
        account, symbol = self._account(asked), self._market(asked)
        if asked.get("order_id") is not None:
            order_id = _whole(asked["order_id"], "order_id")
            order = account.orders.get(symbol, {}).get(order_id)
        else:
            order = account.by_client_id.get((symbol, str(asked.get("client_order_id"))))
        if order is None or not order.is_open:
            raise errors.cancel_rejected(errors.UNKNOWN_ORDER)
        self._engine.expire(order, "EXCHANGE_CANCELED")
        return _order(order)

    def disconnect(self, asked: Json) -> Json:
        """Cut the user data connections, of one account or of all, without a goodbye."""
        account = self._account(asked) if asked.get("account") is not None else None
        return {"disconnected": self._streams.disconnect(account)}

    def _account(self, asked: Json) -> Account:
        account = self._engine.accounts.get(str(asked.get("account")))
        if account is None:
            raise ApiError(-1130, f"account is {asked.get('account')!r}; it is not known here.")
        return account

    def _market(self, asked: Json) -> str:
        name = str(asked.get("symbol"))
        if name not in self._engine.markets:
            params.known_symbol(name, self._engine.markets)
        return name

    def _trade_of(self, asked: Json) -> tuple[str, str, Decimal, Decimal]:
        side = str(asked.get("side"))
        if side not in {BUY, SELL}:
            raise errors.invalid_side()
        price, quantity = (
            amount_of(asked.get("price"), "price"),
            amount_of(asked.get("quantity"), "quantity"),
        )
        if not price or not quantity:
            raise ApiError(-1130, "price and quantity are allowed above zero only.")
        return self._market(asked), side, price, quantity


async def _json(request: web.BaseRequest) -> Json:
    """The body of a POST; for a GET the query's parameters."""
    if request.method == "GET":
        return dict(request.query)
    raw = await request.read()
    await asyncio.sleep(0)
    try:
        body = json.loads(raw, parse_float=str) if raw else {}
    except (ValueError, RecursionError):
        raise errors.invalid_json() from None
    if not isinstance(body, dict):
        raise errors.invalid_json()
    return body


def _whole(value: Any, name: str) -> int:
    """A whole number, which may be negative."""
    raw = str(value)
    number = read_long(name, raw.removeprefix("-"))
    return -number if raw.startswith("-") else number


def _balances(account: Account) -> dict[str, dict[str, str]]:
    return {
        asset: {"free": text(balance.free), "locked": text(balance.locked)}
        for asset, balance in sorted(account.balances.items())
    }


def _order(order: Order) -> Json:
    """An order as ``GET /api/v3/order`` shows it, and whose it is."""
    return {
        "account": order.account.key,
        **reports.query(order),
        "cancelClientOrderId": order.cancel_id,
        "locked": text(order.locked),
        "tradeIds": [trade.id for trade in order.fills],
    }


def _trade(trade: Trade) -> Json:
    return {
        "symbol": trade.symbol,
        "id": trade.id,
        "price": text(trade.price),
        "quantity": text(trade.quantity),
        "quoteQuantity": text(trade.quote_quantity),
        "time": trade.time_ms,
        "buyerIsMaker": trade.buyer_is_maker,
        "buyer": _side(trade.buyer, trade.buyer_commission, trade.buyer_fee_asset),
        "seller": _side(trade.seller, trade.seller_commission, trade.quote),
    }


def _side(order: Order, commission: Decimal, asset: str) -> Json:
    return {
        "account": order.account.key,
        "orderId": order.id,
        "clientOrderId": order.client_id,
        "commission": text(commission),
        "commissionAsset": asset,
    }
