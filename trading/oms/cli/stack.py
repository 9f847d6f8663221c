"""`oms up`, `oms demo`, `oms exec`, `oms worker`, `oms migrate`: what runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trading.oms.cli.failures import Exit, Failed, leave, run
from trading.oms.cli.output import console, examples
from trading.oms.cli.target import find_target

if TYPE_CHECKING:
    from rich.console import Console

    from workers.stack import LocalStack

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--folder", type=_FOLDER, help="Keep store, history and logs there.")
def up(folder: Path | None) -> None:
    """Start the local stack and leave it running until Ctrl-C.

    A Temporal server with its web UI, the store, a worker, and two sandbox exchanges that play a
    recorded minute of the market. Every other `oms` command finds it by itself. Without --folder
    everything is forgotten at the end; the sandbox exchanges always begin anew, so a folder with
    the orders of a former run is refused.
    """
    try:
        run(_up(console(), folder))
    except Failed as error:
        if error.code is not Exit.INTERRUPTED:
            raise
        click.echo("Stopped.")


async def _up(out: "Console", folder: Path | None) -> None:
    from workers.stack import local_stack
    from workers.stack_file import RunningStack, announced, refuse_second

    refuse_second()

    def say(line: str) -> None:
        out.print(f"  {line}", soft_wrap=True)

    async with local_stack(say, folder, keeps_history=folder is not None) as stack:
        running = RunningStack(os.getpid(), str(stack.folder), stack.environment)
        with announced(running):
            out.print()
            if stack.ui_url:
                out.print(f"[bold]Temporal UI[/]  {stack.ui_url}")
            out.print(f"[bold]Logs[/]         {stack.folder}")
            out.print("[bold]Try[/]          oms submit buy 0.01 BTC/USDT")
            out.print("             oms watch, oms list --all, oms balances, oms doctor")
            out.print("\nCtrl-C stops everything.")
            try:
                await _stand_by(out, stack)
            finally:
                out.print("\n[dim]Stopping all that was started ...[/]")


async def _stand_by(out: "Console", stack: "LocalStack") -> None:
    """Start another worker when one ends; give up when an exchange does."""
    import asyncio

    while True:
        await asyncio.sleep(0.5)
        for name, process in stack.processes.items():
            if process.exit_code is None:
                continue
            if name != "worker":
                msg = f"{name} {process.ending}: {process.log_tail(3)}"
                raise Failed(msg, Exit.UNREACHABLE)
            out.print(f"The worker {process.ending}; another one starts.")
            await stack.start_worker()
            out.print("It works.")


@click.command()
@click.option("--folder", type=_FOLDER, help="Keep the store and the logs there.")
@click.option("--stay", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
def demo(folder: Path | None, *, stay: bool) -> None:
    """Start everything, trade, show what happened, stop.

    Eight orders on two sandbox exchanges: one that fills at once, one that fills in parts, a
    cancel, a modification, an IOC with a rest, a rejection, a denial, and one whose worker is
    killed between sending and acknowledgement.
    """
    from workers.demo import run_demo

    out = console()
    good = run(run_demo(out, folder, stay=stay))
    if not good:
        click.echo("error: the demo has not ended as it should", err=True)
    leave(Exit.OK if good else Exit.REFUSED)


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "oms exec python docs/examples/strategy.py",
        "oms exec --own-queue python docs/examples/custom_check.py",
    ),
)
@click.option(
    "--own-queue", is_flag=True, help="No other worker is to work on the program's orders."
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_program(program: tuple[str, ...], *, own_queue: bool) -> None:
    """Run a program of yours with the settings of the running `oms up`.

    A program with checks, a router or a connector of its own needs --own-queue: every worker of a
    queue must have the same ones. Its orders have nobody to work on them after its end.
    """
    environment = dict(find_target().environment)
    if own_queue:
        queue = environment.get("OMS_TASK_QUEUE") or "oms-orders"
        environment |= {"OMS_TASK_QUEUE": f"{queue}-{os.getpid()}", "OMS_RECONCILE_S": "0"}
    try:
        os.execvpe(program[0], program, environment)  # noqa: S606 - the user's own program
    except OSError as error:
        msg = f"{program[0]!r} cannot be run: {error.strerror}"
        raise Failed(msg, Exit.BAD_INPUT) from None


@click.command()
def worker() -> None:
    """Run a worker until SIGTERM.

    Its settings come from the environment; `python -m workers` is the same.
    """
    from workers.__main__ import main

    leave(Exit.OK if main([]) == 0 else Exit.UNREACHABLE)


@click.command()
def migrate() -> None:
    """Make the store's tables, or bring them to this version.

    The store is the one that OMS_STORE_URL names.
    """
    run(_migrate())


async def _migrate() -> None:
    from activities.store import Store
    from workers.settings import DEFAULT_STORE

    store = await Store.open(os.environ.get("OMS_STORE_URL") or DEFAULT_STORE, create=True)
    click.echo(f"{store!r} is at this program's version.")
    await store.close()
