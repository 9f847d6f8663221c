"""From the inbox to the orders: each report becomes an update of its order's workflow.

One update in flight per order; what arrives meanwhile goes into the next one. An order that
cannot take its reports (paused, wedged, its worker away) delays only itself. What an order has
booked already, from the answer to its send, costs no update at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.booking import Booking
from trading.oms.commands import ExecutionBatch
from trading.oms.enums import OrderStatus
from trading.oms.errors import StoreUnavailable
from trading.oms.models import utc_now
from trading.oms.venue import VenueStatus

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.messages import Account
    from activities.store import InboxItem, Store
    from trading.oms.models import OrderState

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
TASK_TIMEOUT = timedelta(seconds=5)


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
        self._waiting: dict[str, dict[int, InboxItem]] = defaultdict(dict)
        self._busy: set[str] = set()

    def wake(self) -> None:
        """Something new is in the inbox."""
        self._awake.set()

    async def run(self) -> None:
        """Deliver for ever; looks at the inbox when woken, and every other second."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._load()
                for order_id in [key for key in self._waiting if key not in self._busy]:
                    self._busy.add(order_id)
                    tasks.create_task(self._deliver_all(order_id))
                try:
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._awake.wait()
                except TimeoutError:
                    pass
                self._awake.clear()

    async def _load(self) -> None:
        try:
            items = await self._store.inbox_undelivered(
                self._account.exchange, self._account.account, limit=_PAGE
            )
        except StoreUnavailable as error:
            _log.warning("the inbox cannot be read, trying again: %s", error)
            return
        for item in items:
            if item.order_id is not None:
                self._waiting[item.order_id][item.id] = item
            elif utc_now() - item.added_at > _FOREIGN_AFTER:
                await self._store.inbox_delivered([item.id])

    async def _deliver_all(self, order_id: str) -> None:
        attempt = 0
        try:
            while items := list(self._waiting[order_id].values())[:_REPORTS_MAX]:
                try:
                    done = await self._deliver(order_id, items)
                except StoreUnavailable as error:
                    _log.warning("delivery to order %s waits for the store: %s", order_id, error)
                    done = False
                if done:
                    attempt = 0
                    for item in items:
                        self._waiting[order_id].pop(item.id, None)
                else:
                    await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
                    attempt += 1
        finally:
            self._waiting.pop(order_id, None)
            self._busy.discard(order_id)

    async def _deliver(self, order_id: str, items: list[InboxItem]) -> bool:
        """One update with all that the order has not booked; True when the inbox says so too."""
        await self._send_has_ended(items[-1])
        new = await self._not_booked(order_id, items)
        if new and await self._store.trader_order(order_id) is None:
            # Somebody else's order: it has a row, and no workflow.
            await self._booking.book(order_id, [item.report for item in new])
        elif new and not await self._update(order_id, new):
            return False
        await self._store.inbox_delivered([item.id for item in items])
        return True

    async def _send_has_ended(self, item: InboxItem) -> None:
        """While the send is under way its answer will bring the same news for nothing."""
        if item.claim is None:
            return
        until = item.added_at + _SEND_IN_FLIGHT
        while utc_now() < until:
            claim = await self._store.claim(*item.claim)
            if claim is None or claim.outcome is not None:
                return
            await asyncio.sleep(_SEND_POLL_S)

    async def _not_booked(self, order_id: str, items: list[InboxItem]) -> list[InboxItem]:
        state = await self._store.order(order_id)
        if state is None:
            return []
        ids = [fill.fill_id for item in items for fill in item.report.fills]
        known = await self._store.fills_known(ids) if ids else set()
        return [item for item in items if not _is_booked(item, state, known)]

    async def _update(self, order_id: str, items: list[InboxItem]) -> bool:
        batch = ExecutionBatch(reports=tuple(item.report for item in items))
        update_id = f"feed-{items[0].id}-{items[-1].id}"
        try:
            await self._client.get_workflow_handle(f"order-{order_id}").execute_update(
                "executions", batch, id=update_id, rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                if not await self._not_booked(order_id, items):
                    return True  # The order has ended meanwhile, with all of this.
                return await self._reopen(order_id, batch, update_id)
            _log.info("order %s does not take its reports yet: %s", order_id, error)
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            _log.info("order %s has not answered yet; the same update is sent again", order_id)
        except WorkflowUpdateFailedError as error:
            _log.error("order %s refuses its reports: %s", order_id, error.cause)
        else:
            return True
        return False

    async def _reopen(self, order_id: str, batch: ExecutionBatch, update_id: str) -> bool:
        """The order's workflow has ended: its next run takes the order up and books this."""
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "Order",
            {"resume": order_id},
            id=f"order-{order_id}",
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=TASK_TIMEOUT,
        )
        try:
            await self._client.execute_update_with_start_workflow(
                "executions",
                batch,
                start_workflow_operation=start,
                id=update_id,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except (
            RPCError,
            WorkflowUpdateFailedError,
            WorkflowUpdateRPCTimeoutOrCancelledError,
        ) as error:
            _log.warning("order %s could not be reopened yet: %s", order_id, error)
            return False
        return True


def _is_booked(item: InboxItem, state: OrderState, known: set[str]) -> bool:
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
            (is_newest or is_old_leg)
            and state.status not in _NO_SIGN_OF_LIFE
            and total <= state.filled_quantity
        )
    if report.status is VenueStatus.REJECTED:
        return state.is_terminal
    return is_old_leg or state.status in _ENDED_THERE
