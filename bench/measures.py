"""What is measured of one cell: a contender, a life, so many orders at once, some seconds long."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from temporalio.client import WorkflowExecutionStatus

from bench.database import per_order

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from temporalio.client import Client

    from bench.database import Counters
    from bench.rig import Rig

_SAMPLE = 3


class Life(StrEnum):
    """What an order lives through: it rests and is filled later, or is filled in the answer."""

    RESTING = "resting"
    MARKETABLE = "marketable"


@dataclass(slots=True)
class OrderTimes:
    """One order: monotonic nanoseconds, and milliseconds from its fill to the subscriber."""

    workflow_id: str
    submitted_ns: int
    answered_ns: int
    wire_ns: int = 0
    event_ms: float | None = None
    exchange_client_id: str = ""


@dataclass(slots=True)
class Weight:
    """What one order leaves behind in Temporal."""

    transitions: int
    events: int
    bytes: int


@dataclass
class Cell:
    """The figures of one cell. CPU is in milliseconds per order, by process.

    `database` is what one order has written, by the names of `bench.database`; it is empty where
    that was not counted.
    """

    contender: str
    life: Life
    at_once: int
    orders: int
    elapsed_s: float
    cpu_ms: dict[str, float]
    times: list[OrderTimes] = field(repr=False)
    weights: list[Weight] = field(default_factory=list)
    database: dict[str, float] = field(default_factory=dict)

    @property
    def orders_per_s(self) -> float:
        """Whole lives per second."""
        return self.orders / self.elapsed_s

    @property
    def wire_ms(self) -> list[float]:
        """From `submit_order` to the exchange's socket (the floor: to the first activity)."""
        return [(t.wire_ns - t.submitted_ns) / 1e6 for t in self.times if t.wire_ns]

    @property
    def answer_ms(self) -> list[float]:
        """From `submit_order` to its answer."""
        return [(t.answered_ns - t.submitted_ns) / 1e6 for t in self.times]

    @property
    def event_ms(self) -> list[float]:
        """From a fill at the exchange to the event at a subscriber."""
        return [t.event_ms for t in self.times if t.event_ms is not None]


class Contender(Protocol):
    """One of those that are compared."""

    name: str
    title: str

    def running(self) -> AbstractAsyncContextManager[Client | None]:
        """Ready for orders while the block lasts; a client where the engine is Temporal."""
        ...

    async def live(self, life: Life) -> OrderTimes:
        """One order, from the start to its last fill."""
        ...

    async def settle(self, orders: list[OrderTimes]) -> None:
        """Wait for what follows the last fill, and complete the times."""
        ...

    def counters(self) -> Counters | None:
        """What its database counts; None where it has none."""
        ...


async def run_orders(
    contender: Contender, life: Life, at_once: int, seconds: float
) -> list[OrderTimes]:
    """So many orders at once, until the time is up; those under way are lived to their end."""
    deadline = time.monotonic() + seconds

    async def lane() -> list[OrderTimes]:
        lived = [await contender.live(life)]
        while time.monotonic() < deadline:
            lived.append(await contender.live(life))
        return lived

    lanes = await asyncio.gather(*(lane() for _ in range(at_once)))
    return [times for lived in lanes for times in lived]


async def measure(
    rig: Rig, contender: Contender, client: Client | None, life: Life, at_once: int, seconds: float
) -> Cell:
    """One cell."""
    gc.collect()
    cpu_before, started = rig.cpu_s(), time.monotonic()
    times = await run_orders(contender, life, at_once, seconds)
    elapsed = time.monotonic() - started
    await asyncio.sleep(0.1)
    cpu_after = rig.cpu_s()
    await contender.settle(times)
    return Cell(
        contender=contender.name,
        life=life,
        at_once=at_once,
        orders=len(times),
        elapsed_s=elapsed,
        cpu_ms={
            name: (after - cpu_before.get(name, 0.0)) * 1000 / len(times)
            for name, after in cpu_after.items()
        },
        times=times,
        weights=[
            await _weight(client, one.workflow_id) for one in times[-_SAMPLE:] if client is not None
        ],
    )


async def measure_writes(
    rig: Rig, contender: Contender, client: Client | None, life: Life, at_once: int, seconds: float
) -> Cell:
    """One cell with what its orders write to the database; it may wait before and after."""
    counters = contender.counters()
    if counters is None:
        return await measure(rig, contender, client, life, at_once, seconds)
    before = {**await counters.later(), **await counters.now()}
    cell = await measure(rig, contender, client, life, at_once, seconds)
    after = {**await counters.now(), **await counters.later()}
    cell.database = per_order(before, after, cell.orders)
    return cell


async def _weight(client: Client, workflow_id: str) -> Weight:
    """What an order weighs in Temporal; an order that has not closed is an error of the run."""
    handle = client.get_workflow_handle(workflow_id)
    for _ in range(100):
        description = await handle.describe()
        if description.status is WorkflowExecutionStatus.COMPLETED:
            info = description.raw_description.workflow_execution_info
            return Weight(info.state_transition_count, info.history_length, info.history_size_bytes)
        await asyncio.sleep(0.05)
    msg = f"the workflow {workflow_id} has not closed: {description.status}"
    raise RuntimeError(msg)


def quantile(values: list[float], share: float) -> float:
    """The nearest value below which this share lies; nan without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items()}


def cell_facts(cell: Cell) -> dict[str, Any]:
    """A cell as plain JSON, its times as quantiles."""
    quantiles = {
        f"{name}_p{share * 100:g}_ms": round(quantile(values, share), 3)
        for name, values in (
            ("wire", cell.wire_ms),
            ("answer", cell.answer_ms),
            ("event", cell.event_ms),
        )
        for share in (0.5, 0.99, 0.999)
        if values
    }
    return {
        "contender": cell.contender,
        "life": cell.life.value,
        "at_once": cell.at_once,
        "orders": cell.orders,
        "orders_per_s": round(cell.orders_per_s, 1),
        "cpu_ms": _rounded(cell.cpu_ms),
        **quantiles,
        "transitions": [weight.transitions for weight in cell.weights],
        "history_events": [weight.events for weight in cell.weights],
        "history_bytes": [weight.bytes for weight in cell.weights],
        **({"database": _rounded(cell.database)} if cell.database else {}),
    }
