"""An order in doubt: sent, outcome unknown. It is looked for until there is proof."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, LookUp, OrderAt, Sighting, SightingKind
    from trading.oms.answers import not_resolved, result_of
    from trading.oms.enums import OrderStatus, ReasonCode
    from trading.oms.lifecycle import EventKind

from workflows import interruption, steps
from workflows.requests import Resolve, Seen

if TYPE_CHECKING:
    from workflows.order_work import OrderWork

_BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, *(5.0,) * 10, 10.0, 10.0, 30.0)
"""Dense for the first minute: one look that the exchange does not answer must not cost another."""
_NOT_PLACED_SIGHTINGS = 2
_ANSWERS_SHOWN = 5
ALARM_AFTER = timedelta(seconds=60)


class InDoubt:
    """The doubt about one send, named by leg and generation."""

    def __init__(self, work: OrderWork) -> None:
        """No doubt yet."""
        self._work = work
        self._at: OrderAt | None = None
        self._looks = 0
        self._not_placed = 0
        self._look: asyncio.Task[None] | None = None
        self._alarmed = False
        self._answers: deque[str] = deque(maxlen=_ANSWERS_SHOWN)
        self.adopting: Resolve | None = None
        """The verdict `adopt` that waits for the next look-up."""

    @property
    def exists(self) -> bool:
        """Whether a send of this order has no known outcome."""
        return self._at is not None

    @property
    def is_looking(self) -> bool:
        """Whether a look-up is under way."""
        return self._look is not None and not self._look.done()

    def words(self) -> list[str]:
        """What was asked and answered so far, for people; empty where there is no doubt."""
        if self._at is None:
            return []
        asked = f"asked {self._looks} times for leg {self._at.leg} generation {self._at.generation}"
        return [asked, *self._answers]

    async def begin(self, leg: int, generation: int) -> None:
        """A send ended without an outcome: look for it, at once and then with back-off."""
        work = self._work
        at = OrderAt(order_id=work.state.client_order_id, leg=leg, generation=generation)
        if work.state.in_doubt_since is None:
            await work.record_doubt(at)
        if work.state.is_open:
            self._at = at
            self._looks = self._not_placed = 0
            self._alarmed = False
            self._answers.clear()
            self.look()

    def state_changed(self) -> None:
        """The exchange's own word on this leg, from the stream, ends the doubt."""
        if self._at is not None and self._work.state.in_doubt_since is None:
            self.end()

    def look(self) -> None:
        """Start one look-up beside the loop, so that a cancel need not wait for it."""
        if self._at is not None and not self.is_looking:
            self._look = asyncio.create_task(self._look_once(self._at, self.adopting))

    async def _look_once(self, at: OrderAt, adopting: Resolve | None) -> None:
        wish = LookUp(**at.model_dump(), as_it_is=adopting is not None)
        self._work.enqueue(Seen(await steps.look_up(wish), at, adopting))

    async def take(self, seen: Seen) -> None:
        """Take what a look-up saw. Only proof ends the doubt; two proofs where it is absence."""
        sighting = seen.sighting
        if sighting.kind is SightingKind.SEEN:
            # Proof of life counts although the doubt has ended otherwise meanwhile.
            self._work.take(
                Booked(
                    state=sighting.state,
                    fills_missing=sighting.fills_missing,
                    strays=sighting.strays,
                    carrier=sighting.carrier,
                )
            )
        if self._at != seen.at:
            self.look()  # It was about an earlier send.
            return
        self._looks += 1
        told = sighting.kind.value.replace("_", " ")
        reason = f": {sighting.reason}" if sighting.reason else ""
        self._answers.append(f"{workflow.now():%H:%M:%S} {told}{reason}")
        if sighting.kind is SightingKind.SEEN:
            self.end()
            return
        if seen.adopting is not None:
            self._not_adopted(seen.adopting, sighting)
        if sighting.kind is SightingKind.NOT_PLACED:
            self._not_placed += 1
            if self._not_placed >= _NOT_PLACED_SIGHTINGS:
                await self.was_not_placed(seen.at)
                return
        await self._alarm_if_long(sighting)
        self._work.later("look", self._pause_s())

    def _not_adopted(self, request: Resolve, sighting: Sighting) -> None:
        reason = sighting.reason or "the exchange has no such order"
        request.answer = not_resolved(self._work.state, reason)
        if self.adopting is request:
            self.adopting = None

    async def _alarm_if_long(self, sighting: Sighting) -> None:
        since = self._work.state.in_doubt_since
        if self._alarmed or since is None or workflow.now() - since < ALARM_AFTER:
            return
        self._alarmed = True
        text = f"in doubt since {since.isoformat()}: {sighting.reason or sighting.kind.value}"
        await self._work.record(self._work.event(EventKind.ALARM, reason=text))

    def leave(self) -> OrderAt | None:
        """An operator has decided: what was in doubt, which nobody looks for any more."""
        at, self._at = self._at, None
        if self.adopting is not None:
            self.adopting.answer = not_resolved(self._work.state, "the doubt has ended otherwise")
            self.adopting = None
        return at

    def _pause_s(self) -> float:
        if self.adopting is not None:
            return 0.0
        if self._not_placed:
            return 0.3
        return _BACK_OFF_S[min(self._looks, len(_BACK_OFF_S) - 1)]

    def end(self) -> None:
        """What waited for certainty (a verdict, a cancel, a modification) goes on."""
        if self._at is not None:
            self._at = None
            self._work.no_longer("look")
            if self.adopting is not None:
                self.adopting.answer = result_of(self._work.state)
                self.adopting = None
            self._work.later("certain", 0)

    async def was_not_placed(self, at: OrderAt) -> None:
        """Nothing was placed: cancelled, sent again, or ended, by the order's own rule."""
        work = self._work
        self.leave()
        if work.modification.is_sending:
            await work.modification.replacement.was_not_placed(at)
            return
        may_be_sent_again = self._may_be_sent_again()
        no_more = work.cancellation.is_wanted or work.strays.exist
        if no_more or (at.leg > 1 and not may_be_sent_again):
            kind, code = EventKind.CANCELLED, ReasonCode.REPLACE_FAILED
            if work.expiry.is_reached:
                kind, code = EventKind.EXPIRED, ReasonCode.EXPIRY_REACHED
            elif work.cancellation.is_wanted:
                code = ReasonCode.CANCEL_REQUESTED
            await work.conclude_not_placed(
                at,
                work.event(EventKind.DOUBT_ENDED),
                work.event(EventKind.REQUEST_ENDED),
                work.event(kind, reason_code=code, reason="proved not placed"),
            )
            work.later("certain", 0)
            await self._go_on_if_sent_again()
        elif may_be_sent_again:
            await work.conclude_not_placed(at, work.event(EventKind.DOUBT_ENDED))
            if self._is_unseen(at):
                await work.submission.send_again()
            else:  # Somebody has seen it alive meanwhile, or an earlier try has sent it again.
                await self._go_on_if_sent_again()
        else:
            reason = "the exchange proved to have no such order after its deadline"
            await work.end_not_placed(at, reason)
            await self._go_on_if_sent_again()

    async def _go_on_if_sent_again(self) -> None:
        """The store did not end the order: the task that this one repeats has sent it again."""
        if self._work.state.is_open:
            await interruption.take_up_newest_send(self._work)

    def _is_unseen(self, at: OrderAt) -> bool:
        """Whether the exchange has not said a word of this leg; of the one before it has."""
        state = self._work.state
        if at.leg == 1:
            return state.status is OrderStatus.SUBMITTED
        return state.is_open and state.leg == at.leg and state.exchange_order_id is None

    def _may_be_sent_again(self) -> bool:
        work = self._work
        return work.order is not None and work.order.resend_if_not_placed and work.is_fresh
