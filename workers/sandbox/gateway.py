"""From a request to its answer, the same for REST and for the WebSocket API.

In this order: bans and weight, parameters, key, signature, time; then for trading requests the
checks that need no engine, faults, the time once more, and the engine; then the faults of the
answer. Source: "LIMITS" and "Request Security" of the Public Rest API.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.sandbox import errors
from workers.sandbox.clock import Clock
from workers.sandbox.config import SandboxConfig
from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import read_decimal, read_long
from workers.sandbox.faults import (
    KEY_KINDS,
    LIMIT_KINDS,
    ORDER_KINDS,
    QUERY_KINDS,
    About,
    Fault,
    Faults,
    retry_after_s,
)
from workers.sandbox.late_steps import LateSteps
from workers.sandbox.limits import Limits
from workers.sandbox.params import need, optional
from workers.sandbox.routes import NONE, TRADE, USER_DATA, Call, Route

AHEAD_MAX_US = 1_000_000
MICROSECONDS_FROM = 10**14  # A timestamp of more digits is in microseconds.
RECV_WINDOW_DECIMALS = 3
KEY_LENGTH_MAX = 128


@dataclass(slots=True)
class Reply:
    """What goes back. ``text`` overrides ``body``; ``lost`` closes the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after_ms: int | None = None
    text: str | None = None
    lost: bool = False

    def encoded(self) -> str:
        return dumps(self.body) if self.text is None else self.text


def dumps(body: Any) -> str:
    """Compact JSON in ASCII, so that no text a client sent can break it."""
    return json.dumps(body, separators=(",", ":"))


class Gateway:
    """Takes calls to their routes."""

    def __init__(
        self, config: SandboxConfig, engine: Engine, limits: Limits, faults: Faults
    ) -> None:
        self._config = config
        self._engine = engine
        self._limits = limits
        self._faults = faults
        self._late = LateSteps(config.processing_bound_ms)
        self.routes: dict[str, Route] = {}
        self.methods: dict[str, Route] = {}

    @property
    def clock(self) -> Clock:
        return self._engine.clock

    def add(self, routes: list[Route]) -> None:
        for route in routes:
            self.routes[route.name] = route
            if route.method:
                self.methods[route.method] = route

    async def close(self) -> None:
        """Drop the requests that are still waiting for the engine."""
        await self._late.close()

    async def handle(self, call: Call) -> Reply:
        """The answer to a call; never raises what a client can cause."""
        weight = 0
        struck: dict[str, Fault] = {}
        try:
            weight = call.route.weight_of(call.params)
            self._limits.enter(call.ip, weight)
            self._read(call)
            struck = self._strike(call)
            reply = Reply(body=await self._perform(call, struck))
            if call.route.free_on_success:
                self._limits.refund(call.ip, weight)
        except ApiError as error:
            reply = Reply(error.status, error.body(), retry_after_ms=error.retry_after_ms)
            if call.account is not None and call.route.counts_order:
                call.headers.update(self._limits.order_headers(call.account))
        reply.headers = {**self._limits.weight_headers(call.ip), **call.headers}
        return await self._distort(reply, struck) if struck else reply

    # Before the route: parameters, key, signature, time.

    def _read(self, call: Call) -> None:
        unknown = call.params.keys() - call.route.parameters
        if unknown:
            sent = len(call.params)
            raise errors.unread_parameters(sent - len(unknown), sent)
        if call.route.security == NONE:
            return
        self._authenticate(call)
        self._read_time(call)

    def _authenticate(self, call: Call) -> None:
        """Errors: -2014 malformed key, -2015 unknown key, -1102 and -1022 for the signature."""
        key = call.key
        if not key or len(key) > KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
            raise errors.bad_key_format()
        account = self._engine.accounts.get(key)
        if account is None:
            raise errors.rejected_key()
        need(call.params, "timestamp")
        if not call.signature:
            raise errors.mandatory("signature")
        given = call.signature.lower().encode("utf-8", "replace")
        secret = account.secret.encode()
        if not any(
            hmac.compare_digest(hmac.digest(secret, payload, hashlib.sha256).hex().encode(), given)
            for payload in call.payloads
        ):
            raise errors.invalid_signature()
        call.account = account

    def _read_time(self, call: Call) -> None:
        """``timestamp`` and ``recvWindow``, and the first check. Errors: -1100, -1102, -1021."""
        timestamp = read_long("timestamp", call.params["timestamp"])
        call.timestamp_us = timestamp if timestamp >= MICROSECONDS_FROM else timestamp * 1000
        call.recv_window_us = self._recv_window_us(optional(call.params, "recvWindow"))
        if call.timestamp_us >= self.clock.now_us() + AHEAD_MAX_US:
            raise errors.ahead_of_server()
        self._check_age(call)

    def _recv_window_us(self, raw: str | None) -> int:
        if raw is None:
            return self._config.default_recv_window_ms * 1000
        window = read_decimal("recvWindow", raw)
        if len(raw.partition(".")[2].rstrip("0")) > RECV_WINDOW_DECIMALS:
            raise errors.bad_precision("recvWindow")
        most = self._config.max_recv_window_ms
        if window > most:
            raise errors.too_great("recvWindow", str(most))
        return int(window * 1000)

    def _check_age(self, call: Call) -> None:
        if self.clock.now_us() - call.timestamp_us > call.recv_window_us:
            raise errors.outside_recv_window()

    # The route itself.

    def _strike(self, call: Call) -> dict[str, Fault]:
        """The faults that strike this call. Raises for a limit that is to be pretended."""
        if not self._faults.active:
            return {}
        security = call.route.security
        kinds = LIMIT_KINDS
        if security == TRADE:
            kinds = LIMIT_KINDS | KEY_KINDS | ORDER_KINDS
        elif security == USER_DATA:
            kinds = LIMIT_KINDS | KEY_KINDS | QUERY_KINDS
        about: About = {
            "account": (call.account.key,) if call.account is not None else (),
            "symbol": (call.params.get("symbol", ""),),
            "endpoint": (call.route.name, call.route.method),
        }
        struck = self._faults.draw(kinds, about)
        if "key_refused" in struck:
            raise errors.rejected_key()
        self._pretend_limits(call, struck)
        return struck

    def _pretend_limits(self, call: Call, struck: dict[str, Fault]) -> None:
        now_ms = self.clock.now_ms()
        if "rate_429" in struck:
            until = now_ms + int(retry_after_s(struck["rate_429"]) * 1000)
            raise errors.too_much_weight(0, "1 MINUTE", until)
        if "ban_418" in struck:
            seconds = retry_after_s(struck["ban_418"])
            self._limits.ban(call.ip, float(seconds))
            raise errors.banned(now_ms + int(seconds * 1000))

    async def _perform(self, call: Call, struck: dict[str, Fault]) -> Any:
        route = call.route
        if route.answer is not None:
            if "rest_lag_ms" in struck:
                call.lag_ns = struck["rest_lag_ms"].ms * 1_000_000
            return route.answer(call)
        if route.prepare is None:
            raise LookupError(f"{route.name} has neither answer nor prepare")
        if "half_refused" in struck:
            call.refused_half = struck["half_refused"].options["code"]
        step = route.prepare(call)
        if not struck:
            return self._enter_engine(call, step, ignore_fence=False)
        self._kill(struck)
        delay = struck.get("accept_delayed_ms")
        if delay is None:
            return self._enter_engine(call, step, ignore_fence=False)
        return await self._enter_late(call, step, delay)

    def _enter_engine(self, call: Call, step: Callable[[], Any], *, ignore_fence: bool) -> Any:
        """The second check of the time, and then the engine's step."""
        if not ignore_fence:
            try:
                self._check_age(call)
            except ApiError:
                if call.route.counts_order:
                    self._limits.count_order(call.owner)
                raise
        return step()

    async def _enter_late(self, call: Call, step: Callable[[], Any], delay: Fault) -> Any:
        """Wait before the engine; beyond the processing bound the answer is -1007 meanwhile."""
        fenceless = bool(delay.options["ignore_fence"])
        try:
            return await self._late.run(
                lambda: self._enter_engine(call, step, ignore_fence=fenceless), delay.seconds
            )
        except TimeoutError:
            raise errors.unknown_outcome(-1007) from None

    # The faults of the answer.

    @staticmethod
    def _kill(struck: dict[str, Fault]) -> None:
        """End the request before the engine if one of its faults says so."""
        for kind, fault in struck.items():
            if "order" in fault.options and not fault.order_lives:
                raise _outcome(kind)

    @staticmethod
    async def _distort(reply: Reply, struck: dict[str, Fault]) -> Reply:
        """Replace, delay, garble or lose an answer."""
        for kind, fault in struck.items():
            if kind.startswith(("http_", "code_")) and fault.order_lives:
                error = _outcome(kind)
                reply.status, reply.body = error.status, error.body()
        if "http_503" in struck:
            reply.text = "<html><body><h1>503 Service Unavailable</h1></body></html>"
        if "garbled" in struck:
            garble(reply, struck["garbled"])
        if "row_garbled" in struck and isinstance(reply.body, list) and reply.body:
            gone = dict.fromkeys(struck["row_garbled"].options["fields"])
            reply.body = [{**reply.body[0], **gone}, *reply.body[1:]]
        if "reply_delayed_ms" in struck:
            await asyncio.sleep(struck["reply_delayed_ms"].seconds)
        reply.lost = "reply_lost" in struck
        return reply


def _outcome(kind: str) -> ApiError:
    if kind.startswith("code_"):
        return errors.unknown_outcome(int(kind.removeprefix("code_")))
    return ApiError(-1000, "Service Unavailable", errors.UNAVAILABLE)


def garble(reply: Reply, fault: Fault) -> None:
    how = fault.options["how"]
    whole = reply.encoded()
    if how == "missing" and isinstance(reply.body, dict):
        gone = set(fault.options["fields"]) or {"orderId", "status"}
        reply.body = {name: value for name, value in reply.body.items() if name not in gone}
    else:
        reply.text = {
            "malformed": "{" + whole,
            "truncated": whole[: len(whole) // 2],
            "null": "null",
            "empty": "",
        }.get(how, whole)
