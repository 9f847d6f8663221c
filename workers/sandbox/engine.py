"""The life of orders: acceptance, waiting stops, cancel, amendment, expiry.

Every public method is one indivisible step of the exchange: it runs without a pause, and what it
tells its listener is in the order in which it happened. Refusals raise ``ApiError`` with -2010,
-2011 or -2038 and leave everything as it was.
"""

import contextlib
import random
import time
from collections.abc import Iterator
from decimal import Decimal

from workers.sandbox import errors
from workers.sandbox.clock import Clock
from workers.sandbox.config import KRAKEN, AccountSpec, SandboxConfig
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import ZERO
from workers.sandbox.ledger import Ledger
from workers.sandbox.market import Market
from workers.sandbox.matching import Listener, Matcher
from workers.sandbox.model import (
    BUY,
    CANCELED,
    FOK,
    IOC,
    LIMIT_MAKER,
    MARKET,
    STOP_TYPES,
    UNPRICED_TYPES,
    Account,
    Amendment,
    Execution,
    NewOrder,
    Order,
)

ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
FIRST_ID_EPOCH_S = 1_577_836_800  # 2020-01-01
IDS_PER_SECOND = 1000


class Engine:
    """Markets, accounts and the rules between them."""

    def __init__(self, config: SandboxConfig, clock: Clock, listener: Listener) -> None:
        self.config = config
        self.clock = clock
        self.listener = listener
        self.ledger = Ledger(
            config.maker_fee, config.taker_fee, fees_in_quote=config.protocol == KRAKEN
        )
        self.matcher = Matcher(self.ledger, clock, listener)
        first_id = config.first_id
        if first_id is None:
            first_id = (int(time.time()) - FIRST_ID_EPOCH_S) * IDS_PER_SECOND
        self.markets = {spec.symbol: Market(spec, first_id) for spec in config.symbols}
        self.accounts: dict[str, Account] = {}
        self.orders: list[Order] = []  # Of users, in the order of acceptance.
        self.market_account = Account("market", "", uid=0, unlimited=True)
        self._random = random.Random(config.seed)  # noqa: S311 - ids, not secrets
        self._quiet = False
        for account in config.accounts:
            self.add_account(account)

    def tell(self, listener: Listener) -> None:
        """Tell somebody else from now on."""
        self.listener = self.matcher.listener = listener

    def add_account(self, spec: AccountSpec) -> Account:
        account = Account(spec.key, spec.secret, uid=len(self.accounts) + 1)
        self.accounts[spec.key] = account
        for asset, amount in spec.balances.items():
            self.ledger.deposit(account, asset, amount)
        self.ledger.touched.clear()
        return account

    @contextlib.contextmanager
    def one_step(self, symbol: str) -> Iterator[None]:
        """Let stops trigger and tell of the book only once, after several orders of the market."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False
            self._finish(self.markets[symbol])

    def deposit(self, account: Account, asset: str, amount: Decimal) -> None:
        """Give (or take) an amount; told as ``balanceUpdate`` and ``outboundAccountPosition``."""
        self.ledger.deposit(account, asset, amount)
        self.listener.deposited(account, asset, amount)
        self._tell_balances()

    def new_id(self) -> str:
        """A client id as Binance makes them up: 22 letters and digits."""
        return "".join(self._random.choices(ID_ALPHABET, k=22))

    # Placing.

    def place(self, account: Account, request: NewOrder) -> Order:
        """Accept an order and let it trade. Raises ApiError(-2010) when it is refused."""
        market = self.markets[request.symbol]
        order = self._draft(account, request)
        self._refuse(order, market)
        order.id = market.next_order_id()
        self._register(order)
        waits = order.type in STOP_TYPES
        if waits:
            market.stops[order.id] = order
        else:
            order.working_ms = order.created_ms
        self._report(order, "NEW", market)
        if not waits:
            self._work(order, market)
        self._finish(market)
        return order

    def _draft(self, account: Account, request: NewOrder) -> Order:
        now = self.clock.now_ms()
        return Order(
            id=0,
            account=account,
            symbol=request.symbol,
            client_id=request.client_id or self.new_id(),
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=request.quantity,
            quote_quantity=request.quote_quantity,
            price=request.price,
            stop_price=request.stop_price,
            stp=request.stp,
            strategy_id=request.strategy_id,
            strategy_type=request.strategy_type,
            created_ms=now,
            updated_ms=now,
            created_ns=time.monotonic_ns(),
        )

    def _refuse(self, order: Order, market: Market) -> None:
        """The engine's own reasons not to take an order, in this order; the last one locks."""
        if market.spec.status != "TRADING":
            raise errors.rejected(errors.MARKET_CLOSED)
        namesake = order.account.by_client_id.get((order.symbol, order.client_id))
        if namesake is not None and namesake.is_open:
            raise errors.rejected(errors.DUPLICATE_ORDER)
        if order.type in STOP_TYPES and market.triggered(order):
            raise errors.rejected(errors.WOULD_TRIGGER)
        if order.type == LIMIT_MAKER and market.book.next_maker(order.side, order.price):
            raise errors.rejected(errors.WOULD_MATCH)
        if order.type == MARKET:
            self._size(order, market)
        if not self.ledger.lock(order, market.spec):
            raise errors.rejected(errors.INSUFFICIENT_BALANCE)

    def _size(self, order: Order, market: Market) -> None:
        """Work out what a market order takes from the book, and whether the account can pay."""
        if order.quote_quantity:
            order.quantity = _quantity_for(order, market)
            if not order.quantity:
                raise errors.rejected(errors.NO_LIQUIDITY)
        if order.account.unlimited:
            return
        if order.side == BUY:
            asset, amount = market.spec.quote, self.ledger.with_fee(_cost(order, market))
        else:
            asset, amount = market.spec.base, order.quantity
        if order.account.balance(asset).free < amount:
            raise errors.rejected(errors.INSUFFICIENT_BALANCE)

    def _register(self, order: Order) -> None:
        account, symbol = order.account, order.symbol
        account.orders.setdefault(symbol, {})[order.id] = order
        account.open_orders.setdefault(symbol, {})[order.id] = order
        account.by_client_id[symbol, order.client_id] = order
        if not account.unlimited:
            self.orders.append(order)

    def _work(self, order: Order, market: Market) -> None:
        """Let an order trade; what is left rests or expires by its type and time in force."""
        if order.time_in_force == FOK and not _fillable(order, market):
            self._expire(order, market, "UNFILLED_FOK_ORDER_EXPIRED")
            return
        self.matcher.match(order, market)
        if not order.is_open:
            return
        if order.type in UNPRICED_TYPES:
            self._expire(order, market, "INSUFFICIENT_LIQUIDITY")
        elif order.time_in_force == IOC:
            self._expire(order, market, "UNFILLED_IOC_QUANTITY_EXPIRED")
        else:
            order.on_book = True
            market.book.add(order)

    def _trigger_stops(self, market: Market) -> None:
        """Put stops whose price was reached to work, the oldest first, until none is left."""
        while True:
            reached = next((o for o in market.stops.values() if market.triggered(o)), None)
            if reached is None:
                return
            del market.stops[reached.id]
            reached.working_ms = reached.updated_ms = self.clock.now_ms()
            if reached.type in UNPRICED_TYPES:
                self.ledger.unlock(reached, market.spec)
                if not self._can_pay(reached, market):
                    self._expire(reached, market, "REJECTED")
                    continue
            self._report(reached, "NEW", market)
            self._work(reached, market)

    def _can_pay(self, order: Order, market: Market) -> bool:
        try:
            self._size(order, market)
        except ApiError:
            return False
        return True

    # Ending and amending.

    def cancel(self, order: Order, cancel_id: str = "") -> None:
        """Cancel an open order. Raises ApiError(-2011) when it is not open or may not be."""
        market = self.markets[order.symbol]
        if market.spec.status in {"HALT", "BREAK"}:
            raise errors.cancel_rejected(errors.MARKET_CLOSED)
        if not order.is_open:
            raise errors.cancel_rejected(errors.UNKNOWN_ORDER)
        order.cancel_id = cancel_id or self.new_id()
        self.matcher.close(order, market, CANCELED)
        execution = self._execution("CANCELED", market)
        execution.client_id = order.cancel_id
        execution.original_client_id = order.client_id
        self.listener.executed(order, execution)
        self._finish(market)

    def expire(self, order: Order, reason: str) -> None:
        """End an order by the exchange's own will (``eR``), for example EXCHANGE_CANCELED."""
        market = self.markets[order.symbol]
        self._expire(order, market, reason)
        self._finish(market)

    def _expire(self, order: Order, market: Market, reason: str) -> None:
        self.matcher.expire(order, market, reason)

    def amend(self, order: Order, quantity: Decimal, client_id: str = "") -> Amendment:
        """Reduce an order in place ("Order Amend Keep Priority"). Raises ApiError(-2038)."""
        market = self.markets[order.symbol]
        self._refuse_amendment(order, quantity, market)
        new_client_id = client_id or self.new_id()
        namesake = order.account.by_client_id.get((order.symbol, new_client_id))
        if namesake is not None and namesake is not order and namesake.is_open:
            raise errors.amend_rejected(errors.DUPLICATE_ORDER)
        cut = order.quantity - quantity
        if order.on_book:
            market.book.take(order, cut)
        _, before = self.ledger.needed(order, market.spec)
        amendment = self._amended(order, quantity, new_client_id, market)
        if order.locked:
            _, after = self.ledger.needed(order, market.spec)
            self.ledger.unlock(order, market.spec, before - after)
        execution = self._execution("REPLACED", market)
        execution.id = amendment.execution_id
        execution.client_id = new_client_id
        execution.original_client_id = amendment.old_client_id
        self.listener.executed(order, execution)
        self._finish(market)
        return amendment

    def change(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """Give an open order other terms in place (Kraken's amend); it loses its priority.

        Raises ApiError(-2010) when the account has too little for them.
        """
        market = self.markets[order.symbol]
        before = order.quantity, order.price
        rested = order.on_book
        if rested:
            market.book.remove(order)
        self.ledger.unlock(order, market.spec)
        order.quantity, order.price = quantity, price
        refused = not self.ledger.lock(order, market.spec)
        if refused:
            order.quantity, order.price = before
            self.ledger.lock(order, market.spec)
        if rested:
            order.on_book = False
        if refused and rested:
            order.on_book = True
            market.book.add(order)
        if refused:
            raise errors.rejected(errors.INSUFFICIENT_BALANCE)
        order.updated_ms = self.clock.now_ms()
        self._report(order, "REPLACED", market)
        if rested:
            self._work(order, market)
        self._finish(market)

    def _refuse_amendment(self, order: Order, quantity: Decimal, market: Market) -> None:
        if market.spec.status != "TRADING":
            raise errors.amend_rejected(errors.MARKET_CLOSED)
        if not order.is_open:
            raise errors.amend_rejected(errors.UNKNOWN_ORDER)
        if quantity > order.quantity:
            raise errors.amend_rejected(errors.NO_INCREASE)
        if quantity == order.quantity or quantity <= order.executed:
            raise errors.amend_rejected(errors.NO_CHANGE)
        if len(order.amendments) >= market.spec.max_num_order_amends:
            raise errors.amend_rejected("Filter failure: MAX_NUM_ORDER_AMENDS")

    def _amended(
        self, order: Order, quantity: Decimal, client_id: str, market: Market
    ) -> Amendment:
        amendment = Amendment(
            execution_id=market.next_execution_id(),
            old_client_id=order.client_id,
            new_client_id=client_id,
            old_quantity=order.quantity,
            new_quantity=quantity,
            time_ms=self.clock.now_ms(),
        )
        del order.account.by_client_id[order.symbol, order.client_id]
        order.account.by_client_id[order.symbol, client_id] = order
        order.client_id = client_id
        order.quantity = quantity
        order.updated_ms = amendment.time_ms
        order.amendments.append(amendment)
        return amendment

    # Telling.

    def _report(self, order: Order, kind: str, market: Market) -> None:
        if not order.account.unlimited:
            self.listener.executed(order, self._execution(kind, market))

    def _execution(self, kind: str, market: Market) -> Execution:
        return Execution(kind, market.next_execution_id(), self.clock.now_ms())

    def _finish(self, market: Market) -> None:
        """The end of every step: stops, then balances, then the new best prices."""
        if self._quiet:
            return
        if market.stops:
            self._trigger_stops(market)
        self._tell_balances()
        self.listener.book_changed(market)

    def _tell_balances(self) -> None:
        touched = self.ledger.touched
        if not touched:
            return
        now = self.clock.now_ms()
        for account, assets in touched.items():
            account.updated_ms = now
            self.listener.balances_changed(account, list(assets))
        touched.clear()


def _fillable(order: Order, market: Market) -> bool:
    """Whether the book holds all that a fill-or-kill order wants within its limit."""
    left = order.remaining
    for maker in market.book.makers(order.side, _limit_of(order)):
        left -= maker.remaining
        if left <= 0:
            return True
    return False


def _cost(order: Order, market: Market) -> Decimal:
    """What a market buy pays in the quote asset at the book as it stands."""
    left, cost = order.remaining, ZERO
    for maker in market.book.makers(order.side, None):
        quantity = min(left, maker.remaining)
        cost += quantity * maker.price
        left -= quantity
        if not left:
            break
    return cost


def _quantity_for(order: Order, market: Market) -> Decimal:
    """How much base ``quoteOrderQty`` buys or sells, in whole steps, at the book as it stands."""
    step = market.spec.step_size
    quote, quantity = order.quote_quantity, ZERO
    for maker in market.book.makers(order.side, None):
        affordable = quote // (maker.price * step) * step
        taken = min(affordable, maker.remaining)
        quantity += taken
        quote -= taken * maker.price
        if taken < maker.remaining:
            break
    return min(quantity, market.spec.market_max_quantity)


def _limit_of(order: Order) -> Decimal | None:
    """The worst price an order accepts; None for a market order."""
    return None if order.type in UNPRICED_TYPES else order.price
