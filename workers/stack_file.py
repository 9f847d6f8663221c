"""How `oms` commands find the stack that `oms up` has left running on this machine.

A file in the user's cache folder names it. It holds the sandbox's keys, so nobody else may read
it. A lock that lives as long as `oms up` tells a running stack from the file of a dead one, even
where its process id was given to another program since.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from trading.oms.errors import StartUpError
from workers.temporal_program import cache_folder

_LOCK_S = 1.0


@dataclass(frozen=True)
class RunningStack:
    """What `oms up` tells the commands that come after it."""

    pid: int
    folder: str
    environment: Mapping[str, str] = field(repr=False)


def stack_path() -> Path:
    """$XDG_CACHE_HOME/oms/stack.json, or the same in ~/.cache."""
    return cache_folder().parent / "stack.json"


@contextlib.contextmanager
def announced(stack: RunningStack) -> Iterator[None]:
    """Let other commands find the stack while the block runs.

    Raises `StartUpError` when another stack of this user is announced already.
    """
    path = stack_path()
    with _locked(path.with_suffix(".lock")):
        content = {
            "pid": stack.pid,
            "folder": stack.folder,
            "environment": {
                name: value
                for name, value in stack.environment.items()
                if name.startswith(("OMS_", "TEMPORAL_"))
            },
        }
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(content, file)
        draft.replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def running_stack() -> RunningStack | None:
    """The stack that runs now, or None. The file of a stack that died is removed."""
    path = stack_path()
    try:
        content = json.loads(path.read_text())
        with path.with_suffix(".lock").open("a") as lock:
            if _try_lock(lock, fcntl.LOCK_SH):
                path.unlink(missing_ok=True)
                return None
    except (OSError, ValueError):
        return None
    return RunningStack(content["pid"], content["folder"], content["environment"])


def refuse_second() -> None:
    """Raise `StartUpError` when a stack of this user is running already."""
    other = running_stack()
    if other is not None:
        raise StartUpError(f"`oms up` is running already (process {other.pid})")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        deadline = time.monotonic() + _LOCK_S
        while not _try_lock(lock, fcntl.LOCK_EX):
            # A command that looks whether we run holds it for a moment.
            if time.monotonic() > deadline:
                refuse_second()
                raise StartUpError(f"{path} is locked by another program")
            time.sleep(0.02)
        yield


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
