"""DBOS Transact as a contender: the other durable engine for Python, on PostgreSQL.

The same life as the floor's: as many steps, each committed; then a message with the fill, one more
step, the end. One process, as our embedded door: the caller and the workflows share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.database import PostgresCounters
from bench.floor import STEPS, Seen
from bench.measures import Life, OrderTimes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.rig import Rig

_NAME = "benchdbos"
_TOPIC = "fill"
_FILL_S = 60.0
_seen: dict[str, Seen] = {}


class _Engine(NamedTuple):
    dbos: Any
    workflow: Callable[[str, bool], Awaitable[None]]


@cache
def _engine() -> _Engine:
    """The library, with the workflow registered; it is installed for the benchmark only."""
    from dbos import DBOS

    @DBOS.step(name="step")  # type: ignore[untyped-decorator]
    async def step(order_id: str, number: int) -> None:
        _seen[order_id].reach(number)

    @DBOS.workflow(name="order")  # type: ignore[untyped-decorator]
    async def order(order_id: str, rests: bool) -> None:  # noqa: FBT001 - as the floor's
        for number in range(1, STEPS + 1):
            await step(order_id, number)
        if rests:
            await DBOS.recv_async(_TOPIC, timeout_seconds=_FILL_S)
            await step(order_id, STEPS + 1)

    return _Engine(DBOS, order)


class Dbos:
    """The other engine."""

    name = "dbos"
    title = "DBOS, PostgreSQL"

    def __init__(self, rig: Rig) -> None:
        """Nothing runs before `running`."""
        self._rig = rig
        self._handles: list[Any] = []
        self._postgres_uri = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine in this process, on a database of its own beside ours."""
        engine = _engine()
        self._postgres_uri = self._rig.database(self.name)
        config = {
            "name": _NAME,
            "system_database_url": self._postgres_uri.replace("://", "+psycopg://", 1),
            "run_admin_server": False,
            "log_level": "WARNING",
        }
        engine.dbos(config=config)
        engine.dbos.launch()
        try:
            yield
        finally:
            await asyncio.to_thread(engine.dbos.destroy)

    async def live(self, life: Life) -> OrderTimes:
        """One whole life."""
        engine = _engine()
        from dbos import SetWorkflowID

        rests = life is Life.RESTING
        order_id = uuid.uuid4().hex
        seen = _seen[order_id] = Seen()
        submitted = time.monotonic_ns()
        with SetWorkflowID(order_id):
            handle = await engine.dbos.start_workflow_async(engine.workflow, order_id, rests)
        await seen.sent
        answered = time.monotonic_ns()
        if rests:
            await engine.dbos.send_async(order_id, "0.001", _TOPIC)
            await seen.booked
        self._handles.append(handle)
        del _seen[order_id]
        return OrderTimes(order_id, submitted, answered, wire_ns=seen.first_ns)

    async def settle(self, orders: list[OrderTimes]) -> None:  # noqa: ARG002 - as the others
        """Wait until every workflow has ended."""
        handles, self._handles = self._handles, []
        await asyncio.gather(*(handle.get_result() for handle in handles))

    def counters(self) -> PostgresCounters:
        """Of its own database."""
        return PostgresCounters(self._postgres_uri)
