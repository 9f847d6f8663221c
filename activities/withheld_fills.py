"""Fills that an exchange counts in an order's totals and does not list.

The order is asked after first and its trades second, so a list that has less than the totals lacks
something. What a pass has noted and the next one finds unchanged is inferred: the order's workflow
is told one fill for all that is missing (`trading.oms.inference`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.account_pictures import SETTLING
from activities.reconcile_messages import Finding, Outcome, ReconcileReport
from trading.oms.enums import Pending
from trading.oms.errors import ExchangeError, UnreadableOrder
from trading.oms.exact import EXACT
from trading.oms.inference import executed, inferred_fill
from trading.oms.models import utc_now
from trading.oms.reading import number
from trading.oms.reconciliation import unbooked
from trading.oms.venue import OrderRef

if TYPE_CHECKING:
    from collections.abc import Iterable

    from activities.order_door import OrderDoor
    from activities.order_steps import Parts
    from activities.store import StoredClaim
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector

WITHHELD = "withheld_fills"
INFERRED = "inferred_fill"


class WithheldFills:
    """The orders of one pass whose totals are above what is booked.

    `failed` says which orders could not be looked after; they hide nothing of the others.
    """

    def __init__(self, parts: Parts, door: OrderDoor, connector: IExecutionConnector) -> None:
        """Nothing is asked yet."""
        self._store = parts.store
        self._door = door
        self._connector = connector
        self.failed: list[str] = []

    async def findings(self, order_ids: Iterable[str], *, dry_run: bool) -> list[Finding]:
        """Look after orders that may lack fills."""
        suspects = sorted(set(order_ids))
        if not suspects:
            return []
        noted = await self._noted_before()
        found = []
        for order_id in suspects:
            try:
                state = await self._store.order(order_id)
                if state is not None and _is_quiet(state):
                    found += await self._of_order(state, noted, dry_run=dry_run)
            except (ExchangeError, UnreadableOrder) as error:
                self.failed.append(f"withheld fills of order {order_id}: {error}")
        return found

    async def _of_order(
        self, state: OrderState, noted: set[tuple[str, str]], *, dry_run: bool
    ) -> list[Finding]:
        """What its exchange orders lack; a claim without an exchange's id has none."""
        found = []
        for claim in await self._store.claims_of(state.client_order_id):
            if claim.exchange_order_id is None:
                continue
            finding = await self._of_claim(state, claim, noted, dry_run=dry_run)
            if finding is not None:
                found.append(finding)
        return found

    async def _of_claim(
        self, state: OrderState, claim: StoredClaim, noted: set[tuple[str, str]], *, dry_run: bool
    ) -> Finding | None:
        ref = OrderRef(
            symbol=state.symbol,
            exchange_client_id=claim.request.exchange_client_id,
            exchange_order_id=claim.exchange_order_id,
        )
        report = await self._connector.find_order(ref)
        if report is None or not self._is_settled(report):
            return None
        order_id = state.client_order_id
        listed = await self._connector.fills_of(ref)
        booked = await self._store.fills(order_id)
        if unbooked(listed, {fill.fill_id for fill in booked}):
            return None  # The sweep and the order itself see to what is listed.
        inferred = inferred_fill(report, booked)
        if inferred is None:
            return None
        ours, _ = executed(booked, report.exchange_order_id)
        theirs = EXACT.add(ours, inferred.quantity)
        text = (
            f"of exchange order {report.exchange_order_id} {number(theirs)} "
            f"are executed by its totals and {number(ours)} by its trades"
        )
        kind, outcome = WITHHELD, Outcome.LEFT
        if (order_id, text) in noted and not dry_run:
            told = report.model_copy(update={"fills": (inferred,)})
            if await self._door.tell(order_id, [told]):
                kind, outcome = INFERRED, Outcome.ALARMED
        return Finding(
            kind=kind,
            symbol=state.symbol,
            message=text,
            order_id=order_id,
            outcome=outcome,
            numbers={"missing_here": inferred.quantity, "price": inferred.price},
        )

    async def _noted_before(self) -> set[tuple[str, str]]:
        """What the pass before this one has left to be seen again."""
        exchange, account = self._connector.exchange, self._connector.account
        reports = await self._store.upkeep.reports(exchange, account, limit=1)
        return {
            (one.order_id or "", one.message)
            for raw in reports
            for one in ReconcileReport.model_validate(raw).findings
            if one.kind == WITHHELD
        }

    def _is_settled(self, report: ExecutionReport) -> bool:
        """Whether the newest execution is so old that the list of trades should have it."""
        return report.at < self._connector.exchange_now() - SETTLING


def _is_quiet(state: OrderState) -> bool:
    """Whether nothing is under way with it that would book fills by itself."""
    touched = utc_now() - state.last_updated_at < SETTLING
    busy = state.pending is not Pending.NONE or state.replacing or state.in_doubt_since is not None
    return not (touched or busy)
