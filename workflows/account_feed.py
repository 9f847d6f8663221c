"""One execution feed per exchange account, as a workflow, so that it outlives every worker."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.messages import Account

from workflows.payloads import decoded

FEED_TURN = timedelta(hours=1)


@workflow.defn(name="AccountFeed")
class AccountFeedWorkflow:
    """Keeps the execution feed of one account running. Workflow id `feed-<exchange>-<account>`.

    The activity heartbeats; when its worker dies, another one takes it over within seconds. It
    returns by itself after its turn, and the next turn is a new run with a short history.
    """

    @workflow.run
    async def run(self, payload: RawValue) -> None:
        """Run the feed of an `Account` for one turn, then continue as new.

        Raises a non-retryable `ApplicationError` for input that is none.
        """
        account = decoded(payload, Account)
        await workflow.execute_activity(
            "watch_executions",
            account,
            start_to_close_timeout=FEED_TURN * 2,
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=500), backoff_coefficient=1.0
            ),
            summary=f"execution feed of {account.exchange} / {account.account}",
        )
        workflow.continue_as_new(account)
