import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.child_process import ChildProcess

WAIT_FOR_EVER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
DEAF = [*WAIT_FOR_EVER[:2], IGNORES + WAIT_FOR_EVER[2]]


async def until_up(child: ChildProcess) -> None:
    async with asyncio.timeout(10):
        while "up" not in child.log_tail():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that ended and was not waited for is a zombie, not alive."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_its_output_and_its_exit_code_are_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('said'); sys.exit(3)"]
    child = ChildProcess(command, tmp_path / "log")
    assert await child.wait(10) == 3
    assert child.ending == "has ended with 3"
    assert child.log_tail() == "said"
    child.kill()  # What has ended can be killed again.


async def test_waiting_ends_when_patience_does(tmp_path: Path) -> None:
    child = ChildProcess(WAIT_FOR_EVER, tmp_path / "log")
    assert await child.wait(0.05) is None
    child.kill()
    assert child.exit_code == -signal.SIGKILL
    assert child.ending == "was ended by signal 9"


async def test_it_is_asked_to_end_first(tmp_path: Path) -> None:
    child = ChildProcess(WAIT_FOR_EVER, tmp_path / "log")
    await until_up(child)
    assert await child.stop() == -signal.SIGTERM
    assert child.ending == "was told to end"


async def test_it_is_killed_when_it_does_not_listen(tmp_path: Path) -> None:
    child = ChildProcess(DEAF, tmp_path / "log")
    await until_up(child)
    assert await child.stop(patience_s=0.1) == -signal.SIGKILL


async def test_its_environment_can_be_replaced(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os; print(os.environ['WHO'])"]
    child = ChildProcess(command, tmp_path / "log", {"WHO": "me"})
    assert await child.wait(10) == 0
    assert child.log_tail() == "me"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does this on Linux only")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_its_parent_however_that_dies(how: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from workers.child_process import ChildProcess
print(ChildProcess({WAIT_FOR_EVER!r}, pathlib.Path({str(tmp_path / "log")!r})).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        os.kill(parent.pid, how)
        parent.wait()
        deadline = time.monotonic() + 5
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(child)
