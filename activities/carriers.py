"""Which send carries an order: where an older one proves to live, and what may live beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.messages import Booked, OrderAt
from activities.store import ClaimOutcome
from trading.oms.enums import Pending
from trading.oms.exact import EXACT
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.venue import VenueStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.store import Store, StoredClaim
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport

NO_LEG = 0
"""The leg of a stray's events: its fills count, its life and death are not the order's."""
MAY_LIVE = frozenset({None, VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED, VenueStatus.FILLED})
LIVES = frozenset({VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED})


class Carriers:
    """Tells the sends of an order apart."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store

    async def overtaken(self, state: OrderState, meant: int | None = None) -> Booked | None:
        """What carries the order, and what may live beside it, where it is not the one `meant`.

        Without a generation the newest send is. A task whose first try was cut off knows it so.
        """
        claims = await self._of_leg(state)
        carrier = next((claim for claim in claims if not is_stray(claim, state)), None)
        meant = meant or max((claim.key.generation for claim in claims), default=0)
        if carrier is None or carrier.key.generation == meant:
            return None
        return Booked(state=state, carrier=at_of(carrier), strays=may_live_beside(carrier, claims))

    async def another(
        self, reports: Sequence[ExecutionReport], state: OrderState, generation: int
    ) -> tuple[StoredClaim | None, list[LifecycleEvent], list[OrderAt]]:
        """What the reports prove to carry the order now, what that is to it, and strays."""
        revived = await self._revived(reports, state, generation)
        if revived is not None:
            was_absent = revived.outcome is ClaimOutcome.NOT_PLACED  # Else a look-up has found it.
            return revived, _alarm_if_revived(revived, state) if was_absent else [], []
        older = await self._older_that_lives(reports, state)
        if older is not None:
            newer = await self.of(state)
            strays = [at_of(newer)] if newer is not None else []
            return older, [_takes_over(older), two_live(older, "the newer one")], strays
        for report in reports:
            claim = await self.claim_of(report, state)
            is_there = report.status is not VenueStatus.REJECTED
            if claim is not None and claim.key.leg > state.leg and is_there:
                started = _replaces(claim, report, state)
                return claim, [started, *_alarm_if_revived(claim, state)], []
        return None, [], []

    async def _revived(
        self, reports: Sequence[ExecutionReport], state: OrderState, generation: int
    ) -> StoredClaim | None:
        """The send that carries the order, where the asker is about to send it once more.

        It was taken for absent, and nothing newer is claimed yet.
        """
        if generation == 1:
            return None
        claims = await self._of_leg(state)
        own = max(claims, key=lambda claim: claim.key.generation, default=None)
        if own is None or own.key.generation >= generation or is_stray(own, state):
            return None
        for report in reports:
            if await self.claim_of(report, state) is None and report.status in MAY_LIVE:
                return own
        return None

    async def _older_that_lives(
        self, reports: Sequence[ExecutionReport], state: OrderState
    ) -> StoredClaim | None:
        """An older send that lives after all and carries the order from now on; the oldest.

        Only where the newer one has done nothing yet and nothing else is under way: otherwise
        nobody can say what of both may stay, and all of it is cancelled.
        """
        is_quiet = state.pending is Pending.NONE and not state.replacing
        if state.leg != 1 or state.filled_quantity or not (state.is_open and is_quiet):
            return None
        found = []
        for report in reports:
            claim = await self.claim_of(report, state)
            if claim is None or not is_stray(claim, state) or report.status not in LIVES:
                continue
            found.append(claim)
        if not found:
            return None
        older = min(found, key=lambda claim: claim.key.generation)
        carrier = await self.of(state)
        return None if carrier is not None and older.key > carrier.key else older

    async def _of_leg(self, state: OrderState) -> list[StoredClaim]:
        """The sends of the present leg."""
        return [c for c in await self._store.claims_of(state.client_order_id) if _is_on(c, state)]

    async def of(self, state: OrderState) -> StoredClaim | None:
        """The send that carries the order; None where an amendment has given it another id."""
        for claim in await self._store.claims_of(state.client_order_id):
            if claim.request.exchange_client_id == state.exchange_client_id:
                return claim
        return None

    async def claim_of(self, report: ExecutionReport, state: OrderState) -> StoredClaim | None:
        """The send that a report speaks of, None where it is the newest.

        By the client id, else by the exchange's order id.
        """
        client_id, exchange_id = report.exchange_client_id, report.exchange_order_id
        if client_id == state.exchange_client_id or (
            client_id is None and exchange_id in {None, state.exchange_order_id}
        ):
            return None
        for claim in await self._store.claims_of(state.client_order_id):
            if client_id == claim.request.exchange_client_id or (
                client_id is None and exchange_id == claim.exchange_order_id
            ):
                return claim
        return None


def may_live_beside(carrier: StoredClaim, claims: Sequence[StoredClaim]) -> tuple[OrderAt, ...]:
    """The other sends of its leg that may be alive, by what the store knows.

    What has become of one since the exchange's first word on it is not in its claim: it is asked.
    """
    return tuple(
        at_of(claim)
        for claim in claims
        if claim.key.leg == carrier.key.leg and claim.key != carrier.key and _may_live(claim)
    )


def _may_live(claim: StoredClaim) -> bool:
    if claim.outcome is ClaimOutcome.ACCEPTED:
        return (claim.answer or {}).get("status") in MAY_LIVE
    return claim.outcome in {None, ClaimOutcome.UNKNOWN}


def _is_on(claim: StoredClaim, state: OrderState) -> bool:
    return claim.key.leg == state.leg


def is_stray(claim: StoredClaim, state: OrderState) -> bool:
    """Whether it is a send of the present leg, and not the one that carries the order."""
    is_carrier = claim.request.exchange_client_id == state.exchange_client_id
    return _is_on(claim, state) and not is_carrier


def at_of(claim: StoredClaim) -> OrderAt:
    """The send as workflows name it."""
    return OrderAt(**claim.key._asdict())


def _replaces(claim: StoredClaim, report: ExecutionReport, state: OrderState) -> LifecycleEvent:
    """The exchange has the order that a cancel-replace was to place: it is the next leg.

    So it has cancelled the one before, which had no fill then; what that one has filled counts.
    """
    quantity = report.quantity or claim.request.quantity
    return LifecycleEvent(
        kind=EventKind.LEG_STARTED,
        at=claim.claimed_at,
        leg=claim.key.leg,
        exchange_client_id=claim.request.exchange_client_id,
        revision=state.revision + 1,
        quantity=EXACT.add(quantity, state.filled_quantity),
        price=report.price or claim.request.price,
        stop_price=claim.request.stop_price,
        details={"generation": claim.key.generation, "stamp": claim.stamp},
    )


def _alarm_if_revived(claim: StoredClaim, state: OrderState) -> list[LifecycleEvent]:
    was_absent = claim.outcome is ClaimOutcome.NOT_PLACED
    if not was_absent and state.is_open:
        return []
    name = f"leg {claim.key.leg}, generation {claim.key.generation}"
    why = "was proved not to be placed" if was_absent else "was taken for dead"
    reason = f"{name} lives, which {why}; it carries the order"
    event = LifecycleEvent(kind=EventKind.ALARM, at=claim.claimed_at, leg=NO_LEG, reason=reason)
    return [event]


def _takes_over(claim: StoredClaim) -> LifecycleEvent:
    return LifecycleEvent(
        kind=EventKind.LEG_STARTED,
        at=claim.claimed_at,
        leg=claim.key.leg,
        exchange_client_id=claim.request.exchange_client_id,
        details={"generation": claim.key.generation, "stamp": claim.stamp},
    )


def two_live(claim: StoredClaim, cancelled: str) -> LifecycleEvent:
    """The alarm about a send that lives beside another, and which of them is `cancelled`."""
    reason = (
        f"two sends of leg {claim.key.leg} live: generation {claim.key.generation} does, beside "
        f"another; {cancelled} is cancelled"
    )
    return LifecycleEvent(kind=EventKind.ALARM, at=claim.claimed_at, leg=NO_LEG, reason=reason)
