"""How long orders of a run are in doubt, and what the longest doubts were."""

import asyncio
import time
from dataclasses import dataclass, field

from activities.store import OrderFilter
from tests.chaos.harness.histories import history_of
from tests.chaos.truth import at_exchanges
from tests.chaos.world import World
from trading.oms.errors import StoreUnavailable

_SHOWN = 3


@dataclass
class DoubtWatch:
    """How long orders are in doubt, by this process's own clock."""

    world: World
    since: dict[str, float] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    """The longest doubt of each order that was ever in doubt, seconds."""

    @property
    def longest_s(self) -> float:
        """The longest of all."""
        return max(self.longest.values(), default=0.0)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            try:
                doubtful = await self.world.store.orders(
                    OrderFilter(in_doubt_only=True), limit=None
                )
            except StoreUnavailable:
                doubtful = None
            if doubtful is not None:
                self._note({order.client_order_id for order in doubtful if not order.is_split})
            await asyncio.sleep(0.25)  # The error of what is measured.

    def _note(self, doubtful: set[str]) -> None:
        now = time.monotonic()
        for order_id in self.since.keys() - doubtful:
            del self.since[order_id]
        for order_id in doubtful:
            begun = self.since.setdefault(order_id, now)
            self.longest[order_id] = max(self.longest.get(order_id, 0.0), now - begun)

    def spread(self) -> str:
        """How long half, nine tenths and all of the doubts lasted."""
        lasted = sorted(self.longest.values())
        if not lasted:
            return "nothing was in doubt"
        half, most = (lasted[int(len(lasted) * part)] for part in (0.5, 0.9))
        return f"in doubt for {half:.1f} s at the median, {most:.1f} s at 90 %, {lasted[-1]:.1f} s"

    async def histories(self) -> list[str]:
        """What is known of the orders that were in doubt for the longest time."""
        there, _ = await at_exchanges(self.world)
        lines = []
        for order_id in sorted(self.longest, key=self.longest.__getitem__)[: -_SHOWN - 1 : -1]:
            lines += ["", f"{order_id} was in doubt for {self.longest[order_id]:.1f} s"]
            lines += await history_of(self.world, order_id, there)
        return lines
