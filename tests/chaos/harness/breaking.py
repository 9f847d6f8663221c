"""The disasters of a plan, carried out. Those that strike the same thing wait for each other."""

import asyncio
import itertools
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

from temporalio.service import RPCError

from tests.chaos.harness import hands
from tests.chaos.harness.operators import reset, terminate
from tests.chaos.harness.plan import (
    EXCHANGES,
    LATE_MS,
    PLACE,
    WORKER_KINDS,
    Breaks,
    Disaster,
    at_endpoint,
    faults,
)
from tests.chaos.harness.rig import Rig
from tests.chaos.truth import LIVE
from tests.chaos.world import until

EXTERNAL = "manual"
_ARMED_S = 10.0
_EVEN_AT_START = 0.7


class Breaking:
    """Carries out one run's disasters; `done` counts them."""

    def __init__(self, rig: Rig) -> None:
        """Nothing breaks before `run`."""
        self._rig = rig
        self._world = rig.world
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._others = itertools.count(1)
        self.enough = asyncio.Event()
        """What has begun is carried out to its end, and nothing more begins."""
        self.done: Counter[Breaks] = Counter()
        self.struck = 0

    async def run(self, plan: list[Disaster], begun: float) -> None:
        """Do all of it at its time, as long as nobody has said that it is enough."""
        for number, name in enumerate(self._rig.venues):
            await self._world.control("faults", name, faults=faults(self._rig.settings, number))
        async with asyncio.TaskGroup() as tasks:
            for disaster in plan:
                with suppress(TimeoutError):
                    async with asyncio.timeout(begun + disaster.at_s - time.monotonic()):
                        await self.enough.wait()
                if self.enough.is_set():
                    return
                tasks.create_task(self._do(disaster))

    async def end(self) -> None:
        """No fault is left, and everything runs."""
        for name in self._rig.venues:
            await self._count(name)
            await self._world.control("faults", name, clear="all")
        self._rig.mend()

    async def _count(self, name: str) -> None:
        url = f"{self._world.venues[name].url}/control/faults"
        async with self._world.session.get(url) as answer:
            active = (await answer.json(content_type=None))["faults"]
        self.struck += sum(fault["hits"] for fault in active)

    async def _do(self, disaster: Disaster) -> None:
        subject, deed = self._deed(disaster)
        async with self._clocks_stand(disaster.what), self._locks[subject]:
            if self._is_worth_it(disaster):
                self.done[disaster.what] += 1
                await deed(disaster)

    def _is_worth_it(self, disaster: Disaster) -> bool:
        """A worker that has not begun yet is left alone, mostly: else a slow machine has none."""
        at_start = disaster.size > _EVEN_AT_START
        return disaster.what not in WORKER_KINDS or at_start or self._rig.is_working(disaster.which)

    def _clocks_stand(self, what: Breaks) -> AbstractAsyncContextManager[Any]:
        """No exchange's clock jumps while a sender is stopped beyond its deadline.

        An exchange whose clock goes back takes what it has called too late before: then there is
        no fence, and no proof.
        """
        if what in {Breaks.STOP_SENDER, Breaks.EXCHANGE_CLOCK}:
            return self._locks["clocks"]
        return nullcontext()

    def _deed(self, disaster: Disaster) -> tuple[str, Callable[[Disaster], Awaitable[None]]]:
        at = self._rig.venues[disaster.which % EXCHANGES]
        worker = f"worker {disaster.which}"
        return {
            Breaks.KILL_WORKER: (worker, self._kill_worker),
            Breaks.STOP_WORKER: (worker, self._stop_worker),
            Breaks.STOP_SENDER: (worker, self._stop_sender),
            Breaks.WORKER_CLOCK: (worker, self._worker_clock),
            Breaks.RESTART_TEMPORAL: ("temporal", self._restart_temporal),
            Breaks.RESTART_POSTGRES: ("postgres", self._restart_postgres),
            Breaks.CUT_TEMPORAL: ("temporal", self._cut),
            Breaks.CUT_POSTGRES: ("postgres", self._cut),
            Breaks.FREEZE_POSTGRES: ("postgres", self._freeze),
            Breaks.CUT_EXCHANGE: (at, self._cut),
            Breaks.FREEZE_EXCHANGE: (at, self._freeze),
            Breaks.DISCONNECT: (f"streams of {at}", self._disconnect),
            Breaks.HALT_SYMBOL: (at, self._halt_symbol),
            Breaks.EXCHANGE_CLOCK: (at, self._exchange_clock),
            Breaks.LATE_ACCEPT: (at, self._late_accept),
            Breaks.BAN: (at, self._ban),
            Breaks.UNSOLICITED_CANCEL: (f"orders of {at}", self._unsolicited_cancel),
            Breaks.EXTERNAL_ORDERS: (f"others at {at}", self._external_orders),
            Breaks.TERMINATE: ("operators", self._operators),
            Breaks.RESET: ("operators", self._operators),
        }[disaster.what]

    # Workers.

    async def _kill_worker(self, disaster: Disaster) -> None:
        self._rig.restart_worker(disaster.which)

    async def _stop_worker(self, disaster: Disaster) -> None:
        worker = self._rig.workers[disaster.which]
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(disaster.lasts_s)
        worker.send_signal(signal.SIGCONT)

    async def _stop_sender(self, disaster: Disaster) -> None:
        """It stops itself at its next send; the fence passes; it wakes."""
        arm = self._rig.file("arm", disaster.which)
        worker = self._rig.workers[disaster.which]
        arm.write_text("after" if disaster.size > 0 else "before")
        try:
            await until(lambda: not arm.exists(), "it has stopped itself", seconds=_ARMED_S)
        except AssertionError:
            arm.unlink(missing_ok=True)
        else:
            await asyncio.sleep(disaster.lasts_s)
        worker.send_signal(signal.SIGCONT)

    async def _worker_clock(self, disaster: Disaster) -> None:
        """A minute at most, either way, and back."""
        if not self._rig.is_working(disaster.which):
            return  # It does not listen yet.
        worker = self._rig.workers[disaster.which]
        for seconds in (disaster.size * 60, 0):
            self._rig.file("clock", disaster.which).write_text(str(seconds))
            worker.send_signal(signal.SIGUSR1)
            await asyncio.sleep(disaster.lasts_s)

    # Servers and lines.

    async def _restart_temporal(self, _: Disaster) -> None:
        self._rig.kills += 1
        await self._rig.temporal.restart()

    async def _restart_postgres(self, _: Disaster) -> None:
        if self._rig.postgres:
            self._rig.kills += 1
            await asyncio.to_thread(self._rig.postgres.restart)

    def _line(self, disaster: Disaster) -> str:
        names = {
            Breaks.CUT_TEMPORAL: "temporal",
            Breaks.CUT_POSTGRES: "postgres",
            Breaks.FREEZE_POSTGRES: "postgres",
        }
        return names.get(disaster.what) or self._rig.venues[disaster.which]

    async def _cut(self, disaster: Disaster) -> None:
        cable = self._rig.cables[self._line(disaster)]
        cable.cut()
        await asyncio.sleep(disaster.lasts_s)
        cable.mend()

    async def _freeze(self, disaster: Disaster) -> None:
        cable = self._rig.cables[self._line(disaster)]
        cable.freeze()
        await asyncio.sleep(disaster.lasts_s)
        cable.mend()

    async def _operators(self, disaster: Disaster) -> None:
        """What an operator may do in the web UI, to two of the orders that are worked on."""
        with suppress(RPCError):
            await (terminate if disaster.what is Breaks.TERMINATE else reset)(self._world)

    # Exchanges.

    async def _disconnect(self, disaster: Disaster) -> None:
        await self._world.control("disconnect", self._rig.venues[disaster.which])

    async def _while(self, disaster: Disaster, **fault: object) -> None:
        at = self._rig.venues[disaster.which]
        made = await self._world.control("faults", at, **fault)
        await asyncio.sleep(disaster.lasts_s)
        self.struck += 1
        known = made["set"][0]
        await self._world.control("faults", at, clear=known.get("id", fault["fault"]))

    async def _halt_symbol(self, disaster: Disaster) -> None:
        status = "HALT" if disaster.size > 0 else "CANCEL_ONLY"
        await self._while(disaster, fault="symbol_status", symbol="BTCUSDT", status=status)

    async def _exchange_clock(self, disaster: Disaster) -> None:
        await self._while(disaster, fault="clock_skew_ms", ms=int(disaster.size * 5000))

    async def _late_accept(self, disaster: Disaster) -> None:
        """Beyond our time-out and within what the exchange promises, past its own time check."""
        fault = {"fault": "accept_delayed_ms", "ms": LATE_MS, "endpoint": PLACE}
        fault |= {"ignore_fence": True, "probability": "0.5"}
        await self._while(disaster, **at_endpoint(fault, disaster.which))
        # Those that are on their way count by the clock that is now: it must not jump meanwhile.
        await asyncio.sleep(LATE_MS / 1000)

    async def _ban(self, disaster: Disaster) -> None:
        seconds = str(max(1, int(disaster.lasts_s)))
        await self._while(disaster, fault="ban_418", retry_after=seconds, count=1)

    async def _unsolicited_cancel(self, disaster: Disaster) -> None:
        venue = self._world.venues[self._rig.venues[disaster.which]]
        orders = (await self._world.ledger(venue.name))["orders"]
        ours = [o for o in orders if o["account"] == venue.key and o["status"] in LIVE]
        for order in ours[:: max(1, len(ours) // 3)]:
            # It may have ended meanwhile.
            with suppress(AssertionError):
                wish = {"account": venue.key, "symbol": order["symbol"]}
                await self._world.control("cancel", venue.name, order_id=order["orderId"], **wish)

    async def _external_orders(self, disaster: Disaster) -> None:
        """A market order and one that rests a while; from a terminal, with the same key."""
        at, price = self._rig.venues[disaster.which], 0
        venue = self._world.venues[at]
        if at in self._rig.prices:
            price = int(self._rig.prices[at] * (99 if disaster.size > 0 else 101) / 100)
        side = "BUY" if disaster.size > 0 else "SELL"
        name = f"{EXTERNAL}-{next(self._others)}"
        resting = {"type": "LIMIT", "timeInForce": "GTC", "price": str(price)}
        wish = {"side": side, "quantity": "0.005"}
        await hands.place(self._world, venue, f"{name}-m", **wish, type="MARKET")
        await hands.place(self._world, venue, f"{name}-l", **wish, **resting)
        await asyncio.sleep(disaster.lasts_s)
        await hands.cancel(self._world, venue, f"{name}-l")

    async def cancel_external(self) -> None:
        """Nothing of theirs is left open."""
        for venue in self._world.venues.values():
            for order in (await self._world.ledger(venue.name))["orders"]:
                name = order["clientOrderId"]
                if name.startswith(EXTERNAL) and order["status"] in LIVE:
                    await hands.cancel(self._world, venue, name)
