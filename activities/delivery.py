"""From the inbox to the orders: each report becomes an update of its order's workflow.

One update in flight per order; what arrives meanwhile goes into the next one. An order that
cannot take its reports (paused, wedged, its worker away) delays only itself, whatever the cause;
it is tried for ever, and alarmed when it lasts. What an order has booked already, from the answer
to its send, costs no update at all. But an update that was sent once is sent until it is answered:
what it booked is in the store, and if the Temporal server died meanwhile the workflow knows nothing
of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import (
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from activities.booking import Booking
from activities.connectors.classify import shown
from activities.order_door import resuming
from activities.store import Unreadable
from activities.waking import nudge
from trading.oms.client_calls import give_back_cancellation, look_at
from trading.oms.commands import ExecutionBatch
from trading.oms.enums import OrderStatus
from trading.oms.errors import StoreUnavailable
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.order_workflow import workflow_id
from trading.oms.reports import elsewhere
from trading.oms.venue import VenueStatus

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.messages import Account
    from activities.store import InboxItem, Standing, Store
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport

_log = logging.getLogger(__name__)
_BEFORE_ANSWER = frozenset(
    {OrderStatus.CREATED, OrderStatus.PENDING_SUBMISSION, OrderStatus.SUBMITTED}
)
_NO_SIGN_OF_LIFE = _BEFORE_ANSWER | {OrderStatus.REJECTED, OrderStatus.ERROR}
_ENDED_THERE = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED})
_LIVES = frozenset({VenueStatus.NEW, VenueStatus.PARTIALLY_FILLED, VenueStatus.FILLED})
_LOOK_AGAIN_S = 2.0
_SEND_IN_FLIGHT = timedelta(seconds=2)
_SEND_POLL_S = 0.02
_FOREIGN_AFTER = timedelta(minutes=2)
_BACK_OFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_RPC_TIMEOUT = timedelta(seconds=10)
_REPORTS_MAX = 200
_PAGE = 1000
_ALARM_AFTER = timedelta(minutes=1)
_MAYBE_SENT_AFTER = timedelta(seconds=3)
"""Another feed, which died, may have begun to deliver a report that waits so long."""
_NOT_REOPENED = (RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError)


class Delivery:
    """Delivers the inbox of one account."""

    def __init__(self, store: Store, client: Client, task_queue: str, account: Account) -> None:
        """`task_queue` is where the order workflows run."""
        self._store = store
        self._client = client
        self._task_queue = task_queue
        self._account = account
        self._booking = Booking(store)
        self._awake = asyncio.Event()
        self._busy: set[str] = set()
        self._reads = 0
        self._set_aside: set[int] = set()

    def wake(self) -> None:
        """Something new is in the inbox."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver for ever; looks at the inbox when woken, and every other second."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._read_inbox(tasks)
                except StoreUnavailable as error:
                    _log.warning("the inbox cannot be read, trying again: %s", error)
                except Exception:  # noqa: BLE001 - the feed outlives every error
                    _log.exception("the inbox cannot be read, trying again")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._awake.wait()
                self._awake.clear()

    async def _read_inbox(self, tasks: asyncio.TaskGroup) -> None:
        """Begin a delivery to each order that has reports and none under way, page by page.

        The reports of the others stay where they are: one order's thousands hide nobody's.
        """
        after = 0
        while True:
            self._reads += 1
            items = await self._store.inbox_undelivered(
                self._account.exchange,
                self._account.account,
                limit=_PAGE,
                after=after,
                but=self._busy,
                foreign_before=utc_now() - _FOREIGN_AFTER,
            )
            waiting: dict[str, list[InboxItem]] = defaultdict(list)
            foreign = []
            for item in items:
                if isinstance(item, Unreadable):
                    await self._alarm_unreadable(item)
                elif item.order_id is None:
                    foreign.append(item.id)
                else:
                    waiting[item.order_id].append(item)
            for order_id, own in waiting.items():
                self._busy.add(order_id)
                tasks.create_task(self._deliver_all(order_id, own, self._reads))
            if foreign:
                await self._store.inbox_delivered(foreign)
            if len(items) < _PAGE:
                return
            after = items[-1].id

    async def _deliver_all(self, order_id: str, items: list[InboxItem], read: int) -> None:
        """Deliver to one order until it has taken all of them; nothing else waits for it.

        `read` is the look at the inbox that found them: the next may come before this begins.
        """
        attempt, alarmed = 0, False
        try:
            while items:
                was_sent = attempt > 0 or utc_now() - items[0].added_at > _MAYBE_SENT_AFTER
                refusal = await self._try(order_id, items[:_REPORTS_MAX], was_sent=was_sent)
                if refusal is None:
                    del items[:_REPORTS_MAX]
                    attempt = 0
                    continue
                if not alarmed and utc_now() - items[0].added_at > _ALARM_AFTER:
                    alarmed = await self._alarm_undelivered(order_id, items[0], refusal)
                await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
                attempt += 1
        finally:
            self._busy.discard(order_id)
            if self._reads != read:  # The order was left out meanwhile.
                self.wake()

    async def _try(self, order_id: str, items: list[InboxItem], *, was_sent: bool) -> str | None:
        """Why the order has not taken the reports yet, None where it has. Never raises."""
        try:
            return await self._deliver(order_id, items, was_sent=was_sent)
        except StoreUnavailable as error:
            _log.warning("delivery to order %s waits for the store: %s", order_id, error)
            return f"the store is away: {error}"
        except Exception as error:  # noqa: BLE001 - it delays this order alone
            _log.exception("delivery to order %s failed, it is tried again", order_id)
            return f"{type(error).__name__}: {error}"

    async def _deliver(
        self, order_id: str, items: list[InboxItem], *, was_sent: bool
    ) -> str | None:
        """One update with all that the order has not booked; then the inbox says so too."""
        known = await self._after_the_send(order_id, items)
        own = await self._about(order_id, items, known)
        new = own if was_sent else _not_booked(own, known)
        if new and not known.is_ours:
            # Somebody else's order: it has a row, and no workflow.
            await self._booking.book(order_id, [item.report for item in new])
        elif new and (refusal := await self._update(order_id, new)) is not None:
            return refusal
        await self._store.inbox_delivered([item.id for item in items])
        return None

    async def _about(
        self, order_id: str, items: list[InboxItem], known: Standing
    ) -> list[InboxItem]:
        """Those that speak of the order's exchange, account and symbol; the others are dropped.

        Its workflow would refuse them for ever, and with them what is its own. Raises
        `StoreUnavailable` where one would be dropped without an alarm.
        """
        own = []
        for item in items:
            mismatch = elsewhere([item.report], known.state)
            if mismatch is None:
                own.append(item)
            else:
                text = f"undelivered: report {item.id} of the inbox is dropped: {shown(mismatch)}"
                if not await self._alarm(order_id, item, text):
                    raise StoreUnavailable("the alarm of a dropped report is not committed")
        return own

    async def _alarm_undelivered(self, order_id: str, item: InboxItem, why: str) -> bool:
        since = item.added_at.isoformat(timespec="seconds")
        text = f"undelivered: reports of the exchange wait since {since}: {shown(why)}"
        return await self._alarm(order_id, item, text)

    async def _alarm_unreadable(self, item: Unreadable) -> None:
        """It stays in the inbox; each process says so once."""
        if item.id in self._set_aside:
            return
        text = f"unreadable: report {item.id} of the inbox is set aside: {shown(item.error)}"
        if item.order_id is None:
            _log.error("%s; it is no order's", text)
        elif not await self._alarm(item.order_id, item, text):
            return
        self._set_aside.add(item.id)

    async def _alarm(self, order_id: str, item: InboxItem | Unreadable, text: str) -> bool:
        """Alarm the order, at a time that stays: the journal keeps one of the same."""
        _log.error("order %s: %s", order_id, text)
        event = LifecycleEvent(kind=EventKind.ALARM, at=item.added_at, reason=text)
        try:
            await self._store.record(order_id, [event])
        except Exception as error:  # noqa: BLE001 - as above: a row may be unreadable to us
            _log.warning("the alarm of order %s is not committed yet: %s", order_id, error)
            return False
        return True

    async def _after_the_send(self, order_id: str, items: list[InboxItem]) -> Standing:
        """While the send is under way its answer will bring the same news for nothing."""
        until = items[-1].added_at + _SEND_IN_FLIGHT
        while True:
            known = await self._standing(order_id, items)
            if items[-1].claim not in known.sending or utc_now() >= until:
                return known
            await asyncio.sleep(_SEND_POLL_S)

    async def _standing(self, order_id: str, items: list[InboxItem]) -> Standing:
        ids = [fill.fill_id for item in items for fill in item.report.fills]
        return await self._store.standing(order_id, ids)

    async def _update(self, order_id: str, items: list[InboxItem]) -> str | None:
        """Why the order's workflow has not taken these yet, None where it has."""
        batch = ExecutionBatch(reports=tuple(item.report for item in items))
        update_id = f"feed-{items[0].id}-{items[-1].id}"
        try:
            await self._client.get_workflow_handle(workflow_id(order_id)).execute_update(
                "executions", batch, id=update_id, rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                if not _not_booked(items, await self._standing(order_id, items)):
                    return None  # The order has ended meanwhile, with all of this.
                return await self._reopen(order_id, batch, update_id)
            _log.info("order %s does not take its reports yet: %s", order_id, error)
            return f"Temporal did not take the update: {error}"
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            give_back_cancellation()
            await nudge(self._client, order_id)
            _log.info("order %s has not answered yet; the same update is sent again", order_id)
            return "its workflow does not answer"
        except WorkflowUpdateFailedError as error:
            _log.error("order %s refuses its reports: %s", order_id, error.cause)
            return f"its workflow refuses them: {error.cause}"
        return None

    async def _reopen(self, order_id: str, batch: ExecutionBatch, update_id: str) -> str | None:
        """The order's workflow has ended: its next run takes the order up and books this."""
        start = resuming(order_id, self._task_queue)
        try:
            await self._client.execute_update_with_start_workflow(
                "executions",
                batch,
                start_workflow_operation=start,
                id=update_id,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except _NOT_REOPENED as error:
            await look_at(start)
            give_back_cancellation()
            _log.warning("order %s could not be reopened yet: %s", order_id, error)
            return f"its workflow cannot be started again: {error}"
        return None


def _not_booked(items: list[InboxItem], known: Standing) -> list[InboxItem]:
    """Those that say more than the order's state; none where there is no such order."""
    state, fills = known.state, known.fills
    return [] if state is None else [item for item in items if not _is_booked(item, state, fills)]


def _is_booked(item: InboxItem, state: OrderState, known: frozenset[str]) -> bool:
    """Whether the order's state already says all that the report says."""
    report = item.report
    if any(fill.fill_id not in known for fill in report.fills):
        return False
    if report.status is None:
        return True
    is_newest = report.exchange_client_id in {None, state.exchange_client_id}
    is_old_leg = item.claim is not None and item.claim.leg < state.leg
    if report.status in _LIVES:
        total = report.cumulative_quantity or 0
        return (
            (is_old_leg or (is_newest and not _is_less(report, state)))
            and state.status not in _NO_SIGN_OF_LIFE
            and total <= state.filled_quantity
        )
    if report.status is VenueStatus.REJECTED:
        return state.is_terminal
    return is_old_leg or state.status in _ENDED_THERE


def _is_less(report: ExecutionReport, state: OrderState) -> bool:
    """Whether the exchange works less than the state says: somebody has reduced the order there.

    A late report from before an increase of ours looks the same, and so does one of a leg that has
    the rest of an earlier one: booking tells them apart.
    """
    if report.status is VenueStatus.FILLED:
        return state.status is not OrderStatus.FILLED
    return state.is_open and report.quantity is not None and report.quantity < state.quantity
