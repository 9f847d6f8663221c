"""Child processes that never outlive their parent.

Three belts hold: the caller stops its child at the end; `atexit` kills it when the caller leaves by
an exception; on Linux the kernel kills it when the caller itself is killed (`PR_SET_PDEATHSIG`).
The signal of the last belt is tied to the *thread* that started the child, so start children from
the main thread.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches the parent alone,
and the parent stops its children in the order that is right.
"""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# This runs in the child before the program itself. A `preexec_fn` would do the same between fork
# and exec, where a process with threads (the Temporal SDK has many) may deadlock.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent process ended before its child started")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ChildProcess:
    """A program that runs until it is stopped, with all its output in one log file."""

    def __init__(
        self, command: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Start `command`; its output is appended to `log_path`. `env` replaces the environment."""
        self.command = list(command)
        self.log_path = log_path
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own programs, never a user's text.
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._popen.poll()

    @property
    def ending(self) -> str:
        """How it has ended, in words: "has ended with 1", "was told to end"."""
        code = self.exit_code or 0
        if code >= 0:
            return f"has ended with {code}"
        if code == -signal.SIGTERM:
            return "was told to end"
        return f"was ended by signal {-code}"

    def send_signal(self, number: signal.Signals) -> None:
        """Send to the whole process group. A process that is gone is no error."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it now, without a chance to clean up, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self._popen.wait()
        atexit.unregister(self.kill)

    async def stop(self, patience_s: float = 10) -> int:
        """Ask it to end (SIGTERM), kill it after `patience_s` seconds; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        try:
            await self.wait(patience_s)
        finally:
            self.kill()
        return self._popen.returncode

    async def wait(self, patience_s: float) -> int | None:
        """The exit code as soon as there is one, or None after `patience_s` seconds."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while self.exit_code is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return self.exit_code

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its output."""
        text = self.log_path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
