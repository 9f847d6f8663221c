"""One request for all open orders of a symbol, asked of a worker from anywhere."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.messages import CancelAllAnswer, CancelAllWish

from workflows.payloads import decoded

_WITHIN = timedelta(seconds=10)


@workflow.defn(name="CancelAll")
class CancelAllWorkflow:
    """Asks once: what a repetition would cancel may have come later, and be another's."""

    @workflow.run
    async def run(self, payload: RawValue) -> CancelAllAnswer:
        """Whether the exchange was asked to do a `CancelAllWish`, and else why not.

        Raises a non-retryable `ApplicationError` for input that is none.
        """
        wish = decoded(payload, CancelAllWish)
        answer: CancelAllAnswer = await workflow.execute_activity(
            "cancel_all_at_exchange",
            wish,
            result_type=CancelAllAnswer,
            schedule_to_close_timeout=_WITHIN,
            retry_policy=RetryPolicy(maximum_attempts=1),
            summary=f"{wish.symbol} at {wish.exchange} / {wish.account}",
        )
        return answer
