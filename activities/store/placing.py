"""The first step of an order in one transaction: admit it, reserve for it, and claim its send.

What three transactions did one after the other is decided in one, in the same order and by the
same commands. An order that is known already is left alone: somebody has begun with it, and the
steps one by one know how to go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from activities.store.batch import Batch
from activities.store.claims import ClaimRequest, ClaimSend
from activities.store.orders import Admit, OnOrder
from activities.store.reservations import Reserve, ReserveWish
from activities.store.types import Claim
from trading.oms.enums import RejectedBy
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, OrderState
from trading.oms.reading import number
from trading.oms.risk.snapshot import Denial


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSend:
    """What is asked of the account, and the send that is claimed if it says yes.

    `before` are events that are true whatever it says.
    """

    wish: ReserveWish
    claim: ClaimRequest
    before: Sequence[LifecycleEvent] = ()


class Placing(NamedTuple):
    """The order after it. Without a claim it was denied, and has ended."""

    state: OrderState
    checks_run: tuple[str, ...] = ()
    claim: Claim | None = None


class Place(OnOrder):
    """Insert an order with its reservation and the claim of its first send, or with its denial."""

    admits = True
    waits = True
    claims = True
    sends = True

    def __init__(self, order: Order, first: FirstSend) -> None:
        """Put the three commands together."""
        super().__init__(order.client_order_id)
        self._first = first
        self._admit = Admit(order)
        self._reserve = Reserve(first.wish)
        self._claim = ClaimSend(first.claim)
        self._is_known = False
        self._checks_run: tuple[str, ...] = ()
        self._is_denied = False
        self.accounts, self.rated = self._reserve.accounts, self._reserve.rated

    def plan(self, batch: Batch) -> None:
        """Decide with the trading states and the account's row locked."""
        self._is_known = self._is_denied = False
        if self.order_id in batch.orders:
            # It may be this very command, whose transaction was committed and its answer lost.
            self._is_known = not self._claim.has_won(batch)
            return
        self._admit.plan(batch)
        row = batch.order(self.order_id)
        self._reserve.plan(batch)
        self._checks_run, denial = self._reserve.answer(batch)
        if denial is None:
            self._claim.plan(batch)
            return
        self._is_denied = True
        batch.apply(row, [*self._first.before, denied(denial, batch)], self.received_at)

    def answer(self, batch: Batch) -> Placing | None:
        """None: the order was known before, and nothing was done."""
        if self._is_known:
            return None
        state = batch.order(self.order_id).state
        claim = None if self._is_denied else self._claim.answer(batch)
        return Placing(state, self._checks_run, claim)


class AdmitEnded(OnOrder):
    """Insert an order that a check has denied which needs nothing of the account."""

    admits = True

    def __init__(self, order: Order, events: Sequence[LifecycleEvent]) -> None:
        """The last of `events` ends it."""
        super().__init__(order.client_order_id)
        self._admit = Admit(order)
        self._events = events
        self._is_known = False

    def plan(self, batch: Batch) -> None:
        """Insert it with its end; what is known is left alone."""
        self._is_known = self.order_id in batch.orders
        if not self._is_known:
            self._admit.plan(batch)
            batch.apply(batch.order(self.order_id), self._events, self.received_at)

    def answer(self, batch: Batch) -> Placing | None:
        """None: the order was known before, and nothing was done."""
        return None if self._is_known else Placing(batch.order(self.order_id).state)


def denied(denial: Denial, batch: Batch) -> LifecycleEvent:
    """The end of an order by one of our own rules, with the numbers compared."""
    numbers = {name: number(value) for name, value in denial.numbers.items()}
    return LifecycleEvent(
        kind=EventKind.DENIED,
        at=batch.now,
        rejected_by=RejectedBy.RISK,
        reason_code=denial.code,
        reason=denial.message,
        details={"numbers": numbers} if numbers else None,
    )
