"""Finds the `temporal` program, whose dev server the local stack and the tests run on.

Three ways, in this order: a program on the PATH, the Python SDK's own download, and `go install` of
a pinned version. What was downloaded or built is kept in the user's cache folder, so it is found
once; nothing of it is ever committed.
"""

import asyncio
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from trading.oms.errors import StartUpError
from workers.child_process import ChildProcess

Say = Callable[[str], None]
"""Takes one line for the person who waits."""

# The last version that `go install` accepts: later ones carry a `replace` in their go.mod.
GO_VERSION = "v1.5.1"
GO_PACKAGE = "github.com/temporalio/cli/cmd/temporal"
_DOWNLOAD_HOST = "temporal.download"
_DOWNLOAD_CONNECT_S = 5.0
_DOWNLOAD_S = 300.0
_BUILD_S = 1800.0
_PROGRESS_EVERY_S = 5.0

_WHAT_TO_INSTALL = f"""\
Put one of these in place and start again:
  - the Temporal CLI on the PATH (https://docs.temporal.io/cli, `brew install temporal`);
  - Go 1.25 or later on the PATH, and {GO_PACKAGE} is built from source;
  - TEMPORAL_ADDRESS=host:port of a Temporal server that runs already."""


class TemporalNotFound(StartUpError):
    """No way to a Temporal server worked; the message says what was tried and what to install."""


@dataclass(frozen=True)
class TemporalProgram:
    """A `temporal` program that was found and answers `--version`."""

    path: Path
    origin: str
    version: str


async def find_temporal(say: Say) -> TemporalProgram:
    """Find the program, or fetch or build it.

    The first time this may take minutes, and `say` hears of the progress. Two processes at once do
    the work once. Raises TemporalNotFound.
    """
    if (on_path := shutil.which("temporal")) and (version := await _version(Path(on_path))):
        return TemporalProgram(Path(on_path), "PATH", version)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    async with _locked(folder / "lock", say):
        program = folder / "temporal"
        if version := await _version(program):
            return TemporalProgram(program, "cache", version)
        why_not = []
        for origin, fetch in (("download", _download), ("go install", _build)):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                try:
                    fetched = await fetch(Path(scratch), say)
                except _Unavailable as reason:
                    say(f"Temporal by {origin}: {reason}")
                    why_not.append(f"  - {origin}: {reason}")
                    continue
                # A rename within one folder is atomic: nobody ever sees half a program.
                fetched.replace(program)
            if version := await _version(program):
                return TemporalProgram(program, origin, version)
            why_not.append(f"  - {origin}: the program does not run here")
    raise TemporalNotFound(
        "No Temporal server was found. Tried:\n  - PATH: no working program called temporal\n"
        + "\n".join(why_not)
        + f"\n{_WHAT_TO_INSTALL}"
    )


def cache_folder() -> Path:
    """Where a fetched program is kept: $XDG_CACHE_HOME/oms/temporal, or the same in ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "oms" / "temporal"


class _Unavailable(Exception):
    """This way does not work here; the text says why."""


@asynccontextmanager
async def _locked(path: Path, say: Say) -> AsyncIterator[None]:
    """Hold the lock file; the kernel lets it go when the process dies."""
    with path.open("w") as lock:
        said = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    say("Another process is fetching the Temporal server; waiting for it.")
                    said = True
                await asyncio.sleep(0.5)
        yield


async def _version(program: Path) -> str | None:
    """The version line of a Temporal CLI, None for anything else that happens to have the name."""
    if not program.is_file():
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return None
    out, _ = await process.communicate()
    found = re.search(r"temporal version (.*\(Server .*\))", out.decode(errors="replace"))
    return found[1] if found and process.returncode == 0 else None


async def _download(scratch: Path, say: Say) -> Path:
    """The SDK's own download. It starts the server too, which is stopped at once."""
    from temporalio.testing import WorkflowEnvironment  # A third of a second at each `oms` command.

    await _check_download_host()
    say(f"Downloading the Temporal server from {_DOWNLOAD_HOST} (about 60 MB) ...")
    try:
        async with asyncio.timeout(_DOWNLOAD_S):
            server = await WorkflowEnvironment.start_local(download_dest_dir=str(scratch))
            await server.shutdown()
    except TimeoutError:
        raise _Unavailable(f"not done after {_DOWNLOAD_S:.0f} s") from None
    except RuntimeError as error:
        raise _Unavailable(
            str(error).removeprefix("Failed starting Temporal dev server: ")
        ) from None
    programs = [file for file in scratch.iterdir() if file.is_file() and os.access(file, os.X_OK)]
    if len(programs) != 1:
        raise _Unavailable(f"expected one program from the download, found {len(programs)}")
    return programs[0]


async def _check_download_host() -> None:
    """Fail within seconds behind a firewall that drops packets; a proxy is left to the SDK."""
    if any(name.lower() in {"https_proxy", "all_proxy"} for name in os.environ):
        return
    try:
        async with asyncio.timeout(_DOWNLOAD_CONNECT_S):
            _, writer = await asyncio.open_connection(_DOWNLOAD_HOST, 443)
    except OSError as error:  # TimeoutError is one too.
        why = str(error) or f"no answer within {_DOWNLOAD_CONNECT_S:.0f} s"
        raise _Unavailable(f"{_DOWNLOAD_HOST} cannot be reached: {why}") from None
    writer.close()


async def _build(scratch: Path, say: Say) -> Path:
    """`go install` of the pinned version, into `scratch`."""
    go = shutil.which("go")
    if go is None:
        raise _Unavailable("there is no program called go on the PATH")
    say(f"Building the Temporal server {GO_VERSION} with Go, once ...")
    say("  (about 3 minutes on 2 cores, 160 modules and 1300 packages, 3 GB in Go's own caches)")
    version = f"-X github.com/temporalio/cli/temporalcli.Version={GO_VERSION[1:]}"
    command = [go, "install", "-v", f"-ldflags=-s -w {version}", f"{GO_PACKAGE}@{GO_VERSION}"]
    process = ChildProcess(command, scratch / "build.log", _go_environment(scratch))
    started = time.monotonic()
    try:
        while (code := await process.wait(_PROGRESS_EVERY_S)) is None:
            elapsed_s = time.monotonic() - started
            if elapsed_s > _BUILD_S:
                raise _Unavailable(f"not built after {_BUILD_S:.0f} s")
            say(f"  {elapsed_s:3.0f} s: {_build_progress(process.log_path)}")
    finally:
        process.kill()
    if code != 0:
        raise _Unavailable(f"go install ended with {code}:\n{process.log_tail()}")
    say(f"  built in {time.monotonic() - started:.0f} s")
    return scratch / "temporal"


def _go_environment(scratch: Path) -> dict[str, str]:
    """The caller's environment without what would change the kind of program that is built."""
    odd = {"GOOS", "GOARCH", "GOEXPERIMENT", "GO111MODULE"}
    env = {name: value for name, value in os.environ.items() if name not in odd}
    env |= {
        "GOBIN": str(scratch),
        "GOWORK": "off",
        "CGO_ENABLED": "0",  # No C compiler is needed.
        "GOFLAGS": "-modcacherw",  # An empty value would bring back what `go env -w` has set.
    }
    if "HOME" not in os.environ:
        go_folder = cache_folder() / "go"
        env.setdefault("GOPATH", str(go_folder))
        env.setdefault("GOCACHE", str(go_folder / "build"))
    return env


def _build_progress(log_path: Path) -> str:
    """What `go install -v` has done so far: a line per module fetched and per package compiled."""
    lines = log_path.read_text(errors="replace").splitlines()
    fetched = sum(line.startswith("go: downloading ") for line in lines)
    compiled = sum(not line.startswith("go: ") for line in lines)
    return f"{fetched} modules fetched, {compiled} packages compiled"
