"""Kraken's wire, and its stream of executions (WebSocket v2).

Private REST calls carry a nonce that must rise. It is taken when a request is signed; where a later
one overtakes it on the way, Kraken refuses it unread (EAPI:Invalid nonce), which is a definite
"nothing was sent".
"""

import hashlib
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from activities.connectors.ccxt_classes import exchange_class
from activities.connectors.classify import Answer, Operation
from activities.connectors.fields import object_of, text_of
from activities.connectors.kraken_codes import KRAKEN_RULES, read_answer
from activities.connectors.kraken_limits import response_of
from activities.connectors.settings import ConnectorSettings
from activities.connectors.stream import StreamLife
from activities.connectors.wire import Call, OneWriteWire
from trading.oms.errors import ExchangeUnavailable
from trading.oms.request_gate import Response

_PUBLIC = frozenset({"Time", "Assets", "AssetPairs", "Ticker", "Depth"})
_SUBSCRIBED = "oms-subscribed"
NONCE_REFUSED = "EAPI:Invalid nonce"
_OVERTAKEN_MAX = 4


class Nonces:
    """The nonces of one key. They rise, also where this machine's clock is set back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """Microseconds since 1970: greater than any that a library in milliseconds has used."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


def nonces_of(api_key: str) -> Nonces:
    """The same for every wire of a key in this process: the exchange counts by key."""
    return _nonces_by(hashlib.sha256(api_key.encode()).digest())


@cache
def _nonces_by(_digest: bytes) -> Nonces:
    """Kept by what no key can be read from."""
    return Nonces()


class KrakenWire(OneWriteWire, exchange_class("kraken")):  # type: ignore[misc] # No types.
    """ccxt's Kraken."""

    rules = KRAKEN_RULES

    def incrementing_nonce(self) -> int:
        """The next of the key."""
        return nonces_of(self.apiKey).next()

    def api_of(self, path: str) -> str:
        """Public or private."""
        return "public" if path in _PUBLIC else "private"

    def read_answer(self, status: int, headers: Mapping[str, str], text: str) -> Answer:
        """Kraken's errors are texts with HTTP 200."""
        return read_answer(status, headers, text, self.scrub)

    def limits_of(self, answer: Answer) -> Response:
        """From the codes of a refusal alone."""
        return response_of(answer)

    def addresses(self, settings: ConnectorSettings) -> dict[str, Any]:
        """Spot alone."""
        rest = settings.rest_url.rstrip("/")
        return {"public": rest, "private": rest, "ws": {"privateV2": settings.ws_url}}


async def query(wire: OneWriteWire, path: str, parameters: Mapping[str, Any]) -> Any:
    """A private query; one that another process's has overtaken is asked again, at once."""
    for _ in range(_OVERTAKEN_MAX):
        try:
            return await wire.call(Call(Operation.QUERY), "POST", path, parameters)
        except ExchangeUnavailable as error:
            if error.code != NONCE_REFUSED:
                raise
    return await wire.call(Call(Operation.QUERY), "POST", path, parameters)


class KrakenStream(StreamLife, KrakenWire):
    """The channel `executions`: a snapshot of the open orders, then what happens to them.

    And `balances`: the account's ledger, for what came and went without a trade.
    """

    _sequence = 0

    async def subscribe(self) -> None:
        """With a fresh token. Raises `ExchangeUnavailable` where Kraken refuses."""
        answer = await query(self, "GetWebSocketsToken", {})
        self._sequence = 0
        token = text_of(object_of(answer), "token")
        await self._ask_for(1, channel="executions", token=token, snap_orders=True)
        await self._ask_for(2, channel="balances", token=token, snapshot=False)

    async def _ask_for(self, number: int, **asked: Any) -> None:
        name = f"{_SUBSCRIBED}-{number}"
        message = {"method": "subscribe", "params": asked, "req_id": number}
        await self.watch(self.oms_settings.ws_url, name, message, name)

    def sort(self, client: Any, message: dict[str, Any]) -> bool:
        """Executions are events, numbered without a hole; pongs are ccxt's."""
        if message.get("channel") == "executions":
            return self._take(client, message)
        if message.get("channel") == "balances":
            # A hole in them is a transfer that is missed: then the balances show it.
            return message.get("type") != "update" or self._push_rows(client, message)
        if message.get("method") == "subscribe":
            name = f"{_SUBSCRIBED}-{message.get('req_id')}"
            if message.get("success") is True:
                client.resolve(message, name)
            else:
                words = self.scrub(str(message.get("error")))
                client.reject(ExchangeUnavailable(words, code=words[:64]), name)
            return True
        if message.get("method") == "pong":
            self.pass_to_ccxt(client, message)
        return True

    def _take(self, client: Any, message: dict[str, Any]) -> bool:
        sequence = message.get("sequence")
        if not isinstance(message.get("data"), list):
            return False
        if isinstance(sequence, int):
            if self._sequence and sequence > self._sequence + 1:
                self.gap(client, f"message {sequence} follows {self._sequence}")
            self._sequence = max(self._sequence, sequence)
        return self._push_rows(client, message)

    def _push_rows(self, client: Any, message: dict[str, Any]) -> bool:
        rows = message.get("data")
        if not isinstance(rows, list):
            return False
        for row in rows:
            if isinstance(row, dict):
                self.push(client, row)
        return True
