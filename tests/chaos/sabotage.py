"""What is broken on purpose in a worker, one at a time: where it stops, and what it leaves out.

The negative controls need it: a test that finds no fault in a system without its safeguards
proves nothing about the one that has them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.chaos.doomed_worker import Plan


def replaced(owner: Any, name: str, new: Any) -> None:
    """Put something of ours in the place of an attribute, which must be there."""
    getattr(owner, name)
    setattr(owner, name, new)


def commit(plan: Plan) -> None:
    """Break what the plan names."""
    for name in plan.sabotage:
        _ACTS[name](plan)


def _stop_before_the_last_check(plan: Plan) -> None:
    """Stop once, with the claims committed, before the deadlines are checked for the last time."""
    _stop_together(plan, is_checked=False)


def _stop_after_the_last_check(plan: Plan) -> None:
    """Stop once, after the deadlines were checked for the last time, before the write."""
    _stop_together(plan, is_checked=True)


def _stop_together(plan: Plan, *, is_checked: bool) -> None:
    """Stop the process as soon as `plan.together` requests have a connection in their hands."""
    import aiohttp

    from activities.connectors import wire
    from activities.connectors.classify import Operation
    from tests.chaos.doomed_worker import Fate

    request_class = wire._GuardedRequest
    original = request_class.send
    go_on = asyncio.Event()
    stopped = Operation(plan.request)
    standing: list[wire.Call] = []

    async def send(request: Any, connection: Any) -> Any:
        call = wire._call.get()
        if call is None or call.operation is not stopped or go_on.is_set():
            return await original(request, connection)
        if is_checked:
            call.about_to_write()
        standing.append(call)
        if len(standing) == plan.together:
            Fate(plan).note("", plan.request, "together")
            os.kill(os.getpid(), signal.SIGSTOP)
            go_on.set()
        await go_on.wait()
        if is_checked:
            return await aiohttp.ClientRequest.send(request, connection)
        return await original(request, connection)

    replaced(request_class, "send", send)


def _stop_when_armed(plan: Plan) -> None:
    """Stop at the next send or change each time that the file `plan.armed_by` is there.

    The file says "before" or "after": which side of the last check of the deadlines.
    """
    import aiohttp

    from activities.connectors import wire
    from activities.connectors.classify import Operation
    from tests.chaos.doomed_worker import Fate

    request_class = wire._GuardedRequest
    original = request_class.send
    arm = Path(plan.armed_by)
    stopped = {Operation.PLACE, Operation.REPLACE, Operation.AMEND}

    async def send(request: Any, connection: Any) -> Any:
        call = wire._call.get()
        if call is None or call.operation not in stopped or not arm.exists():
            return await original(request, connection)
        is_checked = arm.read_text() == "after"
        arm.unlink()
        if is_checked:
            call.about_to_write()
        Fate(plan).note("", "send_order", "armed")
        os.kill(os.getpid(), signal.SIGSTOP)
        if is_checked:
            return await aiohttp.ClientRequest.send(request, connection)
        return await original(request, connection)

    replaced(request_class, "send", send)


def _wrong_clock(plan: Plan) -> None:
    """On SIGUSR1 the clock of this process jumps to as many seconds off as `plan.clock` says."""
    from trading.oms import models

    true_now = models.utc_now
    off = timedelta(0)

    def utc_now() -> datetime:
        return true_now() + off

    def jump(_number: int, _frame: object) -> None:
        nonlocal off
        off = timedelta(seconds=float(Path(plan.clock).read_text()))

    for module in list(sys.modules.values()):
        if getattr(module, "utc_now", None) is true_now:
            replaced(module, "utc_now", utc_now)
    signal.signal(signal.SIGUSR1, jump)


def _every_claim_is_won(_plan: Plan) -> None:
    """Whoever asks may send, and nobody remembers that it was sent before."""
    from activities.order_steps import OrderSteps
    from activities.store import Store

    known = OrderSteps._claim_and_state

    async def no_claim(steps: OrderSteps, order_id: str) -> Any:
        return None, (await known(steps, order_id))[1]

    original = Store.claim_send

    async def claim_send(store: Store, *arguments: Any, **named: Any) -> Any:
        claim = await original(store, *arguments, **named)
        return claim if claim.refusal else claim._replace(won=True)

    replaced(Store, "claim_send", claim_send)
    replaced(OrderSteps, "_claim_and_state", no_claim)


def _without_catch_up(_plan: Plan) -> None:
    """The feed never asks for what it may have missed."""
    from activities.catch_up import CatchUp

    async def run(_self: CatchUp) -> bool:
        return False

    replaced(CatchUp, "run", run)


def _deaf(_plan: Plan) -> None:
    """The stream connects and says nothing more."""
    from activities.connectors.binance_connector import BinanceConnector
    from trading.oms.venue import StreamState

    original = BinanceConnector.executions

    async def executions(connector: BinanceConnector) -> AsyncIterator[Any]:
        async for item in original(connector):
            if isinstance(item, StreamState):
                yield item

    replaced(BinanceConnector, "executions", executions)


def _die_when_kept(plan: Plan) -> None:
    """Die once the first report is in the inbox, before it is delivered."""
    from activities.store import Store

    original = Store.inbox_add

    async def inbox_add(store: Store, *arguments: Any) -> Any:
        ids = await original(store, *arguments)
        if Path(plan.armed_by).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return ids

    replaced(Store, "inbox_add", inbox_add)


def _die_when_delivered(plan: Plan) -> None:
    """Die once the first report is booked by its order, before that is noted in the inbox."""
    from activities.store import Store

    original = Store.inbox_delivered

    async def inbox_delivered(store: Store, *arguments: Any) -> None:
        if Path(plan.armed_by).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        await original(store, *arguments)

    replaced(Store, "inbox_delivered", inbox_delivered)


_ACTS = {
    "die when kept, not delivered": _die_when_kept,
    "die when delivered, not marked": _die_when_delivered,
    "stop before the last check": _stop_before_the_last_check,
    "stop after the last check": _stop_after_the_last_check,
    "stop when armed": _stop_when_armed,
    "wrong clock": _wrong_clock,
    "every claim is won": _every_claim_is_won,
    "without catch-up": _without_catch_up,
    "deaf": _deaf,
}
