"""The first step of an order where nothing has to wait: decided, claimed and sent in one go.

Its checks are those of the steps one by one, in the same order; what they commit in three
transactions is committed in one, before the write. Whatever has to wait (a user's checks, a slot
of the rate limit that is in the future), what is split, and what is known already goes the way of
the steps one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from activities.messages import Denied, Placed, RateAnswer, RiskQuestion, Routed, Send
from activities.rate_desk import MAX_WAIT_S
from activities.splitting import is_to_be_split
from activities.store.placing import FirstSend
from trading.oms.enums import ReasonCode, RejectedBy
from trading.oms.interfaces import RateSlot, RateWish
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.routing.base import RoutingDenied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.order_steps import Parts
    from activities.sending import Sender
    from activities.store.placing import Placing
    from trading.oms.interfaces import IRateLimitGuard
    from trading.oms.models import Order

_ASK_AGAIN_S = 0.25
"""After so long a guard that gives no slots to come is asked again."""


class Waiting(NamedTuple):
    """The venue of an order that cannot be sent now, and what the rate limit there has said."""

    routed: Routed
    slot: RateSlot


class Placer:
    """Places orders that nothing holds up."""

    def __init__(self, parts: Parts, sender: Sender) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._sender = sender

    async def place(self, order: Order) -> Placed | Waiting | None:
        """Admit the order and send it, or end it; else it has to go step by step.

        Then nothing is kept of it but its venue and its slot there, if it has to wait for that one.
        """
        if is_to_be_split(self._parts, order) or self._parts.risk.asks_others:
            return None
        routed = await venue_for(self._parts, order)
        if routed.denied is not None:
            return await self._end(order, [_denied(routed.denied)])
        marks = [_event(EventKind.ROUTED, exchange=routed.exchange, account=routed.account)]
        question = RiskQuestion(
            order_id=order.client_order_id,
            exchange=routed.exchange,
            account=routed.account,
            quantity=order.quantity,
            price=order.price,
        )
        wish, risk = await self._parts.risk.wish(order, question)
        if risk.denied is not None:
            placed = await self._end(order, [*marks, _denied(risk.denied)])
            return placed and placed.model_copy(update={"checks_run": risk.checks_run})
        slot = await rate_slot(self._parts, order, routed)
        if slot.wait_s > 0 or not slot.granted:
            return Waiting(routed, slot)
        send = _first_send(order, routed, [*marks, _event(EventKind.SUBMITTING)])
        first = FirstSend(wish=wish, claim=self._sender.first_claim(order, send), before=marks)
        placing = await self._parts.store.risk.place(order, first)
        if placing is None or placing.claim is None or not placing.claim.won:
            slot.give_back()
        return placing and await self._sent(send, placing, risk.checks_run)

    async def _end(self, order: Order, events: Sequence[LifecycleEvent]) -> Placed | None:
        placing = await self._parts.store.risk.place(order, events)
        return placing and Placed(state=placing.state)

    async def _sent(self, send: Send, placing: Placing, checks_run: tuple[str, ...]) -> Placed:
        sent = None
        if placing.claim is not None:
            sent = await self._sender.write(send, placing.claim)
        return Placed(
            exchange=send.exchange,
            account=send.account,
            checks_run=(*checks_run, *placing.checks_run),
            state=placing.state if sent is None else None,
            sent=sent,
        )


async def venue_for(parts: Parts, order: Order) -> Routed:
    """The venue, and the account there (the order's own, or the venue's default)."""
    try:
        exchange = await parts.router.route_order(order)
    except RoutingDenied as denial:
        return Routed(denied=Denied(reason_code=denial.reason_code, reason=str(denial)))
    account = order.account or parts.default_accounts.get(exchange, "")
    if (exchange, account) not in parts.connectors:
        known = ", ".join(sorted(f"{e}/{a}" for e, a in parts.connectors)) or "none"
        reason = f"account is {account!r} at {exchange!r}; the accounts here are: {known}"
        return Routed(denied=Denied(reason_code=ReasonCode.NO_EXCHANGE, reason=reason))
    return Routed(exchange=exchange, account=account)


async def rate_slot(
    parts: Parts, order: Order, routed: Routed, slot: float | None = None
) -> RateSlot:
    """A slot of the exchange's limit: now, or at a time to come that is the order's.

    An order that has waited names its `slot`.
    """
    until = min((t for t in (order.send_by, order.expire_at) if t is not None), default=None)
    wish = RateWish(
        exchange=routed.exchange,
        endpoint="place",
        account=routed.account,
        symbol=order.symbol,
        order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        slot=slot,
        within_s=None if until is None else (until - utc_now()).total_seconds(),
    )
    reserve = getattr(parts.rate_limits, "reserve", None)
    if reserve is None:
        return await _plain_slot(parts.rate_limits, wish)
    return cast("RateSlot", await reserve(wish))


async def _plain_slot(guard: IRateLimitGuard, wish: RateWish) -> RateSlot:
    """A guard that has the specified methods alone is asked again until there is room.

    What goes round as the slot is when the order began to wait.
    """
    now = utc_now().timestamp()
    if await guard.check_rate_limit(wish.exchange, wish.endpoint):
        await guard.acquire_rate_limit(wish.exchange, wish.endpoint)
        return RateSlot()
    began = wish.slot or now
    within_s = MAX_WAIT_S if wish.within_s is None else wish.within_s
    is_late = within_s < _ASK_AGAIN_S or now + _ASK_AGAIN_S - began > MAX_WAIT_S
    return RateSlot(_ASK_AGAIN_S, granted=not is_late, slot=began)


def rate_answer(slot: RateSlot) -> RateAnswer:
    """The slot as the workflow is told of it: nothing is sent late."""
    if slot.granted:
        return RateAnswer(wait_s=slot.wait_s, slot=slot.slot)
    wait_s = slot.wait_s
    denied = Denied(
        reason_code=ReasonCode.RATE_LIMITED,
        reason=f"the exchange's rate limit has no room for {wait_s:.1f} s, which is too late",
        numbers={"wait_s": f"{wait_s:.3f}"},
    )
    return RateAnswer(wait_s=wait_s, denied=denied)


def _first_send(order: Order, routed: Routed, before: Sequence[LifecycleEvent]) -> Send:
    return Send(
        order_id=order.client_order_id,
        exchange=routed.exchange,
        account=routed.account,
        quantity=order.quantity,
        price=order.price,
        stop_price=order.stop_price,
        before=tuple(before),
    )


def _event(kind: EventKind, **fields: str) -> LifecycleEvent:
    return LifecycleEvent(kind=kind, at=utc_now(), **fields)


def _denied(denied: Denied) -> LifecycleEvent:
    return LifecycleEvent(
        kind=EventKind.DENIED,
        at=utc_now(),
        rejected_by=RejectedBy.RISK,
        reason_code=denied.reason_code,
        reason=denied.reason,
        details={"numbers": denied.numbers} if denied.numbers else None,
    )
