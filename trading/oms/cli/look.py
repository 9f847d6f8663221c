"""`oms list`, `oms show`, `oms watch`: what became of orders."""

from typing import TYPE_CHECKING, Any

import click

from trading.oms.cli.failures import Exit, Failed, run
from trading.oms.cli.given import TEXT
from trading.oms.cli.output import (
    amount,
    clock,
    console,
    examples,
    fees,
    json_option,
    orders_table,
    put_csv,
    put_json,
    put_json_line,
    status,
    table,
)
from trading.oms.cli.target import Target, find_target
from trading.oms.enums import OPEN_STATUSES
from trading.oms.errors import OmsError
from trading.oms.reading import number, summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from activities.store import JournalEntry, Store, StoredClaim
    from trading.oms.models import Fill, OrderState


def _filters(command: "Callable[..., Any]") -> "Callable[..., Any]":
    for name, text in (
        ("--strategy", "Only orders of this strategy."),
        ("--symbol", "Only orders of this symbol."),
        ("--exchange", "Only orders at this exchange."),
    ):
        command = click.option(name, type=TEXT, help=text)(command)
    return command


@click.command(
    "list",
    epilog=examples(
        "oms list",
        "oms list --all --symbol BTC/USDT --csv",
        "oms list --in-doubt --json",
    ),
)
@_filters
@click.option("--all", "all_orders", is_flag=True, help="Ended orders too.")
@click.option("--in-doubt", is_flag=True, help="Only orders whose outcome is not known.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="At most so many, newest first.",
)
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout.")
@json_option
def list_orders(**options: Any) -> None:
    """List open orders, newest first."""
    if options["as_csv"] and options["as_json"]:
        msg = "--csv and --json are two forms; say one"
        raise click.UsageError(msg)
    run(_list(**options))


async def _list(  # noqa: PLR0913 - one parameter for each option
    *,
    exchange: str | None,
    symbol: str | None,
    strategy: str | None,
    all_orders: bool,
    in_doubt: bool,
    limit: int,
    as_csv: bool,
    as_json: bool,
) -> None:
    from activities.store import OrderFilter

    wanted = OrderFilter(
        exchange=exchange,
        symbol=symbol.upper() if symbol else None,
        strategy_id=strategy,
        statuses=frozenset() if all_orders else OPEN_STATUSES,
        in_doubt_only=in_doubt,
    )
    async with find_target().store() as store:
        states = await store.orders(wanted, limit=limit)
    if as_json:
        put_json([state.model_dump(mode="json") for state in states])
    elif as_csv:
        put_csv(states)
    elif states:
        console().print(orders_table("Orders" if all_orders else "Open orders", states))
    else:
        click.echo("No orders." if all_orders else "No open orders; --all lists ended ones too.")


@click.command(
    epilog=examples(
        "oms show my-order-1",
        "oms show my-order-1 --json",
    )
)
@click.argument("order_id")
@json_option
def show(order_id: str, *, as_json: bool) -> None:
    """Show an order: its state, fills, history and sends; of one that is split its legs."""
    run(_show(order_id, as_json=as_json))


async def _doubt(target: Target, state: "OrderState") -> list[str]:
    """What was asked and answered, as the order's workflow knows it, or why it cannot be asked."""
    if state.in_doubt_since is None:
        return []
    try:
        async with target.orders() as oms:
            return await oms.fetch_doubt(state.client_order_id)
    except (OmsError, RuntimeError, OSError) as error:
        return [f"what was asked is not known: {error}"]


async def _show(order_id: str, *, as_json: bool) -> None:
    from rich.markup import escape

    target = find_target()
    async with target.store() as store:
        state = await _known(store, order_id)
        fills = await store.fills(order_id)
        events = await store.events_of(order_id)
        claims = await store.claims_of(order_id)
        legs = await _legs(store, state)
    doubt = await _doubt(target, state)
    if as_json:
        put_json(
            {
                "order": state.model_dump(mode="json"),
                "fills": [fill.model_dump(mode="json") for fill in fills],
                "events": [_event(entry) for entry in events],
                "sends": [_send(claim) for claim in claims],
                "legs": [leg.model_dump(mode="json") for leg in legs],
                "doubt": doubt,
                "ui_url": target.order_link(order_id) or None,
            }
        )
        return
    out = console()
    _show_state(out, target, state)
    for line in doubt:
        out.print(f"  [dim]{'':<10}[/]{escape(line)}", soft_wrap=True)
    if legs:
        out.print(orders_table("\nLegs", legs))
    if fills:
        out.print(_fills_table(fills))
    out.print(_events_table(events))
    if claims:
        out.print(_sends_table(claims))


async def _legs(store: "Store", state: "OrderState") -> "list[OrderState]":
    """The legs of an order that is split, by number."""
    from activities.store import OrderFilter
    from trading.oms.split import is_leg, leg_number

    if not state.is_split:
        return []
    found = await store.orders(OrderFilter(parent_order_id=state.client_order_id), limit=None)
    return sorted(filter(is_leg, found), key=lambda leg: leg_number(leg.client_order_id))


async def _known(store: "Store", order_id: str) -> "OrderState":
    state = await store.order(order_id)
    if state is None:
        raise Failed(f"no order has the id {order_id!r}", Exit.BAD_INPUT)
    return state


def _show_state(out: "Console", target: Target, state: "OrderState") -> None:
    from rich.markup import escape

    live = "[bold white on red] LIVE [/] " if target.is_live(state.exchange) else ""
    out.print(f"{live}[bold]{summary(state)}[/]")
    rows = [
        ("id", state.client_order_id),
        ("status", status(state)),
        ("at", _where(state)),
        ("there as", state.exchange_order_id or "-"),
        ("filled", f"{number(state.filled_quantity)} of {number(state.quantity)}"),
        ("average", amount(state.average_fill_price)),
        ("fees", fees(state)),
        ("strategy", state.strategy_id or "-"),
        ("created", clock(state.created_at)),
        ("updated", clock(state.last_updated_at)),
    ]
    if state.in_doubt_since is not None:
        rows.append(("in doubt", f"since {clock(state.in_doubt_since)}"))
    if state.rejection_reason or state.reason_code:
        code = state.reason_code.value if state.reason_code else ""
        rows.append(("reason", f"{code}: {escape(state.rejection_reason or '')}".strip(": ")))
    if link := target.order_link(state.client_order_id):
        rows.append(("UI", link))
    for name, value in rows:
        out.print(f"  [dim]{name:<10}[/]{value}", soft_wrap=True)


def _where(state: "OrderState") -> str:
    return (
        "several exchanges"
        if state.is_split
        else f"{state.exchange or '-'} / {state.account or '-'}"
    )


def _fills_table(fills: "list[Fill]") -> Any:
    made = table("\nFills", "time (UTC)", "quantity", "price", "fee", "", "trade")
    for fill in fills:
        role = {True: "maker", False: "taker", None: ""}[fill.is_maker]
        fee = f"{number(fill.fee)} {fill.fee_currency}"
        if fill.inferred:
            role = "inferred" if fill.quantity > 0 else "taken back"
        trade = fill.trade_id or "-"
        made.add_row(
            clock(fill.timestamp), number(fill.quantity), number(fill.price), fee, role, trade
        )
    return made


def _events_table(events: "list[JournalEntry]") -> Any:
    made = table("\nHistory", "#", "time (UTC)", "event", "status", "", right=("#",))
    for entry in events:
        made.add_row(
            str(entry.order_sequence),
            clock(entry.committed_at),
            entry.name.removeprefix("order_").replace("_", " "),
            status(entry.state),
            _detail(entry),
        )
    return made


def _sends_table(claims: "list[StoredClaim]") -> Any:
    made = table("\nSends", "leg", "attempt", "time (UTC)", "what", "its id there", "outcome")
    for claim in claims:
        request = claim.request
        price = f" @ {number(request.price)}" if request.price is not None else ""
        made.add_row(
            str(claim.key.leg),
            str(claim.key.generation),
            clock(claim.claimed_at),
            f"{request.side.value} {number(request.quantity)}{price}",
            request.exchange_client_id,
            claim.outcome.value if claim.outcome else "[bold magenta]not known[/]",
        )
    return made


def _detail(entry: "JournalEntry") -> str:
    from rich.markup import escape

    if entry.alarm:
        return f"[bold red]{escape(entry.alarm)}[/]"
    if entry.fill is not None and entry.name == "order_fill":
        mark = " (inferred)" if entry.fill.inferred else ""
        return f"{number(entry.fill.quantity)} at {number(entry.fill.price)}{mark}"
    details = {name: value for name, value in (entry.details or {}).items() if value is not None}
    return escape(", ".join(f"{name} {value}" for name, value in details.items()))


def _event(entry: "JournalEntry") -> dict[str, Any]:
    return {
        "sequence": entry.sequence,
        "order_id": entry.order_id,
        "order_sequence": entry.order_sequence,
        "name": entry.name,
        "alarm": entry.alarm,
        "details": dict(entry.details or {}),
        "fill": entry.fill.model_dump(mode="json") if entry.fill else None,
        "exchange_at": entry.exchange_at.isoformat(),
        "received_at": entry.received_at.isoformat(),
        "committed_at": entry.committed_at.isoformat(),
        "state": entry.state.model_dump(mode="json"),
    }


def _send(claim: "StoredClaim") -> dict[str, Any]:
    return {
        "leg": claim.key.leg,
        "generation": claim.key.generation,
        "stamp": claim.stamp,
        "claimant": claim.claimant,
        "claimed_at": claim.claimed_at.isoformat(),
        "outcome": claim.outcome,
        "request": claim.request.model_dump(mode="json"),
        "answer": claim.answer,
    }


@click.command(
    epilog=examples(
        "oms watch",
        "oms watch my-order-1",
        "oms watch --strategy mean-reversion --json --after 1200",
    )
)
@click.argument("order_id", required=False)
@_filters
@click.option("--after", type=int, help="Begin after this sequence; 0 is the very beginning.")
@json_option
def watch(order_id: str | None, *, after: int | None, as_json: bool, **filters: Any) -> None:
    """Print every event as it is committed, until Ctrl-C.

    With ORDER_ID: that order's events from its first on, until it has ended. With --json each
    event is one line; keep its sequence and go on with --after.
    """
    wanted = {name: value for name, value in filters.items() if value}
    try:
        run(_watch(order_id, after, wanted, as_json=as_json))
    except Failed as error:
        if error.code is not Exit.INTERRUPTED:
            raise


async def _watch(
    order_id: str | None, after: int | None, wanted: dict[str, str], *, as_json: bool
) -> None:
    out = console()
    async with find_target().store() as store:
        if order_id is not None:
            await _known(store, order_id)
            after = after or 0
        start = await store.head() if after is None else after
        async for entries in store.follow(start):
            for entry in entries:
                if not _is_wanted(entry, order_id, wanted):
                    continue
                if as_json:
                    put_json_line(_event(entry))
                else:
                    out.print(_line(entry), soft_wrap=True)
                if order_id is not None and await _has_ended(store, entry):
                    return


async def _has_ended(store: "Store", entry: "JournalEntry") -> bool:
    """Whether this is the last event so far of an order that has ended."""
    if not entry.state.is_terminal:
        return False
    newest = await store.order(entry.order_id)
    return newest is None or (newest.is_terminal and newest.sequence <= entry.order_sequence)


def _is_wanted(entry: "JournalEntry", order_id: str | None, wanted: dict[str, str]) -> bool:
    if order_id is not None and entry.order_id != order_id:
        return False
    state = entry.state
    own = {"exchange": state.exchange, "symbol": state.symbol, "strategy": state.strategy_id or ""}
    return all(own[name].lower() == value.lower() for name, value in wanted.items())


def _line(entry: "JournalEntry") -> str:
    name = entry.name.removeprefix("order_").replace("_", " ")
    at = f"{entry.committed_at:%H:%M:%S}.{entry.committed_at.microsecond // 1000:03d}"
    detail = _detail(entry) or (summary(entry.state) if name == "created" else "")
    text = f"[dim]{entry.sequence:>6}  {at}[/]  {entry.order_id}  {name:<16} {detail}"
    return text.rstrip()
