"""The public endpoints: time, assets, pairs, ticker, depth, trades. Source: "Market Data"."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from workers.sandbox.config import SandboxConfig
from workers.sandbox.engine import Engine
from workers.sandbox.exact import ZERO, short, text
from workers.sandbox.kraken.names import (
    ASSET_DECIMALS,
    Names,
    Pair,
    altname,
    asset_id,
    decimals,
)
from workers.sandbox.kraken.numbers import seconds
from workers.sandbox.model import Trade

Params = dict[str, str]
STATUSES = {"TRADING": "online", "CANCEL_ONLY": "cancel_only"}
DEPTH_DEFAULT = 100
TRADES_MAX = 1000


class Public:
    """The public endpoints over an engine."""

    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine = engine
        self._names = names
        self.methods: dict[str, Callable[[Params], Any]] = {
            "Time": self.time,
            "SystemStatus": self.system_status,
            "Assets": self.assets,
            "AssetPairs": self.asset_pairs,
            "Ticker": self.ticker,
            "Depth": self.depth,
            "Trades": self.trades,
        }

    def time(self, _: Params) -> Any:
        """Whole seconds, as Kraken has it."""
        now_s = self._engine.clock.now_ms() // 1000
        at = datetime.fromtimestamp(now_s, UTC)
        return {"unixtime": now_s, "rfc1123": at.strftime("%a, %d %b %y %H:%M:%S +0000")}

    def system_status(self, _: Params) -> Any:
        at = datetime.fromtimestamp(self._engine.clock.now_ms() / 1000, UTC)
        return {"status": "online", "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def assets(self, _: Params) -> Any:
        specs = [pair.spec for pair in self._names.pairs]
        return {
            asset_id(asset): {
                "aclass": "currency",
                "altname": altname(asset),
                "decimals": ASSET_DECIMALS,
                "display_decimals": 5,
                "status": "enabled",
            }
            for asset in sorted({asset for spec in specs for asset in (spec.base, spec.quote)})
        }

    def asset_pairs(self, params: Params) -> Any:
        config = self._engine.config
        return {pair.id: _rules(pair, config) for pair in self._asked(params)}

    def ticker(self, params: Params) -> Any:
        return {pair.id: _ticker(pair) for pair in self._asked(params)}

    def depth(self, params: Params) -> Any:
        pair = self._names.pair(params.get("pair", ""))
        count = int(params.get("count") or DEPTH_DEFAULT)
        now_s = self._engine.clock.now_ms() // 1000
        book = pair.market.book
        sides = {"asks": book.asks.depth(count), "bids": book.bids.depth(count)}
        return {
            pair.id: {
                name: [[pair.price(price), text(quantity), now_s] for price, quantity in levels]
                for name, levels in sides.items()
            }
        }

    def trades(self, params: Params) -> Any:
        pair = self._names.pair(params.get("pair", ""))
        recent = list(pair.market.recent)[-TRADES_MAX:]
        last = recent[-1].time_ms * 1_000_000 if recent else 0
        return {pair.id: [_print(trade, pair) for trade in recent], "last": str(last)}

    def _asked(self, params: Params) -> list[Pair]:
        asked = [name for name in params.get("pair", "").split(",") if name]
        return [self._names.pair(name) for name in asked] or self._names.pairs


def _rules(pair: Pair, config: SandboxConfig) -> dict[str, Any]:
    spec = pair.spec
    return {
        "altname": pair.altname,
        "wsname": pair.wsname,
        "aclass_base": "currency",
        "base": asset_id(spec.base),
        "aclass_quote": "currency",
        "quote": asset_id(spec.quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": decimals(spec.tick_size),
        "lot_decimals": decimals(spec.step_size),
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, float(config.taker_fee * 100)]],
        "fees_maker": [[0, float(config.maker_fee * 100)]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": short(spec.min_quantity),
        "costmin": short(spec.min_notional),
        "tick_size": short(spec.tick_size),
        "status": STATUSES.get(spec.status, "maintenance"),
    }


def _ticker(pair: Pair) -> dict[str, Any]:
    """Each list is [today, the last 24 hours]; quotes are [price, whole lots, lots]."""
    statistics = pair.market.statistics
    bid, ask = (
        [pair.price(level.price), f"{level.quantity:.0f}", f"{level.quantity:.3f}"]
        if level is not None
        else [pair.price(ZERO), "0", "0.000"]
        for level in pair.market.book.best()
    )
    last = statistics.last
    vwap = statistics.quote_volume / statistics.volume if statistics.volume else ZERO
    return {
        "a": ask,
        "b": bid,
        "c": [pair.price(last.price), text(last.quantity)] if last else [pair.price(ZERO), "0"],
        "v": [text(statistics.volume)] * 2,
        "p": [pair.price(vwap)] * 2,
        "t": [statistics.count] * 2,
        "l": [pair.price(statistics.low)] * 2,
        "h": [pair.price(statistics.high)] * 2,
        "o": pair.price(statistics.open),
    }


def _print(trade: Trade, pair: Pair) -> list[Any]:
    side = "s" if trade.buyer_is_maker else "b"
    at = seconds(trade.time_ms)
    return [pair.price(trade.price), text(trade.quantity), at, side, "l", "", trade.id]
