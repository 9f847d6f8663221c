"""Public market streams: trades, best quote, depth, tickers. Source: "WebSocket Streams".

Raw streams are at ``/ws`` and ``/ws/<name>``, combined ones at ``/stream?streams=a/b``. A path part
that is no stream name is ignored, as Binance does. ``/stream/ws`` is ``/ws`` under an address that
ccxt recognizes as spot.
"""

import asyncio
import contextlib
import json
import re
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from workers.sandbox import reports
from workers.sandbox.engine import Engine
from workers.sandbox.exact import text
from workers.sandbox.gateway import dumps
from workers.sandbox.market import Market
from workers.sandbox.market_api import depth_snapshot, ticker_24h
from workers.sandbox.model import BUY, SELL, Trade
from workers.sandbox.sessions import Session

FAST_S = 0.1
FAST_TICKS_PER_SECOND = 10
STREAMS_MAX = 1024
_NAME = re.compile(
    r"([a-z0-9]{1,20}@(trade|aggTrade|bookTicker|ticker|miniTicker|avgPrice"
    r"|depth(5|10|20)?(@100ms|@1000ms)?))|!(ticker|miniTicker)@arr|!bookTicker"
)
Changes = set[tuple[str, Decimal]]


class MarketStreams:
    """All market-stream connections, and the two clocks (100 ms and 1 s) that feed them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[str, dict[StreamSession, None]] = {}
        self.connections: set[StreamSession] = set()
        self._best: dict[str, tuple[str, str, str, str]] = {}
        self._depths = {
            rate: {symbol: _DepthDifference(market) for symbol, market in engine.markets.items()}
            for rate in ("@100ms", "")
        }
        self._clock: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._clock = asyncio.create_task(self._tick())

    async def close(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        combined = path.startswith("/stream") and not path.startswith("/stream/ws")
        session = StreamSession(self, Session(request.remote or ""), combined=combined)
        names = path.rsplit("/", 1)[-1:] if not combined else []
        names += [n for part in parse_qs(query).get("streams", ()) for n in part.split("/")]
        for name in names:
            if _NAME.fullmatch(name):
                self.add(session, name)
        self.connections.add(session)
        try:
            return await session.transport.run(request, session.take)
        finally:
            self.connections.discard(session)
            for name in list(session.names):
                self.remove(session, name)

    def add(self, session: "StreamSession", name: str) -> None:
        session.names[name] = None
        self._sessions.setdefault(name, {})[session] = None

    def remove(self, session: "StreamSession", name: str) -> None:
        session.names.pop(name, None)
        sessions = self._sessions.get(name)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[name]

    # What the engine tells.

    def traded(self, trade: Trade) -> None:
        if not self._sessions:
            return
        stream = trade.symbol.lower()
        if f"{stream}@trade" in self._sessions:
            self._publish(f"{stream}@trade", self._trade_event(trade, "trade", {"t": trade.id}))
        if f"{stream}@aggTrade" in self._sessions:
            ids = {"a": trade.id, "f": trade.id, "l": trade.id}
            self._publish(f"{stream}@aggTrade", self._trade_event(trade, "aggTrade", ids))

    def book_changed(self, market: Market) -> None:
        """Publish the best quote if it is another than before."""
        name = f"{market.spec.symbol.lower()}@bookTicker"
        if name not in self._sessions and "!bookTicker" not in self._sessions:
            return
        best = reports.best_quote(market)
        if self._best.get(name) == best:
            return
        self._best[name] = best
        event = _book_ticker(market, best)
        self._publish(name, event)
        self._publish("!bookTicker", event)

    def _trade_event(self, trade: Trade, kind: str, ids: dict[str, int]) -> dict[str, Any]:
        return {
            "e": kind,
            "E": self._engine.clock.now_ms(),
            "s": trade.symbol,
            **ids,
            "p": text(trade.price),
            "q": text(trade.quantity),
            "T": trade.time_ms,
            "m": trade.buyer_is_maker,
            "M": True,
        }

    # What the clocks send.

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(FAST_S)
            ticks += 1
            slow = ticks % FAST_TICKS_PER_SECOND == 0
            for symbol, market in self._engine.markets.items():
                stream = symbol.lower()
                self._send_depth(stream, "@100ms", market)
                if slow:
                    self._send_depth(stream, "", market)
                    self._send_statistics(stream, market)
            if slow:
                self._send_arrays()

    def _send_depth(self, stream: str, rate: str, market: Market) -> None:
        difference = self._depths[rate][market.spec.symbol].take(market)
        names = (
            (f"{stream}@depth{rate}",) if rate else (f"{stream}@depth", f"{stream}@depth@1000ms")
        )
        for name in names:
            if difference is not None and name in self._sessions:
                self._publish(name, {"E": self._engine.clock.now_ms(), **difference})
        for levels in (5, 10, 20):
            name = f"{stream}@depth{levels}{rate}"
            if name in self._sessions:
                self._publish(name, depth_snapshot(market, levels))

    def _send_statistics(self, stream: str, market: Market) -> None:
        for kind, make in (("ticker", self._ticker), ("miniTicker", self._mini_ticker)):
            if f"{stream}@{kind}" in self._sessions and market.statistics.count:
                self._publish(f"{stream}@{kind}", make(market))

    def _send_arrays(self) -> None:
        for kind, make in (("ticker", self._ticker), ("miniTicker", self._mini_ticker)):
            name = f"!{kind}@arr"
            if name in self._sessions:
                traded = [m for m in self._engine.markets.values() if m.statistics.count]
                self._publish(name, [make(market) for market in traded])

    def _ticker(self, market: Market) -> dict[str, Any]:
        whole = ticker_24h(market)
        names = {
            "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice",
            "x": "prevClosePrice", "c": "lastPrice", "Q": "lastQty", "b": "bidPrice",
            "B": "bidQty", "a": "askPrice", "A": "askQty", "o": "openPrice", "h": "highPrice",
            "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime", "C": "closeTime",
            "F": "firstId", "L": "lastId", "n": "count",
        }  # fmt: skip
        return {
            "e": "24hrTicker",
            "E": self._engine.clock.now_ms(),
            "s": market.spec.symbol,
            **{short: whole[long] for short, long in names.items()},
        }

    def _mini_ticker(self, market: Market) -> dict[str, Any]:
        whole = self._ticker(market)
        return {"e": "24hrMiniTicker", **{name: whole[name] for name in "Escohlvq"}}

    def _publish(self, name: str, event: Any) -> None:
        sessions = self._sessions.get(name)
        if not sessions:
            return
        raw = dumps(event)
        wrapped = f'{{"stream":"{name}","data":{raw}}}'
        for session in sessions:
            session.transport.send(wrapped if session.combined else raw)

    def send_now(self, session: "StreamSession", names: list[str]) -> None:
        """The best quote right after subscribing, so that a quiet market shows one too."""
        for name in names:
            stream, _, kind = name.partition("@")
            market = self._engine.markets.get(stream.upper())
            if kind == "bookTicker" and market is not None:
                event = _book_ticker(market, reports.best_quote(market))
                session.transport.send(
                    dumps({"stream": name, "data": event} if session.combined else event)
                )


class StreamSession:
    """One connection and the streams it listens to."""

    def __init__(self, streams: MarketStreams, transport: Session, *, combined: bool) -> None:
        self._streams = streams
        self.transport = transport
        self.combined = combined
        self.names: dict[str, None] = {}

    async def take(self, raw: str) -> None:
        """One control frame: SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, GET_ and SET_PROPERTY."""
        try:
            frame = json.loads(raw)
        except (ValueError, RecursionError):
            self._fail(3, "Invalid JSON: expected value at line 1 column 1", None)
            return
        if not isinstance(frame, dict) or not isinstance(frame.get("params", []), list):
            self._fail(2, "Invalid request: missing field `method` at line 1 column 1", None)
            return
        request_id = frame.get("id")
        if not isinstance(request_id, int | str | None):
            self._fail(2, "Invalid request: request ID must be an unsigned integer", None)
            return
        self._obey(frame.get("method"), frame.get("params", []), request_id)

    def _obey(self, method: Any, params: list[Any], request_id: Any) -> None:
        if method in {"SUBSCRIBE", "UNSUBSCRIBE"}:
            self._change(method, params, request_id)
        elif method == "LIST_SUBSCRIPTIONS":
            self._answer(list(self.names), request_id)
        elif method in {"GET_PROPERTY", "SET_PROPERTY"}:
            self._property(method, params, request_id)
        else:
            expected = "SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS, SET_PROPERTY, GET_PROPERTY"
            self._fail(
                2, f"Invalid request: unknown variant, expected one of {expected}", request_id
            )

    def _change(self, method: str, params: list[Any], request_id: Any) -> None:
        if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in params):
            self._fail(2, "Invalid request: invalid stream", request_id)
            return
        if method == "UNSUBSCRIBE":
            for name in params:
                self._streams.remove(self, name)
        elif len(self.names.keys() | set(params)) > STREAMS_MAX:
            self._fail(2, "Invalid request: too many parameters", request_id)
            return
        else:
            for name in params:
                self._streams.add(self, name)
        self._answer(None, request_id)
        if method == "SUBSCRIBE":
            self._streams.send_now(self, params)

    def _property(self, method: str, params: list[Any], request_id: Any) -> None:
        if params[:1] != ["combined"]:
            self._fail(0, "Unknown property", request_id)
        elif method == "GET_PROPERTY":
            self._answer(self.combined, request_id)
        elif not isinstance(params[-1], bool):
            self._fail(1, "Invalid value type: expected Boolean", request_id)
        else:
            self.combined = params[-1]
            self._answer(None, request_id)

    def _answer(self, result: Any, request_id: Any) -> None:
        self.transport.send(dumps({"result": result, "id": request_id}))

    def _fail(self, code: int, message: str, request_id: Any) -> None:
        error = {"error": {"code": code, "msg": message}, "id": request_id}
        self.transport.send(dumps(error))


class _DepthDifference:
    """Which levels changed since the last ``depthUpdate`` of one rate and symbol."""

    def __init__(self, market: Market) -> None:
        self._changes: Changes = set()
        self._last_id = market.book.update_id
        market.book.changes.append(self._changes)

    def take(self, market: Market) -> dict[str, Any] | None:
        """The event without its time, or None if nothing changed. ``U`` follows the last ``u``."""
        book = market.book
        if not self._changes:
            return None
        first_id, self._last_id = self._last_id + 1, book.update_id
        levels: dict[str, list[list[str]]] = {BUY: [], SELL: []}
        for side, price in sorted(self._changes):
            levels[side].append([text(price), text(book.quantity_at(side, price))])
        self._changes.clear()
        return {
            "e": "depthUpdate",
            "s": market.spec.symbol,
            "U": first_id,
            "u": book.update_id,
            "b": levels[BUY],
            "a": levels[SELL],
        }


def _book_ticker(market: Market, best: tuple[str, str, str, str]) -> dict[str, Any]:
    bid, bid_quantity, ask, ask_quantity = best
    return {
        "u": market.book.update_id,
        "s": market.spec.symbol,
        "b": bid,
        "B": bid_quantity,
        "a": ask,
        "A": ask_quantity,
    }
