"""User data streams: raw events in order of arrival, and every gap noticed.

ccxt.pro connects, signs the subscription and keeps the pings; its caches are passed by, because
they merge updates by id (the two sides of a self-trade share one).
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from activities.connectors.classify import Answer, parse_json, shown
from activities.connectors.clock import ExchangeClock
from activities.connectors.settings import ConnectorSettings
from trading.oms.errors import ExchangeUnavailable
from trading.oms.request_gate import IRequestGate, Response
from trading.oms.venue import StreamState

logger = logging.getLogger(__name__)
_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 2.0


class _Gap:
    """Stands in the queue where the connection was lost."""


_GAP = _Gap()


class StreamLife:
    """Stands before a wire: one subscription of one account, opened again after each gap."""

    subscription = ""
    """What the subscription is called on the rate card; it passes the gate before we dial."""
    oms_settings: ConnectorSettings
    gate: IRequestGate
    scrub: Any
    clients: Any
    close: Any

    def __init__(self, settings: ConnectorSettings, clock: ExchangeClock) -> None:
        super().__init__(settings, clock)  # type: ignore[call-arg] # The wire behind.
        self.unreadable = 0
        self._events: asyncio.Queue[dict[str, Any] | _Gap] = asyncio.Queue()
        self._connection: Any = None
        self._refusals: list[Answer] = []

    async def events(self) -> AsyncIterator[dict[str, Any] | StreamState]:
        """`CONNECTED` after each fresh connection, then its events; ends by raising.

        Raises `ExchangeUnavailable` when the first connection fails, or when a lost one cannot be
        had again within `stream_silence_ms`.
        """
        try:
            await self._connect()
            while True:
                yield StreamState.CONNECTED
                while not isinstance(event := await self._events.get(), _Gap):
                    yield event
                await self._connect_again()
        finally:
            await self._disconnect()
            await self.close()

    async def _connect_again(self) -> None:
        deadline = asyncio.get_running_loop().time() + self.oms_settings.stream_silence_ms / 1000
        pause = _PAUSE_FIRST_S
        while True:
            await self._disconnect()
            await asyncio.sleep(pause)
            try:
                await self._connect()
            except ExchangeUnavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                pause = min(_PAUSE_MAX_S, 2 * pause)
            else:
                return

    async def _connect(self) -> None:
        """Dial and subscribe with a fresh connection and a fresh queue."""
        self._events = asyncio.Queue()
        self.ws_dial_backoff: dict[str, Any] = {}  # The pauses are ours, not ccxt's.
        self._refusals.clear()
        if self.subscription:
            permit = await self.gate.enter(self.subscription)
            self.gate.leave(permit, Response({}), written=True)
        self._connection = self.client(self.oms_settings.ws_url)
        seconds = max(1.0, self.oms_settings.timeout_ms / 1000)
        try:
            async with asyncio.timeout(seconds):
                await self.subscribe()
        except TimeoutError:
            failure = f"no answer to the subscription within {seconds:g} s"
        except Exception as error:  # noqa: BLE001 - ccxt raises whatever it likes
            failure = f"{type(error).__name__}: {error}"
        else:
            return
        code = None
        if self._refusals:
            code, failure = self._refusals[0].code, self._refusals[0].words
        raise ExchangeUnavailable(
            f"the user data stream cannot be opened: {shown(self.scrub(failure))}", code=code
        )

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.clients.get(connection.url) is connection:
            del self.clients[connection.url]
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await connection.close()

    def client(self, url: str) -> Any:
        """The client of ccxt, reading its frames through us.

        A frame that is no JSON would end ccxt's receive loop without a word.
        """
        client = super().client(url)  # type: ignore[misc] # ccxt's.
        client.handle_text_or_binary_message = lambda data: self._read(client, data)
        return client

    def _read(self, client: Any, data: str | bytes) -> None:
        text = data.decode(errors="replace") if isinstance(data, bytes) else data
        message = parse_json(text)
        if not isinstance(message, dict) or not self.sort(client, message):
            self.unreadable += 1
            logger.warning("the user data stream sent something unreadable: %s", shown(text))

    async def subscribe(self) -> None:
        """Ask the exchange for the account's events and wait for its yes; raises what it likes."""
        raise NotImplementedError

    def sort(self, client: Any, message: dict[str, Any]) -> bool:
        """Push what is an event, pass the rest to ccxt; False: it cannot be read."""
        raise NotImplementedError

    def gap(self, client: Any, why: str) -> None:
        """Something was missed, or will be: a fresh connection has to follow."""
        logger.info("the user data stream is opened again: %s", why)
        self.push(client, _GAP)

    def pass_to_ccxt(self, client: Any, message: Any) -> None:
        """Answers to our own requests (the subscription).

        A refusal is kept here: ccxt loses it and raises `KeyError: 'spot'` in its place.
        """
        if isinstance(message.get("error"), dict):
            self._refusals.append(Answer.read(0, {}, json.dumps(message["error"]), self.scrub))
        try:
            super().handle_message(client, message)  # type: ignore[misc] # ccxt's.
        except Exception as error:  # noqa: BLE001 - a stray answer must not end the stream
            logger.warning("ccxt cannot read an answer: %s", type(error).__name__)

    def push(self, client: Any, item: "dict[str, Any] | _Gap") -> None:
        """Only the present connection speaks; an old one that is being closed does not."""
        if client is self._connection:
            self._events.put_nowait(item)

    def on_error(self, client: Any, error: Any) -> None:
        """ccxt: the connection failed or answers no pings."""
        super().on_error(client, error)  # type: ignore[misc] # ccxt's.
        self.push(client, _GAP)

    def on_close(self, client: Any, error: Any) -> None:
        """ccxt: the other side closed the connection."""
        super().on_close(client, error)  # type: ignore[misc] # ccxt's.
        self.push(client, _GAP)
