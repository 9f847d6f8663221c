"""One pass of reconciliation over one account: two pictures, what differs, and what is done.

Nothing is changed but through the order workflows: they are told what the exchange says and book
it themselves. A query that fails is no observation. Orders that were touched since shortly before
the exchange was asked are left to the next pass.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.account_pictures import (
    SETTLING,
    Pictures,
    both_pictures,
    exchange_picture,
    our_orders,
    our_picture,
)
from activities.balance_check import BalanceCheck
from activities.fill_sweep import FillSweep
from activities.foreign_orders import ForeignOrders
from activities.heartbeats import beating
from activities.messages import Account
from activities.order_door import OrderDoor
from activities.rate_desk import A_WINDOW_S, patient
from activities.reconcile_messages import (
    Accounts,
    Finding,
    Outcome,
    ReconcileReport,
    ReconcileRequest,
    StoreMark,
)
from activities.store_marks import halt_if_gone_back, mark_of
from activities.withheld_fills import WithheldFills
from activities.workflow_check import WorkflowCheck
from trading.oms.errors import ExchangeError, UnreadableOrder
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.reconciliation import Difference, DifferenceKind, compare
from trading.oms.venue import ExecutionReport, OrderRef, ReportSource, VenueStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from temporalio.client import Client

    from activities.order_steps import Parts
    from trading.oms.models import OrderState

_log = logging.getLogger(__name__)
_FINDINGS_MAX = 500
_INBOX_KEPT = timedelta(days=7)
_PATIENT_S = 300.0
"""Half of the time that a pass has before it is cut off and begun again."""
_SEEN_LATE = timedelta(days=1)
"""Somebody else's order may be older than what we have seen of it first."""


class Reconciling:
    """The activity that reconciles an account."""

    def __init__(self, parts: Parts, client: Client, task_queue: str) -> None:
        """`task_queue` is the one of the order workflows."""
        self._parts = parts
        self._door = OrderDoor(client, task_queue)

    @activity.defn(name="list_accounts")
    async def list_accounts(self, request: ReconcileRequest) -> Accounts:
        """The accounts that are meant, of those that this worker is connected to.

        Raises `ApplicationError` where one was named and is none of them; another worker may.
        """
        found = [
            Account(exchange=exchange, account=account)
            for exchange, account in sorted(self._parts.connectors)
            if request.exchange in {"", exchange} and request.account in {"", account}
        ]
        if not found and (request.exchange or request.account):
            raise self._parts.no_such_account(request.exchange or "*", request.account or "*")
        return Accounts(accounts=tuple(found))

    @activity.defn(name="reconcile_account")
    async def reconcile_account(self, request: ReconcileRequest) -> ReconcileReport:
        """Make one pass. What it asks beyond a minute's limit waits for the next minute.

        But not for ever: what has no room then is named as failed, and left to the next pass.
        """
        with patient(A_WINDOW_S, for_s=_PATIENT_S):
            async with beating():
                return await _Pass(self._parts, self._door, request).run()


class _Pass:
    """One pass; it collects what its report says."""

    def __init__(self, parts: Parts, door: OrderDoor, request: ReconcileRequest) -> None:
        self._parts = parts
        self._store = parts.store
        self._door = door
        self._request = request
        self._connector = parts.connector(request.exchange, request.account)
        self._foreign = ForeignOrders(parts.store)
        self._looked_at: dict[str, int] = {}
        self._findings: list[Finding] = []
        self._failed: list[str] = []
        self._lacking: set[str] = set()

    async def run(self) -> ReconcileReport:
        started = utc_now()
        mark = await self._store_mark()
        await self._workflows()
        await self._orders()
        await self._fills()
        await self._withheld()
        await self._reservations()
        balances = await self._balances()
        await self._forget()
        report = ReconcileReport(
            exchange=self._request.exchange,
            account=self._request.account,
            started_at=started,
            ended_at=utc_now(),
            dry_run=self._request.dry_run,
            looked_at=self._looked_at,
            findings=tuple(self._findings[:_FINDINGS_MAX]),
            balances=balances,
            failed=tuple(dict.fromkeys(self._failed)),
            store=mark,
        )
        await self._store.upkeep.add_report(
            started, report.model_dump(mode="json"), len(self._findings)
        )
        return report

    async def _forget(self) -> None:
        """What was delivered long ago is in the orders' journals."""
        before = utc_now() - _INBOX_KEPT
        while not self._request.dry_run and await self._store.inbox_prune(before):
            pass

    async def _store_mark(self) -> StoreMark:
        """The store as it is now; one that has gone back since the last run stops all sending."""
        before, dry_run = self._request.store_before, self._request.dry_run
        text = await halt_if_gone_back(self._store, before, dry_run=dry_run)
        if text is not None:
            self._findings.append(
                Finding(kind="restored_store", symbol="", message=text, outcome=Outcome.ALARMED)
            )
        return await mark_of(self._store)

    async def _workflows(self) -> None:
        check = WorkflowCheck(
            self._store, self._door, self._connector, dry_run=self._request.dry_run
        )
        await check.run()
        self._looked_at["workflows"] = check.looked_at
        self._findings += check.findings
        self._failed += check.failed
        self._lacking |= check.lacking

    # Open orders, both ways.

    async def _orders(self) -> None:
        try:
            pictures = await both_pictures(self._store, self._parts.deployment, self._connector)
        except ExchangeError as error:
            self._failed.append(f"open orders: {error}")
            return
        self._looked_at["orders_here"] = len(pictures.ours.legs)
        self._looked_at["orders_there"] = len(pictures.theirs.reports)
        self._failed += pictures.ours.unreadable
        if pictures.theirs.gap is not None:
            self._failed.append(f"open orders: {pictures.theirs.gap}")
        found = compare(pictures.ours, pictures.theirs)
        if found and not self._request.dry_run:
            for difference in found:
                with self._noting_unreadable():
                    await self._act_on(difference)
            found = await self._what_is_left(found, pictures)
        else:
            for difference in found:
                self._add(difference, Outcome.LEFT)
        self._lacking.update(d.order_id for d in found if d.order_id is not None)

    @contextmanager
    def _noting_unreadable(self) -> Iterator[None]:
        """What needs an order's row that cannot be read is left, and the others go on."""
        try:
            yield
        except UnreadableOrder as error:
            self._failed.append(str(error))

    async def _act_on(self, difference: Difference) -> None:
        report = difference.report
        if difference.kind is DifferenceKind.EXTERNAL and report is not None:
            await self._foreign.record(report)
        elif difference.kind is DifferenceKind.UNKNOWN_HERE and report is not None:
            order_id = await self._foreign.recover(report)
            if order_id is not None:
                await self._door.take_up_again(order_id)
        elif difference.order_id is not None:
            fresh = await self._ask_after(difference)
            if fresh is not None:
                await self._tell(difference.order_id, fresh)

    async def _ask_after(self, difference: Difference) -> ExecutionReport | None:
        """The exchange's word on the very order, newer than the list was."""
        client_id, report = difference.exchange_client_id, difference.report
        try:
            if client_id is not None:
                ref = OrderRef(symbol=difference.symbol, exchange_client_id=client_id)
                report = await self._connector.find_order(ref)
            if report is None and await self._is_somebody_elses(difference):
                report = await self._end_of(difference)
        except ExchangeError as error:
            self._failed.append(f"order {difference.order_id}: {error}")
            return None
        return report

    async def _is_somebody_elses(self, difference: Difference) -> bool:
        return not (await self._store.standing(difference.order_id or "", ())).is_ours

    async def _end_of(self, difference: Difference) -> ExecutionReport | None:
        """How somebody else's order ended that is open no more.

        No workflow waits for it and no operator is asked about it. So one that the list of all
        orders does not have either is over: the exchange has forgotten it.
        """
        state = await self._store.order(difference.order_id or "")
        if state is None:
            return None
        since = state.created_at - _SEEN_LATE
        listed = await self._connector.orders_since(difference.symbol, since)
        for report in listed:
            if report.exchange_order_id == state.exchange_order_id:
                return report
        return None if listed.gap is not None else _forgotten(state)

    async def _tell(self, order_id: str, report: ExecutionReport) -> None:
        if (await self._store.standing(order_id, ())).is_ours:
            await self._door.tell(order_id, [report])
        else:
            await self._foreign.record(report)

    async def _what_is_left(
        self, found: Sequence[Difference], before: Pictures
    ) -> list[Difference]:
        """Compare again; what is gone was mended, the rest is alarmed on its order.

        Where the exchange does not answer now, the rest is left to the next pass.
        """
        theirs = before.theirs
        try:
            again = await exchange_picture(self._connector)
        except ExchangeError as error:
            self._failed.append(f"open orders, again: {error}")
        else:
            # What a list with a gap does not show is not mended.
            theirs = again if again.gap is None or theirs.gap is not None else theirs
        here = await our_orders(self._store, self._connector)
        ours = await our_picture(
            self._store, self._parts.deployment, here, theirs.reports, utc_now() + SETTLING
        )
        left = {difference.key for difference in compare(ours, theirs)}
        for difference in found:
            if difference.kind is DifferenceKind.EXTERNAL:
                self._add(difference, Outcome.RECORDED)
            elif difference.kind is DifferenceKind.UNKNOWN_HERE:
                self._add(difference, Outcome.ALARMED)
            elif difference.key not in left:
                self._add(difference, Outcome.MENDED)
            elif theirs is before.theirs:
                self._add(difference, Outcome.LEFT)
            else:
                await self._alarm(difference)
        return [difference for difference in found if difference.key in left]

    async def _alarm(self, difference: Difference) -> None:
        state = await self._store.order(difference.order_id or "")
        if state is None:
            self._add(difference, Outcome.LEFT)
            return
        # At a time that stays: the same difference is alarmed once, not in every pass.
        event = LifecycleEvent(
            kind=EventKind.ALARM,
            at=state.last_updated_at,
            leg=state.leg,
            reason=f"reconciliation, {difference.kind.value}: {difference.message}",
        )
        await self._store.record(state.client_order_id, [event])
        self._add(difference, Outcome.ALARMED)

    # Fills.

    async def _fills(self) -> bool:
        """Whether the exchange's whole list was seen."""
        sweep = FillSweep(self._parts, self._door, self._connector)
        whole = True
        for symbol, since in (await sweep.symbols()).items():
            try:
                missing = await sweep.missing(symbol, since)
                self._looked_at["fills"] = self._looked_at.get("fills", 0) + sweep.looked_at
                for order_id, report in missing:
                    done = False
                    with self._noting_unreadable():
                        done = not self._request.dry_run and await sweep.deliver(order_id, report)
                    text = f"{len(report.fills)} fills of exchange order {report.exchange_order_id}"
                    self._note("missing_fills", symbol, text, order_id, mended=done)
                if not self._request.dry_run:
                    await sweep.done_with(symbol)
            except ExchangeError as error:
                self._failed.append(f"fills of {symbol}: {error}")
                whole = False
        return whole

    async def _withheld(self) -> None:
        """Fills that no list has although the totals demand them: noted, then inferred."""
        sweep = WithheldFills(self._parts, self._door, self._connector)
        self._findings += await sweep.findings(self._lacking, dry_run=self._request.dry_run)
        self._failed += sweep.failed

    # What the orders hold, and what the account has.

    async def _reservations(self) -> None:
        """An order holds what its state says; what it holds in doubt is not released here."""
        if self._request.dry_run:
            return
        for order_id in await self._store.risk.mend(self._request.exchange, self._request.account):
            text = f"the reservation of order {order_id} was not what its state says"
            self._note("reservation", "", text, order_id, mended=True)

    async def _nothing_to_mend(self) -> bool:
        """A dry run has said what fills are missing, and a second sweep would say it again."""
        return not self._failed

    async def _balances(self) -> dict[str, Decimal]:
        check = BalanceCheck(self._parts, self._connector)
        try:
            self._findings += await check.findings(
                self._nothing_to_mend if self._request.dry_run else self._fills,
                dry_run=self._request.dry_run,
            )
        except ExchangeError as error:
            self._failed.append(f"balances: {error}")
        self._looked_at["balances"] = len(check.totals)
        return check.totals

    # What the report says.

    def _add(self, difference: Difference, outcome: Outcome) -> None:
        self._findings.append(
            Finding(
                kind=difference.kind.value,
                symbol=difference.symbol,
                message=difference.message,
                order_id=difference.order_id,
                outcome=outcome,
                numbers=dict(difference.numbers),
            )
        )

    def _note(
        self, kind: str, symbol: str, message: str, order_id: str | None, *, mended: bool
    ) -> None:
        outcome = Outcome.MENDED if mended else Outcome.LEFT
        self._findings.append(
            Finding(kind=kind, symbol=symbol, message=message, order_id=order_id, outcome=outcome)
        )


def _forgotten(state: OrderState) -> ExecutionReport:
    return ExecutionReport(
        exchange=state.exchange,
        account=state.account,
        symbol=state.symbol,
        exchange_client_id=state.exchange_client_id,
        exchange_order_id=state.exchange_order_id,
        status=VenueStatus.CANCELLED,
        reason="the exchange has it in no list any more",
        at=utc_now(),
        received_at=utc_now(),
        source=ReportSource.QUERY,
    )
