"""Splitting an order: its legs are admitted and reserved for in one step, all of them or none."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from activities.store.batch import Batch
from activities.store.ledger import together
from activities.store.orders import OnOrder
from activities.store.reservations import Reserve, ReserveWish
from trading.oms.enums import Pending, ReasonCode
from trading.oms.exact import EXACT
from trading.oms.identity import content_hash
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, OrderState
from trading.oms.reading import number
from trading.oms.risk.snapshot import Denial


class SplitDenied(NamedTuple):
    """Why no leg was made: the exchange whose leg was denied (none: the parent), and the denial."""

    exchange: str
    denial: Denial


class Split(OnOrder):
    """Insert the legs of an order with their reservations, and mark the order as their sum.

    Where its first leg is known, somebody has split the order before, and that stands. So does a
    send of the whole that was claimed by a try which had come to another division; what such a try
    has only reserved is released. Further legs are what was refused and is routed again, or make
    the order greater.
    """

    waits = True

    def __init__(self, parent_id: str, wishes: Sequence[ReserveWish], *, adds: bool) -> None:
        """One wish for each leg, each on an account of its own."""
        super().__init__(parent_id)
        self._wishes = wishes
        self._adds = adds
        self._denied: SplitDenied | None = None
        reserves = [Reserve(wish) for wish in wishes]
        self.others = [reserve.order_id for reserve in reserves]
        self.accounts = [one for reserve in reserves for one in reserve.accounts]
        self.rated = together(reserve.rated for reserve in reserves)

    def plan(self, batch: Batch) -> None:
        """Decide with the accounts' rows locked; nothing changes unless every leg passes."""
        self._denied = None
        parent = batch.order(self.order_id)
        is_sent = parent.state.submitted_at is not None and not parent.state.is_split
        if self.others[0] in batch.orders or is_sent:
            return
        if not parent.state.is_open or parent.state.pending is Pending.CANCEL:
            code = parent.state.reason_code or ReasonCode.CANCELLED_BEFORE_SEND
            denial = Denial(code, "the order was cancelled before it was split", {})
            self._denied = SplitDenied("", denial)
            return
        reserves = [Reserve(wish) for wish in self._wishes]
        whole = batch.ledger.release(self.order_id)
        for reserve, wish in zip(reserves, self._wishes, strict=True):
            denial_of_leg = reserve.judge(batch)
            if denial_of_leg is not None:
                self._denied = SplitDenied(wish.order.exchange or "", denial_of_leg)
                if whole is not None:
                    batch.ledger.set(whole)
                return
        for reserve, wish in zip(reserves, self._wishes, strict=True):
            _insert(batch, wish.order, self.received_at)
            reserve.plan(batch)
        batch.apply(parent, self._events(batch, parent.state), self.received_at)

    def _events(self, batch: Batch, parent: OrderState) -> list[LifecycleEvent]:
        total = Decimal(0)
        for wish in self._wishes:
            total = EXACT.add(total, wish.order.quantity)
        again = total if parent.is_split and not self._adds else None
        events = [_event(batch, self._wishes, again)]
        if self._adds:
            grown = EXACT.add(parent.quantity, total)
            kind, revision = EventKind.MODIFIED, parent.revision + 1
            events.append(
                LifecycleEvent(kind=kind, at=batch.now, revision=revision, quantity=grown)
            )
        return events

    def answer(self, batch: Batch) -> tuple[OrderState, SplitDenied | None]:
        """The parent as it is now, and why it was not split, if so."""
        return batch.order(self.order_id).state, self._denied


def _insert(batch: Batch, order: Order, received_at: datetime) -> None:
    text = order.model_dump_json()
    extra = {"content_hash": content_hash(order), "order_json": text, "external": False}
    batch.insert(OrderState.of(order), extra, received_at)


def _event(batch: Batch, wishes: Sequence[ReserveWish], again: Decimal | None) -> LifecycleEvent:
    legs = {
        wish.order.client_order_id: f"{number(wish.order.quantity)} at {wish.order.exchange}"
        for wish in wishes
    }
    return LifecycleEvent(kind=EventKind.SPLIT, at=batch.now, quantity=again, details=dict(legs))
