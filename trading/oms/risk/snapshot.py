"""What the checks look at: one picture of the venue, the account and the market; and a denial.

Everything that is open counts at its worst: orders in doubt and reservations are open.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from trading.oms.enums import OrderSide, OrderType, ReasonCode, TradingState
from trading.oms.exact import EXACT
from trading.oms.models import Instrument, Order, Quote
from trading.oms.risk.limits import OwnLimits, RiskLimits, account_limits

ZERO = Decimal(0)
ONE = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNumbers:
    """What limits of a scope are compared with, in the units of `RiskSnapshot`.

    `open_buys` and `open_sells` are in the order's symbol, `position` too; `open_orders`,
    `orders_last_minute` and `exposure` are of all that the scope holds.
    """

    limits: OwnLimits
    position: Decimal = ZERO
    open_buys: Decimal = ZERO
    open_sells: Decimal = ZERO
    open_orders: int = 0
    orders_last_minute: int = 0
    exposure: Decimal | None = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskSnapshot:
    """The order's surroundings at `now`. Quantities are in the base asset, the rest in the quote.

    `available_quote` and `available_base` are free to use: foreign locks and our reservations
    are taken off. `position` is signed. `open_buys` and `open_sells` are what open orders of
    this symbol may still trade. `exposure` is the worth of all positions and open orders of the
    account at their worst; None: it is not known. `balance_age_s` is how long ago the balances
    were fetched, in seconds; None: never. `fee_rate` is the worst fee as a fraction.
    `lost_today` is the strategy's loss since the start of the UTC day (0 where it has gained).
    `own` are the numbers of the order's strategy, and of its symbol, where they have limits.
    """

    now: datetime
    limits: RiskLimits = field(default_factory=RiskLimits)
    trading_state: TradingState = TradingState.ACTIVE
    instrument: Instrument | None = None
    quote: Quote | None = None
    balance_age_s: Decimal | None = ZERO
    available_quote: Decimal = ZERO
    available_base: Decimal = ZERO
    position: Decimal = ZERO
    open_buys: Decimal = ZERO
    open_sells: Decimal = ZERO
    open_orders: int = 0
    orders_last_minute: int = 0
    exposure: Decimal | None = ZERO
    lost_today: Decimal = ZERO
    fee_rate: Decimal = ZERO
    own: tuple[OwnNumbers, ...] = ()

    @property
    def compared(self) -> tuple[OwnNumbers, ...]:
        """All numbers that are limited: the account's first."""
        account = OwnNumbers(
            limits=account_limits(self.limits),
            position=self.position,
            open_buys=self.open_buys,
            open_sells=self.open_sells,
            open_orders=self.open_orders,
            orders_last_minute=self.orders_last_minute,
            exposure=self.exposure,
        )
        return (account, *self.own)

    @property
    def fresh_quote(self) -> Quote | None:
        """The quote, where it has both sides and is young enough to be believed."""
        quote = self.quote
        if quote is None or quote.bid <= 0 or quote.ask <= 0:
            return None
        age = Decimal((self.now - quote.received_at).total_seconds())
        return quote if age <= self.limits.quote_age_s_max else None


class Denial(NamedTuple):
    """Why an order may not go out: what was found, what is allowed, and the numbers compared."""

    code: ReasonCode
    message: str
    numbers: dict[str, Decimal]


Check = Callable[[Order, RiskSnapshot], Denial | None]
"""Pure; None lets the order pass."""


def worst_price(order: Order, snapshot: RiskSnapshot) -> Decimal | None:
    """The worst price, in the quote asset, at which the order may trade; None: nobody knows.

    A limit is its own worst. A stop is taken to trade at its trigger, a market order at the
    quote, each with the margin for slippage.
    """
    if order.price is not None:
        return order.price
    margin = snapshot.limits.market_margin
    factor = (
        EXACT.add(ONE, margin)
        if order.side is OrderSide.BUY
        else max(ZERO, EXACT.subtract(ONE, margin))
    )
    if order.order_type is OrderType.STOP and order.stop_price is not None:
        return EXACT.multiply(order.stop_price, factor)
    quote = snapshot.fresh_quote
    if quote is None:
        return None
    return EXACT.multiply(quote.ask if order.side is OrderSide.BUY else quote.bid, factor)


def required_funds(order: Order, snapshot: RiskSnapshot) -> Decimal | None:
    """What the order may cost: a buy in the quote asset with the worst fee, a sell in the base.

    None where a market order has no price. This is also what is to be reserved for it.
    """
    if order.side is OrderSide.SELL:
        return order.quantity
    price = worst_price(order, snapshot)
    if price is None:
        return None
    notional = EXACT.multiply(order.quantity, price)
    return EXACT.add(notional, EXACT.multiply(notional, snapshot.fee_rate))
