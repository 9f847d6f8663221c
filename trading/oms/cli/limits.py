"""`oms limits`: what all processes together have used of the exchanges' rate limits."""

from typing import TYPE_CHECKING, Any

import click

from trading.oms.cli.failures import Exit, Failed, run
from trading.oms.cli.given import TEXT
from trading.oms.cli.output import console, examples, json_option, put_json, table
from trading.oms.cli.target import find_target

if TYPE_CHECKING:
    from rich.table import Table

_EVERYTHING = "*"


@click.command(epilog=examples("oms limits", "oms limits --exchange alpha --json"))
@click.option("--exchange", type=TEXT, help="Only this exchange.")
@click.option("--lift", is_flag=True, help="End the exchange's pauses now. Needs --exchange.")
@json_option
def limits(exchange: str | None, *, lift: bool, as_json: bool) -> None:
    """Show use, queue and pauses of the rate limits, of all workers together.

    A pause is what an exchange has asked for with a 429 or 418. It ends by itself; `--lift` is for
    one that does not hold any more, because the workers have another address now.
    """
    if lift and not exchange:
        raise click.UsageError("--lift needs --exchange: which exchange's pauses?")
    run(_limits(exchange, lift=lift, as_json=as_json))


async def _limits(exchange: str | None, *, lift: bool, as_json: bool) -> None:
    target = find_target()
    async with target.store() as store:
        found = await store.rates.status()
        known = {*found, *(name for name, _ in target.accounts)}
        if exchange is not None and exchange not in known:
            names = ", ".join(sorted(known)) or "none"
            msg = f"exchange is {exchange!r}; the exchanges here are: {names}"
            raise Failed(msg, Exit.BAD_INPUT)
        if lift and exchange:
            await store.rates.lift_pauses(exchange)
            found = await store.rates.status()
    if exchange:
        found = {name: one for name, one in found.items() if name == exchange}
    if as_json:
        put_json(found)
    elif not found:
        click.echo("No requests have been counted yet.")
    for name, one in found.items() if not as_json else ():
        console().print(_shown(name, one))
        for strategy, count in one["waiting"].items():
            click.echo(f"  waiting: {count} of {strategy or 'no strategy'}")
        for counter, seconds in one["paused_for_s"].items():
            what = "everything" if counter == _EVERYTHING else counter
            click.echo(f"  paused: {what} for {seconds:.1f} s")


def _shown(exchange: str, status: dict[str, Any]) -> "Table":
    names = ("counter", "used", "limit", "booked ahead", "forgets")
    made = table(f"Rate limits of {exchange}", *names, right=names[1:4])
    for counter, pool in status["pools"].items():
        forgets = (
            f"in {pool['resets_in_s']:.1f} s, every {pool['window_s']:g} s"
            if "window_s" in pool
            else f"{pool['decay_per_s']:g} a second"
        )
        amounts = (f"{pool[name]:g}" for name in ("used", "limit", "booked_ahead"))
        made.add_row(counter, *amounts, forgets)
    return made
