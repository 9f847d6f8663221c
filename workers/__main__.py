"""`python -m workers`: a worker process, with its settings from the environment.

`python -m workers migrate` brings the store's schema to this version, and ends. SIGTERM and SIGINT
drain a worker: it takes no new tasks, finishes those that run, then it leaves. SIGHUP lets it read
the risk limits again. Exit codes: 0 done
or drained, 1 it could not start (the reason is on stderr), 2 no such command.
"""

import asyncio
import gc
import logging
import os
import signal
import sys

from activities.store import Store
from trading.oms.errors import StartUpError, StoreUnavailable
from workers.composition import running
from workers.connection import connect
from workers.settings import Settings

_log = logging.getLogger("workers")


async def work_until_told_to_stop(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    client = await connect(metrics=True)
    async with running(settings, client) as runtime:
        loop.add_signal_handler(signal.SIGHUP, runtime.rules.reload)
        for account in settings.live:
            _log.warning("LIVE: orders of %s are real", account)
        accounts = ", ".join("/".join(key) for key in runtime.parts.connectors) or "no exchange"
        # What is loaded by now stays: a full collection need not look at it again and again.
        gc.collect()
        gc.freeze()
        _log.info("working on %s for %s", settings.task_queue, accounts)
        await stop.wait()
        _log.info("draining")


async def migrate(settings: Settings) -> None:
    """Make the store, or bring its schema to this program's version."""
    store = await Store.open(settings.store_url.get_secret_value(), create=True)
    _log.info("the schema is up to date: %s", store)
    await store.close()


def main(arguments: list[str]) -> int:
    """Do what the command says; the exit code."""
    if arguments not in ([], ["migrate"]):
        sys.stderr.write(f"{' '.join(arguments)!r} is no command; there is one: migrate\n")
        return 2
    try:
        settings = Settings.from_environment()
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        logging.getLogger("alembic").setLevel(logging.WARNING)
        asyncio.run(migrate(settings) if arguments else work_until_told_to_stop(settings))
    except (StartUpError, StoreUnavailable) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(code)
