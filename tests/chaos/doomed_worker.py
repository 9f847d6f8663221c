"""`python -m tests.chaos.doomed_worker`: a worker that dies or stands still on demand.

It is `python -m workers` with an interceptor around its activities, put there through the client.
What to do stands in the environment as JSON (`Plan`). Points are counted for each order alone,
over all of its activities that the plan names, from 0. An order whose id ends in `-at-7` meets its
fate at point 7, and so do the legs of one that ends in `-legs-7`; one that ends in `-at-last` when
its last step is about to answer; with `at` in the plan all do. Each deed is written to the plan's
log before it is done.
"""

import asyncio
import json
import logging
import os
import re
import signal
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from tests.chaos.stepping import THE_END, Stepped

VARIABLE = "OMS_CHAOS_PLAN"
_AT = re.compile(r"(?:-at-|-legs-(?=\d+\.leg))(\d+|last)(?:\.leg\d+)?$")


@dataclass(frozen=True)
class Plan:
    """What is to happen to a worker.

    `deed` is "park" (the activity never goes on), "kill" or "stop" (the process). `victim` is the
    only order that counts. `armed_by` is a file: points count once it is there. `orders_only`
    leaves the feed to other workers. `sabotage` names what is broken on purpose, see
    `tests.chaos.sabotage`; `together` is how many requests of the kind `request` ("place",
    "replace" or "amend") wait for each other before they stop, and `clock` a file with the seconds
    by which the worker's clock is wrong.
    """

    log: str
    steps: tuple[str, ...] = ()
    deed: str = "park"
    at: int | None = None
    victim: str = ""
    armed_by: str = ""
    orders_only: bool = False
    sabotage: tuple[str, ...] = ()
    together: int = 1
    request: str = "place"
    clock: str = ""

    def as_json(self) -> str:
        """For the environment."""
        return json.dumps(asdict(self))


class Fate:
    """Counts the points of each order, and does the deed at the one that is its own."""

    def __init__(self, plan: Plan) -> None:
        """Nothing is counted yet."""
        self._plan = plan
        self._counts: dict[str, int] = defaultdict(int)
        self._armed = not plan.armed_by

    @property
    def is_armed(self) -> bool:
        """Whether points count now."""
        self._armed = self._armed or Path(self._plan.armed_by).exists()
        return self._armed

    def counts(self, order_id: str) -> bool:
        """Whether this order is walked, now."""
        return self.is_armed and self._plan.victim in {"", order_id}

    async def before(self, order_id: str, step: str, place: str) -> None:
        """A step is about to begin, or the activity about to answer."""
        if self._is_met(order_id, step, place):
            self.note(order_id, step, place)
            if self._plan.deed == "park":
                await asyncio.get_running_loop().create_future()
            self._strike()

    def after(self, order_id: str, step: str, place: str) -> None:
        """A step has suspended. A parked order is not held here: its next point is the same."""
        if self._plan.deed != "park" and self._is_met(order_id, step, place):
            self.note(order_id, step, f"{place} has begun")
            self._strike()

    def _is_met(self, order_id: str, step: str, place: str) -> bool:
        count = self._counts[order_id]
        self._counts[order_id] += 1
        if self._plan.at is not None:
            return count == self._plan.at
        named = _AT.search(order_id)
        if named is None:
            return False
        if named[1] == "last":
            return (step, place) == (self._plan.steps[-1], THE_END)
        return count == int(named[1])

    def _strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL if self._plan.deed == "kill" else signal.SIGSTOP)

    def note(self, order_id: str, step: str, place: str) -> None:
        """Say what happens, in one line that is whole or not there."""
        line = json.dumps({"order": order_id, "step": step, "place": place, "pid": os.getpid()})
        with Path(self._plan.log).open("a") as log:
            log.write(line + "\n")


class FatefulActivities(ClientInterceptor, Interceptor):
    """Walks the activities that the plan names. A client's interceptor reaches its workers."""

    def __init__(self, plan: Plan) -> None:
        """One fate for the whole process."""
        self.plan = plan
        self.fate = Fate(plan)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Wrap every activity of the worker."""
        return _Walk(next, self)


class _Walk(ActivityInboundInterceptor):
    def __init__(self, after_us: ActivityInboundInterceptor, owner: FatefulActivities) -> None:
        super().__init__(after_us)
        self._owner = owner

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        running = self.next.execute_activity(input)
        step = input.fn.__name__
        fate = self._owner.fate
        order_id = order_of(input.args[0])
        if step not in self._owner.plan.steps or not fate.counts(order_id):
            return await running

        async def before(place: str) -> None:
            await fate.before(order_id, step, place)

        def after(place: str) -> None:
            fate.after(order_id, step, place)

        return await Stepped(running, before, after)


def order_of(argument: Any) -> str:
    """The order that an activity's argument speaks of."""
    if isinstance(argument, str):
        return argument
    for name in ("client_order_id", "order_id"):
        if hasattr(argument, name):
            return str(getattr(argument, name))
    at = getattr(argument, "at", None)
    return str(at.order_id) if at is not None else ""


def main() -> None:
    """Run the worker with its plan."""
    from functools import partial

    import workers.__main__ as program
    from tests.chaos.sabotage import commit, replaced
    from workers import composition, connection
    from workers.settings import Settings

    raw = json.loads(os.environ[VARIABLE])
    plan = Plan(**{**raw, "steps": tuple(raw["steps"]), "sabotage": tuple(raw["sabotage"])})
    connect = partial(connection.connect, interceptors=[FatefulActivities(plan)])
    replaced(program, "connect", connect)
    if plan.orders_only:
        both = composition.Runtime.workers
        replaced(composition.Runtime, "workers", lambda *arguments: both(*arguments)[:1])
    commit(plan)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    asyncio.run(program.work_until_told_to_stop(Settings.from_environment()))


if __name__ == "__main__":
    main()
    os._exit(0)
