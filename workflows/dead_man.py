"""The dead-man switch of one account, as a workflow, so that any worker holds it."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.messages import Account

from workflows.payloads import decoded

_TURN = timedelta(hours=2)


@workflow.defn(name="DeadMan")
class DeadManWorkflow:
    """Keeps the exchange's switch from striking. Workflow id `dead-man-<exchange>-<account>`.

    The activity heartbeats; when its worker dies, another one takes over within seconds. With no
    worker left, nobody tells the exchange, and it cancels. Ends where the switch is not armed.
    """

    @workflow.run
    async def run(self, payload: RawValue) -> None:
        """Hold the switch of an `Account` for one turn, then continue as new.

        Raises a non-retryable `ApplicationError` for input that is none.
        """
        account = decoded(payload, Account)
        is_armed: bool = await workflow.execute_activity(
            "hold_dead_man_switch",
            account,
            result_type=bool,
            start_to_close_timeout=_TURN,
            heartbeat_timeout=timedelta(seconds=3),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=500), backoff_coefficient=1.0
            ),
            summary=f"dead-man switch of {account.exchange} / {account.account}",
        )
        if is_armed:
            workflow.continue_as_new(account)
