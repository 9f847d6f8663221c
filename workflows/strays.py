"""Exchange orders of ours that should not be alive: a send that was proved absent and came later.

The exchange broke its own fence, and the order was sent again meanwhile: two of its sends live.
Nobody has asked for twice the quantity. The newer one is cancelled at once and the older one
carries the order on; where the newer one has traded, or something else was under way, all of them
are cancelled, every fill is booked, and the order ends. The alarm is in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import ChangeKind, LookUp, OrderAt, SightingKind
    from trading.oms.enums import OrderStatus, ReasonCode
    from trading.oms.lifecycle import EventKind

from workflows import steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from activities.messages import Booked, ChangeAnswer, ClaimFacts
    from workflows.order_work import OrderWork

_BACK_OFF_S = (0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0)
_REASON = "two sends of this order were alive at once"


class Strays:
    """The stray sends of one order that are not known to have ended."""

    def __init__(self, work: OrderWork) -> None:
        """None is known."""
        self._work = work
        self._alive: list[OrderAt] = []
        self._absent: set[OrderAt] = set()
        self._ends_all = False
        self._carrier: OrderAt | None = None

    @property
    def exist(self) -> bool:
        """Whether a stray may be alive; nothing more is sent then."""
        return bool(self._alive)

    def take(self, booked: Booked | ChangeAnswer) -> None:
        """Note what a step has shown: strays, and perhaps that another send is the order's."""
        if booked.carrier is not None:
            if booked.carrier == self._carrier:
                return  # Told before, and its strays with it.
            self._carrier = booked.carrier
            self._work.submission.generation = booked.carrier.generation
            self._work.submission.unsent = False
        self._note(booked.strays)

    def take_up(self, claim: ClaimFacts) -> None:
        """Note what may live beside the send that a former run, or an earlier try, has left."""
        order_id = self._work.state.client_order_id
        self._note(
            OrderAt(order_id=order_id, leg=claim.leg, generation=generation)
            for generation in claim.strays
        )

    def _note(self, strays: Iterable[OrderAt]) -> None:
        new = [at for at in strays if at not in self._alive]
        if any(at.generation < self._work.submission.generation for at in new):
            self._ends_all = True  # An older one, and it could not be made the order's.
        if new:
            self._alive += new
            self._work.later("strays", 0)

    async def end_all(self, attempt: int) -> None:
        """Cancel the strays, and where needed what carries the order; repeat what stays unknown."""
        work = self._work
        ended = all([await self._end(at) for at in self._alive])
        closing = self._ends_all and (work.state.is_open or work.state.status is OrderStatus.FILLED)
        if ended and closing:
            ended = await self._end(work.here)
        if not ended:
            work.later("strays", _BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)], attempt + 1)
            return
        self._alive.clear()
        if self._ends_all and work.state.is_open:
            code = ReasonCode.CANCEL_REQUESTED
            await work.record(
                work.event(EventKind.CANCELLED, reason_code=code, reason=_REASON),
            )

    async def _end(self, at: OrderAt) -> bool:
        answer = await steps.cancel_stray(at, _REASON)
        self._work.take(answer)
        if answer.kind is not ChangeKind.DONE:
            return await self._is_absent(at)
        booked = await steps.collect_fills(at, of_strays=True)
        self._work.take(booked)
        if booked.executed and at != self._work.here:
            self._ends_all = True  # What it has traded is too much for the other one.
        return not booked.fills_missing

    async def _is_absent(self, at: OrderAt) -> bool:
        """Whether the exchange has proved, twice, that it has no such order."""
        sighting = await steps.look_up(LookUp(**at.model_dump()))
        if sighting.kind is not SightingKind.NOT_PLACED:
            self._absent.discard(at)
            return False
        if at not in self._absent:
            self._absent.add(at)
            return False
        await self._work.conclude_not_placed(at)
        return True
