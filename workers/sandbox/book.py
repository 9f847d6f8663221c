"""A limit order book with price-time priority, in exact decimals.

The book knows orders only by ``id``, ``side``, ``price`` and ``remaining``. It says who is next;
who trades with whom, and at what fee, is the engine's affair.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal

from workers.sandbox.exact import ZERO
from workers.sandbox.model import BUY, SELL, Order

Levels = list[tuple[Decimal, Decimal]]  # (price, quantity), best first


class Level:
    """The orders at one price, the oldest first, and what they sum up to."""

    __slots__ = ("orders", "price", "quantity")

    def __init__(self, price: Decimal) -> None:
        self.price = price
        self.quantity = ZERO
        self.orders: dict[int, Order] = {}


class BookSide:
    """One side of the book. ``sign`` makes the best price the greatest key: 1 bids, -1 asks."""

    __slots__ = ("_keys", "_sign", "levels")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[Decimal] = []
        self.levels: dict[Decimal, Level] = {}

    def best(self) -> Level | None:
        return self.levels[self._keys[-1] * self._sign] if self._keys else None

    def add(self, order: Order) -> None:
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = Level(order.price)
            insort(self._keys, order.price * self._sign)
        level.orders[order.id] = order
        level.quantity += order.remaining

    def take(self, order: Order, quantity: Decimal) -> None:
        """Lower what the order shows. The order keeps its place; an empty level goes."""
        level = self.levels[order.price]
        level.quantity -= quantity
        if level.quantity == 0:
            self._drop(level)

    def remove(self, order: Order, quantity: Decimal) -> None:
        """Take an order out that still showed ``quantity``."""
        level = self.levels.get(order.price)
        if level is None:
            return
        level.orders.pop(order.id, None)
        level.quantity -= quantity
        if not level.orders:
            self._drop(level)

    def _drop(self, level: Level) -> None:
        self.levels.pop(level.price, None)
        key = level.price * self._sign
        index = bisect_left(self._keys, key)
        if index < len(self._keys) and self._keys[index] == key:
            del self._keys[index]

    def __iter__(self) -> Iterator[Level]:
        """Best price first."""
        for key in reversed(self._keys):
            yield self.levels[key * self._sign]

    def depth(self, limit: int) -> Levels:
        levels: Levels = []
        for level in self:
            if len(levels) == limit:
                break
            levels.append((level.price, level.quantity))
        return levels


class Book:
    """Both sides of one symbol.

    ``update_id`` grows with every change of a level, and ``on_change(side, price)`` is told of it:
    from that the depth stream makes its differences.
    """

    __slots__ = ("asks", "bids", "changes", "update_id")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)
        self.update_id = 0
        self.changes: list[set[tuple[str, Decimal]]] = []

    def side(self, side: str) -> BookSide:
        return self.bids if side == BUY else self.asks

    def add(self, order: Order) -> None:
        """Rest an order behind all others at its price."""
        self.side(order.side).add(order)
        self._changed(order)

    def take(self, order: Order, quantity: Decimal) -> None:
        """Lower a resting order by a fill or an amendment; call it before the order changes."""
        if quantity == order.remaining:
            self.side(order.side).remove(order, quantity)
        else:
            self.side(order.side).take(order, quantity)
        self._changed(order)

    def remove(self, order: Order) -> None:
        self.side(order.side).remove(order, order.remaining)
        self._changed(order)

    def next_maker(self, taker_side: str, limit: Decimal | None) -> Order | None:
        """The oldest order at the best price that a taker at ``limit`` (None: any) trades with."""
        level = (self.asks if taker_side == BUY else self.bids).best()
        if level is None or not crosses(taker_side, limit, level.price):
            return None
        return next(iter(level.orders.values()))

    def makers(self, taker_side: str, limit: Decimal | None) -> Iterator[Order]:
        """All orders a taker could trade with, in the order in which it would."""
        for level in self.asks if taker_side == BUY else self.bids:
            if not crosses(taker_side, limit, level.price):
                return
            yield from level.orders.values()

    def best(self) -> tuple[Level | None, Level | None]:
        return self.bids.best(), self.asks.best()

    def quantity_at(self, side: str, price: Decimal) -> Decimal:
        level = self.side(side).levels.get(price)
        return level.quantity if level is not None else ZERO

    def _changed(self, order: Order) -> None:
        self.update_id += 1
        for changes in self.changes:
            changes.add((order.side, order.price))


def crosses(taker_side: str, limit: Decimal | None, price: Decimal) -> bool:
    """Whether a taker with this limit accepts this price."""
    if limit is None:
        return True
    return price <= limit if taker_side == BUY else price >= limit


def opposite(side: str) -> str:
    return SELL if side == BUY else BUY
