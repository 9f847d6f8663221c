"""How the `temporal` program is found. Each way is played by a small script of the test's own."""

import asyncio
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from temporalio.testing import WorkflowEnvironment

from workers import temporal_program
from workers.temporal_program import TemporalNotFound, cache_folder, find_temporal

A_TEMPORAL = "#!/bin/sh\necho 'temporal version 1.2.3 (Server 1.2.3, UI 4.5.6)'\n"
SOMETHING_ELSE = "#!/bin/sh\necho 'temporal: a library for dates'\n"
BUILDS = f"""#!{sys.executable}
import os, pathlib, sys, time
assert os.environ["GOFLAGS"] == "-modcacherw" and "GOOS" not in os.environ
print("go: downloading example.com/module v1.0.0", file=sys.stderr)
print("example.com/module", file=sys.stderr)
time.sleep(0.3)
with open(os.environ["BUILDS"], "a") as builds:
    builds.write("built\\n")
program = pathlib.Path(os.environ["GOBIN"]) / "temporal"
program.write_text({A_TEMPORAL!r})
program.chmod(0o755)
"""
FAILS_TO_BUILD = "#!/bin/sh\necho 'no such module' >&2\nexit 1\n"


class Machine:
    """A machine with nothing on the PATH and an empty cache, and all that was said there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "bin"
        self.path.mkdir()
        self.builds = folder / "builds"
        self.said: list[str] = []
        monkeypatch.setenv("PATH", str(self.path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("BUILDS", str(self.builds))
        monkeypatch.setenv("GOOS", "plan9")
        self.download_fails(monkeypatch)

    def has(self, name: str, script: str) -> None:
        program = self.path / name
        program.write_text(script)
        program.chmod(0o755)

    def download_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def unreachable(*_: object) -> NoReturn:
            await asyncio.sleep(0)
            raise OSError("closed")

        monkeypatch.setattr(asyncio, "open_connection", unreachable)

    def download_gives(self, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        class Server:
            async def shutdown(self) -> None:
                pass

        async def start_local(*, download_dest_dir: str, **_: Any) -> Server:
            program = Path(download_dest_dir) / "temporal-sdk-python-1.0"
            program.write_text(script)
            program.chmod(0o755)
            return Server()

        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # The look at the host is skipped.
        monkeypatch.setattr(WorkflowEnvironment, "start_local", start_local)

    async def find(self) -> str:
        return (await find_temporal(self.said.append)).origin


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


async def test_a_program_on_the_path_comes_first(machine: Machine) -> None:
    machine.has("temporal", A_TEMPORAL)
    machine.has("go", BUILDS)
    assert await machine.find() == "PATH"
    assert machine.said == []


async def test_what_is_no_temporal_server_is_passed_over(machine: Machine) -> None:
    machine.has("temporal", SOMETHING_ELSE)
    machine.has("go", BUILDS)
    assert await machine.find() == "go install"


async def test_the_download_comes_before_the_build(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.download_gives(A_TEMPORAL, monkeypatch)
    machine.has("go", BUILDS)
    assert await machine.find() == "download"
    assert await machine.find() == "cache"


async def test_a_download_that_does_not_run_is_not_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.download_gives("#!/bin/sh\nexit 1\n", monkeypatch)
    machine.has("go", BUILDS)
    assert await machine.find() == "go install"


async def test_a_closed_network_is_reported_and_the_build_is_tried(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_program, "_PROGRESS_EVERY_S", 0.1)
    machine.has("go", BUILDS)
    assert await machine.find() == "go install"
    assert "temporal.download cannot be reached: closed" in machine.said[0]
    assert any("1 modules fetched, 1 packages compiled" in line for line in machine.said)


async def test_what_was_built_once_is_found_again(machine: Machine) -> None:
    machine.has("go", BUILDS)
    await machine.find()
    machine.said.clear()
    assert await machine.find() == "cache"
    assert machine.said == []


async def test_two_at_once_build_once(machine: Machine) -> None:
    machine.has("go", BUILDS)
    assert set(await asyncio.gather(machine.find(), machine.find())) == {"go install", "cache"}
    assert machine.builds.read_text() == "built\n"
    assert any("waiting for it" in line for line in machine.said)


async def test_a_build_that_fails_leaves_nothing_and_shows_its_end(machine: Machine) -> None:
    machine.has("go", FAILS_TO_BUILD)
    with pytest.raises(TemporalNotFound, match="no such module"):
        await machine.find()
    assert [file.name for file in cache_folder().iterdir()] == ["lock"]


async def test_a_build_without_end_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_program, "_BUILD_S", 0.1)
    monkeypatch.setattr(temporal_program, "_PROGRESS_EVERY_S", 0.1)
    machine.has("go", "#!/bin/sh\nexec /bin/sleep 600\n")
    with pytest.raises(TemporalNotFound, match="not built after"):
        await machine.find()


@pytest.mark.parametrize("what", ["temporal CLI", "Go 1.25", "TEMPORAL_ADDRESS"])
async def test_with_nothing_there_it_says_what_to_install(machine: Machine, what: str) -> None:
    with pytest.raises(TemporalNotFound, match=f"(?i){what}"):
        await machine.find()


async def test_without_a_home_go_keeps_its_files_in_the_cache(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    machine.has("go", BUILDS.replace("assert ", 'assert os.environ["GOPATH"] and ', 1))
    assert await machine.find() == "go install"
