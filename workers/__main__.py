"""`python -m workers`: a worker process, with its settings from the environment.

SIGTERM and SIGINT drain it: no new tasks are taken, those that run are finished, then it leaves.
Exit codes: 0 drained, 1 it could not start (the reason is on stderr), 130 interrupted twice.
"""

import asyncio
import logging
import os
import signal
import sys

from trading.oms.errors import StartUpError, StoreUnavailable
from workers.composition import connect, running
from workers.settings import Settings

_log = logging.getLogger("workers")


async def work_until_told_to_stop(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    client = await connect()
    async with running(settings, client) as runtime:
        for account in settings.live:
            _log.warning("LIVE: orders of %s are real", account)
        accounts = ", ".join("/".join(key) for key in runtime.parts.connectors) or "no exchange"
        _log.info("working on %s for %s", settings.task_queue, accounts)
        await stop.wait()
        _log.info("draining")


def main() -> int:
    """Run until stopped; the exit code."""
    try:
        settings = Settings.from_environment()
        logging.basicConfig(
            level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(work_until_told_to_stop(settings))
    except (StartUpError, StoreUnavailable) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(code)
