"""Kraken's side of a sandbox exchange: its protocol, and what it tells of the engine's doings."""

from decimal import Decimal

from aiohttp import web

from workers.sandbox.config import SandboxConfig
from workers.sandbox.engine import Engine
from workers.sandbox.faults import Faults
from workers.sandbox.kraken.executions import Executions
from workers.sandbox.kraken.limits import TradingLimits
from workers.sandbox.kraken.market_data import MarketData
from workers.sandbox.kraken.names import Names
from workers.sandbox.kraken.rest import KrakenRest
from workers.sandbox.kraken.sockets import Sockets
from workers.sandbox.market import Market
from workers.sandbox.model import Account, Execution, Order, Trade
from workers.sandbox.requests_log import RequestsLog
from workers.sandbox.user_streams import UserStreams


class Kraken:
    """The engine's ``Listener`` where the exchange speaks Kraken's protocol."""

    def __init__(
        self,
        config: SandboxConfig,
        engine: Engine,
        faults: Faults,
        streams: UserStreams,
        log: RequestsLog,
    ) -> None:
        names = Names(engine.markets)
        self._engine = engine
        self.limits = TradingLimits(config.kraken_limits, engine.clock.now_ms)
        self._executions = Executions(streams, names)
        self._market_data = MarketData(names)
        self.rest = KrakenRest(config, engine, names, faults, self.limits, log)
        self.sockets = Sockets(
            names,
            self.rest.accounts,
            streams,
            self._executions,
            self._market_data,
            engine.clock.now_ms,
            config.kraken_limits.trading,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith("/v2"):
            return await self.sockets.handle(request)
        return await self.rest.handle(request)

    # What the engine tells.

    def executed(self, order: Order, execution: Execution) -> None:
        self._executions.executed(order, execution)

    def traded(self, trade: Trade) -> None:
        self._market_data.traded(trade)

    def balances_changed(self, account: Account, assets: list[str]) -> None:
        self._executions.balances_changed(account, assets)

    def deposited(self, account: Account, asset: str, amount: Decimal) -> None:
        self._executions.deposited(account, asset, amount, self._engine.clock.now_ms())

    def book_changed(self, market: Market) -> None:
        self._market_data.book_changed(market.spec.symbol, self._engine.clock.now_ms())
