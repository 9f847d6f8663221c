"""The steps of an order's story, as activities: each is safe to repeat from the start.

A crash repeats an activity from attempt 1, so none of them counts attempts. The store decides:
the order's key, the send claim and the fill key make each step idempotent. What an exchange
refuses comes back as a value; an exception means that the step could not be taken (the database
is away) and is retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.booking import Booking
from activities.carriers import may_live_beside
from activities.messages import (
    Booked,
    ClaimFacts,
    Known,
    Note,
    OrderAt,
    Placed,
    Prepared,
    RateAnswer,
    RateQuestion,
    Reports,
    RiskAnswer,
    RiskQuestion,
    Routed,
    Send,
    SendAnswer,
)
from activities.placing import Placer, Waiting, rate_answer, rate_slot, venue_for
from activities.sending import Sender
from activities.split_messages import SplitQuestion
from activities.splitting import Splitting, is_to_be_split
from activities.store import ClaimOutcome
from activities.store.types import Sent
from trading.oms.models import Order
from trading.oms.routing.base import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from activities.markets import Markets
    from activities.risk_desk import RiskDesk
    from activities.store import Store, StoredClaim
    from trading.oms.interfaces import IOrderRouter, IRateLimitGuard
    from trading.oms.models import OrderState
    from trading.oms.venue import IExecutionConnector

_ORDERS_REMEMBERED = 10_000


class Parts(NamedTuple):
    """What the steps are made of; the composition root brings them.

    `connectors` are named by (exchange, account); `on_state` is told every committed state, for
    the callers that wait in this process.
    """

    deployment: str
    store: Store
    connectors: Mapping[tuple[str, str], IExecutionConnector]
    default_accounts: Mapping[str, str]
    risk: RiskDesk
    markets: Markets
    router: IOrderRouter
    rate_limits: IRateLimitGuard
    on_state: Callable[[OrderState], None]

    def connector(self, exchange: str, account: str) -> IExecutionConnector:
        """The connector of an account. Raises `ApplicationError`; another worker may have it."""
        found = self.connectors.get((exchange, account))
        if found is None:
            raise self.no_such_account(exchange, account)
        return found

    def no_such_account(self, exchange: str, account: str) -> ApplicationError:
        """The error for an account that no connector is named by."""
        known = ", ".join(sorted(f"{e}/{a}" for e, a in self.connectors)) or "none"
        msg = f"this worker has no account {exchange}/{account}; those it has are: {known}"
        return ApplicationError(msg, type="NoSuchAccount")


class OrderSteps:
    """The activities of the order workflow that decide, store and send."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._store = parts.store
        self._booking = Booking(parts.store)
        self._sender = Sender(parts)
        self._placer = Placer(parts, self._sender)
        self._orders: dict[str, Order] = {}

    @activity.defn(name="place_order")
    async def place_order(self, order: Order) -> Placed:
        """Decide about a new order and send it, in one transaction and one write; or prepare it.

        One activity, because each costs as much as an empty one. All of it may be repeated: an
        order that is known is only prepared, and the claim that is found says what to do.
        """
        placed = await self._placer.place(order)
        if not isinstance(placed, Placed):
            return Placed(prepared=await self._prepare(order, placed))
        self._remember(order)
        state = placed.state if placed.sent is None else placed.sent.state
        if state is not None:
            self._parts.on_state(state)
        return placed

    @activity.defn(name="prepare_order")
    async def prepare_order(self, order: Order) -> Prepared:
        """Admit the order, then decide: the venue, the risk checks, the rate limit's slot.

        All of it may be repeated: the row is found, the reservation is keyed by the order, a slot
        is lost at most.
        """
        return await self._prepare(order)

    async def _prepare(self, order: Order, waiting: Waiting | None = None) -> Prepared:
        """Where the order is `waiting` for a slot already, it stays there."""
        prepared = await self._admit(order)
        if prepared.difference or prepared.claim is not None or not prepared.state.is_open:
            return prepared
        routed, risk = await self._route_and_check(
            order, prepared.state, waiting.routed if waiting else None
        )
        if routed.state is not None and not routed.state.is_split:
            # Another try, which had found one exchange for all of it, has sent it meanwhile.
            claim, state = await self._claim_and_state(order.client_order_id)
            return prepared.model_copy(update={"state": state, "claim": claim})
        if risk is None or risk.denied is not None:
            return prepared.model_copy(update={"routed": routed, "risk": risk})
        slot = waiting.slot if waiting else await rate_slot(self._parts, order, routed)
        rate = rate_answer(slot)
        return prepared.model_copy(update={"routed": routed, "risk": risk, "rate": rate})

    async def _admit(self, order: Order) -> Prepared:
        """Insert the order, or find the one that has its id already."""
        admission = await self._store.admit(order)
        if not admission.differs:
            self._remember(order)
        claim, state = None, None
        if not admission.created:
            claim, state = await self._claim_and_state(order.client_order_id)
        return Prepared(
            created=admission.created,
            state=state or admission.state,
            difference=tuple(admission.differs),
            claim=claim,
        )

    @activity.defn(name="load_order")
    async def load_order(self, order_id: str) -> Known:
        """Read a known order, for a run that takes it up again."""
        order = await self._store.trader_order(order_id)
        claim, state = await self._claim_and_state(order_id)
        if state is None or order is None:
            msg = f"no order has the id {order_id!r}"
            raise ApplicationError(msg, type="OrderNotFound", non_retryable=True)
        return Known(order=order, state=state, claim=claim)

    async def _route_and_check(
        self, order: Order, state: OrderState, known: Routed | None
    ) -> tuple[Routed, RiskAnswer | None]:
        """The venue, and what the checks say there; None where there is none, or there are legs.

        An order that may be divided is divided anew without a venue that denies all of it. A venue
        that is `known` is that of an order that is not divided.
        """
        refused: dict[str, Refusal] = {}
        while True:
            routed = known or await self.route(order, refused)
            if routed.denied is not None or routed.state is not None:
                return routed, None
            question = RiskQuestion(
                order_id=order.client_order_id,
                exchange=routed.exchange,
                account=routed.account,
                quantity=state.remaining_quantity,
                price=state.price,
            )
            risk = await self._parts.risk.check(order, question)
            may_go_elsewhere = is_to_be_split(self._parts, order) and routed.exchange not in refused
            if risk.denied is None or not may_go_elsewhere:
                return routed, risk
            refused[routed.exchange] = Refusal(risk.denied.reason_code, risk.denied.reason)

    async def route(self, order: Order, refused: Mapping[str, Refusal]) -> Routed:
        """Choose the venue, and the account there (the order's own, or the venue's default).

        Of an order that is divided those that have `refused` get nothing.
        """
        if is_to_be_split(self._parts, order):
            question = SplitQuestion(
                order_id=order.client_order_id, quantity=order.quantity, refused=dict(refused)
            )
            return await Splitting(self._parts).split_order(question)
        return await venue_for(self._parts, order)

    @activity.defn(name="check_risk")
    async def check_risk(self, question: RiskQuestion) -> RiskAnswer:
        """Run every pre-trade check on the venue and account chosen."""
        return await self._parts.risk.check(await self._order(question.order_id), question)

    @activity.defn(name="acquire_rate_limit")
    async def acquire_rate_limit(self, question: RateQuestion) -> RateAnswer:
        """Take a slot of the exchange's limit: now, or at a time to come that is the order's.

        One that would come too late for the order is a denial: nothing is sent late.
        """
        order = await self._order(question.order_id)
        where = Routed(exchange=question.exchange, account=question.account)
        return rate_answer(await rate_slot(self._parts, order, where, question.slot))

    @activity.defn(name="send_order")
    async def send_order(self, send: Send) -> SendAnswer:
        """Claim the send durably, then write the claimed request to the exchange, once."""
        answer = await self._sender.send(await self._order(send.order_id), send)
        self._parts.on_state(answer.state)
        return answer

    @activity.defn(name="record_events")
    async def record_events(self, note: Note) -> Booked:
        """Commit events of our own, with the word on a claim that goes with them."""
        if note.not_placed is not None:
            state = await self._sender.conclude(
                note.not_placed, ClaimOutcome.NOT_PLACED, note.events
            )
        elif note.in_doubt is not None:
            state = await self._sender.conclude(note.in_doubt, ClaimOutcome.UNKNOWN, note.events)
        elif note.unsent_after is not None:
            return await self._record_unsent(note, note.unsent_after)
        else:
            state = await self._store.record(note.order_id, note.events)
        self._parts.on_state(state)
        return Booked(state=state)

    async def _record_unsent(self, note: Note, known: ClaimFacts) -> Booked:
        """Commit what holds only if nothing was sent after the request that is known."""
        after = Sent(known.leg, known.generation, known.stamp)
        state = await self._store.record(note.order_id, note.events, after)
        self._parts.on_state(state)
        if state.is_terminal:
            return Booked(state=state)
        claim, newer = await self._claim_and_state(note.order_id)
        return Booked(state=newer or state, claim=claim)

    @activity.defn(name="book_reports")
    async def book_reports(self, message: Reports) -> Booked:
        """Commit what the exchange said: acceptance, fills, the end."""
        booked = await self._booking.book(
            message.order_id, message.reports, generation=message.generation
        )
        self._parts.on_state(booked.state)
        return booked

    async def _order(self, order_id: str) -> Order:
        order = self._orders.get(order_id)
        if order is None:
            order = await self._store.trader_order(order_id)
            if order is None:
                msg = f"no order has the id {order_id!r}"
                raise ApplicationError(msg, type="OrderNotFound", non_retryable=True)
            self._remember(order)
        return order

    def _remember(self, order: Order) -> None:
        if len(self._orders) >= _ORDERS_REMEMBERED:
            del self._orders[next(iter(self._orders))]
        self._orders[order.client_order_id] = order

    async def _claim_and_state(self, order_id: str) -> tuple[ClaimFacts | None, OrderState | None]:
        """The send that carries the order, and a state that is no older.

        The task that this one repeats may only have stalled, and claim the send between two reads:
        the claim of a venue that the state does not name yet would leave the order stuck.
        """
        claims = await self._store.claims_of(order_id)
        state = await self._store.order(order_id)
        return self._carrier(claims, state), state

    @staticmethod
    def _carrier(claims: Sequence[StoredClaim], state: OrderState | None) -> ClaimFacts | None:
        """The newest claim, but the one that carries the order where an older proved to live.

        A cancel-replace without an outcome comes before what carries the order until then.
        """
        if not claims:
            return None
        named = {claim.request.exchange_client_id: claim for claim in claims}
        newest = max(claims, key=lambda claim: claim.key[1:])
        carrier = named.get(state.exchange_client_id or "") if state is not None else None
        old = (
            named.get(newest.request.replaces.exchange_client_id)
            if newest.request.replaces
            else None
        )
        is_open = state is not None and state.is_open
        if carrier is not None and not (is_open and _is_in_doubt(newest) and carrier is old):
            newest, old = carrier, None
        return ClaimFacts(
            leg=newest.key.leg,
            generation=newest.key.generation,
            stamp=newest.stamp,
            outcome=newest.outcome.value if newest.outcome else None,
            strays=tuple(at.generation for at in may_live_beside(newest, claims)),
            claimed_at=newest.claimed_at,
            replaces=OrderAt(**old.key._asdict()) if old is not None else None,
        )


def _is_in_doubt(claim: StoredClaim) -> bool:
    return claim.outcome in {None, ClaimOutcome.UNKNOWN}
