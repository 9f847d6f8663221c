"""Changing an order that is split: how is decided by `trading.oms.split_change`.

The store adds what the legs' quantities have become to the order's own, in the transaction that
changes a leg. What is left for the workflow is to ask the legs, to take off what ended legs had
left, and to say what did not come out as it was wished.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.split_messages import LegAnswer, LegWish, SplitQuestion, SplitWish
    from trading.oms.answers import modification_refused, result_of
    from trading.oms.enums import Pending
    from trading.oms.exact import EXACT
    from trading.oms.lifecycle import EventKind
    from trading.oms.reading import number
    from trading.oms.split_change import Change, Plan, Wish

from workflows import steps

if TYPE_CHECKING:
    from trading.oms.models import OrderState
    from workflows.order_work import OrderWork
    from workflows.requests import Modify


class SplitModification:
    """The modification of a split order that is under way, at most one at a time."""

    def __init__(self, work: OrderWork) -> None:
        """Nothing is being changed."""
        self._work = work
        self._request: Modify | None = None
        self._plan = Plan()
        self._revision = 0
        self._changes: dict[str, Change] = {}
        self._answers: dict[str, LegAnswer] = {}

    @property
    def is_running(self) -> bool:
        """Whether a modification has begun and not ended."""
        return self._request is not None

    async def begin(self, request: Modify) -> None:
        """Refuse it, or make the new legs and ask the others."""
        work = self._work
        if self.is_running:
            request.answer = modification_refused(work.state, "a modify is still under way")
            return
        wish = Wish(new_quantity=request.command.new_quantity, new_price=request.command.new_price)
        order_id = work.state.client_order_id
        planned = await steps.plan_split_change(SplitWish(order_id=order_id, wish=wish))
        work.split.take(planned.legs)
        await work.split.start_new_legs()
        plan = planned.plan
        if plan.refusal is not None:
            request.answer = modification_refused(work.state, plan.refusal)
            return
        changes = {change.order_id: change for change in plan.changes}
        if plan.more and not await self._grow(request, plan, changes):
            return
        if not changes and not plan.given_up:
            request.answer = result_of(work.state)
            return
        self._request, self._plan = request, plan
        self._changes, self._answers = changes, {}
        details = {change.order_id: change.said for change in changes.values()}
        await work.record(work.event(EventKind.MODIFY_REQUESTED, details=dict(details)))
        self._revision = work.state.revision
        self._ask_legs()
        await self.advance()

    async def _grow(self, request: Modify, plan: Plan, changes: dict[str, Change]) -> bool:
        """Make legs for what is more, or let one leg carry it; False: neither can be."""
        work = self._work
        denied = await work.split.make_legs(
            SplitQuestion(
                order_id=work.state.client_order_id,
                quantity=plan.more,
                price=request.command.new_price,
                adds=True,
            )
        )
        if denied is None:
            return True
        if plan.carrier is None:
            request.answer = modification_refused(work.state, denied.reason).model_copy(
                update={"reason_code": denied.reason_code}
            )
            return False
        changes[plan.carrier.order_id] = plan.carrier
        return True

    def _ask_legs(self) -> None:
        for change in self._changes.values():
            wish = LegWish(
                order_id=change.order_id,
                new_quantity=change.new_quantity,
                new_price=change.new_price,
                reason="the order's quantity is reduced" if change.ends else None,
            )
            self._work.split.ask(wish)

    def answered(self, answer: LegAnswer) -> None:
        """A leg has answered: it has changed, refused, or goes on trying."""
        if self.is_running and answer.order_id in self._changes:
            self._answers[answer.order_id] = answer

    async def advance(self) -> None:
        """Once every leg has answered and none is still at it: take what they have taken.

        Where a task is repeated after it has recorded that, the order was read with its new
        revision: what ended legs had left is off its quantity already.
        """
        work = self._work
        if self._request is None or self._answers.keys() != self._changes.keys():
            return
        legs = {one: work.split.legs[one] for one in self._changes}
        if any(self._is_at_it(leg) for leg in legs.values()):
            return
        given_up = self._plan.given_up
        for one, leg in legs.items():
            if self._changes[one].ends:
                given_up = EXACT.add(given_up, leg.remaining_quantity)
        if work.state.revision > self._revision:
            given_up = Decimal(0)
        quantity = EXACT.subtract(work.state.quantity, given_up)
        refusals = self._refusals(legs, quantity)
        price = work.state.price if refusals else self._request.command.new_price
        events = []
        if given_up or price not in {None, work.state.price}:
            revision, total = work.state.revision + 1, quantity if given_up else None
            events.append(
                work.event(EventKind.MODIFIED, revision=revision, quantity=total, price=price)
            )
        events.append(work.event(EventKind.REQUEST_ENDED, reason="; ".join(refusals) or None))
        request, self._request = self._request, None
        await work.record(*events)
        request.answer = (
            modification_refused(work.state, "; ".join(refusals))
            if refusals
            else result_of(work.state)
        )

    def _is_at_it(self, leg: OrderState) -> bool:
        if self._changes[leg.client_order_id].ends:
            return not self._work.split.is_settled(leg.client_order_id)
        waits = leg.pending is Pending.MODIFY or leg.replacing or leg.in_doubt_since is not None
        return leg.is_open and waits

    def _refusals(self, legs: dict[str, OrderState], quantity: Decimal) -> list[str]:
        """What did not come out as it was wished."""
        found = []
        for one, leg in legs.items():
            refusal = self._changes[one].refusal_of(leg, self._answers[one].reason)
            if refusal is not None:
                found.append(f"{one}: {refusal}")
        wanted = self._request.command.new_quantity if self._request else None
        if not found and wanted not in {None, quantity}:
            found.append(f"the quantity is {number(quantity)}: legs were filled meanwhile")
        return found
