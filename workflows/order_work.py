"""The work on one order: the steps of its story, and the loop that answers its messages."""

import asyncio
import contextlib
from collections import deque
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.messages import (
        Booked,
        ClaimFacts,
        OrderAt,
    )
    from trading.oms.answers import different_content, is_answer, result_of
    from trading.oms.commands import CancelRequest, OutcomeRequest
    from trading.oms.enums import OrderStatus, Pending, ReasonCode
    from trading.oms.identity import content_hash
    from trading.oms.lifecycle import EventKind, LifecycleEvent
    from trading.oms.models import Order, OrderResult, OrderState

from workflows import blotter, steps
from workflows.cancellation import Cancellation
from workflows.doubt import InDoubt
from workflows.modification import Modification
from workflows.requests import (
    Answerable,
    Cancel,
    Due,
    Executions,
    Modify,
    Refused,
    Request,
    Seen,
)
from workflows.submission import Submission

_LATE_EXPIRY_S = 30.0
_FILLS_BACK_OFF_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class OrderWork:
    """One order in the hands of its workflow.

    What the store has committed is in `state`; everything else here can be rebuilt from the store
    by a later run.
    """

    def __init__(self) -> None:
        """Start empty; `admit` or `take_up_again` brings the order."""
        self.order: Order | None = None
        self.known_state: OrderState | None = None
        self.refusal: OrderResult | None = None
        self.fills_missing = False
        self.submission = Submission(self)
        self.doubt = InDoubt(self)
        self.cancellation = Cancellation(self)
        self.modification = Modification(self)
        self._inbox: deque[Request] = deque()
        self._due: set[str] = set()
        self._timers: set[asyncio.Task[None]] = set()
        self._shown: OrderStatus | None = None

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

    # The story.

    async def admit(self, order: Order) -> None:
        """Insert the order, or go on with the one that exists. Other content is refused."""
        admission = await steps.admit(order)
        self.known_state = admission.state
        self.order = order
        if admission.difference:
            self.refusal = different_content(admission.state, admission.difference)
        elif not admission.created:
            await self._go_on_from(admission.claim)

    async def take_up_again(self, order_id: str) -> None:
        """Go on with an order that a former run left: reopened, or continued as new."""
        known = await steps.load(order_id)
        self.known_state, self.order = known.state, known.order
        await self._go_on_from(known.claim)
        if self.state.is_terminal or self.submission.unsent:
            return
        if self.state.replacing:
            await self.record(self.event(EventKind.REQUEST_ENDED))
        if self.state.pending is Pending.CANCEL:
            self.enqueue(Cancel(CancelRequest(reason="requested before")))
        if not self.doubt.exists:
            self.later("fills", 0)

    async def until_settled(self) -> None:
        """Answer messages until the order has ended and every fill of it is booked."""
        self._watch_expiry()
        while True:
            while self._inbox:
                await self._handle(self._inbox.popleft())
                self.cancellation.answer()
            self.show()
            if self._is_done():
                return
            self._continue_as_new_if_long()
            await workflow.wait_condition(lambda: bool(self._inbox) or self._is_done())

    # Messages.

    def enqueue(self, request: Request) -> None:
        """Put a message into the inbox; the loop takes it when the one before is done."""
        self._inbox.append(request)

    async def wait_for_answer(self, request: Answerable, wait_s: float | None) -> None:
        """Enqueue and wait until the loop has answered, at most `wait_s` seconds."""
        self.enqueue(request)
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

    def refuse_mismatch(self, command: CancelRequest) -> None:
        """Refuse a cancel that names another exchange or symbol than the order's."""
        if self.known_state is None:
            return
        for name in ("exchange", "symbol"):
            given, own = getattr(command, name), getattr(self.known_state, name)
            if given is not None and own and given != own:
                msg = f"{name} is {given!r}, the order is on {own!r}"
                raise ApplicationError(msg, type="InvalidOrder", non_retryable=True)

    async def _handle(self, request: Request) -> None:
        if isinstance(request, Executions):
            await self._book(request)
        elif isinstance(request, Cancel):
            await self.cancellation.begin(request)
        elif isinstance(request, Modify):
            await self.modification.begin(request)
        elif isinstance(request, Seen):
            await self.doubt.take(request)
        elif isinstance(request, Refused):
            await self.record(self.event(EventKind.MESSAGE_REFUSED, reason=request.reason))
        else:
            self._due.discard(request.what)
            await self._when_due(request)

    async def _when_due(self, due: Due) -> None:
        if due.what == "send":
            await self.submission.send_now()
        elif due.what == "look":
            self.doubt.look()
        elif due.what == "cancel":
            await self.cancellation.try_again(due.attempt)
        elif due.what == "modify":
            await self.modification.advance(due.attempt)
        elif due.what == "certain":
            await self.modification.doubt_ended()
            self.cancellation.repeat()
        elif due.what == "fills":
            await self._collect_fills(due.attempt)
        elif due.what == "expire":
            await self._expire()
        elif due.what == "expired" and self.state.is_open:
            reason = f"still open {_LATE_EXPIRY_S:.0f} s after its expiry"
            await self.record(self.event(EventKind.ALARM, reason=reason))

    async def _book(self, request: Executions) -> None:
        batch = list(request.command.reports)
        answered = [request]
        while self._inbox and isinstance(self._inbox[0], Executions):
            another = self._inbox.popleft()
            assert isinstance(another, Executions)  # noqa: S101 - tells the type checker
            batch.extend(another.command.reports)
            answered.append(another)
        self.take(await steps.book(self.state.client_order_id, tuple(batch)))
        for one in answered:
            one.answer = True

    # State.

    def take(self, booked: Booked) -> None:
        """Take the committed state; missing fills are collected by the loop."""
        self.known_state = booked.state
        if booked.fills_missing and not self.fills_missing:
            self.fills_missing = True
            self.later("fills", 0)
        self.doubt.state_changed()

    async def conclude_not_placed(self, at: OrderAt, *events: LifecycleEvent) -> None:
        """Commit the verdict on a claim together with what follows from it."""
        self.take(await steps.record(self.state.client_order_id, *events, not_placed=at))

    async def record(self, *events: LifecycleEvent) -> None:
        """Commit events of our own."""
        self.take(await steps.record(self.state.client_order_id, *events))

    def event(self, kind: EventKind, **fields: Any) -> LifecycleEvent:
        """An event of our own, now, about the present leg."""
        values = {"at": workflow.now(), "leg": self.state.leg, **fields}
        return LifecycleEvent(kind=kind, **values)

    def later(self, what: str, seconds: float, attempt: int = 0) -> None:
        """Put `Due(what)` into the inbox after some seconds; one of a kind at a time."""
        if what in self._due:
            return
        self._due.add(what)
        if seconds <= 0:
            self.enqueue(Due(what, attempt))
        else:
            task = asyncio.create_task(self._ring(Due(what, attempt), seconds))
            self._timers.add(task)
            task.add_done_callback(self._timers.discard)

    async def _ring(self, due: Due, seconds: float) -> None:
        await workflow.sleep(timedelta(seconds=seconds))
        self.enqueue(due)

    def show(self) -> None:
        """Show the order in the web UI: search attributes when the status changed, and details."""
        if self._shown is not self.state.status:
            self._shown = self.state.status
            workflow.upsert_search_attributes(blotter.search_attributes(self.state))
        workflow.set_current_details(blotter.details(self.state))

    async def _collect_fills(self, attempt: int) -> None:
        booked = await steps.collect_fills(self.here)
        self.fills_missing = booked.fills_missing
        self.take(booked)
        if booked.fills_missing:
            step = min(attempt, len(_FILLS_BACK_OFF_S) - 1)
            self.later("fills", _FILLS_BACK_OFF_S[step], attempt + 1)
        else:
            await self.modification.advance(0)

    def _watch_expiry(self) -> None:
        if self.state.expire_at is not None and self.state.is_open:
            left = (self.state.expire_at - workflow.now()).total_seconds()
            self.later("expire", max(left, 0))

    async def _expire(self) -> None:
        if not self.state.is_open:
            return
        self.later("expired", _LATE_EXPIRY_S)
        if self.submission.unsent:
            await self.record(self.event(EventKind.EXPIRED, reason_code=ReasonCode.EXPIRY_REACHED))
        else:
            await self.cancellation.begin(Cancel(CancelRequest(reason="expiry reached")))

    async def _go_on_from(self, claim: ClaimFacts | None) -> None:
        """Find the place in the story where a former run left it, from the newest claim."""
        submission = self.submission
        submission.venue = (self.state.exchange, self.state.account)
        if claim is None:
            return
        submission.generation, submission.next_stamp = claim.generation, claim.stamp + 1
        if claim.outcome in {None, "unknown"}:
            submission.unsent = False
            await self.doubt.begin(claim.leg, claim.generation)
        elif claim.outcome == "never_reached":
            self.later("send", 0)
        else:
            submission.unsent = False

    def is_due(self, what: str) -> bool:
        """Whether `later` has put something off that has not come yet."""
        return what in self._due

    @property
    def cancel_is_waiting(self) -> bool:
        """Whether a cancel lies in the inbox that the loop has not taken yet."""
        return any(isinstance(request, Cancel) for request in self._inbox)

    def _has_outcome(self) -> bool:
        return self.refusal is not None or (
            self.known_state is not None and is_answer(self.known_state)
        )

    def _is_done(self) -> bool:
        settled = (
            self.state.is_terminal and not self.fills_missing and not self.doubt.exists
        ) or self.refusal is not None
        return settled and not self._inbox and workflow.all_handlers_finished()

    def _continue_as_new_if_long(self) -> None:
        quiet = not (
            self._due or self.doubt.exists or self.modification.is_running or self.submission.unsent
        )
        if (
            quiet
            and not self.cancellation.is_wanted
            and workflow.info().is_continue_as_new_suggested()
            and workflow.all_handlers_finished()
        ):
            workflow.continue_as_new({"resume": self.state.client_order_id})
