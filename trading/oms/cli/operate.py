"""`oms resolve`, `oms reconcile`: what operators do about what is not certain."""

from typing import TYPE_CHECKING, Any

import click

from trading.oms.cli.failures import Exit, leave, run
from trading.oms.cli.given import BY, REASON, TEXT
from trading.oms.cli.output import console, examples, json_option, put_json, status
from trading.oms.cli.target import find_target
from trading.oms.enums import ReasonCode, Verdict
from trading.oms.models import OrderResult
from trading.oms.reading import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.reconcile_messages import ReconcileReport


@click.command(
    epilog=examples(
        'oms resolve my-order-1 adopt --reason "it is on their page"',
        'oms resolve my-order-1 dead --reason "their desk says there is none"',
    )
)
@click.argument("order_id")
@click.argument("verdict", type=click.Choice([one.value for one in Verdict]))
@click.option("--reason", type=REASON, required=True, help="Why, for the journal.")
@click.option("--by", type=BY, help="Who says so; default: the user of this process.")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for the outcome.")
@json_option
def resolve(order_id: str, verdict: str, *, as_json: bool, **given: Any) -> None:
    """Give a verdict on an order in doubt or forgotten.

    adopt: look it up, and take what the exchange has. dead: end it as an error; proof of life
    revives it. One that the exchange had confirmed is looked up first, and ends as cancelled where
    the exchange has it no more. retry: send it again, as its next generation.
    """
    run(_resolve(order_id, verdict, as_json=as_json, given=given))


async def _resolve(order_id: str, verdict: str, *, as_json: bool, given: dict[str, Any]) -> None:
    async with find_target().orders() as oms:
        result = await oms.resolve_order(order_id, verdict, **given)
    if as_json:
        put_json(result.model_dump(mode="json"))
    else:
        _show(result)
    leave(
        Exit.OK
        if result.success or result.reason_code is ReasonCode.OPERATOR_DEAD
        else Exit.REFUSED
    )


def _show(result: OrderResult) -> None:
    if result.state is not None:
        out = console()
        out.print(summary(result.state))
        out.print(f"  id      {result.order_id}\n  status  {status(result.state)}")
    if result.error:
        click.echo(f"error: {result.error}", err=True)


@click.command(
    epilog=examples(
        "oms reconcile --dry-run", "oms reconcile --exchange alpha", "oms reconcile --last 5"
    )
)
@click.option("--exchange", type=TEXT, help="Only this one; without it all of them.")
@click.option("--account", type=TEXT, help="Only this account there.")
@click.option("--dry-run", is_flag=True, help="Say what differs, and change nothing.")
@click.option("--last", type=click.IntRange(1, 1000), help="Make none; show so many past ones.")
@json_option
def reconcile(
    exchange: str | None, account: str | None, *, dry_run: bool, last: int | None, as_json: bool
) -> None:
    """Compare our orders and fills with the exchange's, and put right what differs.

    The exit code says whether anything differs still, or could not be asked; with --last, whether
    that is so of the newest one shown. Reports are kept for 30 days.
    """
    if last is not None:
        run(_past(exchange or "", account or "", last, as_json=as_json))
    else:
        run(_reconcile(exchange or "", account or "", dry_run=dry_run, as_json=as_json))


async def _past(exchange: str, account: str, last: int, *, as_json: bool) -> None:
    from activities.reconcile_messages import ReconcileReport

    async with find_target().store() as store:
        found = await store.upkeep.reports(exchange, account, limit=last)
    if as_json:
        put_json(found)
    reports = [ReconcileReport.model_validate(report) for report in found]
    if not as_json:
        for report in reversed(reports):
            click.echo(f"{report.started_at:%Y-%m-%d %H:%M:%S}{' (dry run)' * report.dry_run}")
            show_report(report)
        if not reports:
            click.echo("no reconciliation has been made yet")
    _leave_by(reports[:1])


async def _reconcile(exchange: str, account: str, *, dry_run: bool, as_json: bool) -> None:
    async with find_target().orders() as oms:
        reports = await oms.reconcile(exchange, account, dry_run=dry_run)
    if as_json:
        put_json([report.model_dump(mode="json") for report in reports])
    else:
        for report in reports:
            show_report(report)
    _leave_by(reports)


def _leave_by(reports: "Sequence[ReconcileReport]") -> None:
    is_clean = not any(report.failed or report.is_left for report in reports)
    leave(Exit.OK if is_clean else Exit.REFUSED)


@click.command(name="let-go", epilog=examples("oms let-go alpha main"))
@click.argument("exchange", type=TEXT)
@click.argument("account", type=TEXT)
@json_option
def let_go(exchange: str, account: str, *, as_json: bool) -> None:
    """Let another deployment have an account; its own workers must have been stopped.

    The first worker that connects to an account takes it for its deployment (OMS_DEPLOYMENT), and
    workers of others refuse to start. Refused while orders of ours are open there.
    """
    run(_let_go(exchange, account, as_json=as_json))


async def _let_go(exchange: str, account: str, *, as_json: bool) -> None:
    async with find_target().store() as store:
        answer = await store.upkeep.let_go(exchange, account)
    was = answer.lease.deployment if answer.lease else None
    if as_json:
        put_json({"was": was, "open_orders": answer.open_orders})
    elif was is None:
        click.echo(f"{exchange} / {account} belongs to no deployment")
    elif not answer.open_orders:
        click.echo(f"{exchange} / {account} does not belong to {was} any more")
    if answer.open_orders:
        click.echo(f"error: {answer.open_orders} orders are open there; end them first", err=True)
        leave(Exit.REFUSED)


def show_report(report: "ReconcileReport") -> None:
    """Say what one account's pass of reconciliation has found."""
    looked = ", ".join(f"{count} {name}" for name, count in sorted(report.looked_at.items()))
    click.echo(f"{report.exchange} / {report.account}: looked at {looked or 'nothing'}")
    for finding in report.findings:
        click.echo(f"  {finding.outcome.value:<9} {finding.kind}: {finding.message}")
    for failure in report.failed:
        click.echo(f"  could not be asked: {failure}", err=True)
    if report.findings:
        click.echo(f"  {report.sums}{' (dry run: nothing was changed)' * report.dry_run}")
    elif not report.failed:
        click.echo("  nothing differs")
