"""The end of a run: the three books compared, entry by entry, and what is said about it."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from temporalio.client import WorkflowExecutionStatus

from activities.store.schema import reservations
from tests.chaos.harness.breaking import EXTERNAL
from tests.chaos.harness.histories import history_of
from tests.chaos.truth import Difference, Kind, at_exchanges, differences_from
from tests.chaos.world import World
from trading.oms.enums import ReasonCode
from trading.oms.models import Order

RESERVATIONS_LEFT = "reservations_left"
_PAUSE_S = 1.0


@dataclass
class Books:
    """What is known of a run's orders; `answered` are those whose clients had an answer."""

    world: World
    orders: Sequence[Order]
    answered: set[str]
    found: dict[str, list[Difference]] = field(default_factory=lambda: defaultdict(list))

    async def settle(self, patience_s: float) -> float:
        """Compare until every order was equal once, or patience ends; how long it took.

        The market goes on meanwhile: what differs is looked at again, all the rest is done with.
        """
        begun = time.monotonic()
        left = list(self.orders)
        while True:
            differing, strangers = await self._differences(left)
            left = [order for order in left if order.client_order_id in differing]
            waited = time.monotonic() - begun
            if not (left or strangers) or waited > patience_s:
                self._keep(differing, strangers)
                return waited
            await asyncio.sleep(_PAUSE_S)

    async def _differences(
        self, orders: Iterable[Order]
    ) -> tuple[dict[str, list[Difference]], list[dict[str, Any]]]:
        there, strangers = await at_exchanges(self.world)
        ours = [one for one in strangers if not one["clientOrderId"].startswith(EXTERNAL)]
        found = await differences_from(self.world, orders, there)
        for order_id in list(found):
            if order_id not in there and await self._never_arrived(order_id):
                del found[order_id]
        return found, ours

    async def _never_arrived(self, order_id: str) -> bool:
        """Nobody was promised anything, and nothing happened.

        The start reached no server, or an operator ended the workflow before its first step, and
        who asked for the order after that was told that there is none: that run has failed.
        """
        if order_id in self.answered or await self.world.store.order(order_id) is not None:
            return False
        found = [
            w async for w in self.world.client.list_workflows(f"WorkflowId='order-{order_id}'")
        ]
        failed = WorkflowExecutionStatus.FAILED
        return all(run.run_id in self.world.terminated or run.status is failed for run in found)

    def still_open(self, order_id: str) -> None:
        """Note an order that no cancel has ended."""
        words = "it is still open although it was cancelled again and again"
        self.found[order_id].append(Difference(Kind.STUCK, words))

    def _keep(
        self, differing: dict[str, list[Difference]], strangers: list[dict[str, Any]]
    ) -> None:
        for order_id, faults in differing.items():
            known = self.found[order_id]
            known += [fault for fault in faults if fault not in known]
        for entry in strangers:
            words = f"the exchange has an order that nobody claimed: {entry}"
            self.found[entry["clientOrderId"]].append(Difference(Kind.LOST, words))

    async def released(self) -> bool:
        """Whether nothing is reserved any more."""
        return not await self.reservations_left()

    async def reservations_left(self) -> list[str]:
        """The orders that hold capital although everything has ended."""
        query = sa.select(reservations.c.order_id).where(reservations.c.is_open)
        return await self.world.store._read(lambda c: list(c.scalars(query)))

    async def counts(self) -> dict[str, int]:
        """How many orders differ in each way."""
        counted = Counter(
            kind for faults in self.found.values() for kind in {fault.kind for fault in faults}
        )
        left = await self.reservations_left()
        return {**{kind.value: counted[kind] for kind in Kind}, RESERVATIONS_LEFT: len(left)}

    async def not_placed(self) -> int:
        """How many ended REJECTED by the rule that a late order is not sent."""
        states = await self.world.store.orders(limit=None)
        return sum(state.reason_code is ReasonCode.NOT_PLACED for state in states)

    async def histories(self) -> list[str]:
        """Everything known of the orders that differ, and of the reservations that are left."""
        there, _ = await at_exchanges(self.world)
        lines = []
        for order_id, faults in self.found.items():
            lines += ["", f"{order_id}: {'; '.join(map(str, faults))}"]
            lines += await history_of(self.world, order_id, there)
        for order_id in await self.reservations_left():
            lines += ["", f"{order_id}: {RESERVATIONS_LEFT}"]
            lines += await history_of(self.world, order_id, there)
        return lines
