"""Reconciliation of one account, as a workflow that a schedule starts and anybody may start."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.messages import Account
    from activities.reconcile_messages import (
        Accounts,
        ReconcileReport,
        ReconcileReports,
        ReconcileRequest,
    )

from workflows.payloads import decoded

_PASS_TIMEOUT = timedelta(minutes=10)


@workflow.defn(name="Reconcile")
class ReconcileWorkflow:
    """One pass over each account asked for. Schedules: `reconcile-<exchange>-<account>`."""

    @workflow.run
    async def run(self, payload: RawValue) -> ReconcileReports:
        """Take a `ReconcileRequest`, compare, put right what differs, and return the reports.

        Raises a non-retryable `ApplicationError` that names the field for input that is none.
        """
        request: ReconcileRequest = decoded(payload, ReconcileRequest)
        reports: list[ReconcileReport] = []
        if workflow.has_last_completion_result():
            last = workflow.get_last_completion_result(ReconcileReports)
            marks = [report.store for report in last.reports] if last else []
            request = request.model_copy(update={"store_before": marks[-1] if marks else None})
        for account in await self._accounts(request):
            wish = request.model_copy(update=account.model_dump())
            reports.append(await self._one_pass(wish))
            workflow.set_current_details("\n\n".join(_details(report) for report in reports))
        return ReconcileReports(reports=tuple(reports))

    async def _accounts(self, request: ReconcileRequest) -> tuple[Account, ...]:
        if request.exchange and request.account:
            return (Account(exchange=request.exchange, account=request.account),)
        found: Accounts = await workflow.execute_activity(
            "list_accounts",
            request,
            result_type=Accounts,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
        )
        return found.accounts

    async def _one_pass(self, request: ReconcileRequest) -> ReconcileReport:
        report: ReconcileReport = await workflow.execute_activity(
            "reconcile_account",
            request,
            result_type=ReconcileReport,
            start_to_close_timeout=_PASS_TIMEOUT,
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=5),
            summary=f"{request.exchange} / {request.account}",
        )
        return report


def _details(report: ReconcileReport) -> str:
    looked = ", ".join(f"{name} {count}" for name, count in sorted(report.looked_at.items()))
    lines = [f"**{report.exchange} / {report.account}**"]
    lines += [f"looked at: {looked or '-'}", report.sums]
    lines += [f"could not be asked: {text}" for text in report.failed]
    lines += [f"**{one.outcome.value}** {one.kind}: {one.message}" for one in report.findings[:50]]
    return "\n\n".join(lines)
