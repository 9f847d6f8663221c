"""Changing an order that is split.

A new price goes to every open leg. A change of the quantity goes whole to the last open leg that
can carry it, because only so the sum stays exact. The order's own totals follow what the legs have
taken: where some refuse, it says which, and has the totals of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import LegAnswer, LegWish
    from trading.oms.answers import modification_refused, result_of
    from trading.oms.enums import Pending
    from trading.oms.exact import EXACT
    from trading.oms.lifecycle import EventKind
    from trading.oms.split import Change, changes_of

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
        self._changes: dict[str, Change] = {}
        self._answers: dict[str, LegAnswer] = {}

    @property
    def is_running(self) -> bool:
        """Whether a modification has begun and not ended."""
        return self._request is not None

    async def begin(self, request: Modify) -> None:
        """Refuse it, or ask the legs."""
        work, wish = self._work, request.command
        if self.is_running:
            request.answer = modification_refused(work.state, "a modify is still under way")
            return
        changes = changes_of(
            work.state, work.split.legs.values(), wish.new_quantity, wish.new_price
        )
        if isinstance(changes, str):
            request.answer = modification_refused(work.state, changes)
            return
        if not changes:
            request.answer = result_of(work.state)
            return
        self._request = request
        self._changes = {change.order_id: change for change in changes}
        self._answers = {}
        details = {change.order_id: change.said for change in changes}
        await work.record(work.event(EventKind.MODIFY_REQUESTED, details=dict(details)))
        for change in changes:
            work.split.ask(
                LegWish(
                    order_id=change.order_id,
                    new_quantity=change.new_quantity,
                    new_price=change.new_price,
                )
            )

    def answered(self, answer: LegAnswer) -> None:
        """A leg has answered: it has changed, refused, or goes on trying."""
        if self.is_running and answer.order_id in self._changes:
            self._answers[answer.order_id] = answer

    async def advance(self) -> None:
        """Once every leg has answered and none is still at it: take what they have taken."""
        work = self._work
        if self._request is None or self._answers.keys() != self._changes.keys():
            return
        legs = [work.split.legs[one] for one in self._changes]
        if any(leg.is_open and _is_at_it(leg) for leg in legs):
            return
        refusals = [
            f"{leg.client_order_id}: {self._answers[leg.client_order_id].reason or leg.status}"
            for leg in legs
            if not self._changes[leg.client_order_id].is_in(leg)
        ]
        quantity = work.state.quantity
        for leg in legs:
            before = self._changes[leg.client_order_id].old_quantity
            quantity = EXACT.add(quantity, EXACT.subtract(leg.quantity, before))
        wish = self._request.command
        price = work.state.price if refusals else wish.new_price or work.state.price
        events = []
        if (quantity, price) != (work.state.quantity, work.state.price):
            revision = work.state.revision + 1
            events.append(
                work.event(EventKind.MODIFIED, revision=revision, quantity=quantity, price=price)
            )
        events.append(work.event(EventKind.REQUEST_ENDED, reason="; ".join(refusals) or None))
        request, self._request = self._request, None
        await work.record(*events)
        request.answer = (
            modification_refused(work.state, "; ".join(refusals))
            if refusals
            else result_of(work.state)
        )


def _is_at_it(leg: OrderState) -> bool:
    return leg.pending is Pending.MODIFY or leg.replacing or leg.in_doubt_since is not None
