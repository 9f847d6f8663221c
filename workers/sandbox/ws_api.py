"""The WebSocket API: requests as JSON frames, and the user data stream.

Source: "Public WebSocket API for Binance". Supported are all methods that have a REST route here,
``userDataStream.subscribe.signature``, ``userDataStream.unsubscribe``, ``session.subscriptions``
and ``session.status``. There is no ``session.logon``: it takes Ed25519 keys, and these accounts
have HMAC ones.
"""

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

from aiohttp import web

from workers.sandbox import errors
from workers.sandbox.errors import ApiError
from workers.sandbox.gateway import Gateway, Reply, dumps
from workers.sandbox.limits import Limits
from workers.sandbox.model import Account
from workers.sandbox.requests_log import RequestsLog
from workers.sandbox.routes import SIGNATURE_PARAMETERS, TRADE, USER_STREAM, Call, Route
from workers.sandbox.sessions import Session
from workers.sandbox.user_streams import Subscription, UserStreams

CONNECT_WEIGHT = 2
STREAM_WEIGHT = 2


class _Number(str):
    """A JSON number in the digits in which it was sent, for the signature."""

    __slots__ = ()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class WsApi:
    """Serves ``/ws-api/v3``."""

    def __init__(
        self, gateway: Gateway, limits: Limits, streams: UserStreams, log: RequestsLog
    ) -> None:
        self._gateway = gateway
        self._limits = limits
        self._streams = streams
        self._log = log
        self.sessions: set[Session] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        ip = request.remote or ""
        try:
            self._limits.enter(ip, CONNECT_WEIGHT)
        except ApiError as error:
            return web.Response(status=error.status, text=dumps(error.body()))
        connection = _Connection(self._gateway, self._limits, self._streams, Session(ip))
        self.sessions.add(connection.session)

        async def on_text(text: str) -> None:
            await connection.take(text, self._log, request)

        try:
            return await connection.session.run(request, on_text)
        finally:
            self.sessions.discard(connection.session)
            connection.leave()


class _Connection:
    """One connection: its requests, and its subscriptions by their id."""

    def __init__(
        self, gateway: Gateway, limits: Limits, streams: UserStreams, session: Session
    ) -> None:
        self._gateway = gateway
        self._limits = limits
        self._streams = streams
        self.session = session
        self._subscriptions: dict[int, Subscription] = {}
        self._next_id = 0
        self._running: set[asyncio.Task[None]] = set()
        self._own = {
            route.method: route
            for route in (
                _own("userDataStream.subscribe.signature", self._subscribe, signed=True),
                _own("userDataStream.unsubscribe", self._unsubscribe, {"subscriptionId"}),
                _own("session.subscriptions", self._list),
                _own("session.status", self._status),
            )
        }

    async def take(self, text: str, log: RequestsLog, request: web.BaseRequest) -> None:
        """Start on one frame. Requests may overtake each other when a fault delays one."""
        received = (time.time_ns(), time.monotonic_ns())
        request_id: Any = None
        try:
            frame = _frame(text)
            request_id = _plain(frame.get("id"))
            call, shows_limits = self._call(frame)
        except ApiError as error:
            reply = Reply(error.status, error.body(), retry_after_ms=error.retry_after_ms)
            self._answer(request_id, reply, None)
            return
        if call.route.security == TRADE:
            log.add(call.route.name, text.encode("utf-8", "replace"), received, request)
        task = asyncio.ensure_future(self._serve(request_id, call, shows_limits=shows_limits))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.sleep(0)

    def leave(self) -> None:
        for task in self._running:
            task.cancel()
        for subscription in self._subscriptions.values():
            self._streams.unsubscribe(subscription)

    async def _serve(self, request_id: Any, call: Call, *, shows_limits: bool) -> None:
        reply = await self._gateway.handle(call)
        if reply.lost:
            self.session.abort()
            return
        self._answer(request_id, reply, call if shows_limits else None)

    def _answer(self, request_id: Any, reply: Reply, call: Call | None) -> None:
        if reply.text is not None:
            self.session.send(reply.text)
            return
        frame: dict[str, Any] = {"id": request_id, "status": reply.status}
        if reply.status == 200:  # noqa: PLR2004
            frame["result"] = reply.body
        else:
            frame["error"] = reply.body
            if reply.retry_after_ms is not None:
                data = {
                    "serverTime": self._gateway.clock.now_ms(),
                    "retryAfter": reply.retry_after_ms,
                }
                frame["error"] = {**reply.body, "data": {**reply.body.get("data", {}), **data}}
        if call is not None:
            account = call.account if call.route.counts_order else None
            frame["rateLimits"] = self._limits.describe(self.session.ip, account)
        self.session.send(dumps(frame))

    def _call(self, frame: dict[str, Any]) -> tuple[Call, bool]:
        """Errors: -1135 for a frame of another shape, -1020 for an unknown method."""
        method = frame.get("method")
        if not isinstance(method, str) or isinstance(method, _Number):
            raise errors.invalid_json()
        method = method.removeprefix("v3/")
        route = self._own.get(method) or self._gateway.methods.get(method)
        if route is None:
            raise ApiError(-1020, "This operation is not supported.")
        params = _parameters(frame.get("params", {}))
        signed = {name: value for name, value in params.items() if name != "signature"}
        shows_limits = params.pop("returnRateLimits", "true") == "true"
        call = Call(
            route=route,
            params=params,
            ip=self.session.ip,
            key=params.get("apiKey"),
            signature=params.get("signature"),
            payloads=_payloads(signed),
            over_websocket=True,
        )
        return call, shows_limits

    # The user data stream.

    def _subscribe(self, call: Call) -> Any:
        """Errors: -2035 when this connection already has the account."""
        account: Account = call.owner
        if any(taken.account is account for taken in self._subscriptions.values()):
            raise ApiError(-2035, "User Data Stream subscription already active.")
        subscription = Subscription(self._next_id, account, self.session)
        self._next_id += 1
        self._subscriptions[subscription.id] = subscription
        self._streams.subscribe(subscription)
        return {"subscriptionId": subscription.id}

    def _unsubscribe(self, call: Call) -> Any:
        raw = call.params.get("subscriptionId")
        ids = list(self._subscriptions) if raw is None else [int(raw) if raw.isdigit() else -1]
        for subscription_id in ids:
            subscription = self._subscriptions.pop(subscription_id, None)
            if subscription is None:
                raise ApiError(-2036, "User Data Stream subscription not active.")
            self._streams.unsubscribe(subscription)
            event = {"e": "eventStreamTerminated", "E": self._gateway.clock.now_ms()}
            self.session.send(dumps({"subscriptionId": subscription_id, "event": event}))
        return {}

    def _list(self, _: Call) -> Any:
        return [{"subscriptionId": subscription_id} for subscription_id in self._subscriptions]

    def _status(self, _: Call) -> Any:
        return {
            "apiKey": None,
            "authorizedSince": None,
            "connectedSince": None,
            "returnRateLimits": True,
            "serverTime": self._gateway.clock.now_ms(),
            "userDataStream": bool(self._subscriptions),
        }


def _own(
    method: str, answer: Any, parameters: set[str] | None = None, *, signed: bool = False
) -> Route:
    security = USER_STREAM if signed else "NONE"
    known = SIGNATURE_PARAMETERS | (parameters or set())
    return Route(method, method, security, STREAM_WEIGHT, known, answer)


def _frame(text: str) -> dict[str, Any]:
    try:
        frame = json.loads(
            text, parse_float=_Number, parse_int=_Number, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise errors.invalid_json() from None
    if not isinstance(frame, dict) or not isinstance(frame.get("params", {}), dict):
        raise errors.invalid_json()
    return frame


def _plain(request_id: Any) -> Any:
    """An ``id`` is an integer, a string or null; anything else is answered with null."""
    if isinstance(request_id, _Number):
        digits = request_id.removeprefix("-")
        return int(request_id) if digits.isdigit() and len(digits) < 20 else None  # noqa: PLR2004
    return request_id if isinstance(request_id, str) else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    return dumps(value)


def _parameters(params: dict[str, Any]) -> dict[str, str]:
    """All values as text; a list keeps its JSON, null is as if it was not sent."""
    return {name: _text(value) for name, value in params.items() if value is not None}


def _payloads(signed: dict[str, str]) -> tuple[bytes, ...]:
    """What may have been signed: sorted pairs, as they are or percent-encoded."""
    pairs = sorted(signed.items())
    plain = "&".join(f"{name}={value}" for name, value in pairs)
    encoded = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in pairs)
    raw = plain.encode("utf-8", "replace")
    return (raw,) if plain == encoded else (raw, encoded.encode())
