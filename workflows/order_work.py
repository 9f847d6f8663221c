"""The work on one order: the steps of its story, and the loop that answers its messages."""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Booked, ChangeAnswer, ClaimFacts, OrderAt, Prepared
    from trading.oms.answers import cancel_result, different_content, is_answer, result_of
    from trading.oms.commands import OutcomeRequest
    from trading.oms.enums import CancelOutcome, OrderStatus, ReasonCode, RejectedBy
    from trading.oms.identity import content_hash
    from trading.oms.lifecycle import EventKind, LifecycleEvent
    from trading.oms.models import CancelResult, Order, OrderResult, OrderState

from workflows import blotter, interruption, new_run, steps
from workflows.cancellation import Cancellation
from workflows.doubt import InDoubt
from workflows.expiry import Expiry
from workflows.modification import Modification
from workflows.requests import (
    Answerable,
    Cancel,
    Due,
    Executions,
    LegNews,
    Modify,
    Refused,
    Request,
    Resolve,
    Seen,
)
from workflows.split import LegVoice, Split
from workflows.strays import Strays
from workflows.submission import Submission
from workflows.timers import Timers
from workflows.verdict import Verdicts

_RESEND_AGE_S_MAX = 60.0
_FILLS_BACK_OFF_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class OrderWork:
    """One order in the hands of its workflow.

    What the store has committed is in `state`; everything else here can be rebuilt from the store
    by a later run.
    """

    def __init__(self) -> None:
        """Start empty; `begin` or `take_up_again` brings the order."""
        self.order: Order | None = None
        self.known_state: OrderState | None = None
        self.refusal: OrderResult | None = None
        self.fills_missing = False
        self.submission = Submission(self)
        self.doubt = InDoubt(self)
        self.cancellation = Cancellation(self)
        self.modification = Modification(self)
        self.strays = Strays(self)
        self.verdicts = Verdicts(self)
        self.expiry = Expiry(self)
        self.split = Split(self)
        self.voice = LegVoice(self)
        self._inbox: deque[Request] = deque()
        self._timers = Timers(self.enqueue)
        self._shown: OrderStatus | None = None
        self._refusals = count(1)

    @property
    def state(self) -> OrderState:
        """The state as the store has it."""
        if self.known_state is None:  # pragma: no cover - the story begins with it
            msg = "the order has not been admitted"
            raise RuntimeError(msg)
        return self.known_state

    @property
    def here(self) -> OrderAt:
        """The exchange order that carries the order now."""
        return OrderAt(
            order_id=self.state.client_order_id,
            leg=self.state.leg,
            generation=self.submission.generation,
        )

    @property
    def is_fresh(self) -> bool:
        """Whether the leg's first send is so recent that one that placed nothing is repeated."""
        since = self.submission.leg_began or self.state.submitted_at or self.state.created_at
        return (workflow.now() - since).total_seconds() <= _RESEND_AGE_S_MAX

    # The story.

    async def begin(self, order: Order) -> None:
        """Place the order in one step, or go step by step where something has to wait."""
        late = self.submission.is_late(workflow.info().workflow_start_time)
        if late or self.cancel_is_waiting or order.parent_order_id is not None:
            await self._decide(order, await steps.prepare(order))
            return
        placed = await steps.place(order)
        if placed is None:  # Something failed: it may be late or cancelled when all works again.
            await self._decide(order, await steps.prepare(order))
        elif placed.prepared is not None:
            await self._decide(order, placed.prepared)
        else:
            self.order = order
            await self.submission.take_placed(placed)

    async def _decide(self, order: Order, prepared: Prepared) -> None:
        """Go on with an order that is admitted, from where it is."""
        self.known_state, self.order = prepared.state, order
        if prepared.difference:
            self.refusal = different_content(prepared.state, prepared.difference)
            return
        if prepared.routed is not None and prepared.routed.state is not None:
            self.take(Booked(state=prepared.routed.state))
        if prepared.claim is not None:
            await self._go_on_from(prepared.claim)
            return
        began = workflow.info().workflow_start_time
        await self.submission.deny_if_late(began if prepared.created else self.state.created_at)
        await self.submission.decide(prepared)

    async def take_up_again(self, order_id: str) -> None:
        """Go on with an order that a former run left: reopened, or continued as new."""
        known = await steps.load(order_id)
        self.known_state, self.order = known.state, known.order
        if known.claim is not None:
            await self._go_on_from(known.claim)
        else:
            await self._decide(known.order, await steps.prepare(known.order))

    async def until_settled(self) -> None:
        """Answer messages until the order has ended and every fill of it is booked."""
        self.expiry.watch()
        while True:
            while self._inbox:
                await self._handle(self._inbox.popleft())
                self.cancellation.answer()
                await self.modification.end_with_the_order()
            await interruption.mend(self)
            self.show()
            self.voice.tell()
            if self._is_done():
                return
            is_due = new_run.begin_if_due(self)
            await workflow.wait_condition(partial(self._is_awake, is_due=is_due))

    # Messages.

    def enqueue(self, request: Request) -> None:
        """Put a message into the inbox; the loop takes it when the one before is done."""
        self._inbox.append(request)

    async def wait_for_answer(self, request: Answerable, wait_s: float | None) -> None:
        """Enqueue and wait until the loop has answered, at most `wait_s` seconds.

        The first task may bring a message before there is a state to answer with.
        """
        self.enqueue(request)
        await workflow.wait_condition(lambda: self.known_state is not None)
        timeout = None if wait_s is None else timedelta(seconds=wait_s)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(lambda: request.answer is not None, timeout=timeout)

    async def outcome(self, request: OutcomeRequest) -> OrderResult:
        """Wait until the submission has its outcome; refuse a caller who means another order."""
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                self._has_outcome, timeout=timedelta(seconds=request.wait_s)
            )
        if self.known_state is None or self.order is None:
            msg = "the order has not been admitted yet; ask again"
            raise ApplicationError(msg, type="NotYet")
        if request.content_hash not in {None, content_hash(self.order)}:
            return different_content(self.state, ("the content hashes differ",))
        return self.result()

    def result(self) -> OrderResult:
        """What became of the order, as far as is known."""
        known = content_hash(self.order) if self.order is not None else None
        return self.refusal or result_of(self.state, known)

    def cancel_so_far(self) -> CancelResult:
        """What can be said of a cancel before its answer: nothing final while fills are missing."""
        result = cancel_result(self.state)
        if not (self.state.is_terminal and self.fills_missing):
            return result
        return result.model_copy(update={"success": False, "outcome": CancelOutcome.PENDING})

    async def _handle(self, request: Request) -> None:
        if isinstance(request, Executions):
            await self._book(request)
        elif isinstance(request, Cancel):
            await self._cancel(request)
        elif isinstance(request, Modify):
            change = self.split.modification if self.state.is_split else self.modification
            await change.begin(request)
        elif isinstance(request, Resolve):
            await self.verdicts.begin(request)
        elif isinstance(request, Seen):
            await self.doubt.take(request)
        elif isinstance(request, LegNews):
            if not any(isinstance(one, LegNews) for one in self._inbox):
                await self.split.news()
        elif isinstance(request, Refused):
            await self.note_refusal(request.reason)
        else:
            self._timers.came(request)
            await self._when_due(request)

    async def _when_due(self, due: Due) -> None:
        doing: dict[str, Callable[[int], Awaitable[None]]] = {
            "cancel": self.cancellation.try_again,
            "modify": self.modification.advance,
            "fills": self._collect_fills,
            "strays": self.strays.end_all,
        }
        if due.what in doing:
            await doing[due.what](due.attempt)
        elif due.what == "send":
            await self.submission.send_now()
        elif due.what == "look":
            self.doubt.look()
        elif due.what == "certain":
            await self.modification.doubt_ended()
            self.cancellation.repeat()
        elif due.what == "expire":
            await self.expiry.come()
        elif due.what == "expired":
            await self.expiry.alarm_if_late()

    async def _cancel(self, request: Cancel) -> None:
        """A validator refuses a mismatch too, but signals and the first task have none."""
        why = request.command.mismatch(self.known_state)
        if why is None:
            await self.cancellation.begin(request)
            return
        await self.note_refusal(f"cancel: {why}")
        request.answer = cancel_result(self.state, why).model_copy(
            update={"success": False, "outcome": CancelOutcome.NOT_FOUND}
        )

    async def _book(self, request: Executions) -> None:
        batch = list(request.command.reports)
        answered = [request]
        while self._inbox and isinstance(self._inbox[0], Executions):
            another = self._inbox.popleft()
            assert isinstance(another, Executions)  # noqa: S101 - tells the type checker
            batch.extend(another.command.reports)
            answered.append(another)
        self.take(await steps.book(self.here, tuple(batch)))
        for one in answered:
            one.answer = True

    # State.

    def take(self, booked: Booked | ChangeAnswer) -> None:
        """Take the committed state, but none older than the known: look-ups run beside the loop."""
        known = self.known_state
        if known is None or booked.state.sequence >= known.sequence:
            self.known_state = booked.state
            if known is not None and booked.state.leg > known.leg:
                self.submission.generation = self.modification.replacement.generation
            if known is not None and not known.is_open:
                self.expiry.watch_if_revived()
        if booked.fills_missing and not self.fills_missing:
            self.fills_missing = True
            self.later("fills", 0)
        self.doubt.state_changed()
        self.strays.take(booked)

    async def conclude_not_placed(self, at: OrderAt, *events: LifecycleEvent) -> None:
        """Commit the verdict on a claim together with what follows from it."""
        self.take(await steps.record(self.state.client_order_id, *events, not_placed=at))

    async def record_doubt(self, at: OrderAt) -> None:
        """Commit that the outcome of a send is unknown, unless others have found out meanwhile."""
        doubt = self.event(EventKind.IN_DOUBT, leg=at.leg)
        self.take(await steps.record(self.state.client_order_id, doubt, in_doubt=at))

    async def end_not_placed(self, at: OrderAt, reason: str) -> None:
        """End the order: nothing was placed, and it is not to be sent again.

        With a leg before it, which the exchange had, that is no rejection.
        """
        kind, code = EventKind.NOT_PLACED, ReasonCode.NOT_PLACED
        if at.leg > 1:
            kind, code = EventKind.CANCELLED, ReasonCode.REPLACE_FAILED
        ended = self.event(kind, rejected_by=RejectedBy.OMS, reason_code=code, reason=reason)
        await self.conclude_not_placed(at, ended)

    async def note_refusal(self, reason: str) -> None:
        """Commit that a message was refused; a repeated task counts alike, and commits it once."""
        which = {"message": next(self._refusals), "run": workflow.info().run_id}
        await self.record(self.event(EventKind.MESSAGE_REFUSED, reason=reason, details=which))

    async def take_up_carrier(self) -> None:
        """Read from the store which of the order's sends carries it."""
        known = await steps.load(self.state.client_order_id)
        self.take(Booked(state=known.state))
        if known.claim is not None:
            self.submission.take_up(known.claim)

    async def record(self, *events: LifecycleEvent) -> None:
        """Commit events of our own."""
        self.take(await steps.record(self.state.client_order_id, *events))

    def event(self, kind: EventKind, **fields: Any) -> LifecycleEvent:
        """An event of our own, now, about the present leg."""
        values = {"at": workflow.now(), "leg": self.state.leg, **fields}
        return LifecycleEvent(kind=kind, **values)

    def later(self, what: str, seconds: float, attempt: int = 0) -> None:
        """Put `Due(what)` into the inbox after some seconds; of two of a kind the earlier one."""
        self._timers.later(what, seconds, attempt)

    def no_longer(self, what: str) -> None:
        """Forget what was put off, so that no timer fires for nothing."""
        self._timers.no_longer(what)

    def forget(self, what: str) -> None:
        """Forget it also where its time has come already and it lies in the inbox."""
        self.no_longer(what)
        for request in [one for one in self._inbox if isinstance(one, Due) and one.what == what]:
            self._inbox.remove(request)
            self._timers.came(request)

    def is_due(self, what: str) -> bool:
        """Whether `later` has put something off that has not come yet."""
        return self._timers.is_due(what)

    def show(self) -> None:
        """Show the order in the web UI: search attributes when the status changed, and details."""
        if self._shown is not self.state.status:
            self._shown = self.state.status
            workflow.upsert_search_attributes(blotter.search_attributes(self.state))
        slot_at = self.submission.slot_at if self.submission.unsent else None
        workflow.set_current_details(blotter.details(self.state, slot_at, self.doubt.words()))

    async def _collect_fills(self, attempt: int) -> None:
        booked = await steps.collect_fills(self.here)
        self.fills_missing = booked.fills_missing
        self.take(booked)
        if booked.fills_missing:
            step = min(attempt, len(_FILLS_BACK_OFF_S) - 1)
            self.later("fills", _FILLS_BACK_OFF_S[step], attempt + 1)
        else:
            await self.modification.advance(0)

    async def _go_on_from(self, claim: ClaimFacts) -> None:
        """Find the place in the story where a former run left it, from the newest claim."""
        self.submission.venue = (self.state.exchange, self.state.account)
        if self.state.is_terminal:
            self.submission.take_up(claim)
            return
        await interruption.end_requests(self)
        await interruption.go_on_from(self, claim)

    @property
    def has_messages(self) -> bool:
        """Whether a message lies in the inbox."""
        return bool(self._inbox)

    @property
    def cancel_is_waiting(self) -> bool:
        """Whether a cancel lies in the inbox that the loop has not taken yet."""
        return any(
            isinstance(request, Cancel) and request.command.mismatch(self.known_state) is None
            for request in self._inbox
        )

    def _has_outcome(self) -> bool:
        return self.refusal is not None or (
            self.known_state is not None and is_answer(self.known_state)
        )

    def _is_done(self) -> bool:
        settled = (
            self.state.is_terminal
            and not self.fills_missing
            and not (self.doubt.exists or self.doubt.is_looking or self.strays.exist)
            and not (self.split.is_busy or self.voice.is_telling)
        ) or self.refusal is not None
        return settled and not self._inbox and workflow.all_handlers_finished()

    def _is_awake(self, *, is_due: bool) -> bool:
        return self.has_messages or self._is_done() or (is_due and new_run.is_quiet(self))
