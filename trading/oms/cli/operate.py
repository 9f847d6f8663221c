"""`oms resolve`: an operator's word on an order in doubt."""

from typing import Any

import click

from trading.oms.cli.failures import Exit, leave, run
from trading.oms.cli.output import console, examples, json_option, put_json, status
from trading.oms.cli.target import find_target
from trading.oms.enums import ReasonCode, Verdict
from trading.oms.models import OrderResult
from trading.oms.reading import summary


@click.command(
    epilog=examples(
        'oms resolve my-order-1 adopt --reason "it is on their page"',
        'oms resolve my-order-1 dead --reason "their desk says there is none"',
    )
)
@click.argument("order_id")
@click.argument("verdict", type=click.Choice([one.value for one in Verdict]))
@click.option("--reason", required=True, help="Why, for the journal.")
@click.option("--by", help="Who says so; default: the user of this process.")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for the outcome.")
@json_option
def resolve(order_id: str, verdict: str, *, as_json: bool, **given: Any) -> None:
    """Give a verdict on an order in doubt.

    adopt: look it up, and take what the exchange has. dead: end it as an error; proof of life
    revives it. retry: send it again, as its next generation.
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
