"""One run: trade while everything breaks, let it settle, compare, end everything, compare again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.harness.books import Books
from tests.chaos.harness.breaking import Breaking
from tests.chaos.harness.doubts import DoubtWatch
from tests.chaos.harness.exercise import exercised
from tests.chaos.harness.plan import Settings, disasters, wishes
from tests.chaos.harness.rig import Rig, a_rig
from tests.chaos.harness.trading import Traders
from tests.chaos.world import until
from workers.temporal_program import Say

_TIMES_MAX = 3
"""Things break for as long as orders come, at most so many times the planned time."""


@dataclass(frozen=True)
class Summary:
    """What a run has found."""

    settings: Settings
    orders: int
    faults: int
    kills: int
    counts: dict[str, int]
    longest_doubt_s: float
    not_placed: int
    took_s: float
    exercised: dict[str, int]
    """How many orders met what: a run in which nothing was in doubt proves nothing."""

    @property
    def is_clean(self) -> bool:
        """Whether the three books are equal."""
        return not any(self.counts.values())

    def as_json(self) -> dict[str, Any]:
        """The last line of a run."""
        return {
            "orders": self.orders,
            "faults": self.faults,
            "kills": self.kills,
            **self.counts,
            "longest_doubt_s": round(self.longest_doubt_s, 1),
            "not_placed": self.not_placed,
            **self.exercised,
            "seed": self.settings.seed,
            "store": self.settings.store,
            "took_s": round(self.took_s),
        }


async def run(settings: Settings, folder: Path, say: Say) -> Summary:
    """Run the plan of a seed to its end; everything that differs is said with its history."""
    begun = time.monotonic()
    async with a_rig(settings, folder, say) as rig:
        breaking, traders = Breaking(rig), Traders(rig)
        doubt = DoubtWatch(rig.world)
        async with _beside(rig.quotes(), doubt.run()):
            await rig.start_workers()
            say(f"{settings.workers} workers take orders; it begins")
            async with _beside(rig.watch_workers()):
                await _trade_and_break(rig, traders, breaking)
                say(_told(traders, breaking, doubt))
                books = await _compared(settings, traders, breaking, say)
        say("\n".join([doubt.spread(), *await doubt.histories(), *await books.histories()]))
        return Summary(
            settings=settings,
            orders=len(traders.orders),
            faults=breaking.struck + breaking.done.total(),
            kills=rig.kills,
            counts=await books.counts(),
            longest_doubt_s=doubt.longest_s,
            not_placed=await books.not_placed(),
            took_s=time.monotonic() - begun,
            exercised={"in_doubt": len(doubt.longest), **await exercised(rig.world)},
        )


async def _trade_and_break(rig: Rig, traders: Traders, breaking: Breaking) -> None:
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        trading = tasks.create_task(traders.run(wishes(rig.settings), begun))
        trading.add_done_callback(lambda _: breaking.enough.set())
        await breaking.run(disasters(rig.settings, _TIMES_MAX), begun)
        await breaking.end()
        await trading


async def _compared(settings: Settings, traders: Traders, breaking: Breaking, say: Say) -> Books:
    """Compare while orders rest, then with everything ended."""
    books = Books(traders.rig.world, traders.orders, traders.answered)
    took = await books.settle(settings.patience_s)
    say(f"settled after {took:.1f} s, {len(books.found)} orders differ")
    for order_id in await traders.end_all(settings.patience_s):
        books.still_open(order_id)
    await breaking.cancel_external()
    took = await books.settle(settings.patience_s)
    with suppress(AssertionError):
        await until(books.released, "nothing is reserved", seconds=settings.patience_s)
    say(f"everything ended after {took:.1f} s, {len(books.found)} orders differ")
    return books


def _told(traders: Traders, breaking: Breaking, doubt: DoubtWatch) -> str:
    deeds = "\n".join(f"  {count:3} {what}" for what, count in sorted(breaking.done.items()))
    answers = ", ".join(f"{count} {what}" for what, count in traders.answers.most_common())
    return (
        f"{len(traders.orders)} orders; their clients' answers: {answers}\n"
        f"{len(doubt.longest)} were in doubt; {breaking.struck} requests and stream events were "
        f"spoilt; {traders.rig.deaths} workers found no server at their start; nobody took orders "
        f"for {traders.rig.idle_s_max:.0f} s at most; and:\n{deeds}"
    )


@asynccontextmanager
async def _beside(*watches: Any) -> AsyncIterator[None]:
    """Run watches for as long as the block; one that fails ends it."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(watch) for watch in watches]
        yield
        for task in running:
            task.cancel()
