"""An order that is split: its legs are orders of their own, each with a workflow of its own.

The store keeps the order's state as the sum of its legs, in the transaction that changes a leg.
The workflow here starts the legs, routes again what was refused, passes cancels and modifications
on, and ends the order when every leg has ended. Legs tell it of each change by the signal `leg`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, Denied
    from activities.split_messages import Legs, LegWish, SplitQuestion
    from trading.oms.enums import OrderStatus, Pending
    from trading.oms.lifecycle import EventKind
    from trading.oms.models import OrderState
    from trading.oms.order_workflow import TASK_TIMEOUT, workflow_id
    from trading.oms.reading import summary
    from trading.oms.split import end_of, is_leg, leg_number, to_be_routed_again

from workflows import steps
from workflows.requests import LegNews
from workflows.split_modification import SplitModification

if TYPE_CHECKING:
    from temporalio.workflow import ChildWorkflowHandle

    from workflows.order_work import OrderWork


class Split:
    """The legs of one order, as its workflow knows them."""

    def __init__(self, work: OrderWork) -> None:
        """The order has no legs."""
        self._work = work
        self.legs: dict[str, OrderState] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._asked_to_cancel: set[str] = set()
        self._unroutable: Denied | None = None
        self.modification = SplitModification(work)

    @property
    def is_busy(self) -> bool:
        """Whether a leg of it is open, or has not settled yet, or is being asked."""
        if not self._work.state.is_split:
            return False
        return bool(self._running or self._asking) or any(self.open_legs)

    @property
    def open_legs(self) -> list[OrderState]:
        """The legs that may still trade, by number."""
        return [leg for leg in self.legs.values() if leg.is_open]

    # Life.

    async def start(self) -> None:
        """Start the legs, or find them running: the first run of the order does, and later ones."""
        work = self._work
        if work.refusal is not None or not work.state.is_split:
            return
        await self._look()
        if work.state.pending is not Pending.CANCEL and not work.cancel_is_waiting:
            await self._start_legs()  # A cancel finds those that run, and starts the others.
        work.enqueue(LegNews())

    async def news(self) -> None:
        """A leg has changed or ended: see what follows."""
        work = self._work
        if not work.state.is_split:
            return  # Somebody has sent the signal to an order that has no legs.
        await self._look()
        await self.start_new_legs()
        await self.modification.advance()
        if work.state.status is OrderStatus.FILLED:
            self.ask_all_to_cancel("the order is filled")
        else:
            await self._route_again()
        if not self.is_busy:
            await self._end()

    async def _look(self) -> None:
        self.take(await steps.load_legs(self._work.state.client_order_id))

    def take(self, found: Legs) -> None:
        """Take the legs and the order as they were read."""
        self.legs = {leg.client_order_id: leg for leg in found.legs}
        self._work.take(Booked(state=found.state))

    async def _start_legs(self) -> None:
        waiting = [leg for leg in self.open_legs if leg.client_order_id not in self._running]
        await asyncio.gather(*(self._start_leg(leg) for leg in waiting))

    async def start_new_legs(self) -> None:
        """Start the legs that a task has made that a crash ended before it could start them."""
        work = self._work
        if work.state.pending is Pending.CANCEL or work.cancellation.is_wanted:
            return
        unsent = {OrderStatus.CREATED, OrderStatus.PENDING_SUBMISSION}
        new = [leg for leg in self.open_legs if leg.status in unsent]
        new = [leg for leg in new if leg.client_order_id not in self._running]
        for leg in new:
            await self._start_leg(leg)

    async def _start_leg(self, leg: OrderState) -> None:
        """The leg is in the store already, so its workflow takes it up there."""
        leg_id = leg.client_order_id
        try:
            child = await workflow.start_child_workflow(
                "Order",
                {"resume": leg_id},
                id=workflow_id(leg_id),
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                task_timeout=TASK_TIMEOUT,
                static_summary=summary(leg),
            )
        except WorkflowAlreadyStartedError:
            return  # A former run of ours has started it; it tells us what happens.
        self._running[leg_id] = asyncio.create_task(self._until_closed(leg_id, child))

    async def _until_closed(self, leg_id: str, child: ChildWorkflowHandle[Any, Any]) -> None:
        with contextlib.suppress(FailureError):
            await child
        self._running.pop(leg_id, None)
        self._work.enqueue(LegNews())

    async def _route_again(self) -> None:
        """Divide what was refused over the exchanges that have refused nothing."""
        work = self._work
        order = work.order
        if order is None or self._unroutable is not None or not self._goes_on():
            return
        again = to_be_routed_again(order, work.state, self.legs.values(), is_fresh=work.is_fresh)
        if not again.quantity:
            return
        self._unroutable = await self.make_legs(
            SplitQuestion(
                order_id=work.state.client_order_id,
                quantity=again.quantity,
                refused=again.refused,
            )
        )

    async def make_legs(self, question: SplitQuestion) -> Denied | None:
        """Make further legs and start them, or say why there are none."""
        first = max(map(leg_number, self.legs)) + 1
        routed = await steps.split(question.model_copy(update={"first": first}))
        await self._look()
        await self._start_legs()
        return routed.denied

    def _goes_on(self) -> bool:
        work = self._work
        return (
            work.state.is_open
            and work.state.ended_as is None
            and work.state.pending is not Pending.CANCEL
            and not work.cancellation.is_wanted
            and not self.modification.is_running
            and not work.expiry.is_reached
        )

    async def _end(self) -> None:
        """Every leg has ended and settled: so has the order."""
        work = self._work
        if work.state.is_terminal or work.state.ended_as is not None:
            return
        why = self._unroutable
        reason = why.reason if why is not None else None
        is_wanted = work.cancellation.is_wanted or work.state.pending is Pending.CANCEL
        end = end_of(work.state, self.legs.values(), is_wanted=is_wanted, unroutable=reason)
        await work.record(work.event(end.kind, **end.word))

    # Cancels.

    async def cancel(self, reason: str | None) -> None:
        """Note the wish, which stops every leg that is not claimed yet, and ask the others."""
        work = self._work
        await work.record(work.event(EventKind.CANCEL_REQUESTED, reason=reason))
        await self._look()
        self.ask_all_to_cancel(reason)
        self._work.enqueue(LegNews())

    def ask_all_to_cancel(self, reason: str | None) -> None:
        """Ask every open leg, beside the loop, until each has taken the wish."""
        for leg in self.open_legs:
            if leg.client_order_id not in self._asked_to_cancel:
                self._asked_to_cancel.add(leg.client_order_id)
                self.ask(LegWish(order_id=leg.client_order_id, reason=reason))

    def is_settled(self, leg_id: str) -> bool:
        """Whether a leg has ended, and its workflow too, which counts the last fills."""
        return self.legs[leg_id].is_terminal and leg_id not in self._running

    def ask(self, wish: LegWish) -> None:
        """Ask a leg beside the loop, until it has taken the wish."""
        task = asyncio.create_task(self._ask(wish))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, wish: LegWish) -> None:
        answer = await steps.ask_leg(wish)
        self.modification.answered(answer)
        self._work.enqueue(LegNews())


class LegVoice:
    """What a leg tells its parent: that something has changed, never what. The store knows."""

    def __init__(self, work: OrderWork) -> None:
        """Nothing is told yet."""
        self._work = work
        self._told: tuple[object, ...] = ()
        self._telling: asyncio.Task[None] | None = None

    @property
    def is_telling(self) -> bool:
        """Whether the parent has not taken the newest change yet."""
        return self._telling is not None and not self._telling.done()

    def tell(self) -> None:
        """Tell the parent, beside the loop; what changes meanwhile is told at once after it."""
        state = self._work.state
        if is_leg(state) and not self.is_telling and self._told != _news(state):
            parent = workflow_id(str(state.parent_order_id))
            self._telling = asyncio.create_task(self._tell(parent))

    async def _tell(self, parent: str) -> None:
        while self._told != _news(self._work.state):
            self._told = _news(self._work.state)
            # A parent that has ended needs to know nothing: its sum is taken in the store.
            with contextlib.suppress(FailureError):
                await workflow.get_external_workflow_handle(parent).signal("leg")


def _news(state: OrderState) -> tuple[object, ...]:
    doubt, pending = state.in_doubt_since, state.pending
    return (state.status, state.filled_quantity, state.quantity, state.price, doubt, pending)
