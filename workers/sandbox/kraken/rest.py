"""``/0/public/*`` and ``/0/private/*``: signature, nonce, limits, faults, answer.

Source: "Spot REST Authentication". ``API-Sign`` is the HMAC-SHA512, under the base64-decoded
secret, of the path and the SHA-256 of nonce and body. The deadline is checked on receipt and again
just before the engine.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from workers.sandbox.config import SandboxConfig
from workers.sandbox.engine import Engine
from workers.sandbox.faults import (
    LIMIT_KINDS,
    ORDER_KINDS,
    QUERY_KINDS,
    Fault,
    Faults,
    retry_after_s,
)
from workers.sandbox.gateway import Reply, garble
from workers.sandbox.kraken import errors
from workers.sandbox.kraken.accounts import Accounts
from workers.sandbox.kraken.dead_man import DeadMan
from workers.sandbox.kraken.errors import KrakenError, invalid
from workers.sandbox.kraken.limits import TradingLimits
from workers.sandbox.kraken.names import Names
from workers.sandbox.kraken.nonces import Nonces
from workers.sandbox.kraken.numbers import dumps, read_deadline_ms
from workers.sandbox.kraken.public import Public
from workers.sandbox.kraken.trading import Trading
from workers.sandbox.late_steps import LateSteps
from workers.sandbox.model import Account
from workers.sandbox.requests_log import RequestsLog

Params = dict[str, str]
PUBLIC, PRIVATE = "/0/public/", "/0/private/"
HISTORY_POINTS = 2
DEADLINE_MAX_MS = 60_000


@dataclass(slots=True)
class Asked:
    """One private request, its account known."""

    method: str
    account: Account
    params: Params
    symbol: str


class KrakenRest:
    """Serves the REST API."""

    def __init__(
        self,
        config: SandboxConfig,
        engine: Engine,
        names: Names,
        faults: Faults,
        limits: TradingLimits,
        log: RequestsLog,
    ) -> None:
        self._engine = engine
        self._names = names
        self._faults = faults
        self._log = log
        self._limits = limits
        self._late = LateSteps(config.processing_bound_ms)
        self._nonces = Nonces(config.kraken_limits.nonce_window)
        self._public = Public(engine, names)
        self.accounts = Accounts(names)
        self._trading = Trading(engine, names, limits)
        self.dead_man = DeadMan(engine)
        self._commands: dict[str, Callable[[Account, Params], Callable[[], Any]]] = {
            "AddOrder": self._trading.add_order,
            "AmendOrder": self._trading.amend_order,
            "EditOrder": self._trading.edit_order,
            "CancelOrder": self._trading.cancel_order,
            "CancelAll": self._trading.cancel_all,
            "CancelAllOrdersAfter": self.dead_man.cancel_all_after,
        }
        self._queries: dict[str, tuple[Callable[[Account, Params, int], Any], int]] = {
            "Balance": (self.accounts.balance, 1),
            "BalanceEx": (self.accounts.balance_extended, 1),
            "OpenOrders": (self.accounts.open_orders, 1),
            "ClosedOrders": (self.accounts.closed_orders, 1),
            "QueryOrders": (self.accounts.query_orders, 1),
            "TradesHistory": (self.accounts.trades_history, HISTORY_POINTS),
            "QueryTrades": (self.accounts.query_trades, 1),
            "GetWebSocketsToken": (self.accounts.token, 1),
        }

    async def close(self) -> None:
        self._trading.close()
        self.dead_man.close()
        await self._late.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; what a client can cause is an error text, never an exception."""
        received = (time.time_ns(), time.monotonic_ns())
        path, _, query = request.raw_path.partition("?")
        body = await request.read() if request.can_read_body else b""
        struck: dict[str, Fault] = {}
        try:
            if path.startswith(PUBLIC):
                params = dict(parse_qsl(query or body.decode("utf-8", "replace")))
                result = self._answer_public(path.removeprefix(PUBLIC), params)
            else:
                asked = self._authenticated(path, body, request)
                if asked.method in self._commands:
                    self._log.add(f"POST {path}", body, received, request)
                struck = self._strike(asked)
                result = await self._perform(asked, struck)
            reply = Reply(body={"error": [], "result": result})
        except KrakenError as error:
            reply = Reply(body={"error": [error.text]})
        reply = await _distort(reply, struck)
        if reply.lost and request.transport is not None:
            request.transport.abort()
        return web.Response(
            status=reply.status,
            text=dumps(reply.body) if reply.text is None else reply.text,
            content_type="application/json",
        )

    def _answer_public(self, method: str, params: Params) -> Any:
        answer = self._public.methods.get(method)
        if answer is None:
            raise KrakenError(errors.UNKNOWN_METHOD)
        return answer(params)

    # Who asks.

    def _authenticated(self, path: str, body: bytes, request: web.BaseRequest) -> Asked:
        """Errors: EAPI:Invalid key, EAPI:Invalid signature, EAPI:Invalid nonce."""
        method = path.removeprefix(PRIVATE)
        if method not in self._commands and method not in self._queries:
            raise KrakenError(errors.UNKNOWN_METHOD)
        account = self._engine.accounts.get(request.headers.get("API-Key", ""))
        if account is None:
            raise KrakenError(errors.INVALID_KEY)
        params = _read_params(body, request.headers.get("Content-Type", ""))
        nonce = params.pop("nonce", "")
        given = request.headers.get("API-Sign", "")
        if not hmac.compare_digest(_signature(account, path, nonce, body), given.encode()):
            raise KrakenError(errors.INVALID_SIGNATURE)
        self._nonces.check(account, nonce)
        return Asked(method, account, params, self._symbol(params))

    def _symbol(self, params: Params) -> str:
        """The engine's symbol that a request is about, where it says so; faults filter by it."""
        try:
            return self._names.pair(params.get("pair", "")).spec.symbol
        except KrakenError:
            return ""

    # Faults and the engine.

    def _strike(self, asked: Asked) -> dict[str, Fault]:
        if not self._faults.active:
            return {}
        is_command = asked.method in self._commands
        kinds = LIMIT_KINDS | (ORDER_KINDS if is_command else QUERY_KINDS)
        about = {
            "account": (asked.account.key,),
            "symbol": (asked.symbol,),
            "endpoint": (f"POST {PRIVATE}{asked.method}", asked.method),
        }
        struck = self._faults.draw(kinds, about)
        if "rate_429" in struck:
            raise KrakenError(errors.ORDERS_EXCEEDED if is_command else errors.CALLS_EXCEEDED)
        if "ban_418" in struck:
            self._limits.lock_out(asked.account, float(retry_after_s(struck["ban_418"])))
            raise KrakenError(errors.LOCKED_OUT)
        return struck

    async def _perform(self, asked: Asked, struck: dict[str, Fault]) -> Any:
        if asked.method in self._queries:
            answer, points = self._queries[asked.method]
            self._limits.call(asked.account, points)
            lag_ns = struck["rest_lag_ms"].ms * 1_000_000 if "rest_lag_ms" in struck else 0
            return answer(asked.account, asked.params, lag_ns)
        self._limits.call(asked.account, 0)
        deadline_ms = self._deadline_ms(asked.params)
        prepared = self._commands[asked.method](asked.account, asked.params)

        def step() -> Any:
            self._check(deadline_ms)
            return prepared()

        self._check(deadline_ms)
        _kill(struck)
        delay = struck.get("accept_delayed_ms")
        if delay is None:
            return step()
        late = prepared if delay.options["ignore_fence"] else step
        try:
            return await self._late.run(late, delay.seconds)
        except TimeoutError:
            raise KrakenError(errors.UNAVAILABLE) from None

    def _deadline_ms(self, params: Params) -> int | None:
        raw = params.get("deadline")
        if not raw:
            return None
        deadline_ms = read_deadline_ms(raw)
        if deadline_ms - self._engine.clock.now_ms() > DEADLINE_MAX_MS:
            raise invalid("deadline")
        return deadline_ms

    def _check(self, deadline_ms: int | None) -> None:
        if deadline_ms is not None and self._engine.clock.now_ms() > deadline_ms:
            raise KrakenError(errors.DEADLINE)


def _signature(account: Account, path: str, nonce: str, body: bytes) -> bytes:
    try:
        secret = base64.b64decode(account.secret, validate=True)
    except (binascii.Error, ValueError):
        raise KrakenError(errors.INVALID_KEY) from None
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(hmac.digest(secret, path.encode() + digest, hashlib.sha512))


def _read_params(body: bytes, content_type: str) -> Params:
    raw = body.decode("utf-8", "replace")
    if not content_type.startswith("application/json"):
        return dict(parse_qsl(raw, keep_blank_values=True))
    try:
        values = json.loads(raw, parse_float=str, parse_int=str)
    except ValueError:
        raise invalid() from None
    if not isinstance(values, dict):
        raise invalid()
    return {name: str(value) for name, value in values.items()}


def _kill(struck: dict[str, Fault]) -> None:
    """End the request before the engine if one of its faults says so."""
    for kind, fault in struck.items():
        if "order" in fault.options and not fault.order_lives:
            raise KrakenError(errors.OUTCOMES.get(kind, errors.UNAVAILABLE))


async def _distort(reply: Reply, struck: dict[str, Fault]) -> Reply:
    """Replace, delay, garble or lose an answer."""
    for kind, fault in struck.items():
        if kind in errors.OUTCOMES and fault.order_lives:
            reply.body = {"error": [errors.OUTCOMES[kind]]}
    if "http_503" in struck:
        reply.status = 503
        reply.text = "<html><body><h1>503 Service Unavailable</h1></body></html>"
    if "garbled" in struck:
        garble(reply, struck["garbled"])
    if "reply_delayed_ms" in struck:
        await asyncio.sleep(struck["reply_delayed_ms"].seconds)
    reply.lost = "reply_lost" in struck
    return reply
