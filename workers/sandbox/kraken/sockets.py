"""``/v2``: subscriptions, ping and heartbeat of WebSocket v2. Orders go over REST only here.

Public and private channels are at one address; Kraken has them at two.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from workers.sandbox.kraken.accounts import Accounts
from workers.sandbox.kraken.errors import KrakenError
from workers.sandbox.kraken.executions import BALANCES, EXECUTIONS, Executions
from workers.sandbox.kraken.market_data import CHANNELS, DEPTHS, Feed, MarketData
from workers.sandbox.kraken.names import Names
from workers.sandbox.kraken.numbers import dumps, rfc3339
from workers.sandbox.sessions import Session
from workers.sandbox.user_streams import Subscription, UserStreams

Json = dict[str, Any]
HEARTBEAT_S = 1.0
INVALID_SESSION = "ESession:Invalid session"
ALREADY = "Already subscribed"


class Sockets:
    """Serves the WebSocket API."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one exchange
        self,
        names: Names,
        accounts: Accounts,
        streams: UserStreams,
        executions: Executions,
        market_data: MarketData,
        now_ms: Callable[[], int],
        max_count: int,
    ) -> None:
        self._names = names
        self._accounts = accounts
        self._streams = streams
        self._executions = executions
        self._market_data = market_data
        self._now_ms = now_ms
        self._max_count = max_count
        self._ids = itertools.count(1)
        self.sessions: set[Session] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        session = Session(request.remote or "")
        mine: list[Subscription] = []
        self.sessions.add(session)
        status = {"system": "online", "api_version": "v2", "connection_id": next(self._ids)}
        session.send(dumps({"channel": "status", "type": "update", "data": [status]}))
        beating = asyncio.create_task(_beat(session))

        async def on_text(text: str) -> None:
            self._take(session, mine, text)

        try:
            return await session.run(request, on_text)
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating
            self.sessions.discard(session)
            self._market_data.drop(session)
            for subscription in mine:
                self._streams.unsubscribe(subscription)

    def _take(self, session: Session, mine: list[Subscription], text: str) -> None:
        try:
            frame = json.loads(text)
            method, params = frame.get("method"), frame.get("params") or {}
            asked = params.get("channel")
        except (ValueError, AttributeError):
            session.send(dumps(self._answer({}, error="Malformed request")))
            return
        if method == "ping":
            session.send(dumps(self._answer(frame, method="pong")))
        elif method not in {"subscribe", "unsubscribe"}:
            session.send(dumps(self._answer(frame, error="Unsupported method")))
        elif asked in {EXECUTIONS, BALANCES}:
            self._private(session, mine, frame)
        elif asked in CHANNELS:
            self._public(session, frame)
        else:
            session.send(dumps(self._answer(frame, error="Subscription name invalid")))

    def _private(self, session: Session, mine: list[Subscription], frame: Json) -> None:
        params = frame["params"]
        channel = params["channel"]
        account = self._accounts.owner(params.get("token"))
        if account is None:
            session.send(dumps(self._answer(frame, error=INVALID_SESSION)))
            return
        held = [one for one in mine if (one.channel, one.account) == (channel, account)]
        if frame["method"] == "unsubscribe":
            for subscription in held:
                mine.remove(subscription)
                self._streams.unsubscribe(subscription)
            session.send(dumps(self._answer(frame, result={"channel": channel})))
            return
        if held:
            session.send(dumps(self._answer(frame, error=ALREADY)))
            return
        subscription = Subscription(next(self._ids), account, session, channel=channel)
        mine.append(subscription)
        result = {"channel": channel, "maxratecount": self._max_count}
        session.send(dumps(self._answer(frame, result=result)))
        if channel == EXECUTIONS:
            self._executions.snapshot(subscription, params)
        else:
            self._executions.balance_snapshot(subscription)
        self._streams.subscribe(subscription)

    def _public(self, session: Session, frame: Json) -> None:
        """Each symbol is answered by itself, and its snapshot follows."""
        params = frame["params"]
        channel, depth = params["channel"], params.get("depth", 10)
        for name in params.get("symbol") or []:
            try:
                pair = self._names.pair(str(name))
            except KrakenError:
                error = f"Currency pair not supported {name}"
                session.send(dumps(self._answer(frame, error=error)))
                continue
            if depth not in DEPTHS:
                session.send(dumps(self._answer(frame, error="Subscription depth not supported")))
                continue
            result = {"channel": channel, "symbol": pair.symbol}
            session.send(dumps(self._answer(frame, result=result)))
            if frame["method"] == "subscribe":
                self._market_data.add(Feed(session, channel, pair, depth))
            else:
                self._market_data.drop(session, channel, pair.symbol)

    def _answer(
        self, frame: Json, *, method: str = "", result: Json | None = None, error: str = ""
    ) -> Json:
        now = rfc3339(self._now_ms())
        body: Json = {"method": method or frame.get("method"), "time_in": now, "time_out": now}
        if result is not None or error:
            body["success"] = not error
        if result is not None:
            body["result"] = result
        if error:
            body["error"] = error
        if "req_id" in frame:
            body["req_id"] = frame["req_id"]
        return body


async def _beat(session: Session) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        session.send('{"channel":"heartbeat"}')
