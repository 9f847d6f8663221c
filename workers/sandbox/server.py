"""The process's parts put together, and the HTTP server over them."""

import asyncio
import contextlib
import logging
from decimal import Decimal
from types import TracebackType
from typing import Self

from aiohttp import web

from workers.sandbox import reports
from workers.sandbox.account_api import AccountApi
from workers.sandbox.clock import Clock
from workers.sandbox.config import KRAKEN, SandboxConfig
from workers.sandbox.control import Control
from workers.sandbox.dead_man import DeadManApi
from workers.sandbox.engine import Engine
from workers.sandbox.exact import text
from workers.sandbox.faults import Faults
from workers.sandbox.gateway import Gateway
from workers.sandbox.kraken.exchange import Kraken
from workers.sandbox.limits import Limits
from workers.sandbox.market import Market
from workers.sandbox.market_api import MarketApi
from workers.sandbox.market_streams import MarketStreams
from workers.sandbox.model import Account, Execution, NewOrder, Order, Trade
from workers.sandbox.neighbours import NeighbourApi
from workers.sandbox.replay import MarketMaker, Replay
from workers.sandbox.requests_log import RequestsLog
from workers.sandbox.rest import Rest
from workers.sandbox.trading_api import TradingApi
from workers.sandbox.user_streams import UserStreams
from workers.sandbox.ws_api import WsApi

HOST = "127.0.0.1"
SHUTDOWN_S = 0.5
LINE_MAX = 1 << 16  # Longer than aiohttp's own, so that nonsense gets Binance's error.

log = logging.getLogger("workers.sandbox")


class Sandbox:
    """The engine and everybody who is told what it does; it is the engine's ``Listener``."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.faults = Faults()
        self.limits = Limits(config)
        self.user_streams = UserStreams(self.faults)
        self.engine = Engine(config, self.clock, self)
        self.market_streams = MarketStreams(self.engine)
        self.maker = MarketMaker(self.engine)
        self.log = RequestsLog()
        self.gateway = Gateway(config, self.engine, self.limits, self.faults)
        self.gateway.add(MarketApi(self.engine).routes())
        self.gateway.add(AccountApi(self.engine, self.limits).routes())
        self.gateway.add(TradingApi(self.engine, self.limits, self.rejected).routes())
        self.gateway.add(NeighbourApi(self.engine).routes())
        self.dead_man = DeadManApi(self.engine) if config.dead_man else None
        if self.dead_man is not None:
            self.gateway.add(self.dead_man.routes())
        self.kraken: Kraken | None = None
        if config.protocol == KRAKEN:
            self.kraken = Kraken(config, self.engine, self.faults, self.user_streams, self.log)
            self.engine.tell(self.kraken)
        self.control = Control(
            self.engine, self.maker, self.faults, self.limits, self.user_streams, self.log
        )
        if self.kraken is not None:
            limits = self.kraken.limits
            self.control.lift_lockouts = limits.lift_lockouts
            self.control.refused = lambda: limits.refused

    def executed(self, order: Order, execution: Execution) -> None:
        trade = execution.trade
        if trade is not None and order.executed == trade.quantity:
            self.limits.first_fill(order.account, is_maker=execution.is_maker)
        if self.user_streams.listens(order.account):
            report = reports.execution_report(order, execution, self.clock.now_ms())
            self.user_streams.publish(order.account, report)

    def rejected(
        self, account: Account, request: NewOrder, reason: str, execution: Execution
    ) -> None:
        report = reports.rejection_report(request, reason, execution, self.clock.now_ms())
        self.user_streams.publish(account, report)

    def traded(self, trade: Trade) -> None:
        self.market_streams.traded(trade)

    def balances_changed(self, account: Account, assets: list[str]) -> None:
        if self.user_streams.listens(account):
            event = reports.account_position(account, assets, self.clock.now_ms())
            self.user_streams.publish(account, event)

    def deposited(self, account: Account, asset: str, amount: Decimal) -> None:
        event = reports.balance_update(asset, text(amount), self.clock.now_ms())
        self.user_streams.publish(account, event)

    def book_changed(self, market: Market) -> None:
        self.market_streams.book_changed(market)


class SandboxServer:
    """A sandbox exchange on a loopback port; an async context manager.

    ``async with SandboxServer(config) as server:`` and then ``server.url``; ``server.exchange`` is
    the ``Sandbox`` behind it.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.exchange = Sandbox(config)
        self.url = ""
        self.port = 0
        self._rest = Rest(self.exchange.gateway, self.exchange.log)
        self._ws_api = WsApi(
            self.exchange.gateway,
            self.exchange.limits,
            self.exchange.user_streams,
            self.exchange.log,
        )
        self._runner = web.ServerRunner(
            web.Server(self._dispatch, access_log=None, max_line_size=LINE_MAX),
            shutdown_timeout=SHUTDOWN_S,
        )
        self._replay: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bind the port and start the market."""
        config = self.exchange.config
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, config.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://{HOST}:{self.port}"
        self.exchange.market_streams.start()
        if config.market == "replay":
            replay = Replay(self.exchange.engine, self.exchange.maker)
            self._replay = asyncio.create_task(replay.run())
            self._replay.add_done_callback(_log_failure)

    async def stop(self) -> None:
        """Stop the market, say goodbye to the sockets, free the port."""
        if self._replay is not None:
            self._replay.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._replay
        await self.exchange.market_streams.close()
        await self.exchange.gateway.close()
        kraken = self.exchange.kraken
        if kraken is not None:
            await kraken.rest.close()
            await asyncio.gather(*(session.close() for session in kraken.sockets.sessions))
        sessions = [
            *self._ws_api.sessions,
            *(stream.transport for stream in self.exchange.market_streams.connections),
        ]
        await asyncio.gather(*(session.close() for session in sessions))
        await self._runner.cleanup()

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if path.startswith("/control/"):
            return await self.exchange.control.handle(request)
        if self.exchange.kraken is not None:
            return await self.exchange.kraken.handle(request)
        if path.startswith("/ws-api/v3"):
            return await self._ws_api.handle(request)
        if path.startswith(("/ws", "/stream")):
            return await self.exchange.market_streams.handle(request)
        return await self._rest.handle(request)


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the market stopped", exc_info=task.exception())
