"""The steps of an order that is split: making its legs, reading them, and asking them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Denied, Routed
from activities.order_door import OrderDoor
from activities.split_messages import (
    LegAnswer,
    Legs,
    LegWish,
    SplitPlan,
    SplitQuestion,
    SplitWish,
)
from activities.store import OrderFilter
from trading.oms.commands import ModifyRequest
from trading.oms.enums import ReasonCode
from trading.oms.models import utc_now
from trading.oms.routing.base import IOrderSplitter, Refusal, RoutingDenied
from trading.oms.split import LEGS_MAX, PARENT_ID_LENGTH_MAX, is_leg, leg_id, leg_number
from trading.oms.split_change import planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from temporalio.client import Client

    from activities.order_steps import Parts
    from trading.oms.models import Order
    from trading.oms.routing.base import Share

_MODIFY_WAIT_S = 10.0


def is_to_be_split(parts: Parts, order: Order) -> bool:
    """Whether the router divides orders, and this one names no exchange."""
    router = parts.router
    names_one = order.exchange or order.metadata.get("exchange")
    return isinstance(router, IOrderSplitter) and router.splits and not names_one


class Splitting:
    """The local activities of the order workflow about its legs."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._store = parts.store

    @activity.defn(name="split_order")
    async def split_order(self, question: SplitQuestion) -> Routed:
        """Make the legs for a quantity, or find those that were made before.

        An exchange whose leg is denied is left out, and the rest divided anew. A quantity that
        one exchange takes whole needs no legs, where it is the order's first division; its checks
        are the caller's.
        """
        order = await self._order(question.order_id)
        found = await self.load_legs(question.order_id)
        if any(leg_number(leg.client_order_id) >= question.first for leg in found.legs):
            return Routed(state=found.state)
        if len(question.order_id) > PARENT_ID_LENGTH_MAX:
            reason = (
                f"client_order_id has {len(question.order_id)} characters; "
                f"an order that is split may have {PARENT_ID_LENGTH_MAX}"
            )
            return Routed(denied=Denied(reason_code=ReasonCode.UNSUPPORTED, reason=reason))
        price = question.price or found.state.price
        try:
            return await self._divide(order.model_copy(update={"price": price}), question)
        except RoutingDenied as denial:
            return Routed(denied=Denied(reason_code=denial.reason_code, reason=str(denial)))

    async def _divide(self, order: Order, question: SplitQuestion) -> Routed:
        router = self._parts.router
        assert isinstance(router, IOrderSplitter)  # noqa: S101 - tells the type checker
        refused = dict(question.refused)
        while True:
            shares = await router.divide(order, question.quantity, refused)
            if question.first == 1 and len(shares) == 1:
                exchange = shares[0].exchange
                return Routed(exchange=exchange, account=self._account(order, exchange))
            if question.first + len(shares) - 1 > LEGS_MAX:
                msg = f"an order has at most {LEGS_MAX} legs"
                raise RoutingDenied(msg)
            state, denied = await self._parts.risk.split(
                order, self._legs(order, shares, question.first), adds=question.adds
            )
            if state is not None:
                self._parts.on_state(state)
            if denied is None or not denied.exchange:
                return Routed(state=state)
            if denied.exchange in refused:  # A router of the user's own, which has no other.
                return Routed(denied=denied.denied)
            reason = denied.denied
            refused[denied.exchange] = Refusal(reason.reason_code, reason.reason)

    def _legs(self, order: Order, shares: Sequence[Share], first: int) -> list[Order]:
        return [
            order.model_copy(
                update={
                    "client_order_id": leg_id(order.client_order_id, leg),
                    "parent_order_id": order.client_order_id,
                    "exchange": share.exchange,
                    "account": self._account(order, share.exchange),
                    "quantity": share.quantity,
                    "created_at": utc_now(),
                }
            )
            for leg, share in enumerate(shares, first)
        ]

    async def _order(self, order_id: str) -> Order:
        order = await self._store.trader_order(order_id)
        if order is None:
            msg = f"no order has the id {order_id!r}"
            raise LookupError(msg)
        return order

    def _account(self, order: Order, exchange: str) -> str:
        return order.account or self._parts.default_accounts.get(exchange, "")

    @activity.defn(name="load_legs")
    async def load_legs(self, order_id: str) -> Legs:
        """The order as it is, with its legs."""
        legs, unreadable = await self._store.listing(OrderFilter(parent_order_id=order_id))
        if unreadable:
            raise unreadable[0]
        mine = sorted(filter(is_leg, legs), key=lambda leg: leg_number(leg.client_order_id))
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise LookupError(msg)
        return Legs(state=state, legs=tuple(mine))

    @activity.defn(name="plan_split_change")
    async def plan_split_change(self, question: SplitWish) -> SplitPlan:
        """Share a change out over the legs, by the rules of their exchanges. Nothing is changed."""
        order = await self._order(question.order_id)
        found = await self.load_legs(question.order_id)
        rules = {
            leg.exchange: self._parts.connectors[leg.exchange, leg.account].instrument(leg.symbol)
            for leg in found.legs
            if leg.is_open
        }
        plan = planned(order, found.state, found.legs, question.wish, rules)
        return SplitPlan(legs=found, plan=plan)


class AskingLegs:
    """The activity that asks another order's workflow; one that is not running is started."""

    def __init__(self, client: Client, task_queue: str) -> None:
        """`task_queue` is where the order workflows run."""
        self._door = OrderDoor(client, task_queue)

    @activity.defn(name="ask_leg")
    async def ask_leg(self, wish: LegWish) -> LegAnswer:
        """Cancel or modify a leg; a repetition of the activity is the same request."""
        if wish.new_quantity is None and wish.new_price is None:
            taken = await self._door.cancel(wish.order_id, wish.reason or "the order is cancelled")
            if not taken:
                msg = f"order {wish.order_id} does not take the cancel yet"
                raise RuntimeError(msg)
            return LegAnswer(order_id=wish.order_id, success=True)
        info = activity.info()
        request = ModifyRequest(
            new_quantity=wish.new_quantity, new_price=wish.new_price, wait_s=_MODIFY_WAIT_S
        )
        update_id = f"{info.workflow_run_id}-{info.activity_id}"
        try:
            result = await self._door.modify(wish.order_id, request, update_id)
        except WorkflowUpdateFailedError as error:
            return LegAnswer(order_id=wish.order_id, success=False, reason=str(error.cause))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return LegAnswer(order_id=wish.order_id, success=False, reason="it has ended")
        return LegAnswer(order_id=wish.order_id, success=result.success, reason=result.error)
