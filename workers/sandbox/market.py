"""What the exchange keeps per symbol: book, waiting stops, last price, statistics, identities."""

from collections import deque
from decimal import Decimal

from workers.sandbox.book import Book
from workers.sandbox.config import SymbolSpec
from workers.sandbox.exact import ZERO
from workers.sandbox.model import BUY, STOP_LOSS, STOP_LOSS_LIMIT, Order, Trade

RECENT_TRADES_MAX = 5000


class Market:
    """One symbol. Order, trade and execution ids are its own, so they repeat across symbols."""

    def __init__(self, spec: SymbolSpec, first_id: int) -> None:
        self.spec = spec
        self.book = Book()
        self.stops: dict[int, Order] = {}
        self.last_price: Decimal | None = None
        self.recent: deque[Trade] = deque(maxlen=RECENT_TRADES_MAX)
        self.statistics = Statistics()
        self.average = AveragePrice(spec.average_price_minutes)
        self._order_id = self._trade_id = self._execution_id = self._match_id = first_id

    def next_order_id(self) -> int:
        self._order_id += 1
        return self._order_id

    def next_trade_id(self) -> int:
        self._trade_id += 1
        return self._trade_id

    def next_execution_id(self) -> int:
        self._execution_id += 1
        return self._execution_id

    def next_match_id(self) -> int:
        self._match_id += 1
        return self._match_id

    def printed(self, trade: Trade) -> None:
        """Take a trade into the last price and the statistics."""
        self.last_price = trade.price
        self.recent.append(trade)
        self.statistics.add(trade)
        self.average.add(trade)

    def triggered(self, order: Order) -> bool:
        """Whether the last price has reached an order's stop price ("New order").

        Above the market: STOP_LOSS BUY and TAKE_PROFIT SELL. Below it: the other two.
        """
        if self.last_price is None:
            return False
        is_stop_loss = order.type in {STOP_LOSS, STOP_LOSS_LIMIT}
        if is_stop_loss == (order.side == BUY):
            return self.last_price >= order.stop_price
        return self.last_price <= order.stop_price


class Statistics:
    """The 24-hour statistics, counted since the exchange started (it seldom lives for a day)."""

    __slots__ = (
        "close_ms",
        "count",
        "first_id",
        "high",
        "last",
        "low",
        "open",
        "open_ms",
        "quote_volume",
        "volume",
    )

    def __init__(self) -> None:
        self.open = self.high = self.low = self.volume = self.quote_volume = ZERO
        self.count = 0
        self.first_id = -1
        self.last: Trade | None = None
        self.open_ms = self.close_ms = 0

    def add(self, trade: Trade) -> None:
        if self.last is None:
            self.open = self.high = self.low = trade.price
            self.first_id = trade.id
            self.open_ms = trade.time_ms
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.volume += trade.quantity
        self.quote_volume += trade.quote_quantity
        self.count += 1
        self.last = trade
        self.close_ms = trade.time_ms


class AveragePrice:
    """The volume-weighted average price of the last minutes ("Filters", PERCENT_PRICE)."""

    __slots__ = ("_quantity", "_quote", "_trades", "_window_ms", "minutes")

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self._window_ms = minutes * 60_000
        self._trades: deque[tuple[int, Decimal, Decimal]] = deque()
        self._quantity = ZERO
        self._quote = ZERO

    def add(self, trade: Trade) -> None:
        self._trades.append((trade.time_ms, trade.quantity, trade.quote_quantity))
        self._quantity += trade.quantity
        self._quote += trade.quote_quantity
        while self._trades[0][0] < trade.time_ms - self._window_ms:
            _, quantity, quote = self._trades.popleft()
            self._quantity -= quantity
            self._quote -= quote

    def value(self) -> Decimal | None:
        """None before the first trade."""
        return self._quote / self._quantity if self._quantity else None
