"""The store against the workflows: each open order has one that works on it, no ended one has."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.service import RPCError

from activities.account_pictures import SETTLING, our_orders
from activities.reconcile_messages import Finding, Outcome
from activities.store import OrderFilter
from trading.oms.enums import OPEN_STATUSES, Pending
from trading.oms.errors import UnreadableOrder
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from activities.order_door import OrderDoor
    from activities.store import Store
    from trading.oms.models import OrderState
    from trading.oms.venue import IExecutionConnector

_INTERRUPTED_AFTER = timedelta(seconds=10)
_ASKED_AFTER_MAX = 500
"""Each question takes some 10 ms: a pass over ten thousand orders took more than two minutes."""


class WorkflowCheck:
    """One pass's look at the workflows of an account's orders.

    `failed` says what could not be asked, `lacking` names orders whose workflow waits for something
    that their state does not show, most likely fills.
    """

    def __init__(
        self, store: Store, door: OrderDoor, connector: IExecutionConnector, *, dry_run: bool
    ) -> None:
        """Nothing is asked yet."""
        self._store = store
        self._door = door
        self._connector = connector
        self._dry_run = dry_run
        self.looked_at = 0
        self.findings: list[Finding] = []
        self.failed: list[str] = []
        self.lacking: set[str] = set()

    async def run(self) -> None:
        """Every open order has a workflow that works on it."""
        here = await our_orders(self._store, self._connector, external=False)
        orders = here.orders
        # Not routed yet, or split over several exchanges: every account's pass looks after them,
        # whatever account they name, and after those that name the exchange and wait for their
        # account to be chosen.
        for exchange, account in (("", None), (self._connector.exchange, "")):
            unrouted = OrderFilter(exchange, account, statuses=OPEN_STATUSES, external=False)
            more = await self._store.listing(unrouted)
            here.orders.extend(more.orders)
            here.unreadable.extend(more.unreadable)
        self.failed += map(str, here.unreadable)
        self.looked_at = len(orders)
        running = await self._running()
        # Of few each is asked after; of many those that the server's list, a moment old, lacks.
        sure = running if len(orders) > _ASKED_AFTER_MAX else frozenset()
        for order in orders:
            order_id = order.client_order_id
            try:
                if order_id in sure or await self._door.is_running(order_id):
                    await self._if_interrupted(order)
                    continue
            except RPCError as error:
                self.failed.append(f"workflow of order {order.client_order_id}: {error}")
                continue
            await self._without_workflow(order)
        await self._run_on(running.difference(here.order_ids))

    async def _running(self) -> set[str]:
        """The orders that the server lists as running; none where it cannot be asked."""
        try:
            return await self._door.all_running(self._connector.exchange)
        except RPCError as error:
            self.failed.append(f"running workflows: {error}")
            return set()

    async def _if_interrupted(self, order: OrderState) -> None:
        """A change was begun a while ago: its workflow may not know of it, and then ends it."""
        begun = order.pending is not Pending.NONE or order.replacing
        if not begun or utc_now() - order.last_updated_at < _INTERRUPTED_AFTER:
            return
        order_id = order.client_order_id
        if self._dry_run or not await self._door.tell(order_id, []):
            return
        fresh = await self._store.order(order_id)
        if fresh is not None and fresh.pending is Pending.NONE and not fresh.replacing:
            text = f"a {order.pending.value} of order {order_id} had stopped half-way"
            self._found("interrupted_request", order.symbol, text, order_id, mended=True)

    async def _run_on(self, running: set[str]) -> None:
        """No workflow works on an order that has ended and not know it.

        The step that ended the order was committed, and its result lost with the Temporal server.
        """
        # The server's list has those of all accounts of the exchange: the store is asked once.
        before = utc_now() - SETTLING
        for order_id in await self._store.upkeep.ended(self._connector.account, running, before):
            try:
                order = await self._store.order(order_id)
            except UnreadableOrder as error:
                self.failed.append(str(error))
                continue
            if order is None or not order.is_terminal:
                continue  # A late fill has opened it again.
            if await self._is_still_running(order_id):
                await self._ended_unknown(order)

    async def _is_still_running(self, order_id: str) -> bool:
        try:
            return await self._door.is_running(order_id)
        except RPCError as error:
            self.failed.append(f"workflow of order {order_id}: {error}")
            return False

    async def _ended_unknown(self, order: OrderState) -> None:
        """Let the workflow read the store; one that waits for fills goes on after that."""
        order_id = order.client_order_id
        done = (
            not self._dry_run
            and await self._door.tell(order_id, [])
            and not await self._is_still_running(order_id)
        )
        if not done:
            self.lacking.add(order_id)
        text = f"order {order_id} has ended as {order.status.value} and its workflow runs on"
        self._found("ended_unknown", order.symbol, text, order_id, mended=done)

    async def _without_workflow(self, order: OrderState) -> None:
        """Take it up again; it is the workflow that knows what is too late to be sent."""
        order_id = order.client_order_id
        fresh = await self._store.order(order_id)
        if fresh is None or fresh.is_terminal:
            return  # It has ended since the list was read, and its workflow with it.
        done = not self._dry_run and await self._door.take_up_again(order_id)
        text = f"order {order_id} is open and no workflow works on it"
        self._found("no_workflow", order.symbol, text, order_id, mended=done)

    def _found(self, kind: str, symbol: str, message: str, order_id: str, *, mended: bool) -> None:
        outcome = Outcome.MENDED if mended else Outcome.LEFT
        self.findings.append(
            Finding(kind=kind, symbol=symbol, message=message, order_id=order_id, outcome=outcome)
        )
