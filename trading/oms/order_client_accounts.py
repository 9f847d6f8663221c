"""What a worker is asked about whole accounts, from the caller's side: short workflows."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError

from trading.oms.commands import validated
from trading.oms.errors import InvalidOrder, ServiceUnavailable
from trading.oms.order_client_errors import unavailable

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.messages import CancelAllAnswer, CancelAllWish
    from activities.reconcile_messages import ReconcileReport

_CANCEL_ALL_WITHIN = timedelta(seconds=10)


class AccountCalls:
    """The calls of one Temporal client that are not about one order."""

    def __init__(self, client: Client, task_queue: str) -> None:
        """`task_queue` is where the workers take order workflows from."""
        self._client = client
        self._task_queue = task_queue

    async def reconcile(
        self, exchange: str, account: str, *, dry_run: bool
    ) -> tuple[ReconcileReport, ...]:
        """Run a reconciliation and wait for its reports.

        Raises `InvalidOrder` for a name that no account has, and `ServiceUnavailable`.
        """
        from activities.reconcile_messages import ReconcileReports, ReconcileRequest

        wish = {"exchange": exchange, "account": account, "dry_run": dry_run}
        request = validated(wish, ReconcileRequest)
        try:
            handle = await self._client.start_workflow(
                "Reconcile",
                request,
                id=f"reconcile-now-{uuid.uuid4().hex}",
                task_queue=f"{self._task_queue}-io",
                result_type=ReconcileReports,
                static_summary=f"reconciliation of {exchange or 'all'} {account}".strip(),
            )
            done: ReconcileReports = await handle.result()
        except RPCError as error:
            raise unavailable(error) from error
        except WorkflowFailureError as error:
            cause = _first_cause(error)
            if isinstance(cause, ApplicationError) and cause.type == "NoSuchAccount":
                raise InvalidOrder(cause.message) from None
            msg = f"the reconciliation has failed: {cause}"
            raise ServiceUnavailable(msg) from error
        return done.reports

    async def cancel_all(self, wish: CancelAllWish) -> CancelAllAnswer:
        """Let a worker cancel all open orders of a symbol at once, where all are ours.

        Raises `ServiceUnavailable` where no worker has answered within a few seconds.
        """
        from activities.messages import CancelAllAnswer

        try:
            answer: CancelAllAnswer = await self._client.execute_workflow(
                "CancelAll",
                wish,
                id=f"cancel-all-{uuid.uuid4().hex}",
                task_queue=f"{self._task_queue}-io",
                result_type=CancelAllAnswer,
                execution_timeout=_CANCEL_ALL_WITHIN,
                static_summary=f"cancel all of {wish.symbol} at {wish.exchange}",
            )
        except (RPCError, WorkflowFailureError) as error:
            raise ServiceUnavailable(f"no worker has cancelled all at once: {error}") from error
        return answer


def _first_cause(error: WorkflowFailureError) -> BaseException:
    """What the activity said, and not that it said something."""
    cause: BaseException = error.cause
    while isinstance(cause, FailureError) and cause.cause is not None:
        cause = cause.cause
    return cause
