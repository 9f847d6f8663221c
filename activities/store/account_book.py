"""What stands on one account in the memory of a transaction: reserved, held, and fetched."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from trading.oms.enums import OrderSide, TradingState
from trading.oms.exact import EXACT
from trading.oms.models import Fill
from trading.oms.positions import Position, effects, with_fill
from trading.oms.risk.limits import Scope
from trading.oms.risk.reservation import Held

BySide = tuple[str, OrderSide]
"""A symbol and a side."""
HeldBySide = Mapping[BySide, Held]
_ZERO = Decimal(0)
_WHOLE = Scope()


class Watermark(NamedTuple):
    """The exchange's balances hold every fill up to `as_of`, and none after `as_of_latest`."""

    as_of: datetime | None = None
    as_of_latest: datetime | None = None
    fetched_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AssetBalance:
    """One asset: the exchange's total and free, what others' orders lock, our fills since."""

    total: Decimal = _ZERO
    free: Decimal = _ZERO
    foreign_locked: Decimal = _ZERO
    filled_since: Decimal = _ZERO

    @property
    def ours(self) -> Decimal:
        """What is ours to use, our own reservations not yet taken off."""
        return EXACT.add(EXACT.subtract(self.total, self.foreign_locked), self.filled_since)


@dataclass
class AccountBook:
    """The rows of one account; `stored_…` is what the database has."""

    exchange: str
    account: str
    watermark: Watermark = field(default_factory=Watermark)
    held: dict[BySide, Held] = field(default_factory=dict)
    recent: dict[tuple[str, str], int] = field(default_factory=dict)
    """Orders of ours that were reserved for lately, by symbol and strategy; see `Ledger.load`."""
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    balances: dict[str, AssetBalance] = field(default_factory=dict)
    trading: dict[str, TradingState] = field(default_factory=dict)
    stored_positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    stored_balances: dict[str, AssetBalance] = field(default_factory=dict)

    def recent_orders(self, scope: Scope) -> int:
        """How many of `recent` are of a strategy, of a symbol, or of both."""
        return sum(
            orders
            for (symbol, strategy_id), orders in self.recent.items()
            if scope.strategy_id in {None, strategy_id} and scope.symbol in {None, symbol}
        )

    def read(self, rows: Any) -> None:
        """Take the rows of the statement `STANDING`."""
        for kind, name, sub, *numbers, orders, day in rows:
            a, b, c, d = map(Decimal, numbers)
            if kind == "r":
                self.held[name, OrderSide(sub)] = Held(a, b, c, d, orders)
            elif kind == "n":
                self.recent[name, sub] = orders
            elif kind == "t":
                self.trading[name] = TradingState(sub)
            elif kind == "b":
                self.balances[name] = AssetBalance(a, b, c, d)
            else:
                self.positions[name, sub] = Position(
                    exchange=self.exchange,
                    account=self.account,
                    symbol=name,
                    strategy_id=sub,
                    quantity=a,
                    cost=b,
                    realised=c,
                    realised_on_day=d,
                    day=day,
                )
        self.stored_positions = dict(self.positions)
        self.stored_balances = dict(self.balances)

    # Asking.

    def reserved(self, asset: str) -> Decimal:
        """What our open orders hold of an asset, as base of some symbols and quote of others."""
        total = _ZERO
        for (symbol, _), held in self.held.items():
            base, _, quote = symbol.partition("/")
            if base == asset:
                total = EXACT.add(total, held.base)
            if quote == asset:
                total = EXACT.add(total, held.quote)
        return total

    def available(self, asset: str) -> Decimal:
        """What is free to use: total less foreign locks and reservations, with our fills since."""
        balance = self.balances.get(asset, AssetBalance())
        return EXACT.subtract(balance.ours, self.reserved(asset))

    def position(self, symbol: str, strategy_id: str | None = None) -> Decimal:
        """The position of a symbol: a strategy's, or over all strategies."""
        if strategy_id is not None:
            known = self.positions.get((symbol, strategy_id))
            return _ZERO if known is None else known.quantity
        return _added(p.quantity for (s, _), p in self.positions.items() if s == symbol)

    def open_orders(self) -> int:
        """How many orders are open: reserved, live, in doubt, untriggered, foreign."""
        return sum(held.orders for held in self.held.values())

    def exposure(
        self,
        quote: str,
        prices: Mapping[str, Decimal],
        held: HeldBySide | None = None,
        scope: Scope = _WHOLE,
    ) -> Decimal | None:
        """The worth of the positions and open buys in one quote asset; None: a price is missing.

        With a scope only of what is its own, of which `held` is what its open orders hold.
        """
        total = _ZERO
        for symbol in {symbol for symbol, _ in self.positions}:
            if symbol.partition("/")[2] != quote or scope.symbol not in {None, symbol}:
                continue
            quantity = self.position(symbol, scope.strategy_id)
            if not quantity:
                continue
            if symbol not in prices:
                return None
            worth = EXACT.multiply(quantity.copy_abs(), prices[symbol])
            total = EXACT.add(total, worth)
        for (symbol, side), one in (self.held if held is None else held).items():
            if side is OrderSide.BUY and symbol.partition("/")[2] == quote:
                total = EXACT.add(total, one.notional)
        return total

    def lost(self, strategy_id: str, day: str, quote: str) -> Decimal:
        """What a strategy has lost on a UTC day in one quote asset; 0 where it has gained."""
        own = [
            position.lost_on(day)
            for (symbol, whose), position in self.positions.items()
            if whose == strategy_id and symbol.partition("/")[2] == quote
        ]
        return max(_ZERO, _added(own))

    # Changing.

    def move(self, symbol: str, side: OrderSide, difference: Held) -> None:
        """A reservation has become another."""
        known = self.held.get((symbol, side), Held())
        self.held[symbol, side] = known.plus(difference)

    def book(self, fill: Fill, strategy_id: str) -> None:
        """A fill moves the position, and the balances where they do not show it yet."""
        key = (fill.symbol, strategy_id)
        known = self.positions.get(key) or Position(
            exchange=self.exchange,
            account=self.account,
            symbol=fill.symbol,
            strategy_id=strategy_id,
        )
        self.positions[key] = with_fill(known, fill)
        self.count_since(fill)

    def count_since(self, fill: Fill) -> None:
        """Add a fill to what came after the watermark.

        Where it is not certain on which side of the watermark it lies, only what it takes counts:
        too little is available until the next balances, never too much.
        """
        mark = self.watermark
        if mark.as_of is None or mark.as_of_latest is None or fill.timestamp <= mark.as_of:
            return
        certain = fill.timestamp > mark.as_of_latest
        for asset, delta in effects(fill).items():
            if delta < 0 or certain:
                known = self.balances.get(asset, AssetBalance())
                since = EXACT.add(known.filled_since, delta)
                self.balances[asset] = replace(known, filled_since=since)


def _added(values: Any) -> Decimal:
    total = _ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total
