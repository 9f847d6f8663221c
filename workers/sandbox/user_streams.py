"""Who gets which events of which account, and the faults on the way.

Source: "User Data Stream subscription" of the WebSocket API. There is no replay: an event that
finds no subscription is gone.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from workers.sandbox.faults import STREAM_KINDS, Fault, Faults
from workers.sandbox.gateway import dumps
from workers.sandbox.model import Account
from workers.sandbox.sessions import Session


@dataclass(slots=True, eq=False)
class Subscription:
    """One account on one connection. ``held`` is an event that waits to be overtaken.

    ``channel`` is Kraken's: there a connection has several subscriptions to one account, and
    ``sequence`` numbers the messages of each.
    """

    id: int
    account: Account
    session: Session
    held: str | None = None
    channel: str = ""
    sequence: int = 0


class UserStreams:
    """All subscriptions to user data."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._by_account: dict[Account, list[Subscription]] = {}

    def listens(self, account: Account) -> bool:
        """Whether anybody gets this account's events, so that they are worth writing."""
        return bool(self._by_account.get(account))

    def subscribe(self, subscription: Subscription) -> None:
        self._by_account.setdefault(subscription.account, []).append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        subscriptions = self._by_account.get(subscription.account, [])
        if subscription in subscriptions:
            subscriptions.remove(subscription)

    def publish(self, account: Account, event: dict[str, Any]) -> None:
        """Send an event to all subscriptions of the account."""
        for subscription in tuple(self._by_account.get(account, ())):
            text = dumps({"subscriptionId": subscription.id, "event": event})
            self.send(subscription, text, event.get("s", ""), (event["e"], event.get("x", "")))

    def of(self, account: Account, channel: str) -> list[Subscription]:
        """The account's subscriptions to one channel."""
        return [one for one in self._by_account.get(account, ()) if one.channel == channel]

    def send(
        self, subscription: Subscription, text: str, symbol: str, event: tuple[str, ...]
    ) -> None:
        """Send one message, or what the faults make of it; they may name symbol and event."""
        if not self._faults.active:
            subscription.session.send(text)
            return
        about = {"account": (subscription.account.key,), "symbol": (symbol,), "event": event}
        self._send_with_faults(subscription, text, self._faults.draw(STREAM_KINDS, about))

    def disconnect(self, account: Account | None) -> int:
        """Cut the connections of one account, or all; answers how many subscriptions went."""
        gone = [
            subscription
            for owner, subscriptions in self._by_account.items()
            if account is None or owner is account
            for subscription in subscriptions
        ]
        for subscription in gone:
            subscription.session.abort()
            self.unsubscribe(subscription)
        return len(gone)

    def _send_with_faults(
        self, subscription: Subscription, text: str, struck: dict[str, Fault]
    ) -> None:
        session = subscription.session
        if "stream_disconnect" in struck:
            session.abort()
            self.unsubscribe(subscription)
            return
        if "stream_drop" in struck:
            return
        if "stream_reorder" in struck and subscription.held is None:
            subscription.held = text
            return
        copies = 2 if "stream_duplicate" in struck else 1
        delay = struck.get("stream_delay_ms")
        for _ in range(copies):
            if delay is None:
                session.send(text)
            else:
                asyncio.get_running_loop().call_later(delay.seconds, session.send, text)
        if subscription.held is not None:
            session.send(subscription.held)
            subscription.held = None
