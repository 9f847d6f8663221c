"""Endpoints outside Spot that ccxt's ``load_markets`` asks for when its options are left alone.

They answer as an exchange without futures and without margin would: empty lists, and the coins.
"""

from typing import Any

from workers.sandbox.engine import Engine
from workers.sandbox.routes import NONE, SIGNATURE_PARAMETERS, USER_DATA, Call, Route


class NeighbourApi:
    """Just enough of /sapi, /fapi and /dapi."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        nothing: frozenset[str] = frozenset()
        signed = SIGNATURE_PARAMETERS
        return [
            Route("GET /sapi/v1/capital/config/getall", "", USER_DATA, 1, signed, self.coins),
            Route("GET /sapi/v1/margin/allPairs", "", USER_DATA, 1, signed, lambda _: []),
            Route("GET /sapi/v1/margin/isolated/allPairs", "", USER_DATA, 1, signed, lambda _: []),
            Route("GET /sapi/v1/margin/allAssets", "", USER_DATA, 1, signed, lambda _: []),
            Route("GET /fapi/v1/exchangeInfo", "", NONE, 1, nothing, self.no_symbols),
            Route("GET /dapi/v1/exchangeInfo", "", NONE, 1, nothing, self.no_symbols),
        ]

    def coins(self, _: Call) -> Any:
        specs = [market.spec for market in self._engine.markets.values()]
        assets = sorted({asset for spec in specs for asset in (spec.base, spec.quote)})
        return [
            {
                "coin": asset,
                "name": asset,
                "depositAllEnable": False,
                "withdrawAllEnable": False,
                "trading": True,
                "isLegalMoney": False,
                "networkList": [],
            }
            for asset in assets
        ]

    def no_symbols(self, _: Call) -> Any:
        return {"serverTime": self._engine.clock.now_ms(), "rateLimits": [], "symbols": []}
