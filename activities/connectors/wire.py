"""The one place where bytes leave: ccxt signs and names the endpoints, we send.

ccxt's own `fetch` is replaced, because the OMS must know three things that ccxt does not say: the
raw status, code and text of this very response (also with many requests at once), whether the
request was written when it failed, and that it is written at most once. ccxt's `fetch` follows
redirects and lets aiohttp repeat a PUT or DELETE on a stale connection; this one does neither.
"""

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import yarl

from activities.connectors.classify import (
    Answer,
    Operation,
    Rule,
    judge,
    transport_failure,
)
from activities.connectors.clock import ExchangeClock
from activities.connectors.settings import ConnectorSettings
from trading.oms.errors import ExchangeError, ExchangeUnavailable
from trading.oms.request_gate import LOCAL_RATE_LIMIT, IRequestGate, OpenGate, Permit, Response

_SLOTS_MAX = 3
_SIGNATURE = re.compile(r"signature=[0-9A-Za-z%+/=]+", re.IGNORECASE)


def _nothing(_body: str) -> None:
    return None


@dataclass
class Call:
    """One request on its way. `written` becomes true when its first byte may have left.

    `check_request` sees the signed body before anything is sent, `check_time` runs right before
    the write; both refuse by raising `ExchangeUnavailable`. `symbol` is named where the exchange
    limits each symbol by itself.
    """

    operation: Operation
    check_request: Callable[[str], None] = _nothing
    check_time: Callable[[], None] | None = None
    check_limits: Callable[[], None] | None = None
    symbol: str = ""
    written: bool = False
    written_at: float = 0.0
    response: Response | None = None
    answer: Answer | None = None

    def about_to_write(self) -> None:
        """The last step before the socket. A command passes here once in its life."""
        if self.written and self.operation.is_command:
            raise _SecondWriteError
        if self.check_time is not None:
            self.check_time()
        if self.check_limits is not None:
            self.check_limits()
        self.written, self.written_at = True, time.monotonic()


class _SecondWriteError(Exception):
    """aiohttp wanted to repeat a command on a new connection; the first outcome is unknown."""


class _SlotPassed(ExchangeUnavailable):
    """The request came to its write later than the rate limits had allowed it; nothing was sent."""


_call: ContextVar[Call | None] = ContextVar("connector_call", default=None)


def current_call() -> Call | None:
    """The request that is being made here, where it is one of ours."""
    return _call.get()


class _GuardedRequest(aiohttp.ClientRequest):
    """aiohttp's request that asks its `Call` right before the write, connection in hand."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        call = _call.get()
        if call is not None:
            call.about_to_write()
        return await super().send(conn)


@dataclass
class RateUsage:
    """The exchange's own count of our requests, from the headers of the newest response.

    `headers` keeps those whose names begin with one of `kept` (Binance: `X-MBX-USED-WEIGHT-*`,
    `X-MBX-ORDER-COUNT-*` and `Retry-After`), in lower case; `at_ms` is the exchange's clock then.
    """

    kept: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    at_ms: int = 0

    def observe(self, headers: Mapping[str, str], at_ms: int) -> None:
        """Keep what a response said; one that says nothing changes nothing."""
        found = {
            name.lower(): value
            for name, value in headers.items()
            if self.kept and name.lower().startswith(self.kept)
        }
        if found:
            self.headers, self.at_ms = found, at_ms


class OneWriteWire:
    """Stands before a class of ccxt: our `fetch`, our clock and only the spot market's addresses.

    Each exchange says how its answers are read and judged, and where its endpoints are.
    """

    rules: Sequence[Rule] = ()
    rate_headers: tuple[str, ...] = ()
    request: Any
    apiKey: Any  # noqa: N815 - ccxt's name.
    secret: Any
    password: Any
    cafile: Any
    closed_by_user: Any
    close: Any

    def __init__(self, settings: ConnectorSettings, clock: ExchangeClock) -> None:
        self.oms_settings = settings
        self.oms_clock = clock
        self.rate_usage = RateUsage(self.rate_headers)
        self.gate: IRequestGate = OpenGate()
        self.streaming: dict[str, Any]
        self.urls: dict[str, Any]
        super().__init__(  # type: ignore[call-arg] # The class of ccxt that stands behind.
            {
                "apiKey": settings.api_key.get_secret_value(),
                "secret": settings.secret.get_secret_value(),
                "password": settings.passphrase.get_secret_value(),
                "enableRateLimit": False,
                "timeout": settings.timeout_ms,
                "timeout_on_exit": 0,
                "options": {
                    "defaultType": "spot",
                    "fetchCurrencies": False,
                    "adjustForTimeDifference": False,
                    "recvWindow": settings.recv_window_ms,  # Binance's.
                    "ws": {"connectionTimeout": max(1000, settings.timeout_ms)},
                },
            }
        )
        keep_alive_ms = int(settings.stream_silence_ms * 0.3)
        self.streaming = {**self.streaming, "keepAlive": keep_alive_ms, "maxPingPongMisses": 2}
        self.urls = {**self.urls, "api": self.addresses(settings)}

    def addresses(self, settings: ConnectorSettings) -> dict[str, Any]:
        """The `urls["api"]` of ccxt: an endpoint of any other market has no address."""
        raise NotImplementedError

    def api_of(self, path: str) -> str:
        """Which of ccxt's groups an endpoint is in, as `public` and `private`."""
        raise NotImplementedError

    def group_of(self, path: str) -> list[str]:
        """The same as ccxt takes it."""
        return [self.api_of(path)]

    def limits_of(self, answer: Answer) -> Response:
        """What an answer says of rate limits."""
        raise NotImplementedError

    def read_answer(self, status: int, headers: Mapping[str, str], text: str) -> Answer:
        """A response, its code and its words found."""
        return Answer.read(status, headers, text, self.scrub)

    def open(self, lazy: bool = False) -> None:  # noqa: FBT001, FBT002 - ccxt's signature
        """Make the session that ccxt would make, with our request class and no pool limit.

        The OMS bounds what is in flight; a cancel must not queue here behind hanging requests.
        """
        if self.session is None and not (lazy and self.closed_by_user):
            secure = self.oms_settings.rest_url.startswith("https")
            trusted = ssl.create_default_context(cafile=self.cafile) if secure else True
            self.ssl_context = trusted
            self.tcp_connector = aiohttp.TCPConnector(ssl=trusted, limit=0)
            self.session: Any = aiohttp.ClientSession(
                connector=self.tcp_connector,
                request_class=_GuardedRequest,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        super().open(lazy)  # type: ignore[misc] # ccxt's.

    async def call(
        self, call: Call, method: str, path: str, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Send one request to `path` of the spot API and return the JSON of its success.

        Raises exactly one of the three classes of `ExchangeError`. Errors are raised without a
        cause: what ccxt and aiohttp raise can carry the signed address and the API key.
        """
        for _ in range(_SLOTS_MAX):
            try:
                return await self._call_once(call, method, path, params)
            except _SlotPassed:
                # A busy process came too late. A command has a stamp and a deadline, and whoever
                # made it decides; anything else takes the next slot.
                if call.operation.is_command:
                    raise
        return await self._call_once(call, method, path, params)

    async def _call_once(
        self, call: Call, method: str, path: str, params: Mapping[str, Any] | None
    ) -> Any:
        # Its first question is for the exchange's clock: all workers count by what the ledger is
        # told of that, and this machine's would end their pauses and windows.
        gate = self.gate if self.oms_clock.is_set else OpenGate()
        permit = await gate.enter(f"{method} {path}", params, symbol=call.symbol)
        call.check_limits = partial(self._check_limits, gate, permit)
        token = _call.set(call)
        try:
            return await self.request(path, self.group_of(path), method, dict(params or {}))
        except ExchangeError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - ccxt raises whatever it likes
            failure = transport_failure(_name_of(error), call.operation, written=call.written)
        finally:
            _call.reset(token)
            gate.leave(permit, call.response, written=call.written)
        raise failure

    def _check_limits(self, gate: IRequestGate, permit: Permit) -> None:
        if not gate.is_valid(permit):
            text = "its slot in the rate limits has passed, nothing was sent"
            raise _SlotPassed(text, code=LOCAL_RATE_LIMIT, retry_after=0.0)

    async def fetch(
        self, url: str, method: str = "GET", headers: Any = None, body: str | None = None
    ) -> Any:
        """Write one signed request once, and judge the response that belongs to it."""
        call = _call.get() or Call(Operation.QUERY)
        call.check_request(body or "")
        self.open(True)
        timeout = aiohttp.ClientTimeout(total=self.oms_settings.timeout_ms / 1000)
        try:
            async with self.session.request(
                method,
                yarl.URL(url, encoded=True),
                data=body.encode() if body else None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                text = await response.text(errors="replace")
                answer = self.read_answer(response.status, dict(response.headers), text)
        except ExchangeError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, only the phase counts
            failure = transport_failure(_name_of(error), call.operation, written=call.written)
        else:
            self.rate_usage.observe(answer.headers, self.oms_clock.now_ms())
            call.response, call.answer = self.limits_of(answer), answer
            return self._judged(answer, call.operation)
        raise failure

    def _judged(self, answer: Answer, operation: Operation) -> Any:
        error = judge(answer, operation, self.rules)
        if error is not None:
            raise error
        return answer.body

    def scrub(self, text: str) -> str:
        """Take key, secret and signatures out of a text that may echo the request."""
        for secret in (self.apiKey, self.secret, self.password):
            if secret:
                text = text.replace(secret, "***")
        return _SIGNATURE.sub("signature=***", text)


def _name_of(error: Exception) -> str:
    """The class and the system's word for its number; aiohttp's own texts carry addresses."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    name = type(error).__name__
    return f"{name} ({os.strerror(number)})" if isinstance(number, int) else name
