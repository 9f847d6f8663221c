"""The delivery of alerts to the webhook, as a workflow, so that it outlives every worker."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

TURN = timedelta(hours=1)


@workflow.defn(name="Alerts")
class AlertsWorkflow:
    """Keeps the delivery of alerts running. Workflow id `alerts-<task queue>`.

    Like an execution feed: the activity heartbeats, and another worker takes it over. It ends
    where a worker without a webhook has it; the next worker with one starts it again.
    """

    @workflow.run
    async def run(self) -> None:
        """Deliver for one turn, then continue as new."""
        is_on = await workflow.execute_activity(
            "deliver_alerts",
            result_type=bool,
            start_to_close_timeout=TURN * 2,
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=500), backoff_coefficient=1.0
            ),
            summary="alerts to the webhook",
        )
        if is_on:
            workflow.continue_as_new()
