"""The floor: the bare Temporal workflow with the same steps, and nothing in them.

As many local activities as an order of ours has (one: place it), one update for the fill with one
more, then the close; the same client and worker settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity, workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.measures import Life, OrderTimes
from workers.connection import connect
from workers.one_argument import for_workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from temporalio.client import Client

    from bench.rig import Rig

STEPS = 1
_QUEUE = "bench-floor"
_SLOTS = 1000


@workflow.defn(name="Floor")
class FloorWorkflow:
    """One order's life without an order."""

    def __init__(self) -> None:
        """Not filled yet."""
        self._filled = False

    @workflow.run
    async def run(self, rests: bool) -> None:  # noqa: FBT001 - a message of Temporal
        """Take the steps; one that rests waits for its fill."""
        for number in range(1, STEPS + 1):
            await _step(number)
        if rests:
            await workflow.wait_condition(lambda: self._filled)
            await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.update(name="fill")
    async def fill(self, quantity: str) -> None:  # noqa: ARG002 - it only travels
        """Book the fill."""
        await _step(STEPS + 1)
        self._filled = True


async def _step(number: int) -> None:
    await workflow.execute_local_activity(
        "floor_step",
        args=[workflow.info().workflow_id, number],
        start_to_close_timeout=timedelta(seconds=10),
    )


class Seen:
    """What one order waits for."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        loop = asyncio.get_running_loop()
        self.first_ns = 0
        self.sent: asyncio.Future[None] = loop.create_future()
        self.booked: asyncio.Future[None] = loop.create_future()

    def reach(self, number: int) -> None:
        """The step of this number runs."""
        if number == 1:
            self.first_ns = time.monotonic_ns()
        if number == STEPS and not self.sent.done():
            self.sent.set_result(None)
        elif number > STEPS and not self.booked.done():
            self.booked.set_result(None)


class Floor:
    """The bare workflow as a contender."""

    name = "floor"
    title = "bare workflow"

    def __init__(self, rig: Rig) -> None:
        """Nothing runs before `running`."""
        self._rig = rig
        self._client: Client | None = None
        self._seen: dict[str, Seen] = {}
        self._updates: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """A client and a worker in this process."""
        client = self._client = await connect(target_host=self._rig.temporal_address)
        async with Worker(
            for_workers(client),
            task_queue=_QUEUE,
            build_id="bench",
            workflows=[FloorWorkflow],
            activities=[self.step],
            workflow_runner=UnsandboxedWorkflowRunner(),
            no_remote_activities=True,
            max_concurrent_workflow_tasks=_SLOTS,
            max_concurrent_local_activities=_SLOTS,
            max_cached_workflows=5000,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        ):
            yield client

    @activity.defn(name="floor_step")
    async def step(self, workflow_id: str, number: int) -> None:
        """Do nothing, and tell the driver where the order is."""
        self._seen[workflow_id].reach(number)

    async def live(self, life: Life) -> OrderTimes:
        """One whole life. The update goes out as a feed would send it: nobody waits for it."""
        assert self._client is not None  # noqa: S101 - `running` has made it
        rests = life is Life.RESTING
        workflow_id = f"floor-{uuid.uuid4().hex}"
        seen = self._seen[workflow_id] = Seen()
        submitted = time.monotonic_ns()
        handle: Any = await self._client.start_workflow(
            "Floor",
            rests,
            id=workflow_id,
            task_queue=_QUEUE,
            task_timeout=timedelta(seconds=5),
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            request_eager_start=True,
        )
        await seen.sent
        answered = time.monotonic_ns()
        if rests:
            task = asyncio.create_task(handle.execute_update("fill", "0.001"))
            self._updates.add(task)
            task.add_done_callback(self._updates.discard)
            await seen.booked
        del self._seen[workflow_id]
        return OrderTimes(workflow_id, submitted, answered, wire_ns=seen.first_ns)

    async def settle(self, orders: list[OrderTimes]) -> None:  # noqa: ARG002 - as the others
        """Wait for the answers to the updates."""
        await asyncio.gather(*self._updates)

    def counters(self) -> None:
        """It has no database."""
