"""ccxt's class of a venue, as the one-write wire: it signs and knows the addresses, we send.

What a new order must carry in its headers (a fence, the claim's own stamp) is looked at with the
signed request in hand, like its body.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from activities.connectors.ccxt_classes import exchange_class
from activities.connectors.classify import Answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.body import refused
from activities.connectors.venues.record import VenueRecord
from activities.connectors.wire import Call, OneWriteWire, current_call
from trading.oms.request_gate import Response
from trading.oms.venue import OrderRequest

PAUSE_S = 1.0


@dataclass
class OrderCall(Call):
    """A request that places `order`; its stamp is signed in place of the clock's."""

    order: OrderRequest | None = None


class VenueWire(OneWriteWire):
    """Stands before ccxt's class of the venue that `venue` describes."""

    venue: VenueRecord
    options: dict[str, Any]

    def __init__(self, settings: ConnectorSettings, clock: ExchangeClock) -> None:
        super().__init__(settings, clock)
        self.options = {**self.options, **self.venue.options}

    def nonce(self) -> int:
        """The stamp of the order that is being placed, else the exchange's clock."""
        call = current_call()
        if isinstance(call, OrderCall) and call.order is not None:
            return call.order.timestamp_ms
        return self.oms_clock.now_ms()

    def group_of(self, path: str) -> list[str]:
        """The endpoint's group, as ccxt calls it."""
        return self.venue.groups[0 if path in self.venue.public else 1]

    def addresses(self, settings: ConnectorSettings) -> dict[str, Any]:
        """As the record says."""
        return dict(self.venue.addresses(settings))

    def read_answer(self, status: int, headers: Mapping[str, str], text: str) -> Answer:
        """As the record says."""
        return self.venue.read_answer(status, headers, text, self.scrub)

    def limits_of(self, answer: Answer) -> Response:
        """A call too many asks for a pause."""
        pause = self.venue.pauses.get(answer.code or "")
        if answer.is_too_many:
            pause = max(pause or PAUSE_S, answer.retry_after or 0)
        return Response(headers={}, pauses=pause is not None, retry_after_s=pause)

    def sign(self, *asked: Any, **more: Any) -> dict[str, Any]:
        """Sign as ccxt does, and add the headers that it does not know."""
        signed: dict[str, Any] = super().sign(*asked, **more)  # type: ignore[misc] # ccxt's.
        headers = dict(signed["headers"] or {})
        if self.oms_settings.demo:
            headers |= self.venue.demo_headers
        call = current_call()
        if isinstance(call, OrderCall) and call.order is not None:
            headers = {**self.venue.headers(call.order), **headers}
        return {**signed, "headers": headers or None}

    async def fetch(
        self, url: str, method: str = "GET", headers: Any = None, body: str | None = None
    ) -> Any:
        """Write one signed request once, if it carries what an order must."""
        call = current_call()
        if isinstance(call, OrderCall) and call.order is not None:
            given = {name.lower(): value for name, value in (headers or {}).items()}
            for name, value in self.venue.headers(call.order).items():
                if given.get(name.lower()) != value:
                    raise refused(f"{name} is {given.get(name.lower())!r}, the order has {value!r}")
        return await super().fetch(url, method, headers, body)


@cache
def wire_class(record_of: Any) -> type[VenueWire]:
    """The wire of a venue; `record_of` makes its record, once."""
    record: VenueRecord = record_of()
    bases = (record.wire or VenueWire, exchange_class(record.ccxt))
    return type(f"{record.ccxt}_wire", bases, {"venue": record, "rules": record.rules})
