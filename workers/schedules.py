"""The schedules of a deployment: made, brought up to date and started once by each worker."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
)

from activities.reconcile_messages import ReconcileRequest, StoreMark
from workflows.reconcile import ReconcileWorkflow
from workflows.steps import io_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from temporalio.client import Client, ScheduleUpdateInput

    from workers.settings import Settings

_CATCH_UP = timedelta(seconds=30)


async def keep_schedules(
    client: Client, settings: Settings, accounts: Iterable[tuple[str, str]]
) -> None:
    """Reconcile each account now and from time to time; what an operator has paused stays so."""
    if not settings.reconcile_s:
        return
    for exchange, account in accounts:
        await _keep(client, settings, exchange, account)


async def last_marks(client: Client, accounts: Iterable[tuple[str, str]]) -> list[StoreMark]:
    """The store as the newest scheduled pass over each account has seen it."""
    found = []
    for exchange, account in accounts:
        query = (
            f"TemporalScheduledById = '{schedule_id(exchange, account)}' "
            "AND ExecutionStatus = 'Completed'"
        )
        async for execution in client.list_workflows(query, limit=1):
            handle = client.get_workflow_handle_for(ReconcileWorkflow.run, execution.id)
            reports = (await handle.result()).reports
            found += [report.store for report in reports if report.store is not None]
    return found


def schedule_id(exchange: str, account: str) -> str:
    """The name of an account's schedule."""
    return f"reconcile-{exchange}-{account}"


async def _keep(client: Client, settings: Settings, exchange: str, account: str) -> None:
    name = schedule_id(exchange, account)
    wanted = Schedule(
        action=ScheduleActionStartWorkflow(
            "Reconcile",
            ReconcileRequest(exchange=exchange, account=account),
            id=name,
            task_queue=io_queue(settings.task_queue),
            static_summary=f"reconciliation of {exchange} / {account}",
        ),
        spec=ScheduleSpec(
            intervals=[ScheduleIntervalSpec(every=timedelta(seconds=settings.reconcile_s))]
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )

    def updated(known: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = known.description.schedule.state
        return ScheduleUpdate(wanted)

    try:
        await client.create_schedule(name, wanted, trigger_immediately=True)
    except ScheduleAlreadyRunningError:
        handle = client.get_schedule_handle(name)
        await handle.update(updated)
        described = await handle.describe()
        if not described.schedule.state.paused:
            await handle.trigger(overlap=ScheduleOverlapPolicy.SKIP)
