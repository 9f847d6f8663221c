"""The traders of a run: each order of the plan, its change, and what its client was told."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from tests.chaos.harness.plan import Wish
from tests.chaos.harness.rig import Rig
from tests.chaos.world import until
from trading.oms.commands import CancelRequest, ModifyRequest
from trading.oms.errors import OmsError
from trading.oms.models import Order, utc_now
from trading.oms.order_client import OrderClient

_CENT = Decimal("0.01")
_HURRY_S = 0.05
_WAITING_MAX = 20
_NO_ANSWER = (OmsError, WorkflowUpdateFailedError, TimeoutError)
"""What a client may be told instead of an answer; each kind is counted."""


@dataclass
class Traders:
    """Everybody who trades in a run. `answered` holds the orders whose client has an answer."""

    rig: Rig
    orders: list[Order] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Their calls go over the cable."""
        self._client = OrderClient(self.rig.client, self.rig.world.task_queue)

    async def run(self, plan: list[Wish], begun: float) -> None:
        """Submit every order at its time, and wait for the clients to have done.

        Later than that where too many wait for their answer: a machine that is too slow for the
        plan would be late with every order, and would send none.
        """
        turn = asyncio.Semaphore(_WAITING_MAX)
        await until(lambda: len(self.rig.prices) == len(self.rig.venues), "there are prices")
        async with asyncio.TaskGroup() as tasks:
            for wish in plan:
                await asyncio.sleep(begun + wish.at_s - time.monotonic())
                await turn.acquire()
                order = self._order(wish)
                self.orders.append(order)
                submitting = tasks.create_task(self._submit(order, wish))
                submitting.add_done_callback(lambda _: turn.release())
                if wish.change:
                    tasks.create_task(self._change(order, wish))

    def _order(self, wish: Wish) -> Order:
        is_split = wish.exchange is None
        at = self.rig.venues[wish.exchange or 0]
        fields = {
            **wish.fields,
            "exchange": None if is_split else at,
            "price": self._price(at, wish.price),
            "stop_price": self._price(at, wish.stop_price),
        }
        if wish.lives_s is not None:
            fields["expire_at"] = utc_now() + timedelta(seconds=wish.lives_s)
        return self.rig.world.order(**fields)

    def _price(self, at: str, part: Decimal | None) -> Decimal | None:
        return None if part is None else (self.rig.prices[at] * part).quantize(_CENT)

    async def _submit(self, order: Order, wish: Wish) -> None:
        await self._ask(order, _HURRY_S if wish.hurried else None)
        if wish.hurried and wish.again_after_s is not None:
            await asyncio.sleep(wish.again_after_s)
            await self._ask(order, None)

    async def _ask(self, order: Order, within_s: float | None) -> None:
        try:
            async with asyncio.timeout(within_s):
                result = await self._client.submit(order)
        except _NO_ANSWER as error:
            self.answers[f"no answer ({type(error).__name__})"] += 1
        else:
            self.answered.add(order.client_order_id)
            self.answers[result.reason_code or result.status.value] += 1

    async def _change(self, order: Order, wish: Wish) -> None:
        await asyncio.sleep(wish.change_after_s)
        order_id = order.client_order_id
        # It may have ended, or never have been: the answer is the client's matter.
        with suppress(*_NO_ANSWER):
            if wish.change == "cancel":
                await self._cancel(order, wish.way)
            elif wish.change == "price" and order.price is not None:
                near = (order.price * (1 + wish.change_to)).quantize(_CENT)
                await self._client.modify(order_id, ModifyRequest(new_price=near))
            elif wish.change == "quantity":
                other = order.quantity * (Decimal("0.5") if wish.change_to > 0 else Decimal("1.5"))
                await self._client.modify(order_id, ModifyRequest(new_quantity=other))

    async def _cancel(self, order: Order, way: str) -> None:
        if way == "update":
            await self._client.cancel(order.client_order_id, CancelRequest())
            return
        handle = self.rig.client.get_workflow_handle(f"order-{order.client_order_id}")
        with suppress(RPCError):
            await (handle.signal("cancel") if way == "signal" else handle.cancel())

    async def end_all(self, patience_s: float) -> set[str]:
        """Cancel every order that is open, again and again; those that stay so."""

        async def cancel(order_id: str) -> None:
            with suppress(*_NO_ANSWER):
                await self._client.cancel(order_id, CancelRequest(reason="the run is over"))

        async def all_ended() -> bool:
            await asyncio.gather(*(cancel(order_id) for order_id in await self._open()))
            return not await self._open()

        with suppress(AssertionError):
            await until(all_ended, "all orders have ended", seconds=patience_s, pause_s=1)
        return await self._open()

    async def _open(self) -> set[str]:
        ours = {order.client_order_id for order in self.orders}
        still_open = await self.rig.world.store.open_orders()
        return {
            state.client_order_id
            for state in still_open
            if ours & {state.client_order_id, state.parent_order_id}
        }
