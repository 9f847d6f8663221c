"""The demo: everything is started, trades on two sandbox exchanges, and stops.

`oms demo` runs it. Nothing is staged: the orders go through Temporal, the worker, the store and
the exchanges' protocol as real ones would, and one worker is really killed.
"""

import asyncio
import os
import secrets
from decimal import Decimal
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from activities.store import OrderFilter, Store
from trading.oms.models import OrderState
from trading.oms.order_manager import OrderManager
from trading.oms.reading import number, summary
from workers.demo_ledger import Line, balances, compared
from workers.demo_narrator import Narrator
from workers.demo_story import SYMBOL, Story
from workers.stack import LocalStack, local_stack

_CENT = Decimal("0.01")


async def run_demo(console: Console, folder: Path | None = None, *, stay: bool = False) -> bool:
    """Run the demo; whether every order ended as it had to and both ledgers are equal.

    Logs and the store stay in `folder` where one is given. With `stay` everything goes on running
    after the end, until the task is cancelled.
    """
    console.print("[bold]Starting[/]")

    def say(line: str) -> None:
        console.print(f"    {line}")

    # It is the same for everybody: of the user's settings only the sandbox's keys are taken.
    given = {n: v for n, v in os.environ.items() if not n.startswith("OMS_") or "_API_" in n}
    async with local_stack(say, folder, given=given) as stack:
        good = await _trade(console, stack)
        if stay:
            console.print("\nEverything goes on running; Ctrl-C stops it.")
            await asyncio.Event().wait()
        console.print("\n[dim]Stopping all that was started ...[/]")
    return good


async def _trade(console: Console, stack: LocalStack) -> bool:
    prefix = f"demo-{secrets.token_hex(3)}-"
    narrator = Narrator(console, prefix)
    store = await Store.open(stack.store_url)
    try:
        before = await balances(stack)
        oms = OrderManager.remote(client=await stack.connect())
        async with narrator.following(store), oms:
            story = Story(stack, oms, store, narrator, prefix)
            await story.tell()
            good = await story.ended()
        lines = await compared(stack, store, before, prefix)
        console.print()
        console.print(await _orders_table(store, prefix))
        console.print(_ledger_table(lines))
    finally:
        await store.close()
    equal = all(line.is_equal for line in lines)
    verdict = "[bold green]equal[/]" if equal else "[bold red]NOT EQUAL[/]"
    console.print(f"The exchanges' ledgers and ours are {verdict}.")
    if stack.ui_url:
        console.print(
            f"\nEach order is a workflow in the Temporal UI: {stack.ui_url}\n"
            "[dim]It ends with the demo; `oms demo --stay` keeps it running.[/]"
        )
    return good and equal


async def _orders_table(store: Store, prefix: str) -> Table:
    table = Table(
        title=f"All orders ({SYMBOL})",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for name in ("order", "at", "wanted", "status"):
        table.add_column(name, no_wrap=name != "wanted")
    for name in ("filled", "fills", "average price"):
        table.add_column(name, justify="right")
    table.add_column("fees")
    table.add_column("reason", overflow="fold")
    orders = await store.orders(OrderFilter(strategy_id="demo"), limit=None)
    for state in reversed([one for one in orders if one.client_order_id.startswith(prefix)]):
        fills = len(await store.fills(state.client_order_id))
        table.add_row(*_row(state, prefix, fills))
    return table


def _row(state: OrderState, prefix: str, fills: int) -> list[str]:
    average = state.average_fill_price
    fees = [f"{number(fee)} {currency}" for currency, fee in state.fees_by_currency.items()]
    return [
        state.client_order_id.removeprefix(prefix),
        state.exchange,
        summary(state).replace(f" {SYMBOL}", ""),
        state.status.value,
        number(state.filled_quantity),
        str(fills),
        number(average.quantize(_CENT)) if average is not None else "-",
        ", ".join(fees) or "-",
        state.rejection_reason or (state.reason_code.value if state.reason_code else ""),
    ]


def _ledger_table(lines: list[Line]) -> Table:
    title = "The exchanges' ledgers beside ours"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("exchange")
    table.add_column("what")
    table.add_column("the exchange says", justify="right")
    table.add_column("we have booked", justify="right")
    table.add_column("")
    last = ""
    for line in lines:
        mark = "[green]equal[/]" if line.is_equal else "[bold red]NOT EQUAL[/]"
        if last and last != line.exchange:
            table.add_section()
        table.add_row(line.exchange * (line.exchange != last), *line[1:], mark)
        last = line.exchange
    return table
