"""The reservation: the checks that depend on all else that is open, and the row, in one step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from activities.store.account_book import AccountBook, HeldBySide
from activities.store.batch import Batch
from activities.store.ledger import RATE_WINDOW, AccountKey
from activities.store.orders import OnOrder
from activities.store.risk_rows import SumKey
from activities.store.types import strictest
from trading.oms.enums import OrderSide, ReasonCode, TradingState
from trading.oms.exact import EXACT
from trading.oms.models import Instrument, Order, OrderState, Quote
from trading.oms.positions import day_of
from trading.oms.risk.checker import run_checks
from trading.oms.risk.checks import ACCOUNT_CHECKS
from trading.oms.risk.limits import OrderLimits, OwnLimits, RiskLimits, Scope, account_limits
from trading.oms.risk.reservation import (
    Held,
    Reservation,
    changing_to,
    following,
    reservation_for,
)
from trading.oms.risk.snapshot import Denial, OwnNumbers, RiskSnapshot, worst_price

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWish:
    """An order that asks to be sent, with its venue, open quantity and price set.

    `prices` are of other symbols that are held, for the exposure. A modification asks with what
    would be open after it.
    """

    order: Order
    limits: RiskLimits
    instrument: Instrument | None = None
    quote: Quote | None = None
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    is_modification: bool = False


class Reserved(NamedTuple):
    """The answer: which checks ran, and why nothing was reserved, if so."""

    checks_run: tuple[str, ...]
    denial: Denial | None


class Reserve(OnOrder):
    """Check against the account as it stands and reserve, or say why not. Repeating is safe."""

    waits = True

    def __init__(self, wish: ReserveWish) -> None:
        """Note the wish."""
        super().__init__(wish.order.client_order_id)
        self._wish = wish
        self._answer = Reserved((), None)
        self._account: AccountKey = (wish.order.exchange or "", wish.order.account or "")
        self.accounts = [self._account]
        self.rated = _rated(self._account, wish.limits)

    def plan(self, batch: Batch) -> None:
        """Decide with the account's row locked."""
        state = batch.order(self.order_id).state
        own = batch.ledger.reservations.get(self.order_id)
        if not state.is_open:
            message = f"the order has ended as {state.status.value}"
            code = state.reason_code or ReasonCode.CANCELLED_BEFORE_SEND
            self._answer = Reserved((), Denial(code, message, {}))
            return
        if state.is_split:  # By another try of this task: its legs have reserved for themselves.
            self._answer = Reserved((), None)
            return
        if self._wish.is_modification and own is not None and self._asks_for_no_more(own, state):
            self._answer = Reserved((), None)
            return
        snapshot = self._snapshot(batch, own)
        names, denial = run_checks(self._wish.order, snapshot, ACCOUNT_CHECKS)
        self._answer = Reserved(tuple(names), denial)
        if denial is None:
            batch.ledger.set(self._reservation(batch, own, state, snapshot))

    def judge(self, batch: Batch) -> Denial | None:
        """What the checks say of an order that is not there yet; nothing is reserved."""
        return run_checks(self._wish.order, self._snapshot(batch, None), ACCOUNT_CHECKS)[1]

    def _reservation(
        self, batch: Batch, own: Reservation | None, state: OrderState, snapshot: RiskSnapshot
    ) -> Reservation:
        order, limits = self._wish.order, self._wish.limits
        price = worst_price(order, snapshot) or _ZERO
        begun = own.reserved_at if own is not None else batch.now
        wanted = reservation_for(order, state, price, limits.fee_rate or _ZERO, begun)
        if not self._wish.is_modification:
            return wanted
        known = own if own is not None else following(wanted, state, is_settled=True)
        return changing_to(known, order, state)

    def _asks_for_no_more(self, own: Reservation, state: OrderState) -> bool:
        order = self._wish.order
        known = state.price or own.price
        dearer = order.side is OrderSide.BUY and order.price is not None and order.price > known
        return not dearer and order.quantity <= state.remaining_quantity

    def _snapshot(self, batch: Batch, own: Reservation | None) -> RiskSnapshot:
        exchange, account = self._account
        book = batch.ledger.books[exchange, account]
        state = strictest(book.trading, exchange, account, self._wish.order.strategy_id)
        here = own is not None and (own.exchange, own.account) == (exchange, account)
        mine = own.held if own is not None and here else Held()
        counts_itself = own is not None and own.reserved_at > batch.now - RATE_WINDOW

        def rate(scope: Scope) -> int:
            return batch.ledger.recent_orders(book, scope) - counts_itself

        def held_by(strategy_id: str) -> HeldBySide:
            return batch.ledger.held_by(book, strategy_id)

        surroundings = Surroundings(batch.now, state, mine, rate, held_by)
        return snapshot_of(self._wish, book, surroundings)

    def answer(self, batch: Batch) -> Reserved:  # noqa: ARG002 - the protocol's
        """Granted, or the denial with its numbers."""
        return self._answer


class Mend(OnOrder):
    """Make an order's reservation what its state says."""

    waits = True

    def __init__(self, order_id: str, *, external: bool = False) -> None:
        """`external`: the order is somebody else's."""
        super().__init__(order_id)
        self._external = external
        self._mended = False

    def plan(self, batch: Batch) -> None:
        """Compare, and set where it differs."""
        state = batch.order(self.order_id).state
        self._mended = batch.ledger.mend(state, external=self._external)

    def answer(self, batch: Batch) -> bool:  # noqa: ARG002 - the protocol's
        """Whether it was anything else."""
        return self._mended


class MendSums(OnOrder):
    """Make an account's running sums what its open reservations say."""

    waits = True

    def __init__(self, exchange: str, account: str) -> None:
        """Note the account."""
        super().__init__("")
        self._mended: list[SumKey] = []
        self.accounts = [(exchange, account)]

    def plan(self, batch: Batch) -> None:
        """Compare with the account's row locked, or two processes would mend twice."""
        self._mended = batch.ledger.mend_sums(batch.ledger.books[self.accounts[0]])

    def answer(self, batch: Batch) -> list[SumKey]:  # noqa: ARG002 - the protocol's
        """Those that were anything else."""
        return self._mended


class Surroundings(NamedTuple):
    """What a snapshot needs beside the account's book.

    `mine` is the order's own reservation. `rate` counts the orders of the last minute, `held_by`
    is what a strategy's open orders hold; both are asked only where a limit needs them.
    """

    now: datetime
    trading_state: TradingState
    mine: Held
    rate: Callable[[Scope], int]
    held_by: Callable[[str], HeldBySide]


def _rated(account: AccountKey, limits: RiskLimits) -> dict[AccountKey, bool]:
    """Whether orders a minute are limited, and whether those of a strategy or a symbol are."""
    own = limits.own if isinstance(limits, OrderLimits) else ()
    by_name = any(one.max_orders_per_minute is not None for one in own)
    return {account: by_name} if by_name or limits.max_orders_per_minute is not None else {}


def snapshot_of(wish: ReserveWish, book: AccountBook, around: Surroundings) -> RiskSnapshot:
    """The account as the checks of this order look at it, its own reservation left out."""
    order, limits = wish.order, wish.limits
    base, _, quote = order.symbol.partition("/")
    whole = _numbers(wish, book, around, account_limits(limits))
    own = limits.own if isinstance(limits, OrderLimits) else ()
    return RiskSnapshot(
        now=around.now,
        limits=limits,
        trading_state=around.trading_state,
        instrument=wish.instrument,
        quote=wish.quote,
        balance_age_s=_age(around.now, book),
        available_quote=EXACT.add(book.available(quote), around.mine.quote),
        available_base=EXACT.add(book.available(base), around.mine.base),
        position=whole.position,
        open_buys=whole.open_buys,
        open_sells=whole.open_sells,
        open_orders=whole.open_orders,
        orders_last_minute=whole.orders_last_minute,
        exposure=whole.exposure,
        lost_today=book.lost(order.strategy_id or "", day_of(around.now), quote),
        fee_rate=limits.fee_rate or _ZERO,
        own=tuple(_numbers(wish, book, around, one) for one in own),
    )


def _numbers(
    wish: ReserveWish, book: AccountBook, around: Surroundings, limits: OwnLimits
) -> OwnNumbers:
    """What is compared with the limits of a scope, without the order's own reservation."""
    order, mine, scope = wish.order, around.mine, limits.scope
    held = book.held if scope.strategy_id is None else around.held_by(scope.strategy_id)
    if scope.symbol is not None:
        held = {key: one for key, one in held.items() if key[0] == scope.symbol}
    buys = held.get((order.symbol, OrderSide.BUY), Held()).quantity
    sells = held.get((order.symbol, OrderSide.SELL), Held()).quantity
    if order.side is OrderSide.BUY:
        buys = EXACT.subtract(buys, mine.quantity)
    else:
        sells = EXACT.subtract(sells, mine.quantity)
    exposure: Decimal | None = _ZERO
    if limits.max_exposure is not None:
        prices = dict(wish.prices)
        if wish.quote is not None:
            prices.setdefault(order.symbol, wish.quote.mid)
        exposure = book.exposure(order.symbol.partition("/")[2], prices, held, scope)
        if exposure is not None and order.side is OrderSide.BUY:
            exposure = EXACT.subtract(exposure, mine.notional)
    return OwnNumbers(
        limits=limits,
        position=book.position(order.symbol, scope.strategy_id),
        open_buys=buys,
        open_sells=sells,
        open_orders=sum(one.orders for one in held.values()) - mine.orders,
        orders_last_minute=0 if limits.max_orders_per_minute is None else around.rate(scope),
        exposure=exposure,
    )


def _age(now: datetime, book: AccountBook) -> Decimal | None:
    fetched = book.watermark.fetched_at
    if fetched is None:
        return None
    return Decimal(f"{max(0.0, (now - fetched).total_seconds()):.3f}")
