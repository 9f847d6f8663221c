"""`oms submit`, `oms cancel`, `oms modify`."""

from typing import Any

import click

from trading.oms.answers import is_answer
from trading.oms.cli.failures import Exit, leave, run
from trading.oms.cli.given import REASON, TEXT, WithAmounts
from trading.oms.cli.halt import Scope, cancel_scope
from trading.oms.cli.output import amount, average, console, examples, json_option, put_json, status
from trading.oms.cli.target import Target, find_target
from trading.oms.commands import ModifyRequest, validated
from trading.oms.enums import (
    CancelOutcome,
    IfNotPlaced,
    OrderType,
    Pending,
    ReasonCode,
    TimeInForce,
)
from trading.oms.errors import InvalidOrder
from trading.oms.models import CancelResult, Order, OrderResult
from trading.oms.reading import summary

_CANCEL_EXITS = {
    CancelOutcome.CANCELLED: Exit.OK,
    CancelOutcome.NOT_FOUND: Exit.BAD_INPUT,
    CancelOutcome.PENDING: Exit.PENDING,
    CancelOutcome.IN_DOUBT: Exit.PENDING,
}


@click.command(
    cls=WithAmounts,
    epilog=examples(
        "oms submit buy 0.01 BTC/USDT",
        "oms submit buy 0.01 BTC/USDT --price 39000 --exchange alpha",
        "oms submit sell 0.5 BTC/USDT --price 39500 --tif IOC --strategy mean-reversion",
        "oms submit buy 0.01 BTC/USDT --price 39000.001 --check",
    ),
)
@click.argument("side", type=click.Choice(["buy", "sell"], case_sensitive=False))
@click.argument("quantity")
@click.argument("symbol")
@click.option("--price", help="The limit, in the quote asset.")
@click.option("--stop-price", help="The trigger of a stop or stop-limit order.")
@click.option(
    "--type",
    "order_type",
    type=click.Choice([one.value for one in OrderType], case_sensitive=False),
    help="Without it: limit with --price, stop with --stop-price, stop_limit with both, "
    "market with neither.",
)
@click.option(
    "--tif",
    "time_in_force",
    type=click.Choice([one.value for one in TimeInForce], case_sensitive=False),
    help="Time in force. Default: GTC, with --expire-at GTD.",
)
@click.option("--expire-at", help="When a GTD order ends, as in 2030-01-31T12:00:00+00:00.")
@click.option("--post-only", is_flag=True, help="Rest in the book or be refused.")
@click.option("--reduce-only", is_flag=True, help="Make the position smaller or be denied.")
@click.option("--id", "client_order_id", help="Your own order id; the same id is the same order.")
@click.option("--exchange", type=TEXT, help="Where to; without it the order is routed.")
@click.option("--account", type=TEXT, help="The account there; without it the default one.")
@click.option("--strategy", "strategy_id", type=TEXT, help="Whose order it is.")
@click.option("--send-by", help="Do not send it after this time.")
@click.option(
    "--if-not-placed",
    type=click.Choice([one.value for one in IfNotPlaced]),
    help="What to do when a send proved to have placed nothing.",
)
@click.option("--check", is_flag=True, help="Run all checks and send nothing.")
@json_option
def submit(*, check: bool, as_json: bool, **given: Any) -> None:
    """Submit an order and wait for its outcome.

    SIDE is buy or sell, QUANTITY is in the base asset, SYMBOL is BASE/QUOTE.
    """
    run(_submit(_order(given), check=check, as_json=as_json))


def _order(given: dict[str, Any]) -> Order:
    values = {name: value for name, value in given.items() if value not in {None, False}}
    if "order_type" not in values:
        kinds = {
            (False, False): OrderType.MARKET,
            (True, False): OrderType.LIMIT,
            (False, True): OrderType.STOP,
            (True, True): OrderType.STOP_LIMIT,
        }
        values["order_type"] = kinds["price" in values, "stop_price" in values]
    if "expire_at" in values:
        values.setdefault("time_in_force", TimeInForce.GTD)
    values["symbol"] = str(values["symbol"]).upper()
    return validated(values, Order)


async def _submit(order: Order, *, check: bool, as_json: bool) -> None:
    target = find_target()
    if check:
        from trading.oms.cli.check import check_order

        await check_order(target, order, as_json=as_json)
        return
    async with target.orders() as oms:
        try:
            result = await oms.submit_order(order)
        except InvalidOrder:
            raise
        except BaseException:
            again = f"--id {order.client_order_id}"
            click.echo(f"the order may exist; to ask for the same one again add {again}", err=True)
            raise
    if as_json:
        link = target.order_link(order.client_order_id)
        put_json({**result.model_dump(mode="json"), "ui_url": link or None})
    else:
        _show_submission(target, order, result)
    leave(_exit_of(result))


def _show_submission(target: Target, order: Order, result: OrderResult) -> None:
    if result.reason_code is ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT:
        _say_refusal(result)
        return
    out, state = console(), result.state
    exchange = (state.exchange if state else None) or order.exchange
    live = "[bold white on red] LIVE [/] " if target.is_live(exchange) else ""
    out.print(f"{live}{summary(order)}" + (f" at {exchange}" if exchange else ""))
    rows = [("id", result.order_id), ("status", status(state) if state else result.status.value)]
    if state is not None and state.filled_quantity:
        filled = f"{amount(state.filled_quantity)} of {amount(state.quantity)}"
        rows.append(("filled", f"{filled} at {average(state)}"))
    if link := target.order_link(result.order_id):
        rows.append(("UI", link))
    for name, value in rows:
        out.print(f"  {name:<8}{value}", soft_wrap=True)
    _say_refusal(result)


def _say_refusal(result: OrderResult) -> None:
    if result.error:
        by = f" by {result.rejected_by.value}" if result.rejected_by else ""
        code = f" ({result.reason_code.value})" if result.reason_code else ""
        click.echo(f"refused{by}{code}: {result.error}", err=True)
    elif result.in_doubt:
        click.echo("in doubt: sent, the outcome is not known yet; the OMS looks for it", err=True)


def _exit_of(result: OrderResult) -> Exit:
    if not result.success:
        return Exit.REFUSED
    state = result.state
    is_decided = state is None or (state.pending is Pending.NONE and is_answer(state))
    waits = result.in_doubt or not is_decided
    return Exit.PENDING if waits else Exit.OK


@click.command(
    epilog=examples(
        "oms cancel my-order-1",
        "oms cancel my-order-1 --symbol BTC/USDT --wait 20 --json",
        "oms cancel --strategy momentum --reason 'seen enough'",
        "oms cancel --all",
    )
)
@click.argument("order_id", required=False)
@click.option("--all", "everything", is_flag=True, help="All open orders of this system.")
@click.option("--strategy", type=TEXT, help="All open orders of this strategy.")
@click.option("--exchange", type=TEXT, help="Refuse unless the order is there.")
@click.option(
    "--symbol", type=TEXT, help="Refuse unless the order is of this symbol; alone: all of it."
)
@click.option("--wait", default=5.0, show_default=True, help="Seconds to wait for the outcome.")
@click.option("--reason", type=REASON, help="Why, for the journal.")
@json_option
def cancel(
    order_id: str | None,
    *,
    everything: bool,
    strategy: str | None,
    wait: float,
    as_json: bool,
    **guards: Any,
) -> None:
    """Cancel an order, or many, and wait for the exchange's word."""
    guards["symbol"] = guards["symbol"] and guards["symbol"].upper()
    if order_id is not None:
        if everything or strategy is not None:
            msg = "give an order's id, or --all, --symbol and --strategy, not both"
            raise click.UsageError(msg)
        run(_cancel(order_id, wait=wait, as_json=as_json, guards=guards))
        return
    if not (everything or strategy or guards["symbol"]) or guards["exchange"]:
        msg = "give an order's id, or which orders: --all, --symbol, --strategy"
        raise click.UsageError(msg)
    scope = Scope(strategy=strategy, symbol=guards["symbol"])
    run(cancel_scope(scope, guards["reason"], wait=wait, as_json=as_json))


async def _cancel(order_id: str, *, wait: float, as_json: bool, guards: dict[str, Any]) -> None:
    async with find_target().orders() as oms:
        result = await oms.cancel_order(order_id, wait=wait, **guards)
    if as_json:
        put_json(result.model_dump(mode="json"))
    else:
        _show_cancel(result)
    leave(_CANCEL_EXITS.get(result.outcome, Exit.REFUSED))


def _show_cancel(result: CancelResult) -> None:
    if result.outcome is not CancelOutcome.NOT_FOUND:
        filled = f"{amount(result.filled_quantity)} was filled"
        click.echo(f"{result.order_id}: {result.outcome.value.replace('_', ' ')}, {filled}")
    if result.error:
        click.echo(f"error: {result.error}", err=True)


@click.command(
    epilog=examples(
        "oms modify my-order-1 --quantity 0.008",
        "oms modify my-order-1 --price 39100",
    )
)
@click.argument("order_id")
@click.option("--quantity", "new_quantity", help="The new total, what is filled included.")
@click.option("--price", "new_price", help="The new limit.")
@click.option("--wait", default=5.0, show_default=True, help="Seconds to wait for the outcome.")
@json_option
def modify(
    order_id: str,
    *,
    new_quantity: str | None,
    new_price: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Change an order's quantity, its price, or both.

    In place where the exchange can, else the order is cancelled there and the rest is sent anew.
    """
    wish = {"new_quantity": new_quantity, "new_price": new_price, "wait_s": wait}
    run(_modify(order_id, validated(wish, ModifyRequest), as_json=as_json))


async def _modify(order_id: str, wish: ModifyRequest, *, as_json: bool) -> None:
    async with find_target().orders() as oms:
        result = await oms.modify_order(
            order_id, wish.new_quantity, wish.new_price, wait=wish.wait_s
        )
    if as_json:
        put_json(result.model_dump(mode="json"))
    else:
        if result.state is not None:
            out = console()
            out.print(summary(result.state))
            out.print(f"  id      {result.order_id}\n  status  {status(result.state)}")
        _say_refusal(result)
    leave(_exit_of(result))
