"""The program `oms` driven from the outside, as a person or a script would."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import aiohttp
import pytest

from trading.oms.cli.program import oms
from workers.stack_exchange import fast_python
from workers.temporal_server import find_temporal

OMS = [sys.executable, "-c", "from trading.oms.cli import main; main()"]
ROOT = Path(__file__).parents[2]
START_S = 90


def descendants(pid: int) -> set[int]:
    """Every process below a process."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, waiting = set[int](), {pid}
    while waiting:
        waiting = {child for child, parent in parents.items() if parent in waiting}
        found |= waiting
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; one that ended and was not waited for does not."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


def until(is_so: Callable[[], Any], patience_s: float = START_S) -> Any:
    """What `is_so` answers, once it is not empty."""
    deadline = time.monotonic() + patience_s
    while not (answer := is_so()):
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.05)
    return answer


class Program:
    """A running `oms`: its output so far, and a way to end it."""

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [*OMS, *arguments], cwd=ROOT, env=environment, stdout=out, stderr=out
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait; nothing that it had started may be left."""
        below = descendants(self.process.pid)
        self.process.send_signal(number)
        code = self.process.wait(60)
        until(lambda: not alive(below), 10)
        return code


@pytest.fixture(scope="session")
async def environment(
    tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> dict[str, str]:
    """A user's environment: a cache folder of its own, nothing of ours set."""
    program = await find_temporal(say)
    values = {
        name: value
        for name, value in fast_python(os.environ).items()
        if not name.startswith(("OMS_", "TEMPORAL_"))
    }
    return {
        **values,
        "PATH": f"{program.path.parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }


@pytest.fixture(scope="session")
def start(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Program]]:
    """Start an `oms` command that stays, with its variables as keywords."""
    started: list[Program] = []

    def start_program(*arguments: str, **variables: str) -> Program:
        log = tmp_path_factory.mktemp("oms") / "output"
        started.append(Program(arguments, {**environment, **variables}, log))
        return started[-1]

    yield start_program
    for program in started:
        program.process.kill()
        program.process.wait()


class Done(NamedTuple):
    """How a command has ended."""

    returncode: int
    stdout: str
    stderr: str


class RunningUp:
    """A stack that `oms up` runs, and the `oms` commands that find it by themselves."""

    def __init__(self, program: Program, environment: dict[str, str], stack_file: Path) -> None:
        self.program = program
        self.stack_file = stack_file
        self._environment = environment
        self.variables: dict[str, str] = json.loads(stack_file.read_text())["environment"]

    def oms(self, *arguments: str, **variables: str) -> "Done":
        """Run a command to its end, in this process: most of its time would go to imports."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self._environment, **variables}, clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = oms(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    def oms_process(self, *arguments: str) -> "Done":
        """Run a command as a user does, as a process of its own."""
        done = subprocess.run(
            [*OMS, *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with --json; its exit code is checked."""
        done = self.oms(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def control(self, what: str, **wish: Any) -> None:
        """Set a fault at alpha, or make a trade there."""

        async def post() -> None:
            url = f"{self.variables['OMS_ALPHA_URL']}/control/{what}"
            async with aiohttp.ClientSession() as session, session.post(url, json=wish) as answer:
                assert answer.status == 200

        asyncio.run(post())


@pytest.fixture(scope="module")
def up(environment: dict[str, str], start: Callable[..., Program]) -> Iterator[RunningUp]:
    """One `oms up` for the tests of a file that only use it; it replays the market meanwhile."""
    program = start("up")
    stack_file = Path(environment["XDG_CACHE_HOME"]) / "oms" / "stack.json"
    until(lambda: stack_file.exists() or program.process.poll() is not None)
    assert program.process.poll() is None, program.output
    yield RunningUp(program, environment, stack_file)
    assert program.end() == 0, program.output
    assert not stack_file.exists()


@pytest.fixture(autouse=True)
def no_task_left_behind() -> None:
    """Other processes do the work here; the look at this one's tasks says nothing."""
