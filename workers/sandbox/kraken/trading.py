"""Adding, amending, editing and cancelling orders.

Each function checks a request and returns the step for the engine. Amounts: ``volume`` in the base
asset; a stop's ``price`` is its trigger, ``price2`` its limit ("Add Order").
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from workers.sandbox import filters
from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import text
from workers.sandbox.kraken import reports
from workers.sandbox.kraken.errors import (
    DUPLICATE,
    POST_ONLY,
    UNKNOWN_ORDER,
    KrakenError,
    in_krakens_words,
    invalid,
)
from workers.sandbox.kraken.limits import AMEND, CANCEL, EDIT, TradingLimits
from workers.sandbox.kraken.names import Names, Pair, by_client_id, orders
from workers.sandbox.kraken.numbers import read_amount
from workers.sandbox.model import (
    GTC,
    IOC,
    LIMIT_MAKER,
    STOP_TYPES,
    UNPRICED_TYPES,
    Account,
    NewOrder,
    Order,
)

Params = dict[str, str]
Step = Callable[[], Any]
TYPES = {
    "limit": "LIMIT",
    "market": "MARKET",
    "stop-loss": "STOP_LOSS",
    "stop-loss-limit": "STOP_LOSS_LIMIT",
    "take-profit": "TAKE_PROFIT",
    "take-profit-limit": "TAKE_PROFIT_LIMIT",
}
FLAGS = frozenset({"post", "fciq", "fcib", "nompp"})
GTD = "GTD"
_CLIENT_ID = re.compile(
    r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}|[\x21-\x7e]{1,18}"
)
_USERREF = re.compile(r"-?[0-9]{1,10}")


class Trading:
    """The trading endpoints over an engine."""

    def __init__(self, engine: Engine, names: Names, limits: TradingLimits) -> None:
        self._engine = engine
        self._names = names
        self._limits = limits
        self._timers: set[asyncio.TimerHandle] = set()

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()

    # Adding.

    def add_order(self, account: Account, params: Params) -> Step:
        request, lives_s = self._read(account, params)
        pair = self._names.of(request.symbol)
        if params.get("validate") == "true":
            return lambda: {"descr": {"order": _words(request, pair)}}

        def step() -> Any:
            self._limits.trade(account, request.symbol)
            order = self._placed(account, request, lives_s)
            return {"descr": {"order": _words(request, pair)}, "txid": [self._names.txid(order)]}

        return step

    def _read(self, account: Account, params: Params) -> tuple[NewOrder, float | None]:
        pair = self._names.pair(params.get("pair", ""))
        side, kind = params.get("type", ""), params.get("ordertype", "")
        if side not in {"buy", "sell"}:
            raise invalid("type")
        if kind not in TYPES:
            raise invalid("ordertype")
        flags = {flag for flag in params.get("oflags", "").split(",") if flag}
        if flags - FLAGS:
            raise invalid("oflags")
        force, lives_s = self._time_in_force(params)
        request = NewOrder(
            symbol=pair.spec.symbol,
            side=side.upper(),
            type=LIMIT_MAKER if "post" in flags and kind == "limit" else TYPES[kind],
            time_in_force=force,
            quantity=read_amount(params, "volume"),
            client_id=_client_id(params),
            strategy_id=_userref(params),
        )
        _read_prices(params, request)
        self._check(account, request, pair)
        return request, lives_s

    def _time_in_force(self, params: Params) -> tuple[str, float | None]:
        force = params.get("timeinforce", GTC).upper()
        if force not in {GTC, IOC, GTD}:
            raise invalid("timeinforce")
        if force != GTD:
            return force, None
        raw = params.get("expiretm", "")
        try:
            at = float(raw)
        except ValueError:
            raise invalid("expiretm") from None
        lives_s = at if raw.startswith("+") else at - self._engine.clock.now_ms() / 1000
        if lives_s <= 0:
            raise invalid("expiretm")
        return GTC, lives_s

    def _check(self, account: Account, request: NewOrder, pair: Pair) -> None:
        """The pair's rules, and the client id's uniqueness over the account's open orders."""
        if request.client_id and any(
            order.is_open and order.client_id == request.client_id for order in orders(account)
        ):
            raise KrakenError(DUPLICATE)
        if request.quantity % pair.spec.step_size:
            raise invalid("volume")
        try:
            filters.check_new_order(request, pair.market, account)
        except ApiError as error:
            raise in_krakens_words(error) from None

    def _placed(self, account: Account, request: NewOrder, lives_s: float | None) -> Order:
        try:
            order = self._engine.place(account, request)
        except ApiError as error:
            raise in_krakens_words(error) from None
        if lives_s is not None and order.is_open:
            timer = asyncio.get_running_loop().call_later(lives_s, self._expire, order)
            self._timers.add(timer)
        return order

    def _expire(self, order: Order) -> None:
        if order.is_open:
            self._engine.expire(order, reports.GTD_EXPIRED)

    # Changing.

    def amend_order(self, account: Account, params: Params) -> Step:
        """In place: the same identifiers, fills kept; priority is kept where only less is left."""
        order = self._meant(account, params)
        quantity = read_amount(params, "order_qty") if "order_qty" in params else order.quantity
        price = read_amount(params, "limit_price") if "limit_price" in params else order.price
        pair = self._names.of(order.symbol)
        post_only = params.get("post_only") == "true"

        def step() -> Any:
            if not order.is_open:
                raise KrakenError(UNKNOWN_ORDER)
            self._limits.trade(account, order.symbol)
            self._limits.penalize(order, AMEND)
            if post_only and pair.market.book.next_maker(order.side, price):
                raise KrakenError(POST_ONLY)
            try:
                filters.check_price(price, pair.spec)
                filters.check_quantity(quantity, pair.spec)
                self._amend(order, quantity, price)
            except ApiError as error:
                raise in_krakens_words(error) from None
            return {"amend_id": self._names.txid(order).replace("O", "T", 1)}

        return step

    def _amend(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        if quantity <= order.executed:
            self._engine.cancel(order)
        elif price == order.price and quantity < order.quantity:
            self._engine.amend(order, quantity, order.client_id)
        elif (price, quantity) != (order.price, order.quantity):
            self._engine.change(order, quantity, price)

    def edit_order(self, account: Account, params: Params) -> Step:
        """Cancel and new: another identifier, and the priority is lost."""
        old = self._meant(account, params)
        quantity = read_amount(params, "volume") if "volume" in params else old.quantity
        price = read_amount(params, "price") if "price" in params else old.price
        request = NewOrder(
            symbol=old.symbol,
            side=old.side,
            type=old.type,
            time_in_force=old.time_in_force,
            quantity=quantity,
            price=price,
            stop_price=old.stop_price,
            strategy_id=_userref(params) or old.strategy_id,
        )
        pair = self._names.of(old.symbol)

        def step() -> Any:
            if not old.is_open:
                raise KrakenError(UNKNOWN_ORDER)
            self._check(account, replace(request, client_id=""), pair)
            self._limits.trade(account, old.symbol)
            self._limits.penalize(old, EDIT)
            self._engine.cancel(old)
            new = self._placed(account, request, None)
            return {
                "status": "ok",
                "txid": self._names.txid(new),
                "originaltxid": self._names.txid(old),
                "volume": text(quantity),
                "price": pair.price(price),
                "orders_cancelled": 1,
                "descr": {"order": _words(request, pair)},
            }

        return step

    # Ending.

    def cancel_order(self, account: Account, params: Params) -> Step:
        def step() -> Any:
            return {"count": self._cancel([self._meant(account, params)])}

        return step

    def cancel_all(self, account: Account, _: Params) -> Step:
        def step() -> Any:
            found = [order for order in orders(account) if order.is_open]
            return {"count": self._cancel(found) if found else 0}

        return step

    def _cancel(self, found: list[Order]) -> int:
        for order in found:
            if not order.is_open:
                raise KrakenError(UNKNOWN_ORDER)
            self._limits.penalize(order, CANCEL)
            try:
                self._engine.cancel(order)
            except ApiError as error:
                raise in_krakens_words(error) from None
        return len(found)

    def _meant(self, account: Account, params: Params) -> Order:
        """By ``txid`` or by ``cl_ord_id``. Errors: EOrder:Unknown order."""
        txid, client_id = params.get("txid"), params.get("cl_ord_id")
        if bool(txid) == bool(client_id):
            raise invalid()
        found = self._names.order(account, txid) if txid else by_client_id(account, client_id or "")
        if found is None:
            raise KrakenError(UNKNOWN_ORDER)
        return found


def _read_prices(params: Params, request: NewOrder) -> None:
    if request.type in STOP_TYPES:
        request.stop_price = read_amount(params, "price")
        if request.type not in UNPRICED_TYPES:
            request.price = read_amount(params, "price2")
    elif request.type not in UNPRICED_TYPES:
        request.price = read_amount(params, "price")


def _client_id(params: Params) -> str:
    """A UUID, with or without dashes, or free text of at most 18 characters."""
    value = params.get("cl_ord_id", "")
    if value and (_CLIENT_ID.fullmatch(value) is None or params.get("userref")):
        raise invalid("cl_ord_id")
    return value


def _userref(params: Params) -> int | None:
    value = params.get("userref")
    if not value:
        return None
    if _USERREF.fullmatch(value) is None:
        raise invalid("userref")
    return int(value)


def _words(request: NewOrder, pair: Pair) -> str:
    now = time.monotonic_ns()
    fields = {name: getattr(request, name) for name in ("strategy_id", "strategy_type", "stp")}
    draft = Order(
        id=0, account=Account("", "", uid=0), symbol=request.symbol, client_id="",
        side=request.side, type=request.type, time_in_force=request.time_in_force,
        quantity=request.quantity, quote_quantity=request.quote_quantity, price=request.price,
        stop_price=request.stop_price, created_ms=0, updated_ms=0, created_ns=now, **fields,
    )  # fmt: skip
    return str(reports.description(draft, pair)["order"])
