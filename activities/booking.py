"""Booking what an exchange said about an order: translate each report, commit, compare totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.messages import Booked
from activities.store import ClaimOutcome
from trading.oms.errors import OrderNotFound
from trading.oms.exact import EXACT
from trading.oms.reports import events_of
from trading.oms.venue import VenueStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from activities.store import Store
    from trading.oms.lifecycle import LifecycleEvent
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport


class Booking:
    """Turns reports into committed events. Booking the same report twice changes nothing."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store

    async def book(self, order_id: str, reports: Sequence[ExecutionReport]) -> Booked:
        """Commit every report; says whether the exchange's totals are above the booked fills."""
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise OrderNotFound(msg)
        events: list[LifecycleEvent] = []
        for report in reports:
            leg = await self._leg_of(report, state)
            events.extend(events_of(report, leg, state))
        doubted = state.in_doubt_since is not None
        state = await self._store.record(order_id, events)
        if doubted and state.in_doubt_since is None:
            await self._end_doubt(state, reports)
        missing = await fills_missing_by(self._store, state, reports)
        return Booked(state=state, fills_missing=missing)

    async def _leg_of(self, report: ExecutionReport, state: OrderState) -> int:
        """The leg that a report speaks of: by its client id, else by the exchange's order id."""
        if state.leg == 1 or report.exchange_client_id == state.exchange_client_id:
            return state.leg
        if report.exchange_client_id is None and report.exchange_order_id is not None:
            for claim in await self._store.claims_of(state.client_order_id):
                if claim.exchange_order_id == report.exchange_order_id:
                    return claim.key.leg
        if report.exchange_client_id is not None:
            found = await self._store.find_claim(
                report.exchange, report.account, report.exchange_client_id
            )
            if found is not None:
                return found.leg
        return state.leg

    async def _end_doubt(self, state: OrderState, reports: Sequence[ExecutionReport]) -> None:
        """The exchange's own word is proof: the claim has its outcome."""
        for report in reports:
            if report.exchange_client_id is None:
                continue
            found = await self._store.find_claim(
                report.exchange, report.account, report.exchange_client_id
            )
            if found is not None and report.status is not VenueStatus.REJECTED:
                await self._store.settle_claim(
                    state.client_order_id,
                    found.leg,
                    found.generation,
                    outcome=ClaimOutcome.ACCEPTED,
                    answer=report.model_dump(mode="json", exclude={"fills"}),
                    events=[],
                )


async def fills_missing_by(
    store: Store, state: OrderState, reports: Sequence[ExecutionReport]
) -> bool:
    """Whether some report's executed total is above what is booked for its exchange order."""
    totals: dict[str, Decimal] = {}
    for report in reports:
        if report.cumulative_quantity and report.exchange_order_id:
            known = totals.get(report.exchange_order_id, report.cumulative_quantity)
            totals[report.exchange_order_id] = max(known, report.cumulative_quantity)
    if not totals or (state.leg == 1 and max(totals.values()) <= state.filled_quantity):
        return False
    booked: dict[str, Decimal] = {}
    for fill in await store.fills(state.client_order_id):
        key = fill.exchange_order_id or ""
        booked[key] = EXACT.add(booked.get(key, EXACT.create_decimal(0)), fill.quantity)
    return any(total > booked.get(key, 0) for key, total in totals.items())
