"""`oms balances`, `oms positions`: what the accounts hold, by the exchange and by our fills."""

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from trading.oms.cli.failures import run
from trading.oms.cli.given import TEXT
from trading.oms.cli.output import console, examples, json_option, put_json, table
from trading.oms.cli.target import find_target
from trading.oms.enums import OrderSide
from trading.oms.exact import EXACT
from trading.oms.reading import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trading.oms.models import OrderState


@click.command(
    epilog=examples(
        "oms balances",
        "oms balances --exchange alpha --json",
    )
)
@click.option("--exchange", type=TEXT, help="Only this exchange.")
@json_option
def balances(exchange: str | None, *, as_json: bool) -> None:
    """Ask the exchanges what the accounts hold. Needs the exchanges' keys."""
    run(_balances(exchange, as_json=as_json))


async def _balances(exchange: str | None, *, as_json: bool) -> None:
    target = find_target()
    async with target.connectors(exchange) as connectors:
        found = [
            (*key, balance)
            for key, connector in connectors.items()
            for _, balance in sorted((await connector.balances()).items())
        ]
    if as_json:
        put_json(
            [
                {
                    "exchange": at,
                    "account": account,
                    **balance.model_dump(mode="json"),
                    "total": format(balance.total, "f"),
                }
                for at, account, balance in found
            ]
        )
        return
    names = ("exchange", "account", "asset", "free", "locked", "total")
    made = table("Balances", *names, right=names[3:])
    for at, account, balance in found:
        live = "[bold red]LIVE[/] " if target.is_live(at) else ""
        amounts = (balance.free, balance.locked, balance.total)
        made.add_row(live + at, account, balance.asset, *map(number, amounts))
    console().print(made)


class Position(NamedTuple):
    """What our orders of one symbol at one account have come to.

    `quantity` is bought less sold less the fees taken in the base asset; `cash` is what came in
    less what went out, in the quote asset, fees taken in it off. Other fees are in `other_fees`.
    """

    exchange: str
    account: str
    symbol: str
    quantity: Decimal
    cash: Decimal
    bought: Decimal
    average_bought: Decimal | None
    sold: Decimal
    average_sold: Decimal | None
    other_fees: dict[str, Decimal]


def positions_of(orders: "Iterable[OrderState]") -> list[Position]:
    """The positions that the fills of these orders make, exactly."""
    groups: dict[tuple[str, str, str], list[OrderState]] = defaultdict(list)
    for order in orders:
        if order.filled_quantity:
            groups[order.exchange, order.account, order.symbol].append(order)
    return [_position(*key, group) for key, group in sorted(groups.items())]


def _position(exchange: str, account: str, symbol: str, orders: "list[OrderState]") -> Position:
    sums = {side: [Decimal(0), Decimal(0)] for side in OrderSide}
    fees: dict[str, Decimal] = defaultdict(Decimal)
    for order in orders:
        quantity, notional = sums[order.side]
        sums[order.side] = [
            EXACT.add(quantity, order.filled_quantity),
            EXACT.add(notional, order.filled_notional),
        ]
        for currency, fee in order.fees_by_currency.items():
            fees[currency] = EXACT.add(fees[currency], fee)
    base, _, quote = symbol.partition("/")
    (bought, spent), (sold, earned) = sums[OrderSide.BUY], sums[OrderSide.SELL]
    quantity = EXACT.subtract(EXACT.subtract(bought, sold), fees.pop(base, Decimal(0)))
    cash = EXACT.subtract(EXACT.subtract(earned, spent), fees.pop(quote, Decimal(0)))
    return Position(
        exchange,
        account,
        symbol,
        quantity,
        cash,
        bought,
        _average(spent, bought),
        sold,
        _average(earned, sold),
        dict(fees),
    )


def _average(notional: Decimal, quantity: Decimal) -> Decimal | None:
    return round(EXACT.divide(notional, quantity), 8) if quantity else None


@click.command(
    epilog=examples(
        "oms positions",
        "oms positions --strategy mean-reversion --json",
    )
)
@click.option("--exchange", type=TEXT, help="Only this exchange.")
@click.option("--symbol", type=TEXT, help="Only this symbol.")
@click.option("--strategy", type=TEXT, help="Only orders of this strategy.")
@json_option
def positions(
    exchange: str | None, symbol: str | None, strategy: str | None, *, as_json: bool
) -> None:
    """Show what our own orders have bought and sold, net of fees.

    A position counts the fills of this store's orders; deposits and orders placed elsewhere are
    in `oms balances` only.
    """
    run(_positions(exchange, symbol, strategy, as_json=as_json))


async def _positions(
    exchange: str | None, symbol: str | None, strategy: str | None, *, as_json: bool
) -> None:
    from activities.store import OrderFilter

    wanted = OrderFilter(
        exchange=exchange, symbol=symbol.upper() if symbol else None, strategy_id=strategy
    )
    async with find_target().store() as store:
        found = positions_of(await store.orders(wanted, limit=None))
    if as_json:
        put_json([_json(position) for position in found])
        return
    if not found:
        click.echo("No fills, so no positions.")
        return
    made = table("Positions", *_COLUMNS, right=_COLUMNS[3:])
    for one in found:
        made.add_row(
            one.exchange,
            one.account,
            one.symbol,
            number(one.quantity),
            _text(one.bought, one.average_bought),
            _text(one.sold, one.average_sold),
            number(one.cash),
        )
    console().print(made)


_COLUMNS = ("exchange", "account", "symbol", "net", "bought", "sold", "cash")


def _text(quantity: Decimal, average: Decimal | None) -> str:
    return "-" if average is None else f"{number(quantity)} at {number(average)}"


def _json(position: Position) -> dict[str, Any]:
    return {name: _plain(value) for name, value in position._asdict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
