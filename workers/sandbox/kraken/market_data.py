"""The channels ``ticker``, ``book`` and ``trade``. Source: WebSocket v2, "Market Data".

A book's subscriber has its first levels, and is told what changed in them; a level that went is
told with the quantity 0. The checksum is the CRC32 of the ten best asks and bids.
"""

import zlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from workers.sandbox.book import Levels
from workers.sandbox.exact import ZERO
from workers.sandbox.kraken.names import Names, Pair, decimals
from workers.sandbox.kraken.numbers import dumps, exact, rfc3339
from workers.sandbox.model import Trade
from workers.sandbox.sessions import Session

Json = dict[str, Any]
CHANNELS = ("ticker", "book", "trade")
DEPTHS = (10, 25, 100, 500, 1000)
CHECKED_LEVELS = 10
SIDES = ("bids", "asks")


@dataclass(slots=True, eq=False)
class Feed:
    """One channel of one pair on one connection. ``sent`` is what it has of the book."""

    session: Session
    channel: str
    pair: Pair
    depth: int = 10
    sent: dict[str, dict[Decimal, Decimal]] = field(default_factory=dict)
    best: tuple[Any, ...] = ()


class MarketData:
    """All public subscriptions."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._feeds: list[Feed] = []

    def add(self, feed: Feed) -> None:
        """Subscribe; the snapshot follows at once."""
        self._feeds.append(feed)
        if feed.channel == "ticker":
            self._send_ticker(feed, "snapshot")
        elif feed.channel == "book":
            self._send_book(feed, "snapshot", 0)

    def drop(self, session: Session, channel: str = "", symbol: str = "") -> None:
        """Unsubscribe one channel of a pair, or all of a connection."""
        self._feeds = [
            feed
            for feed in self._feeds
            if feed.session is not session
            or (channel and (feed.channel, feed.pair.symbol) != (channel, symbol))
        ]

    def book_changed(self, symbol: str, now_ms: int) -> None:
        for feed in self._feeds:
            if feed.pair.spec.symbol == symbol and feed.channel == "book":
                self._send_book(feed, "update", now_ms)
            elif feed.pair.spec.symbol == symbol and feed.channel == "ticker":
                self._send_ticker(feed, "update")

    def traded(self, trade: Trade) -> None:
        for feed in self._feeds:
            if feed.channel == "trade" and feed.pair.spec.symbol == trade.symbol:
                entry = {
                    "symbol": feed.pair.symbol,
                    "side": "sell" if trade.buyer_is_maker else "buy",
                    "price": exact(trade.price),
                    "qty": exact(trade.quantity),
                    "ord_type": "limit",
                    "trade_id": trade.id,
                    "timestamp": rfc3339(trade.time_ms),
                }
                _send(feed, "update", entry)

    def _send_ticker(self, feed: Feed, kind: str) -> None:
        """Only when the best quote or the last trade is another than before."""
        market = feed.pair.market
        bid, ask = (
            (ZERO, ZERO) if level is None else (level.price, level.quantity)
            for level in market.book.best()
        )
        statistics = market.statistics
        best = (bid, ask, statistics.count)
        if best == feed.best:
            return
        feed.best = best
        last = statistics.last.price if statistics.last else ZERO
        volume = statistics.volume
        entry = {
            "symbol": feed.pair.symbol,
            "bid": exact(bid[0]),
            "bid_qty": exact(bid[1]),
            "ask": exact(ask[0]),
            "ask_qty": exact(ask[1]),
            "last": exact(last),
            "volume": exact(volume),
            "vwap": exact(round(statistics.quote_volume / volume, 8) if volume else ZERO),
            "low": exact(statistics.low),
            "high": exact(statistics.high),
        }
        _send(feed, kind, entry)

    def _send_book(self, feed: Feed, kind: str, now_ms: int) -> None:
        book = feed.pair.market.book
        levels = {"bids": book.bids.depth(feed.depth), "asks": book.asks.depth(feed.depth)}
        changes = {side: _changes(feed.sent.get(side, {}), dict(levels[side])) for side in SIDES}
        if kind == "update" and not any(changes.values()):
            return
        feed.sent = {side: dict(levels[side]) for side in SIDES}
        entry: Json = {
            "symbol": feed.pair.symbol,
            **{side: [_level(one) for one in changes[side]] for side in SIDES},
            "checksum": _checksum(feed.pair, levels),
        }
        if kind == "update":
            entry["timestamp"] = rfc3339(now_ms)
        _send(feed, kind, entry)


def _changes(before: dict[Decimal, Decimal], after: dict[Decimal, Decimal]) -> Levels:
    gone = [(price, ZERO) for price in before if price not in after]
    return gone + [
        (price, amount) for price, amount in after.items() if before.get(price) != amount
    ]


def _level(level: tuple[Decimal, Decimal]) -> Json:
    return {"price": exact(level[0]), "qty": exact(level[1])}


def _checksum(pair: Pair, levels: dict[str, Levels]) -> int:
    price_decimals, lot_decimals = decimals(pair.spec.tick_size), decimals(pair.spec.step_size)
    text = "".join(
        f"{price:.{price_decimals}f}".replace(".", "").lstrip("0")
        + f"{quantity:.{lot_decimals}f}".replace(".", "").lstrip("0")
        for side in ("asks", "bids")
        for price, quantity in levels[side][:CHECKED_LEVELS]
    )
    return zlib.crc32(text.encode())


def _send(feed: Feed, kind: str, entry: Json) -> None:
    feed.session.send(dumps({"channel": feed.channel, "type": kind, "data": [entry]}))
