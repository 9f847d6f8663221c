"""Alerts to a webhook: the journal's events that an operator wants to hear of at once.

They are read from the journal behind a cursor of their own, in its order, and the cursor moves
when the receiver has answered 2xx: each comes at least once, under an id that says whether it came
before. A receiver that is away is asked again, ever more slowly, for as long as it takes. Nothing
waits for it: orders know nothing of alerts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from temporalio import activity

from trading.oms.errors import StoreUnavailable
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from activities.alert_settings import AlertSettings
    from activities.store import JournalEntry, Store

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_LOOK_S = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_PAGE = 200
_MOVE_S = 60.0
"""How often the cursor is moved past entries that nobody wants to hear of."""
_TURN = timedelta(hours=1)
WAITING = "oms_oldest_alert_seconds"
_HAS_IT = frozenset({*range(200, 300), 409})
_WILL_NOT_HAVE_IT = frozenset({400, 413, 415, 422})
"""The receiver refuses this very alert; to repeat it would keep all later ones back."""


class Alerts:
    """The activity that delivers; two at once do no harm but deliver twice."""

    def __init__(self, store: Store, settings: AlertSettings | None) -> None:
        """Without settings `deliver_alerts` says that there is nothing to do here."""
        self._store = store
        self._settings = settings

    @activity.defn(name="deliver_alerts")
    async def deliver_alerts(self) -> bool:
        """Deliver until the turn ends or the worker does; False where alerts are off."""
        if self._settings is None:
            return False
        gauge = activity.metric_meter().create_gauge_float(WAITING)
        delivery = AlertDelivery(self._store, self._settings, tell=gauge.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TURN.total_seconds()), asyncio.TaskGroup() as tasks:
                    tasks.create_task(_heartbeat())
                    tasks.create_task(delivery.run())
        finally:
            gauge.set(0)  # Whoever delivers next says how it stands.
        return True


async def _heartbeat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(_HEARTBEAT_S)


class AlertDelivery:
    """Reads the journal on from the cursor and posts what is wanted."""

    def __init__(
        self,
        store: Store,
        settings: AlertSettings,
        *,
        timeout: aiohttp.ClientTimeout = _TIMEOUT,
        tell: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """`timeout` bounds one request; `tell` hears how long the oldest alert has waited."""
        self._store = store
        self._settings = settings
        self._timeout = timeout
        self._tell = tell
        self._cursor: str | None = None
        self._moved_s = 0.0
        self._epoch = ""

    async def run(self) -> None:
        """Deliver for ever. What the cursor has never passed begins at the journal's end."""
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            while True:
                try:
                    await self._deliver(session)
                except StoreUnavailable as error:
                    _log.warning("alerts wait for the store: %s", error)
                await asyncio.sleep(_LOOK_S)

    async def _deliver(self, session: aiohttp.ClientSession) -> None:
        """Everything that the journal holds now."""
        name = cursor_name(self._settings.deployment)
        self._epoch = self._epoch or await self._store.epoch()
        head = await self._store.head()
        self._cursor = await self._store.cursor(name)
        if self._cursor is None:
            await self._store.advance_cursor(name, None, str(head))
            return
        after = int(self._cursor)
        while entries := await self._store.events_after(after, _PAGE, self._settings.names):
            for entry in entries:
                await self._until_taken(session, entry)
                after = entry.sequence
                if not await self._move(name, after):
                    return
        self._tell(0)
        if head > after and time.monotonic() - self._moved_s > _MOVE_S:
            await self._move(name, head)

    async def _move(self, name: str, to: int) -> bool:
        """Whether the cursor is ours to move; where another delivery has moved it, look again."""
        if not await self._store.advance_cursor(name, self._cursor, str(to)):
            return False
        self._cursor, self._moved_s = str(to), time.monotonic()
        return True

    async def _until_taken(self, session: aiohttp.ClientSession, entry: JournalEntry) -> None:
        body = json.dumps(self._alert(entry), ensure_ascii=False).encode()
        pause_s = _FIRST_PAUSE_S
        while True:
            failure = await self._post(session, entry, body)
            if failure is None:
                return
            self._tell((utc_now() - entry.committed_at).total_seconds())
            host = urlsplit(self._settings.url.get_secret_value()).hostname
            _log.warning(
                "%s has not taken the alert %d (%s): %s", host, entry.sequence, entry.name, failure
            )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _post(
        self, session: aiohttp.ClientSession, entry: JournalEntry, body: bytes
    ) -> str | None:
        """Why the alert has to be sent again; None: it has not."""
        url = self._settings.url.get_secret_value()
        headers = self._headers(entry, body)
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The text may hold the address, and the address a token.
            return type(error).__name__
        if status in _WILL_NOT_HAVE_IT:
            _log.error("the alert %d is refused for good: HTTP %d", entry.sequence, status)
        elif status not in _HAS_IT:
            return f"HTTP {status}"
        return None

    def _headers(self, entry: JournalEntry, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": self._id(entry)}
        secret = self._settings.secret
        if secret is not None:
            stamp = str(int(time.time()))
            headers["X-OMS-Timestamp"] = stamp
            headers["X-OMS-Signature"] = signature(secret.get_secret_value(), stamp, body)
        return headers

    def _id(self, entry: JournalEntry) -> str:
        """The same for each attempt; another for the same number in a store that was made anew."""
        return f"{self._epoch}-{entry.sequence}"

    def _alert(self, entry: JournalEntry) -> dict[str, Any]:
        """What an operator needs at a glance; the trader's metadata stay where they are."""
        state = entry.state
        return {
            "id": self._id(entry),
            "deployment": self._settings.deployment,
            "name": entry.name,
            "sequence": entry.sequence,
            "order_id": entry.order_id,
            "order_sequence": entry.order_sequence,
            "alarm": entry.alarm,
            "committed_at": entry.committed_at.isoformat(),
            "order": state.model_dump(mode="json", include=_FIELDS),
        }


_FIELDS = {
    "exchange",
    "account",
    "symbol",
    "side",
    "order_type",
    "quantity",
    "price",
    "status",
    "filled_quantity",
    "in_doubt_since",
    "strategy_id",
    "reason_code",
    "rejection_reason",
}


def signature(secret: str, stamp: str, body: bytes) -> str:
    """What X-OMS-Signature holds: "sha256=" and the HMAC of the stamp, a dot and the body."""
    text = stamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def cursor_name(deployment: str) -> str:
    """The cursor behind which a deployment's alerts are delivered."""
    return f"alerts:{deployment}"
