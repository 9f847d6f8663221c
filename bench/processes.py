"""CPU time by process, from /proc, and what the machine is."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _FIRST_TIME, _TIMES = 1, 11, 4


def own_cpu_s() -> float:
    """The CPU seconds of this process, all threads, without its children."""
    return time.process_time()


def tree_cpu_s(pid: int) -> float:
    """The CPU seconds of a process and everything below it, the ended ones included."""
    return sum(_cpu_s(one) for one in [pid, *_below(pid)])


def child_named(word: str) -> int:
    """The child process of ours that has `word` among its arguments."""
    for pid in _below(os.getpid()):
        if word.encode() in _read(Path(f"/proc/{pid}/cmdline")):
            return pid
    msg = f"no child process has {word!r} in its command"
    raise LookupError(msg)


def machine() -> dict[str, Any]:
    """Processor, cores, system and how busy the machine is before the run."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _below(pid: int) -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            parents.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
    waiting = list(parents.get(pid, ()))
    while waiting:
        one = waiting.pop()
        yield one
        waiting += parents.get(one, ())


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    times = fields[_FIRST_TIME : _FIRST_TIME + _TIMES]
    return sum(map(int, times)) / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields after the command's name; nothing for a process that has gone."""
    text = _read(Path(f"/proc/{pid}/stat")).decode(errors="replace")
    return text.rpartition(")")[2].split()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
