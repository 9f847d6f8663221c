"""The connection to Temporal, and who serves metrics: a worker, and nothing else of ours."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from trading.oms.cli.target import Target
from trading.oms.errors import StartUpError
from trading.oms.order_manager import OrderManager
from workers.connection import connect
from workers.settings import Settings
from workers.temporal_dev_server import Ports
from workers.temporal_server import TemporalServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """OMS_METRICS names a port that somebody has: the worker beside a command."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        monkeypatch.setenv("OMS_METRICS", address)
        yield address


async def answers(address: str) -> bool:
    """Whether metrics are served there."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://{address}/metrics") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False


async def test_metrics_are_served_by_who_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{Ports.free().metrics}"
    monkeypatch.setenv("OMS_METRICS", address)
    command = await connect(lazy=True)
    assert not await answers(address)
    worker = await connect(metrics=True, lazy=True)
    assert await answers(address)
    assert command.namespace == worker.namespace


async def test_without_metrics_a_port_that_is_taken_is_not_wanted(taken: str) -> None:
    await connect(lazy=True)
    with pytest.raises(StartUpError, match=f"OMS_METRICS is '{taken}'.*in use"):
        await connect(metrics=True, lazy=True)


@pytest.mark.parametrize("nonsense", ["here", "127.0.0.1", "127.0.0.1:none", ":9464"])
async def test_an_address_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, nonsense: str
) -> None:
    monkeypatch.setenv("OMS_METRICS", nonsense)
    with pytest.raises(StartUpError, match=f"OMS_METRICS is '{nonsense}'"):
        await connect(metrics=True, lazy=True)


@pytest.mark.temporal
async def test_commands_and_the_remote_door_do_not_want_the_port(
    taken: str, temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    async with OrderManager.remote():
        pass
    # A command gives its process the target's environment; here it is the same one.
    here = Target(dict(os.environ), "here")
    assert here.environment["OMS_METRICS"] == taken
    async with here.orders():
        pass


async def test_the_embedded_door_serves_them_for_it_is_a_worker(taken: str) -> None:
    with pytest.raises(StartUpError, match=taken):
        async with OrderManager(settings=Settings()):
            pytest.fail("it serves no metrics")


def test_a_worker_that_cannot_serve_them_says_so_and_ends(taken: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers"],
        cwd=ROOT,
        env={**os.environ, "OMS_STORE_URL": "sqlite:///none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot start: OMS_METRICS is '{taken}'")
