"""Workers that are forked from a process which has imported everything, so that they begin at once.

Importing takes a worker seconds of CPU. Where a hundred of them die, a busy machine would have no
worker most of the time, and nothing would be tried.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.chaos.doomed_worker import main

_PATIENCE_S = 10
_PDEATHSIG = 1
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tests.chaos.harness.nursery",
        "tests.chaos.sabotage",
        "workers.__main__",
        "activities.connectors.ccxt_connector",
        "activities.connectors.kraken_connector",
        "aiosqlite",
        "asyncpg",
    ]
)


class ForkedWorker:
    """A doomed worker in a process of its own, with all its output in one log file."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        """Begin it; `environment` is all that it has."""
        self.log_path = log_path
        log_path.touch()
        self._process = _CONTEXT.Process(
            target=_work, args=(dict(environment), str(log_path)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """A process that is gone is no error."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it now, without a chance to clean up, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self._process.join(_PATIENCE_S)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _work(environment: dict[str, str], log: str) -> None:
    """What the forked process does: become a worker like one that was started by itself."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    try:
        main()
    except BaseException:  # noqa: BLE001 - as an interpreter does at its end
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
