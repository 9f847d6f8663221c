"""Which contenders meet, in which cells, in which order.

They take turns round by round, so that a busy minute of the machine strikes them all.
"""

from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.dbos_engine import Dbos
from bench.floor import Floor
from bench.measures import Cell, Contender, Life, measure, measure_writes, run_orders
from bench.ours import Ours, OursRemote
from bench.pure import PureFigures, pure_figures
from bench.rig import Rig, running_rig
from bench.store_speed import StoreFigures, store_figures

if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_UP_ORDERS_AT_ONCE = 10
MANY, CROWD = 50, 500


@dataclass(frozen=True)
class Plan:
    """How much to measure. `seconds` is the length of a cell.

    `crowd` orders come all at once and once only, after the last round.
    """

    rounds: int = 3
    seconds: float = 4.0
    many: int = MANY
    crowd: int = CROWD
    names: tuple[str, ...] = ("floor", "sqlite", "postgres", "remote", "dbos")

    @property
    def is_short(self) -> bool:
        """Whether it only shows that the benchmark works."""
        return self == SHORT

    @property
    def needs_postgres(self) -> bool:
        """Whether one of the contenders stores in it."""
        return not {"postgres", "dbos"}.isdisjoint(self.names)

    @property
    def warm_up_s(self) -> float:
        """Before the first cell of each turn."""
        return min(1.0, self.seconds / 4)

    @property
    def cells(self) -> tuple[tuple[Life, int], ...]:
        """Of each turn; the remote door lives the marketable life as the embedded one does."""
        return ((Life.RESTING, 1), (Life.RESTING, self.many), (Life.MARKETABLE, self.many))


SHORT = Plan(rounds=1, seconds=0.3, many=10, crowd=20, names=("floor", "sqlite", "remote"))


@dataclass
class Results:
    """Everything that was measured."""

    plan: Plan
    cells: list[Cell] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)
    stores: dict[str, StoreFigures] = field(default_factory=dict)
    pure: PureFigures | None = None

    def of(self, contender: str, life: Life, at_once: int) -> list[Cell]:
        """The cells of one kind, round by round."""
        wanted = (contender, life, at_once)
        return [cell for cell in self.cells if (cell.contender, cell.life, cell.at_once) == wanted]


def _contenders(rig: Rig, names: tuple[str, ...]) -> list[Contender]:
    made: dict[str, Callable[[], Contender]] = {
        "floor": lambda: Floor(rig),
        "sqlite": lambda: Ours(rig, "sqlite", "embedded, SQLite"),
        "postgres": lambda: Ours(rig, "postgres", "embedded, PostgreSQL", "postgres"),
        "remote": lambda: OursRemote(rig, "remote", "remote, SQLite"),
        "dbos": lambda: Dbos(rig),
    }
    return [made[name]() for name in names]


async def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """The whole benchmark."""
    results = Results(plan)
    say("deciding alone ...")
    results.pure = await pure_figures(min(3.0, plan.seconds))
    with tempfile.TemporaryDirectory(prefix="oms-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with running_rig(folder, say, postgres=plan.needs_postgres) as rig:
            await _measure_stores(rig, results, say)
            contenders = _contenders(rig, plan.names)
            results.titles = {one.name: one.title for one in contenders}
            for number in range(1, plan.rounds + 1):
                for contender in contenders:
                    is_last = number == plan.rounds
                    results.cells += await _turn(rig, contender, plan, is_last=is_last)
                    last = results.of(contender.name, Life.RESTING, plan.many)[-1]
                    say(
                        f"round {number} of {plan.rounds}: {contender.title}, "
                        f"{last.orders_per_s:.0f} orders/s"
                    )
    return results


async def _measure_stores(rig: Rig, results: Results, say: Callable[[str], None]) -> None:
    say("the store alone ...")
    seconds = min(4.0, results.plan.seconds)
    results.stores["SQLite"] = await store_figures(
        f"sqlite:///{rig.folder / 'alone.sqlite3'}", seconds
    )
    if rig.postgres is not None:
        results.stores["PostgreSQL"] = await store_figures(rig.database("alone"), seconds)


async def _turn(rig: Rig, contender: Contender, plan: Plan, *, is_last: bool) -> list[Cell]:
    """One contender: start, warm up, every cell, stop. The others do not run meanwhile.

    The last turn counts what the many resting orders write, and has the crowd besides.
    """
    async with contender.running() as client:
        warm = await run_orders(contender, Life.RESTING, _WARM_UP_ORDERS_AT_ONCE, plan.warm_up_s)
        await contender.settle(warm)
        gc.collect()
        gc.freeze()  # As a worker of ours does.
        cells = []
        for life, at_once in plan.cells:
            counts = is_last and (life, at_once) == (Life.RESTING, plan.many)
            one = measure_writes if counts else measure
            cells.append(await one(rig, contender, client, life, at_once, plan.seconds))
        if is_last:
            cells.append(await measure(rig, contender, client, Life.RESTING, plan.crowd, 0.0))
        return cells
