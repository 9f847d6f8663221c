"""The recorded minute as the market: its best quotes rest in the book, its trades trade.

``data/`` holds 46 seconds of BTC/USDT on Binance Spot, 8 January 2021: best quotes and trades. The
market's own account keeps the recorded best bid and ask in the book. Each recorded trade is made
again at its price: its passive side is placed behind whoever already waits there, and its
aggressive side is an immediate-or-cancel order against the book. So it trades through resting
orders of users by price and time, and the recording's volume is always printed. Between two
recorded quotes the last one stays, replenished, so that the book always has two sides; behind it a
ladder of made-up levels (``ladder_levels`` and so on) gives larger orders something to trade with.
"""

import asyncio
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.model import BUY, GTC, IOC, LIMIT, SELL, NewOrder, Order

DATA = Path(__file__).parent / "data"
SYMBOL = "BTCUSDT"
EVENTS_PER_PAUSE = 20  # When behind: how many events before others get their turn.


@dataclass(frozen=True, slots=True)
class Quote:
    time_ms: int
    bid: Decimal
    bid_quantity: Decimal
    ask: Decimal
    ask_quantity: Decimal


@dataclass(frozen=True, slots=True)
class Print:
    time_ms: int
    price: Decimal
    quantity: Decimal
    buyer_is_maker: bool


def recorded(folder: Path = DATA) -> list[Quote | Print]:
    """All events by time; at the same millisecond quotes before trades, each in file order."""
    events: list[Quote | Print] = [*_quotes(folder), *_prints(folder)]
    return sorted(events, key=lambda event: event.time_ms)


def _quotes(folder: Path) -> Iterator[Quote]:
    for row in _rows(folder / "binance-btcusdt-2021-01-08-quotes.csv"):
        yield Quote(
            int(row["time_ms"]),
            Decimal(row["bid"]),
            Decimal(row["bid_quantity"]),
            Decimal(row["ask"]),
            Decimal(row["ask_quantity"]),
        )


def _prints(folder: Path) -> Iterator[Print]:
    for row in _rows(folder / "binance-btcusdt-2021-01-08-trades.csv"):
        yield Print(
            int(row["time_ms"]),
            Decimal(row["price"]),
            Decimal(row["quantity"]),
            row["buyer_is_maker"] == "true",
        )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="ascii") as file:
        yield from csv.DictReader(file)


Side = tuple[Decimal, Decimal]  # (price, quantity)


class MarketMaker:
    """The market's hand: quotes, takes away and trades on its own unlimited account."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._quotes: dict[str, tuple[Side, Side]] = {}
        self._resting: dict[str, list[Order]] = {}

    def quote(self, symbol: str, bid: Side, ask: Side) -> None:
        """Replace the market's best bid and ask and its ladder; zero leaves a side empty."""
        with self._engine.one_step(symbol):
            self._withdraw_quote(symbol)
            self._quotes[symbol] = (bid, ask)
            self._place_quote(symbol)

    def trade(self, symbol: str, side: str, price: Decimal, quantity: Decimal) -> None:
        """Make a trade of this quantity at this price, with ``side`` as the aggressor.

        The market's own quote steps aside for it, so that it stands in nobody's way, and comes
        back no better than the trade's price.
        """
        with self._engine.one_step(symbol):
            self._withdraw_quote(symbol)
            passive = self.place(symbol, SELL if side == BUY else BUY, price, quantity)
            self.place(symbol, side, price, quantity, time_in_force=IOC)
            self._withdraw(passive)
            if symbol in self._quotes:
                (bid, bid_quantity), (ask, ask_quantity) = self._quotes[symbol]
                bid, ask = (bid, max(ask, price)) if side == BUY else (min(bid, price), ask)
                self._quotes[symbol] = ((bid, bid_quantity), (ask, ask_quantity))
                self._place_quote(symbol)

    def place(
        self,
        symbol: str,
        side: str,
        price: Decimal,
        quantity: Decimal,
        *,
        time_in_force: str = GTC,
    ) -> Order:
        """A limit order of the market. Raises ApiError when the symbol is closed."""
        request = NewOrder(symbol, side, LIMIT, time_in_force, quantity=quantity, price=price)
        return self._engine.place(self._engine.market_account, request)

    def _place_quote(self, symbol: str) -> None:
        """The best quote, and behind it the ladder that gives the book its depth."""
        config = self._engine.config
        orders = self._resting[symbol] = []
        for side, (best, quantity), sign in zip(
            (BUY, SELL), self._quotes[symbol], (-1, 1), strict=True
        ):
            if not quantity:
                continue
            orders.append(self.place(symbol, side, best, quantity))
            for level in range(1, config.ladder_levels + 1):
                price = best + sign * level * config.ladder_step
                if price > 0:
                    orders.append(self.place(symbol, side, price, config.ladder_quantity))

    def _withdraw_quote(self, symbol: str) -> None:
        for order in self._resting.pop(symbol, ()):
            self._withdraw(order)

    def _withdraw(self, order: Order) -> None:
        if order.is_open:
            self._engine.expire(order, "EXCHANGE_CANCELED")


class Replay:
    """Plays the recording into an engine, over and over."""

    def __init__(self, engine: Engine, maker: MarketMaker) -> None:
        self._engine = engine
        self._maker = maker
        self._events = recorded()
        self.loops = 0

    async def run(self) -> None:
        """Play at ``config.speed``; a halted symbol is passed over in silence."""
        config = self._engine.config
        loops = config.replay_loops
        if loops is None and not config.speed:
            loops = 1
        self.play(next(event for event in self._events if isinstance(event, Quote)))
        while loops is None or self.loops < loops:
            if config.speed:
                await self._play_timed(config.speed)
            else:
                await self._play_flat_out()
            self.loops += 1

    async def _play_timed(self, speed: Decimal) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        first_ms = self._events[0].time_ms
        for number, event in enumerate(self._events):
            due = started + (event.time_ms - first_ms) / (1000 * float(speed))
            wait = due - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            elif number % EVENTS_PER_PAUSE == 0:
                await asyncio.sleep(0)
            self.play(event)

    async def _play_flat_out(self) -> None:
        for number, event in enumerate(self._events):
            self.play(event)
            if number % EVENTS_PER_PAUSE == 0:
                await asyncio.sleep(0)

    def play(self, event: Quote | Print) -> None:
        if self._engine.markets[SYMBOL].spec.status != "TRADING":
            return
        try:
            if isinstance(event, Quote):
                bid = (event.bid, event.bid_quantity)
                self._maker.quote(SYMBOL, bid, (event.ask, event.ask_quantity))
            else:
                side = SELL if event.buyer_is_maker else BUY
                self._maker.trade(SYMBOL, side, event.price, event.quantity)
        except ApiError:
            return  # The symbol was closed between two steps of one event.
