"""The execution feed of one exchange account: what the exchange says reaches the orders.

Each report is committed to the inbox before anything else, then delivered to its order and only
then marked: a crash at any point repeats a delivery, and a fill that is delivered twice is booked
once. After each gap in the stream, and from time to time without one, the feed asks the exchange
for the fills and ends that it may have missed. Two feeds of one account may overlap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.catch_up import CatchUp
from activities.delivery import Delivery
from activities.heartbeats import heartbeats
from activities.messages import Account
from activities.rate_desk import A_WINDOW_S, patient
from trading.oms.errors import ExchangeError, StoreUnavailable
from trading.oms.venue import ExecutionReport, StreamState, Transfer

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.order_steps import Parts

_log = logging.getLogger(__name__)
_RECONNECT_S = 0.5
_CATCH_UP_S = 30.0
_BACK_OFF_S_MAX = 5.0
_TURN = timedelta(hours=1)


class ExecutionFeed:
    """The activity that runs the feed of an account."""

    def __init__(self, parts: Parts, client: Client, task_queue: str) -> None:
        """`task_queue` is the one of the order workflows, for orders that must be reopened."""
        self._parts = parts
        self._client = client
        self._task_queue = task_queue

    @activity.defn(name="watch_executions")
    async def watch_executions(self, account: Account) -> None:
        """Run the feed until its turn ends or its worker does."""
        turn = _Turn(self._parts, self._client, self._task_queue, account)
        with patient(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TURN.total_seconds()):
                await turn.run()


class _Turn:
    """One run of the feed activity."""

    def __init__(self, parts: Parts, client: Client, task_queue: str, account: Account) -> None:
        self._store = parts.store
        self._connector = parts.connector(account.exchange, account.account)
        self._delivery = Delivery(parts.store, client, task_queue, account)
        self._catch_up = CatchUp(parts.store, self._connector)
        self._arrived: asyncio.Queue[ExecutionReport | Transfer] = asyncio.Queue()
        self._gap = asyncio.Event()

    async def run(self) -> None:
        """Read, keep, deliver and catch up, each in a task that goes on whatever meets it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(heartbeats())
            tasks.create_task(self._read_stream())
            tasks.create_task(self._keep())
            tasks.create_task(self._close_gaps())
            tasks.create_task(self._delivery.run())

    async def _read_stream(self) -> None:
        while True:
            try:
                async for item in self._connector.executions():
                    if isinstance(item, StreamState):
                        self._gap.set()
                    else:
                        self._arrived.put_nowait(item)
            except ExchangeError as error:
                _log.warning("the execution stream was lost, opening it again: %s", error)
            except Exception:  # noqa: BLE001 - the feed outlives every error
                _log.exception("the execution stream has failed, opening it again")
            await asyncio.sleep(_RECONNECT_S)

    async def _keep(self) -> None:
        """Commit what arrived, in one transaction for all that waits."""
        while True:
            arrived = [await self._arrived.get()]
            while not self._arrived.empty():
                arrived.append(self._arrived.get_nowait())
            if reports := [one for one in arrived if isinstance(one, ExecutionReport)]:
                await self._commit(reports)
            for transfer in arrived:
                if isinstance(transfer, Transfer):
                    await self._note(transfer)

    async def _note(self, transfer: Transfer) -> None:
        """Until it is expected; one that the store will never take shows in the balances."""
        while True:
            try:
                await self._store.risk.note_transfer(transfer)
            except StoreUnavailable as error:
                _log.warning("the store is away, a transfer waits: %s", error)
                await asyncio.sleep(_RECONNECT_S)
            except Exception:  # noqa: BLE001 - the feed outlives every error
                _log.exception("the store cannot keep this transfer: %r", transfer)
                return
            else:
                return

    async def _commit(self, reports: list[ExecutionReport]) -> None:
        """Until they are in the inbox; one that the store will never take is only logged.

        Its fills come again with the next catch-up, in the exchange's other words.
        """
        while True:
            try:
                await self._store.inbox_add(reports)
            except StoreUnavailable as error:
                _log.warning("the store is away, %d reports wait: %s", len(reports), error)
                await asyncio.sleep(_RECONNECT_S)
            except Exception:  # noqa: BLE001 - the feed outlives every error
                if len(reports) == 1:
                    _log.exception("the store cannot keep this report: %r", reports[0])
                    return
                for report in reports:
                    await self._commit([report])
                return
            else:
                self._delivery.wake()
                return

    async def _close_gaps(self) -> None:
        """As patient as reconciliation: whoever gave up sooner would never come to its turn."""
        failed = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CATCH_UP_S):
                    await self._gap.wait()
            self._gap.clear()
            try:
                with patient(A_WINDOW_S):
                    is_news = await self._catch_up.run()
                if is_news:
                    self._delivery.wake()
                failed = 0
            except (ExchangeError, StoreUnavailable) as error:
                _log.warning("catching up failed, it is tried again: %s", error)
                # An exchange that asks for a pause would be asked into the next one by us.
                back_off_s = min(_RECONNECT_S * 2**failed, _BACK_OFF_S_MAX)
                failed += 1
                wait_s = getattr(error, "retry_after", None) or 0.0
                await asyncio.sleep(min(max(wait_s, back_off_s), _CATCH_UP_S))
                self._gap.set()
            except Exception:  # noqa: BLE001 - the feed outlives every error
                _log.exception("catching up failed, it is tried again")
