"""`oms halt`, `oms resume`, and cancelling many orders at once."""

import asyncio
import getpass
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from trading.oms.answers import cancel_result
from trading.oms.cli.failures import Exit, leave, run
from trading.oms.cli.given import BY, REASON, STRATEGY, TEXT, place, refuse_unknown
from trading.oms.cli.operate import show_report
from trading.oms.cli.output import examples, json_option, put_json
from trading.oms.cli.target import Target, find_target
from trading.oms.enums import CancelOutcome
from trading.oms.errors import OmsError, ServiceUnavailable

if TYPE_CHECKING:
    from activities.store import Store, TradingState
    from trading.oms.models import CancelResult, OrderState
    from trading.oms.order_manager import OrderManager

_AT_ONCE = 20
_WAIT_S = 5.0
_MANY = 3
"""So many open orders of a symbol are worth a request for all of them."""
_KNOWN_WITHIN_S = 3.0
"""So long the execution feed may take to tell what one request has cancelled."""


class Scope(NamedTuple):
    """Whose orders are meant: of one account, of one strategy, of one symbol, or all."""

    account: str | None = None
    strategy: str | None = None
    symbol: str | None = None

    @property
    def names(self) -> list[str]:
        """The trading states that it stands for."""
        found = [f"account:{self.account}"] if self.account is not None else []
        found += [f"strategy:{self.strategy}"] if self.strategy is not None else []
        return found or ["all"]


def _at(account: str | None) -> tuple[str | None, str | None]:
    return (None, None) if account is None else place(account)


@click.command(
    epilog=examples(
        "oms halt",
        "oms halt --strategy momentum --reason 'strange prices' --cancel",
        "oms halt --account alpha/main --reducing",
    )
)
@click.option("--account", type=TEXT, help="Only this account: EXCHANGE/ACCOUNT.")
@click.option("--strategy", type=TEXT, help="Only this strategy.")
@click.option("--reason", type=REASON, help="Why, for whoever asks.")
@click.option("--reducing", is_flag=True, help="Let through what makes positions smaller.")
@click.option("--cancel", "cancels", is_flag=True, help="Cancel the open orders too.")
@json_option
def halt(
    *,
    account: str | None,
    strategy: str | None,
    reason: str | None,
    reducing: bool,
    cancels: bool,
    as_json: bool,
) -> None:
    """Let no new order out, on any worker, at once. Cancels always pass."""
    if account is not None and strategy is not None:
        msg = "--account and --strategy are two stops; say one, or halt each with a command"
        raise click.UsageError(msg)
    state = "reducing" if reducing else "halted"
    run(_set(Scope(account, strategy), state, reason, cancels=cancels, as_json=as_json))


@click.command(
    epilog=examples(
        "oms resume --reason 'the backup is reconciled'",
        "oms resume --strategy momentum --reason 'prices are back'",
        "oms resume --account alpha/main --reason 'the desk has called'",
        "oms resume alpha main --reason 'they have explained it'",
    )
)
@click.argument("exchange", type=TEXT, required=False)
@click.argument("account_there", type=TEXT, metavar="[ACCOUNT]", required=False)
@click.option("--account", type=TEXT, help="End the halt of this account: EXCHANGE/ACCOUNT.")
@click.option("--strategy", type=TEXT, help="End the halt of this strategy.")
@click.option("--reason", type=REASON, required=True, help="Why it is safe again, for the record.")
@click.option("--by", type=BY, help="Who says so; default: the user of this process.")
@json_option
def resume(
    exchange: str | None,
    account_there: str | None,
    *,
    as_json: bool,
    **given: Any,
) -> None:
    """Let orders be sent again. Each form ends one kind of stop, and no other.

    Without arguments: the halt of all trading, by `oms halt` or after the store has gone back;
    everything is reconciled first. With --account or --strategy: the halt of those. With
    EXCHANGE and ACCOUNT: what proved not to be placed may be sent again there, after two sends
    of one order were alive.
    """
    scope = Scope(given["account"], given["strategy"])
    if (exchange is None) != (account_there is None):
        msg = "give both EXCHANGE and ACCOUNT, or neither"
        raise click.UsageError(msg)
    is_scoped = scope.names != ["all"]
    if exchange is not None and is_scoped:
        msg = "EXCHANGE and ACCOUNT end another stop than --account and --strategy; say one"
        raise click.UsageError(msg)
    reason, by = given["reason"], given["by"]
    if exchange is not None and account_there is not None:
        run(_allow_resending(exchange, account_there, reason, by=by, as_json=as_json))
    elif is_scoped:
        run(_set(scope, "active", reason, by=by, as_json=as_json))
    else:
        run(_resume_all(reason, by=by, as_json=as_json))


async def _allow_resending(
    exchange: str, account: str, reason: str, *, by: str | None, as_json: bool
) -> None:
    target = find_target()
    async with target.store() as store:
        await refuse_unknown(target, store, exchange, account)
    async with target.orders(with_store=True) as oms:
        await oms.allow_resending(exchange, account, reason, by=by)
    if as_json:
        put_json({"exchange": exchange, "account": account, "resending": "allowed"})
    else:
        click.echo(f"{exchange} / {account}: what proved not to be placed may be sent again")


async def _resume_all(reason: str, *, by: str | None, as_json: bool) -> None:
    target = find_target()
    async with target.orders(with_store=True) as oms:
        reports = await oms.resume(reason, by=by)
    async with target.store() as store:
        states = await store.trading_states()
    if as_json:
        found = [report.model_dump(mode="json") for report in reports]
        put_json({"states": states, "reports": found})
        return
    for report in reports:
        show_report(report)
    _say_states(states)


async def _set(
    scope: Scope,
    word: str,
    reason: str | None,
    *,
    as_json: bool,
    by: str | None = None,
    cancels: bool = False,
) -> None:
    from activities.store import TradingState

    target = find_target()
    async with target.store() as store:
        await _refuse_unknown(target, store, scope)
        for name in scope.names:
            await store.set_trading_state(
                name, TradingState(word), reason=reason, by=by or getpass.getuser()
            )
        states = await store.trading_states()
    if not as_json:
        _say_states(states)
    results = await cancel_many(target, scope, reason) if cancels else []
    if as_json:
        put_json({"states": states, "cancelled": [one.model_dump(mode="json") for one in results]})
    elif cancels:
        _say_cancels(results)
    leave(_exit_of(results))


async def _refuse_unknown(target: Target, store: "Store", scope: Scope) -> None:
    """Who halts what does not exist has halted nothing. What was halted once can be resumed."""
    exchange, account = _at(scope.account)
    if set(scope.names) <= set(await store.trading_states()):
        return
    if exchange is not None and account is not None:
        await refuse_unknown(target, store, exchange, account)
    if scope.strategy is not None:
        STRATEGY.convert(scope.strategy, None, None)


def _say_states(states: "dict[str, TradingState]") -> None:
    restricted = {name: state for name, state in sorted(states.items()) if state != "active"}
    for name, state in restricted.items():
        click.echo(f"{name}: {state.value}")
    if not restricted:
        click.echo("trading is active everywhere")


async def cancel_scope(scope: Scope, reason: str | None, *, wait: float, as_json: bool) -> None:
    """Cancel every open order of ours in a scope, and say what became of them."""
    results = await cancel_many(find_target(), scope, reason, wait)
    if as_json:
        put_json([one.model_dump(mode="json") for one in results])
    else:
        _say_cancels(results)
    leave(_exit_of(results))


async def cancel_many(
    target: Target, scope: Scope, reason: str | None, wait: float = _WAIT_S
) -> "list[CancelResult]":
    """Cancel order by order, after one request for all of a symbol where that touches only ours.

    A strategy's orders are cancelled one by one: others of ours may come meanwhile. One that fails
    leaves the others alone, and its result says why.
    """
    from temporalio.exceptions import TemporalError

    slots = asyncio.Semaphore(_AT_ONCE)
    async with target.store() as store, target.orders() as oms:
        wanted = await _open_orders(store, scope)
        if scope.strategy is None:
            try:
                await _cancel_all_at_once(store, oms, wanted, reason)
            except (OmsError, TemporalError) as error:
                click.echo(f"one by one, because {error}", err=True)

        async def cancel(state: "OrderState") -> "CancelResult":
            async with slots:
                try:
                    return await oms.cancel_order(state.client_order_id, wait=wait, reason=reason)
                except (OmsError, TemporalError) as error:
                    return cancel_result(state, str(error))

        return await asyncio.gather(*(cancel(state) for state in wanted))


async def _cancel_all_at_once(
    store: "Store", oms: "OrderManager", wanted: "list[OrderState]", reason: str | None
) -> None:
    """Where many rest in one symbol, ask the exchange to cancel all; wait until that is known.

    Whatever fails here is made good by the orders' own cancels.
    """
    from activities.messages import CancelAllWish

    counted = Counter((o.exchange, o.account, o.symbol) for o in wanted if o.submitted_at)
    many = {key for key, count in counted.items() if count >= _MANY}

    async def ask(key: tuple[str, str, str]) -> bool:
        exchange, account, symbol = key
        wish = CancelAllWish(exchange=exchange, account=account, symbol=symbol, reason=reason)
        try:
            answer = await oms.cancel_all(wish)
        except ServiceUnavailable as error:
            click.echo(f"{symbol} at {exchange}: one by one, because {error}", err=True)
            return False
        if answer.why_not is not None:
            click.echo(f"{symbol} at {exchange}: one by one, because {answer.why_not}", err=True)
        return answer.is_asked

    keys = sorted(many)
    asked = await asyncio.gather(*(ask(key) for key in keys))
    at = {key for key, is_asked in zip(keys, asked, strict=True) if is_asked}
    ids = {o.client_order_id for o in wanted if (o.exchange, o.account, o.symbol) in at}
    until = time.monotonic() + _KNOWN_WITHIN_S
    while ids and time.monotonic() < until:
        await asyncio.sleep(0.1)
        ids &= {order.client_order_id for order in await _open_orders(store, Scope())}


async def _open_orders(store: "Store", scope: Scope) -> "list[OrderState]":
    from activities.store import OrderFilter
    from trading.oms.enums import OPEN_STATUSES

    exchange, account = _at(scope.account)
    wanted = OrderFilter(
        exchange=exchange,
        account=account,
        symbol=scope.symbol,
        strategy_id=scope.strategy,
        statuses=OPEN_STATUSES,
        external=False,
    )
    return await store.orders(wanted, limit=None)


def _say_cancels(results: "list[CancelResult]") -> None:
    if not results:
        click.echo("no open order to cancel")
    for one in results:
        why = f" ({one.error})" if one.error else ""
        click.echo(f"{one.order_id}: {one.outcome.value.replace('_', ' ')}{why}")


def _exit_of(results: "list[CancelResult]") -> Exit:
    waiting = {CancelOutcome.PENDING, CancelOutcome.IN_DOUBT, CancelOutcome.NOT_FOUND}
    return Exit.PENDING if any(one.outcome in waiting for one in results) else Exit.OK
