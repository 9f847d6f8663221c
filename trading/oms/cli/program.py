"""The command line as a whole: its commands, its help, and how it ends."""

import sys
from collections.abc import Sequence

import click

from trading.oms.cli.account import balances, positions
from trading.oms.cli.adjust import adjust_position, adjustments
from trading.oms.cli.bench import bench
from trading.oms.cli.doctor import doctor
from trading.oms.cli.export import export
from trading.oms.cli.failures import MEANINGS, Exit, failure
from trading.oms.cli.halt import halt, resume
from trading.oms.cli.limits import limits
from trading.oms.cli.look import list_orders, show, watch
from trading.oms.cli.operate import let_go, reconcile, resolve
from trading.oms.cli.stack import demo, exec_program, migrate, up, worker
from trading.oms.cli.trade import cancel, modify, submit

_CODES = "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANINGS.items())


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExit codes:\n{_CODES}",
)
@click.version_option(package_name="oms", prog_name="oms")
def program() -> None:
    """Orders that nothing can lose: each one is a durable Temporal workflow.

    `oms up` starts everything on this machine; then, in another terminal, `oms submit buy 0.01
    BTC/USDT --price 39000`, `oms list`, `oms cancel ORDER_ID`.

    Commands work with what the environment names (TEMPORAL_ADDRESS, OMS_STORE_URL,
    OMS_EXCHANGES and so on), and without that with the running `oms up`.
    """


for _command in (
    up,
    demo,
    submit,
    cancel,
    modify,
    resolve,
    reconcile,
    halt,
    resume,
    let_go,
    show,
    list_orders,
    watch,
    export,
    balances,
    positions,
    adjust_position,
    adjustments,
    limits,
    doctor,
    bench,
    exec_program,
    worker,
    migrate,
):
    program.add_command(_command)


def oms(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Never raises."""
    try:
        outcome = program.main(args=arguments, prog_name="oms", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:  # As in `oms list | head`.
        sys.stderr.close()
        return int(Exit.OK)
    except Exception as error:  # noqa: BLE001 - the edge of the program: no traceback for users
        known = failure(error)
        known.show()
        return known.exit_code
    return outcome if isinstance(outcome, int) else int(Exit.OK)
