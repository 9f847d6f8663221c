"""The commands that admit an order and record what happened to it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pydantic_core

from activities.store.batch import Batch
from activities.store.types import Admission, ClaimOutcome, Sent
from trading.oms.identity import content_difference, content_hash
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import Order, OrderState, utc_now
from trading.oms.venue import VenueStatus


class OnOrder:
    """What every command on one order says of itself; each says what it needs besides."""

    claims = False
    sends = False
    admits = False
    waits = False
    accounts: Sequence[tuple[str, str]] = ()
    rated: Mapping[tuple[str, str], bool] = MappingProxyType({})
    others: Sequence[str] = ()

    def __init__(self, order_id: str) -> None:
        """Note the order and the time at which the store was told."""
        self.order_id = order_id
        self.received_at: datetime = utc_now()

    @property
    def fill_ids(self) -> Iterable[str]:
        """No fills."""
        return ()


_ENDED = frozenset({VenueStatus.CANCELLED.value, VenueStatus.EXPIRED.value})
_NOTHING_SENT = frozenset({ClaimOutcome.NOT_PLACED.value, ClaimOutcome.NEVER_REACHED.value})


def may_be_there(claim: Mapping[str, Any]) -> bool:
    """Whether the exchange has had a send, and its first word on it was not its end."""
    if claim["outcome"] != ClaimOutcome.ACCEPTED.value:
        return False
    answer = pydantic_core.from_json(claim["answer"]) if claim["answer"] else {}
    return answer.get("status") not in _ENDED


class Admit(OnOrder):
    """Insert an order with status CREATED, or find the one that has its id."""

    admits = True

    def __init__(self, order: Order) -> None:
        """Hash the content outside the transaction."""
        super().__init__(order.client_order_id)
        self._order = order
        self._hash = content_hash(order)
        self._known: Order | None = None
        self._differs: list[str] = []

    def plan(self, batch: Batch) -> None:
        """Insert where nothing is."""
        self._known, self._differs = None, []
        if self.order_id not in batch.orders:
            self._insert(batch)
            return
        known_hash, known_json = batch.known_json.get(self.order_id, (None, None))
        if known_json is None:
            self._differs = ["the id belongs to an order that was not placed by this system"]
            return
        self._known = Order.model_validate_json(known_json)
        if known_hash != self._hash:
            self._differs = content_difference(self._known, self._order)

    def _insert(self, batch: Batch) -> None:
        text = self._order.model_dump_json()
        extra = {"content_hash": self._hash, "order_json": text, "external": False}
        batch.known_json[self.order_id] = (self._hash, text)
        batch.insert(OrderState.of(self._order), extra, self.received_at)

    def answer(self, batch: Batch) -> Admission:
        """Whether it was made, and how the known one differs."""
        created = self._known is None and not self._differs
        return Admission(created, batch.order(self.order_id).state, self._known, self._differs)


class AdmitExternal(OnOrder):
    """Insert an order that somebody else has placed, so that its fills have an order."""

    admits = True

    def __init__(self, state: OrderState) -> None:
        """`state` is as the exchange describes the order."""
        super().__init__(state.client_order_id)
        self._state = state

    def plan(self, batch: Batch) -> None:
        """Insert where nothing is; what is there stays."""
        if self.order_id not in batch.orders:
            extra = {"content_hash": None, "order_json": None, "external": True}
            batch.insert(self._state, extra, self.received_at)

    def answer(self, batch: Batch) -> OrderState:
        """The state in the store."""
        return batch.order(self.order_id).state


class Record(OnOrder):
    """Apply events to an order and journal what they changed."""

    def __init__(
        self, order_id: str, events: Sequence[LifecycleEvent], unsent_after: Sent | None = None
    ) -> None:
        """`events` in the order in which they happened; see `Store.record`."""
        super().__init__(order_id)
        self._events = events
        self._unsent_after = unsent_after
        self.claims = unsent_after is not None

    @property
    def fill_ids(self) -> Iterable[str]:
        """The fills among the events."""
        return [event.fill.fill_id for event in self._events if event.fill is not None]

    def plan(self, batch: Batch) -> None:
        """Apply them all, or none where something was sent meanwhile, or legs were made."""
        if not self._was_sent(batch):
            batch.apply(batch.order(self.order_id), self._events, self.received_at)

    def _was_sent(self, batch: Batch) -> bool:
        known = self._unsent_after
        if known is None:
            return False
        sent = [
            (Sent(key.leg, key.generation, row.values["stamp"]), row.values)
            for key, row in batch.claims.items()
            if key.order_id == self.order_id and row.values["outcome"] not in _NOTHING_SENT
        ]
        # An older send of its leg that the exchange has after all was taken for absent.
        return batch.order(self.order_id).state.is_split or any(
            one > known or (one.leg == known.leg and may_be_there(claim)) for one, claim in sent
        )

    def answer(self, batch: Batch) -> OrderState:
        """The state after the batch."""
        return batch.order(self.order_id).state
