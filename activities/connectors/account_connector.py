"""What the connectors of all venues share: gate, connection, clock, how answers are read.

A connector brings its wire, its clock and its stream; what a venue is asked and how is its own.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Protocol, TypeVar

from activities.connectors.classify import Operation, malformed_answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError
from activities.connectors.settings import ConnectorSettings
from activities.connectors.wire import OneWriteWire
from trading.oms.errors import ExchangeUnavailable, StartUpError
from trading.oms.request_gate import IRequestGate
from trading.oms.venue import ExecutionReport, StreamState, Transfer

logger = logging.getLogger(__name__)
T = TypeVar("T")


class _Stream(Protocol):
    """A venue's stream of what happens on the account."""

    gate: IRequestGate

    def events(self) -> AsyncIterator[Any]: ...


class AccountConnector:
    """One account at one venue; all calls may run at once on one instance."""

    def __init__(
        self, settings: ConnectorSettings, clock: ExchangeClock, wire: OneWriteWire
    ) -> None:
        """The parts that every venue has."""
        self.exchange = settings.exchange
        self.account = settings.account
        self.unreadable_events = 0
        """Events of the stream that were dropped because they could not be read."""
        self._settings = settings
        self._clock = clock
        self._wire = wire

    def __repr__(self) -> str:
        return f"{type(self).__name__}(exchange={self.exchange!r}, account={self.account!r})"

    @property
    def gate(self) -> IRequestGate:
        """What every request passes before it leaves."""
        return self._wire.gate

    @gate.setter
    def gate(self, gate: IRequestGate) -> None:
        self._wire.gate = gate

    async def close(self) -> None:
        """Close every connection of the commands and queries; a stream closes with its reader."""
        await self._wire.close()

    def exchange_now(self) -> datetime:
        """The exchange's clock, estimated from the last look at it, never a network call."""
        return self._clock.now()

    def _not_accepted(self, why: Exception) -> StartUpError:
        return StartUpError(
            f"{self.exchange} does not accept account {self.account!r} at "
            f"{self._settings.rest_url}: {why}; check address, key and secret"
        )

    async def _reports_of(
        self, stream: _Stream, read: Callable[[Any], ExecutionReport | Transfer | None]
    ) -> AsyncIterator[ExecutionReport | Transfer | StreamState]:
        """What a stream says; an event that cannot be read is logged and counted."""
        stream.gate = self.gate
        async with aclosing(stream.events()) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, StreamState):
                    yield event
                    continue
                try:
                    report = read(event)
                except MalformedError as error:
                    self.unreadable_events += 1
                    logger.warning("%s: an event is dropped: %s", self.exchange, error)
                    continue
                if report is not None:
                    yield report

    def _read(
        self, read: Callable[[Any], T], raw: Any, operation: Operation = Operation.QUERY
    ) -> T:
        try:
            return read(raw)
        except MalformedError as error:
            failure = malformed_answer(str(error), operation)
        raise failure

    def _check_deadline(self, deadline_ms: int) -> None:
        late = self._clock.now_ms() - deadline_ms
        if late > 0:
            raise ExchangeUnavailable(
                f"the request's deadline passed {late} ms ago, nothing was sent",
                code="local_deadline",
            )
