"""Binance's wire, and its user data stream. Source: rest-api.md, user-data-stream.md."""

from typing import Any

from activities.connectors.binance_codes import BINANCE_RULES
from activities.connectors.binance_limits import response_of
from activities.connectors.ccxt_classes import exchange_class
from activities.connectors.classify import Answer
from activities.connectors.settings import ConnectorSettings
from activities.connectors.stream import StreamLife
from activities.connectors.wire import OneWriteWire
from trading.oms.request_gate import Response

_EVENTS = frozenset({"executionReport", "balanceUpdate"})
_ENDINGS = frozenset({"eventStreamTerminated", "serverShutdown"})
_PUBLIC = frozenset({"time", "exchangeInfo", "ticker/bookTicker", "depth"})
_SAPI = frozenset({"account/apiRestrictions"})


class BinanceSpeech(OneWriteWire):
    """Binance Spot's protocol, which its other exchanges speak too."""

    rules = BINANCE_RULES
    rate_headers = ("x-mbx-used-weight-", "x-mbx-order-count-", "retry-after")

    def nonce(self) -> int:
        """Stamps are in the exchange's clock; ccxt's own guess at the difference stays off."""
        return self.oms_clock.now_ms()

    def api_of(self, path: str) -> str:
        """Public, private, or the wallet's."""
        return "public" if path in _PUBLIC else ("sapi" if path in _SAPI else "private")

    def limits_of(self, answer: Answer) -> Response:
        """From the headers, and the codes of a pause."""
        return response_of(answer)

    def addresses(self, settings: ConnectorSettings) -> dict[str, Any]:
        """Spot, and the wallet's question what a key may do."""
        rest = settings.rest_url.rstrip("/")
        return {
            "public": f"{rest}/api/v3",
            "private": f"{rest}/api/v3",
            "sapi": f"{rest}/sapi/v1",
            "ws": {"ws-api": {"spot": settings.ws_url}},
        }


class BinanceWire(BinanceSpeech, exchange_class("binance")):  # type: ignore[misc] # No types.
    """ccxt's Binance."""


class EventStream(StreamLife, BinanceWire):
    """Binance's user data stream."""

    subscription = "WS userDataStream.subscribe.signature"

    async def subscribe(self) -> None:
        """`userDataStream.subscribe.signature`; its refusal is kept by `pass_to_ccxt`."""
        await self.ensure_user_data_stream_ws_subscribe_signature("spot")

    def sort(self, client: Any, message: dict[str, Any]) -> bool:
        """Execution reports and transfers are events; others are of no use here."""
        event = message.get("event", message)
        if not isinstance(event, dict):
            return False
        if not isinstance(event.get("e"), str):
            self.pass_to_ccxt(client, message)
        elif event["e"] in _EVENTS:
            self.push(client, event)
        elif event["e"] in _ENDINGS:
            self.gap(client, event["e"])
        return True
