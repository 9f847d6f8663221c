"""Booking what an exchange said about an order: translate each report, commit, compare totals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from activities.carriers import LIVES, MAY_LIVE, NO_LEG, Carriers, at_of, is_stray, two_live
from activities.messages import Booked
from activities.store import ClaimOutcome, TradingState, resend_scope
from trading.oms.enums import OrderStatus, Pending
from trading.oms.errors import OrderNotFound
from trading.oms.exact import EXACT
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.reports import elsewhere, events_of
from trading.oms.venue import VenueStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from activities.store import ClaimKey, Store, StoredClaim
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport

_log = logging.getLogger(__name__)
_UNPROVED = frozenset(
    {
        OrderStatus.CREATED,
        OrderStatus.PENDING_SUBMISSION,
        OrderStatus.SUBMITTED,
        OrderStatus.REJECTED,
        OrderStatus.ERROR,
    }
)


class Booking:
    """Turns reports into committed events. Booking the same report twice changes nothing."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store
        self.carriers = Carriers(store)

    async def book(
        self, order_id: str, reports: Sequence[ExecutionReport], *, generation: int = 1
    ) -> Booked:
        """Commit every report; says whether the exchange's totals are above the booked fills.

        `generation` is the send that carries the order as far as the asker knows. Only the first
        cannot have been overtaken by an older one; for any other the answer says what carries the
        order although these reports do not show it: an earlier try may have committed that.
        """
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise OrderNotFound(msg)
        reports = [report for report in reports if await self._is_about(report, state)]
        carrier, events, strays = await self.carriers.another(reports, state, generation)
        if carrier is not None:
            state = _carried_by(carrier, state)
        was_replacing = state.replacing
        for report in reports:
            claim = await self.carriers.claim_of(report, state)
            leg = claim.key.leg if claim is not None else state.leg
            if leg > state.leg:
                continue  # A replacement that was refused: its answer or the look-up ends it.
            if claim is not None and is_stray(claim, state):
                leg = NO_LEG
                if report.status in MAY_LIVE and at_of(claim) not in strays:
                    strays.append(at_of(claim))
                    carries = await self.carriers.of(state)
                    is_older = carries is not None and claim.key < carries.key
                    events.append(two_live(claim, "all of it" if is_older else "it"))
            events.extend(await self._reduced_there(report, state))
            events.extend(events_of(report, leg, state))
        was_absent = carrier is not None and carrier.outcome is ClaimOutcome.NOT_PLACED
        if (strays or was_absent) and await self._is_news(order_id, events):
            lived = "two sends of it were" if strays else "a send of it that was proved absent was"
            await self._stop_resending(state, f"{lived} alive")
        unproved = state.in_doubt_since is not None or state.status in _UNPROVED
        if strays or unproved or carrier is not None:
            state = await self._record_with_proof(order_id, events, reports)
        else:
            state = await self._store.record(order_id, events)
        await self._not_replaced(state, was_replacing=was_replacing)
        missing = await fills_missing_by(self._store, state, reports)
        booked = Booked(state=state, fills_missing=missing, strays=tuple(strays))
        if carrier is not None:
            return booked.model_copy(update={"carrier": at_of(carrier)})
        known = await self.carriers.overtaken(state) if generation > 1 and not strays else None
        return known.model_copy(update={"fills_missing": missing}) if known else booked

    async def _is_about(self, report: ExecutionReport, state: OrderState) -> bool:
        """Whether a report speaks of this order at all; the feed has looked, others may not.

        An exchange order that is of no send of it must not carry it from now on.
        """
        ids = report.exchange_client_id, report.exchange_order_id
        own = state.exchange_client_id, state.exchange_order_id
        if elsewhere([report], state) is None and (
            any(given == known is not None for given, known in zip(ids, own, strict=True))
            or ids == (None, None)
            or await self.carriers.claim_of(report, state) is not None
        ):
            return True
        _log.error(
            "a report that is not about order %s is dropped: %r", state.client_order_id, report
        )
        return False

    async def _reduced_there(
        self, report: ExecutionReport, state: OrderState
    ) -> list[LifecycleEvent]:
        """The exchange works less than we think: an amendment that we do not know of.

        By somebody else, or by a run of ours that was cut off. Without it the order would wait for
        fills that cannot come. A late report from before an increase of ours is none.
        """
        is_ours_to_know = state.pending is Pending.MODIFY or state.replacing
        # An amendment may have given it another client id.
        is_newest = report.exchange_order_id == state.exchange_order_id is not None
        if report.quantity is None or is_ours_to_know or not is_newest:
            return []
        if report.quantity >= state.quantity:
            return []
        total = report.quantity
        if state.leg > 1:
            for fill in await self._store.fills(state.client_order_id):
                if fill.exchange_order_id != report.exchange_order_id:
                    total = EXACT.add(total, fill.quantity)
        if total >= state.quantity or await self._is_from_before(report, total, state):
            return []
        modified = LifecycleEvent(
            kind=EventKind.MODIFIED,
            at=report.at,
            leg=state.leg,
            revision=state.revision + 1,
            quantity=total,
            price=state.price,
            stop_price=state.stop_price,
        )
        return [modified]

    async def _is_from_before(
        self, report: ExecutionReport, total: Decimal, state: OrderState
    ) -> bool:
        """Whether a report of a live order shows a quantity that it had before a change of ours.

        Streams deliver late and queries lag, so no time of theirs tells. What somebody else sets to
        just such a quantity is found by reconciliation, and by the end of the order.
        """
        if not state.revision or report.status not in LIVES:
            return False
        return await self._store.past.had_quantity(state.client_order_id, total)

    async def _not_replaced(self, state: OrderState, *, was_replacing: bool) -> None:
        """Filled by its old leg: the exchange has not cancelled that, and so not replaced it."""
        if not was_replacing or state.status is not OrderStatus.FILLED:
            return
        for claim in await self._store.claims_of(state.client_order_id):
            if claim.key.leg > state.leg and claim.outcome in {None, ClaimOutcome.UNKNOWN}:
                await self._store.settle_claim(*claim.key, outcome=ClaimOutcome.NOT_PLACED)

    async def _is_news(self, order_id: str, events: Sequence[LifecycleEvent]) -> bool:
        """Whether an alarm is not in the journal yet.

        What an operator has cleared is not stopped again by a repeated report of the same send.
        """
        texts = {e.reason for e in events if e.kind is EventKind.ALARM and e.reason}
        return bool(texts) and bool(texts - await self._store.past.alarms(order_id, texts))

    async def _stop_resending(self, state: OrderState, why: str) -> None:
        """Absence cannot be proved there: nothing is sent again until an operator says so."""
        await self._store.set_trading_state(
            resend_scope(state.exchange, state.account),
            TradingState.HALTED,
            reason=f"order {state.client_order_id}: {why}",
            by="oms",
        )

    async def _record_with_proof(
        self, order_id: str, events: Sequence[LifecycleEvent], reports: Sequence[ExecutionReport]
    ) -> OrderState:
        """The exchange's own word on a send is proof: its claim has its outcome.

        The last one is settled in the commit that ends the doubt: after it nobody would look.
        """
        proofs: dict[ClaimKey, ExecutionReport] = {}
        for report in reports:
            if report.exchange_client_id is None or report.status is VenueStatus.REJECTED:
                continue
            found = await self._store.find_claim(
                report.exchange, report.account, report.exchange_client_id
            )
            if found is not None:
                proofs[found] = report
        newest = max(proofs, default=None)
        for key, report in proofs.items():
            if key != newest:
                await self._settle(key, report, [])
        if newest is None:
            return await self._store.record(order_id, events)
        return await self._settle(newest, proofs[newest], events)

    async def _settle(
        self, key: ClaimKey, report: ExecutionReport, events: Sequence[LifecycleEvent]
    ) -> OrderState:
        return await self._store.settle_claim(
            *key,
            outcome=ClaimOutcome.ACCEPTED,
            answer=report.model_dump(mode="json", exclude={"fills"}),
            events=events,
        )


def _carried_by(claim: StoredClaim, state: OrderState) -> OrderState:
    """The order as it is once another send of its leg carries it."""
    change = {
        "leg": claim.key.leg,
        "exchange_client_id": claim.request.exchange_client_id,
        "exchange_order_id": claim.exchange_order_id,
    }
    return state.model_copy(update=change)


async def fills_missing_by(
    store: Store, state: OrderState, reports: Sequence[ExecutionReport], *, exactly: bool = False
) -> bool:
    """Whether some report's executed total is above what is booked for its exchange order.

    `exactly` counts by exchange order although the order is on its first leg: it may have strays.
    """
    totals: dict[str, Decimal] = {}
    for report in reports:
        if report.cumulative_quantity and report.exchange_order_id:
            known = totals.get(report.exchange_order_id, report.cumulative_quantity)
            totals[report.exchange_order_id] = max(known, report.cumulative_quantity)
    is_plain = state.leg == 1 and not exactly
    if not totals or (is_plain and max(totals.values()) <= state.filled_quantity):
        return False
    booked: dict[str, Decimal] = {}
    for fill in await store.fills(state.client_order_id):
        key = fill.exchange_order_id or ""
        booked[key] = EXACT.add(booked.get(key, EXACT.create_decimal(0)), fill.quantity)
    return any(total > booked.get(key, 0) for key, total in totals.items())
