"""The public endpoints: time, exchangeInfo, depth, trades, tickers.

Source: "General endpoints" and "Market Data endpoints" of the Public Rest API.
"""

import json
from decimal import Decimal
from typing import Any

from workers.sandbox import errors, filters, params, reports
from workers.sandbox.engine import Engine
from workers.sandbox.exact import ZERO, round_down, text
from workers.sandbox.market import Market
from workers.sandbox.model import ORDER_TYPES, STP_MODES, Trade
from workers.sandbox.routes import NONE, Call, Route

DEPTH_DEFAULT = 100
DEPTH_MAX = 5000
SYMBOLS = frozenset({"symbol", "symbols", "symbolStatus"})
TICKER = SYMBOLS | {"type"}


class MarketApi:
    """The public routes over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        one = frozenset({"symbol"})
        trades = one | {"limit"}
        return [
            Route("GET /api/v3/ping", "ping", NONE, 1, frozenset(), lambda _: {}),
            Route("GET /api/v3/time", "time", NONE, 1, frozenset(), self.time),
            Route(
                "GET /api/v3/exchangeInfo", "exchangeInfo", NONE, 20,
                SYMBOLS | {"permissions", "showPermissionSets"}, self.exchange_info,
            ),
            Route(
                "GET /api/v3/depth", "depth", NONE, _depth_weight,
                trades | {"symbolStatus"}, self.depth,
            ),
            Route("GET /api/v3/trades", "trades.recent", NONE, 25, trades, self.trades),
            Route(
                "GET /api/v3/historicalTrades", "trades.historical", NONE, 25,
                trades | {"fromId"}, self.trades,
            ),
            Route(
                "GET /api/v3/aggTrades", "trades.aggregate", NONE, 4,
                trades | {"fromId", "startTime", "endTime"}, self.aggregate_trades,
            ),
            Route("GET /api/v3/avgPrice", "avgPrice", NONE, 2, one, self.average_price),
            Route(
                "GET /api/v3/ticker/24hr", "ticker.24hr", NONE,
                lambda p: 2 if p.get("symbol") else 80, TICKER, self.ticker,
            ),
            Route(
                "GET /api/v3/ticker/price", "ticker.price", NONE,
                lambda p: 2 if p.get("symbol") else 4, SYMBOLS, self.price,
            ),
            Route(
                "GET /api/v3/ticker/bookTicker", "ticker.book", NONE,
                lambda p: 2 if p.get("symbol") else 4, SYMBOLS, self.book_ticker,
            ),
        ]  # fmt: skip

    def time(self, _: Call) -> Any:
        return {"serverTime": self._engine.clock.now_ms()}

    def exchange_info(self, call: Call) -> Any:
        config = self._engine.config
        markets = self._markets(call)
        status = call.params.get("symbolStatus")
        return {
            "timezone": "UTC",
            "serverTime": self._engine.clock.now_ms(),
            "rateLimits": [
                {
                    "rateLimitType": limit.kind,
                    "interval": limit.interval,
                    "intervalNum": limit.number,
                    "limit": limit.limit,
                }
                for limit in config.rate_limits
            ],
            "exchangeFilters": [],
            "symbols": [
                _symbol_info(market) for market in markets if status in {None, market.spec.status}
            ],
        }

    def depth(self, call: Call) -> Any:
        market = params.market_of(call.params, self._engine.markets)
        status = call.params.get("symbolStatus")
        if status is not None and status != market.spec.status:
            raise errors.ApiError(
                -1220, "The symbol's status does not match the requested symbolStatus."
            )
        return depth_snapshot(market, params.limit(call.params, DEPTH_DEFAULT, DEPTH_MAX))

    def trades(self, call: Call) -> Any:
        return [
            {
                "id": trade.id,
                "price": text(trade.price),
                "qty": text(trade.quantity),
                "quoteQty": text(trade.quote_quantity),
                "time": trade.time_ms,
                "isBuyerMaker": trade.buyer_is_maker,
                "isBestMatch": True,
            }
            for trade in self._recent(call)
        ]

    def aggregate_trades(self, call: Call) -> Any:
        """Each trade is an aggregate of its own here."""
        return [
            {
                "a": trade.id,
                "p": text(trade.price),
                "q": text(trade.quantity),
                "f": trade.id,
                "l": trade.id,
                "T": trade.time_ms,
                "m": trade.buyer_is_maker,
                "M": True,
            }
            for trade in self._recent(call)
        ]

    def average_price(self, call: Call) -> Any:
        market = params.market_of(call.params, self._engine.markets)
        return {
            "mins": market.spec.average_price_minutes,
            "price": text(round_down(market.average.value() or ZERO)),
            "closeTime": market.statistics.close_ms,
        }

    def ticker(self, call: Call) -> Any:
        return self._one_or_all(call, ticker_24h)

    def price(self, call: Call) -> Any:
        return self._one_or_all(
            call,
            lambda m: {"symbol": m.spec.symbol, "price": text(m.last_price or ZERO)},
        )

    def book_ticker(self, call: Call) -> Any:
        return self._one_or_all(call, _book_ticker)

    def _one_or_all(self, call: Call, describe: Any) -> Any:
        described = [describe(market) for market in self._markets(call)]
        return described[0] if call.params.get("symbol") else described

    def _markets(self, call: Call) -> list[Market]:
        """``symbol``, ``symbols`` or all. Errors: -1100, -1121, -1128, -1151."""
        markets = self._engine.markets
        symbol = params.optional(call.params, "symbol")
        symbols = params.optional(call.params, "symbols")
        if symbol is not None and symbols is not None:
            raise errors.bad_combination()
        if symbol is not None:
            return [params.known_symbol(symbol, markets)]
        if symbols is None:
            return [one for one in markets.values() if one.spec.status != params.DELISTED]
        names = _names(symbols)
        if len(set(names)) != len(names):
            raise errors.ApiError(-1151, "Symbol is present multiple times in the list.")
        return [params.known_symbol(name, markets) for name in names]

    def _recent(self, call: Call) -> list[Trade]:
        market = params.market_of(call.params, self._engine.markets)
        most = params.limit(call.params)
        first = params.long(call.params, "fromId")
        start = params.long(call.params, "startTime")
        end = params.long(call.params, "endTime")
        trades = [
            trade
            for trade in market.recent
            if (first is None or trade.id >= first)
            and (start is None or trade.time_ms >= start)
            and (end is None or trade.time_ms <= end)
        ]
        return trades[-most:] if first is None and start is None else trades[:most]


def _names(raw: str) -> list[str]:
    try:
        names = json.loads(raw)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise errors.illegal_characters("symbols", '^\\["[A-Z0-9-_.]{1,20}"(,"…")*\\]$')
    return names


def _depth_weight(call_params: dict[str, str]) -> int:
    """5 up to 100 levels, then 25, 50 and 250."""
    raw = call_params.get("limit", "")
    levels = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 20 else DEPTH_DEFAULT  # noqa: PLR2004
    for most, weight in ((100, 5), (500, 25), (1000, 50)):
        if levels <= most:
            return weight
    return 250


def depth_snapshot(market: Market, levels: int) -> dict[str, Any]:
    """``lastUpdateId`` and the best levels of both sides, as "Order book" shows them."""
    book = market.book
    return {
        "lastUpdateId": book.update_id,
        "bids": [[text(price), text(size)] for price, size in book.bids.depth(levels)],
        "asks": [[text(price), text(size)] for price, size in book.asks.depth(levels)],
    }


def _book_ticker(market: Market) -> dict[str, Any]:
    bid, bid_quantity, ask, ask_quantity = reports.best_quote(market)
    return {
        "symbol": market.spec.symbol,
        "bidPrice": bid,
        "bidQty": bid_quantity,
        "askPrice": ask,
        "askQty": ask_quantity,
    }


def ticker_24h(market: Market) -> dict[str, Any]:
    """The "24hr ticker price change statistics" of one symbol."""
    stats = market.statistics
    last = stats.last
    price = last.price if last is not None else ZERO
    change = price - stats.open
    percent = round_down(change * 100 / stats.open, Decimal("0.001")) if stats.open else ZERO
    average = round_down(stats.quote_volume / stats.volume) if stats.volume else ZERO
    bid, bid_quantity, ask, ask_quantity = reports.best_quote(market)
    return {
        "symbol": market.spec.symbol,
        "priceChange": text(change),
        "priceChangePercent": f"{percent:.3f}",
        "weightedAvgPrice": text(average),
        "prevClosePrice": text(stats.open),
        "lastPrice": text(price),
        "lastQty": text(last.quantity if last is not None else ZERO),
        "bidPrice": bid,
        "bidQty": bid_quantity,
        "askPrice": ask,
        "askQty": ask_quantity,
        "openPrice": text(stats.open),
        "highPrice": text(stats.high),
        "lowPrice": text(stats.low),
        "volume": text(stats.volume),
        "quoteVolume": text(stats.quote_volume),
        "openTime": stats.open_ms,
        "closeTime": stats.close_ms,
        "firstId": stats.first_id,
        "lastId": last.id if last is not None else -1,
        "count": stats.count,
    }


def _symbol_info(market: Market) -> dict[str, Any]:
    spec = market.spec
    return {
        "symbol": spec.symbol,
        "status": spec.status,
        "baseAsset": spec.base,
        "baseAssetPrecision": 8,
        "quoteAsset": spec.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters.describe(spec),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": list(STP_MODES),
    }
