"""The send claim: one durable row says who may send what, and how it ended.

Whoever finds the claim taken looks the order up at the exchange and does not send. A claim that
is won moves the order to SUBMITTED in the same transaction, so SUBMITTED means: claimed.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa

from activities.store.batch import Batch, ClaimRow
from activities.store.columns import to_json
from activities.store.orders import OnOrder, may_be_there
from activities.store.types import Claim, ClaimKey, ClaimOutcome, StoredClaim
from trading.oms.enums import OrderStatus, Pending, ReasonCode, TradingState
from trading.oms.errors import OrderNotFound
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now
from trading.oms.split import is_leg
from trading.oms.venue import OrderRequest

_OPEN_OUTCOMES = frozenset({None, ClaimOutcome.UNKNOWN, ClaimOutcome.NEVER_REACHED})


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A wish to send: which send, exactly what, for whom, and until when (None: no limit).

    `before` are events that are true whether or not the claim is granted (routed, submitting);
    `events` go with a won claim. A LEG_STARTED among them replaces the one that the claim makes
    itself; with a REPLACE_STARTED the order stays on its leg until the exchange has the new one.
    `stamp` is 0 for a first claim; to claim again, it is the stamp that the
    caller knows to have failed. Of a send that `is_there` already nothing can be refused.
    """

    key: ClaimKey
    request: OrderRequest
    claimant: str
    not_after: datetime | None = None
    before: Sequence[LifecycleEvent] = ()
    events: Sequence[LifecycleEvent] = ()
    stamp: int = 0
    is_there: bool = False


class ClaimSend(OnOrder):
    """Take the claim, or find it taken, or be refused."""

    claims = True
    sends = True

    def __init__(self, wish: ClaimRequest) -> None:
        """Note the wish; the ticket recognises this very command when it is repeated."""
        super().__init__(wish.key.order_id)
        self._wish = wish
        self._ticket = uuid.uuid4().hex
        self._won = False
        self._refusal: ReasonCode | None = None

    @property
    def fill_ids(self) -> Iterable[str]:
        """The fills among the events."""
        events = [*self._wish.before, *self._wish.events]
        return [event.fill.fill_id for event in events if event.fill is not None]

    def plan(self, batch: Batch) -> None:
        """Decide, with the order's row and the trading states locked."""
        self._refusal = None
        state = batch.order(self.order_id).state
        claim = batch.claims.get(self._wish.key)
        if self.has_won(batch) or not self._may_take(claim):
            return
        self._refusal = None if self._wish.is_there else self._reason_against(batch, state)
        events = list(self._wish.before)
        if self._refusal is None:
            events += self._take(batch, claim)
        batch.apply(batch.order(self.order_id), events, self.received_at)

    def has_won(self, batch: Batch) -> bool:
        """Whether this very command has committed the claim before; then it is as it was."""
        claim = batch.claims.get(self._wish.key)
        self._won = claim is not None and claim.values["ticket"] == self._ticket
        return self._won

    def _may_take(self, claim: ClaimRow | None) -> bool:
        if self._wish.stamp == 0:
            return claim is None
        if claim is None:
            raise _no_claim(self._wish.key)
        # A claim without an outcome may be on its way: its sender alone can say that it is not.
        known, stamp = _outcome(claim.values), claim.values["stamp"]
        return known is ClaimOutcome.NEVER_REACHED and stamp == self._wish.stamp

    def _reason_against(self, batch: Batch, state: OrderState) -> ReasonCode | None:
        request = self._wish.request
        if state.pending is Pending.CANCEL or state.status is OrderStatus.CANCELLED:
            return ReasonCode.CANCELLED_BEFORE_SEND
        if _parent_is_cancelled(batch, state):
            return ReasonCode.CANCELLED_BEFORE_SEND
        if not state.is_open or state.is_split:
            # Its legs are sent: whoever asks for the whole decided before there were any.
            return state.reason_code or ReasonCode.CANCELLED_BEFORE_SEND
        if self._wish.not_after is not None and utc_now() > self._wish.not_after:
            return ReasonCode.SEND_BY_PASSED
        again = self._wish.key.generation > 1
        if again and (self._older_lives(batch) or batch.resends_stopped(request)):
            return ReasonCode.RESENDING_STOPPED
        trading = batch.trading_state(request.exchange, request.account, state.strategy_id)
        return ReasonCode.TRADING_HALTED if trading is TradingState.HALTED else None

    def _older_lives(self, batch: Batch) -> bool:
        """Whether a send that was proved absent has shown life before this one was claimed."""
        own = self._wish.key
        return any(
            key[:2] == own[:2] and key.generation < own.generation and may_be_there(row.values)
            for key, row in batch.claims.items()
        )

    def _take(self, batch: Batch, claim: ClaimRow | None) -> list[LifecycleEvent]:
        key, request = self._wish.key, self._wish.request
        values = {
            **key._asdict(),
            "exchange": request.exchange,
            "account": request.account,
            "symbol": request.symbol,
            "exchange_client_id": request.exchange_client_id,
            "exchange_order_id": None,
            "request": request.model_dump_json(),
            "stamp": self._wish.stamp + 1,
            "claimant": self._wish.claimant,
            "ticket": self._ticket,
            "claimed_at": batch.now,
            "outcome": None,
            "answer": None,
            "settled_at": None,
        }
        is_new = claim is None or claim.is_new
        batch.claims[key] = ClaimRow(values, is_new=is_new, is_changed=True)
        self._won = True
        return self._events(batch.now)

    def _events(self, now: datetime) -> list[LifecycleEvent]:
        key, events = self._wish.key, list(self._wish.events)
        kinds = {event.kind for event in events}
        again = key.generation > 1 or self._wish.stamp > 0
        stays = EventKind.REPLACE_STARTED in kinds
        if not stays and (again or EventKind.LEG_STARTED not in kinds):
            started = LifecycleEvent(
                kind=EventKind.RESENT if again else EventKind.LEG_STARTED,
                at=now,
                leg=key.leg,
                exchange_client_id=self._wish.request.exchange_client_id,
                details={"generation": key.generation, "stamp": self._wish.stamp + 1},
            )
            events.append(started)
        submitted = LifecycleEvent(kind=EventKind.SUBMITTED, at=now, leg=key.leg)
        return [*events, submitted]

    def answer(self, batch: Batch) -> Claim:
        """The claim as it stands now, whoever has it."""
        state = batch.order(self.order_id).state
        claim = batch.claims.get(self._wish.key)
        if claim is None:
            return Claim(False, self._wish.request, None, self._wish.stamp, self._refusal, state)
        request = self._wish.request
        if not self._won:
            request = OrderRequest.model_validate_json(claim.values["request"])
        outcome, stamp = _outcome(claim.values), claim.values["stamp"]
        return Claim(self._won, request, outcome, stamp, self._refusal, state)


def _parent_is_cancelled(batch: Batch, leg: OrderState) -> bool:
    """A cancel of a split order stops every leg that is not claimed yet."""
    parent = batch.orders.get(leg.parent_order_id or "") if is_leg(leg) else None
    return parent is not None and parent.state.pending is Pending.CANCEL


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claimed send ended: outcome, the exchange's answer, and what to record with it.

    `stamp` names the stamped request that it speaks of; None means the newest.
    """

    key: ClaimKey
    outcome: ClaimOutcome
    answer: dict[str, Any] | None = None
    events: Sequence[LifecycleEvent] = ()
    stamp: int | None = None


class Settle(OnOrder):
    """Set the outcome of a claim by compare-and-set, and apply events, in one transaction."""

    claims = True

    def __init__(self, settlement: Settlement) -> None:
        """Note what became of the send."""
        super().__init__(settlement.key.order_id)
        self._settlement = settlement

    @property
    def fill_ids(self) -> Iterable[str]:
        """The fills among the events."""
        return [e.fill.fill_id for e in self._settlement.events if e.fill is not None]

    def plan(self, batch: Batch) -> None:
        """Set what may still be set; a word that comes too late counts for its fills alone.

        Too late is a word about an older stamp, and one that contradicts what is settled: a sender
        that was stopped must not put an order in doubt, or end it, that others have gone on with.
        """
        given, row = self._settlement, batch.order(self.order_id)
        claim = batch.claims.get(given.key)
        if claim is None:
            raise _no_claim(given.key)
        known = _outcome(claim.values)
        newest = given.stamp in {None, claim.values["stamp"]}
        proof = given.outcome is ClaimOutcome.ACCEPTED
        is_revived = known is ClaimOutcome.NOT_PLACED and proof
        is_new = is_revived or (known in _OPEN_OUTCOMES and (newest or proof))
        if is_new:
            self._set(claim, batch.now)
        events = given.events
        counts = is_new or proof or (newest and given.outcome is known)
        if given.outcome is ClaimOutcome.NOT_PLACED and self._was_sent_again(batch):
            counts = False
        if not counts:
            events = [event for event in events if event.kind is EventKind.FILL]
        batch.apply(row, events, self.received_at)

    def _was_sent_again(self, batch: Batch) -> bool:
        """Whether a later send was claimed: that this one placed nothing ends no order then."""
        own = self._settlement.key
        return any(
            key.order_id == own.order_id
            and key > own
            and _outcome(row.values) not in {ClaimOutcome.NOT_PLACED, ClaimOutcome.NEVER_REACHED}
            for key, row in batch.claims.items()
        )

    def _set(self, claim: ClaimRow, now: datetime) -> None:
        given = self._settlement
        ids = [event.exchange_order_id for event in given.events if event.exchange_order_id]
        found = (given.answer or {}).get("exchange_order_id") or (ids[0] if ids else None)
        claim.values.update(
            outcome=given.outcome.value,
            answer=None if given.answer is None else to_json(given.answer),
            settled_at=now,
            exchange_order_id=found or claim.values["exchange_order_id"],
        )
        claim.is_changed = True

    def answer(self, batch: Batch) -> OrderState:
        """The order's state after it."""
        return batch.order(self.order_id).state


def stored_claim(row: sa.Row[Any]) -> StoredClaim:
    """The claim in a row of `send_claims`."""
    return StoredClaim(
        key=ClaimKey(row.order_id, row.leg, row.generation),
        request=OrderRequest.model_validate_json(row.request),
        stamp=row.stamp,
        claimant=row.claimant,
        claimed_at=row.claimed_at,
        outcome=ClaimOutcome(row.outcome) if row.outcome else None,
        answer=pydantic_core.from_json(row.answer) if row.answer else None,
        settled_at=row.settled_at,
        exchange_order_id=row.exchange_order_id,
    )


def _outcome(values: dict[str, Any]) -> ClaimOutcome | None:
    return ClaimOutcome(values["outcome"]) if values["outcome"] else None


def _no_claim(key: ClaimKey) -> OrderNotFound:
    return OrderNotFound(
        f"order {key.order_id!r} has no claim for leg {key.leg}, generation {key.generation}"
    )
