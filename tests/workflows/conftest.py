"""A desk per test module: a worker in the workflow sandbox, a store, a sandbox exchange."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import Client

from activities.store import TradingState
from tests.workflows.desk import Desk, Exchange, a_desk

_DEFECTS = (
    "Failed activation",
    "Failed handling",
    "Failed completing",
    "Nondeterminism",
    "Unfinished",
)


@pytest.fixture
async def no_task_left_behind() -> None:
    """Here the worker, the exchange and their connections outlive each test."""


class _Defects(logging.Handler):
    """Keeps what a worker logs when workflow code fails: the server would only repeat the task."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(word in text for word in _DEFECTS):
            self.seen.append(f"{text} {record.exc_info}")


@pytest.fixture(autouse=True)
def defects() -> Iterator[list[str]]:
    """Workflow code that fails its task fails the test."""
    handler = _Defects()
    logging.getLogger("temporalio").addHandler(handler)
    yield handler.seen
    logging.getLogger("temporalio").removeHandler(handler)
    assert not handler.seen


@pytest.fixture(scope="module")
async def module_desk(
    temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    url = f"sqlite:///{tmp_path_factory.mktemp('desk') / 'store.sqlite3'}"
    async with a_desk(temporal_client, url) as desk:
        yield desk


@pytest.fixture
async def desk(module_desk: Desk) -> AsyncIterator[Desk]:
    """The module's desk, with an empty book before and after."""
    yield module_desk
    for exchange in module_desk.exchanges:
        exchange.tidy()
    if module_desk.runtime is not None:
        module_desk.replaces_at_once(at_once=True)
    await module_desk.lift_pauses()
    for scope in await module_desk.store.trading_states():
        await module_desk.store.set_trading_state(scope, TradingState.ACTIVE, by="the next test")


@pytest.fixture
def exchange(desk: Desk) -> Exchange:
    return desk.exchange


@pytest.fixture
async def idle_desk(temporal_client: Client, sqlite_url: str) -> AsyncIterator[Desk]:
    """A desk of the test's own, without a worker: `working` starts one."""
    async with a_desk(temporal_client, sqlite_url, work=False) as desk:
        yield desk
