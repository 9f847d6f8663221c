"""`oms adjust-position`, `oms adjustments`: positions set by hand, and who did it."""

import getpass
from decimal import Decimal
from typing import Any

import click

from trading.oms.cli.failures import Exit, Failed, run
from trading.oms.cli.given import (
    BY,
    REASON,
    STRATEGY,
    SYMBOL,
    TEXT,
    Amount,
    WithAmounts,
    place,
    refuse_unknown,
)
from trading.oms.cli.output import clock, console, examples, json_option, put_json, table
from trading.oms.cli.target import find_target
from trading.oms.reading import number


@click.command(
    "adjust-position",
    cls=WithAmounts,
    epilog=examples(
        "oms adjust-position alpha/main BTC/USDT 2.5 --reason 'a transfer from cold storage'",
        "oms adjust-position alpha/main BTC/USDT 0 --was 0.3 --reason 'sold elsewhere' --by ann",
    ),
)
@click.argument("account", type=TEXT)
@click.argument("symbol", type=SYMBOL)
@click.argument("quantity", type=Amount())
@click.option("--reason", type=REASON, required=True, help="Why, for the audit.")
@click.option("--was", type=Amount(), help="Only if this is the position now.")
@click.option("--strategy", type=STRATEGY, help="This strategy's; without it the account's own.")
@click.option("--by", type=BY, help="Who says so; default: the user of this process.")
@json_option
def adjust_position(
    account: str,
    symbol: str,
    quantity: Decimal,
    *,
    was: Decimal | None,
    as_json: bool,
    **audit: Any,
) -> None:
    """Set the position that the risk checks compare with their limits.

    ACCOUNT is EXCHANGE/ACCOUNT, QUANTITY the new position in the base asset. What moved it cannot
    be in the fills: a transfer, a trade made by hand. `oms adjustments` lists what was done.
    """
    run(_adjust(account, symbol, quantity, was, as_json=as_json, **audit))


async def _adjust(  # noqa: PLR0913 - as above
    account: str,
    symbol: str,
    quantity: Decimal,
    was: Decimal | None,
    *,
    reason: str,
    strategy: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    from activities.store import Adjustment

    exchange, name = place(account)
    change = Adjustment(
        exchange=exchange,
        account=name,
        symbol=symbol,
        quantity=quantity,
        reason=reason,
        by=by or getpass.getuser(),
        strategy_id=strategy or "",
        expected=was,
    )
    target = find_target()
    async with target.store() as store:
        await refuse_unknown(target, store, exchange, name)
        before = await store.risk.adjust_position(change)
    if was is not None and before != was:
        msg = f"the position is {number(before)}, not {number(was)}; nothing was changed"
        raise Failed(msg, Exit.REFUSED)
    if as_json:
        put_json({"symbol": symbol, "before": format(before, "f"), "after": format(quantity, "f")})
    else:
        click.echo(f"{exchange} / {name}: {symbol} {number(before)} -> {number(quantity)}")


@click.command(epilog=examples("oms adjustments alpha/main", "oms adjustments alpha/main --json"))
@click.argument("account", type=TEXT)
@json_option
def adjustments(account: str, *, as_json: bool) -> None:
    """List positions that were set by hand or adopted, with the reason and by whom."""
    run(_adjustments(account, as_json=as_json))


async def _adjustments(account: str, *, as_json: bool) -> None:
    async with find_target().store() as store:
        found = await store.risk.adjustments(*place(account))
    if as_json:
        put_json([{name: _text(value) for name, value in one._asdict().items()} for one in found])
        return
    names = ("time (UTC)", "symbol", "strategy", "before", "after", "by", "reason")
    made = table("Adjustments", *names, right=("before", "after"))
    for one in found:
        amounts = (number(one.before), number(one.after))
        made.add_row(
            clock(one.at), one.symbol, one.strategy_id or "-", *amounts, one.by, one.reason
        )
    console().print(made)


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value if isinstance(value, str) else str(value.isoformat())
