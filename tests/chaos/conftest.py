"""Every test of this folder breaks something on purpose, in a world of its own."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.world import World, a_world
from workers.temporal_server import TemporalServer

LONG = pytest.mark.skipif("CHAOS_LONG" not in os.environ, reason="takes long; set CHAOS_LONG=1")


def pytest_configure(config: pytest.Config) -> None:
    """Make our own marker known."""
    config.addinivalue_line("markers", "chaos_long: runs only where CHAOS_LONG is set.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and leave out the longer variants where nobody wants them."""
    for item in items:
        if "chaos" in item.path.parts:
            item.add_marker(pytest.mark.chaos)
            if item.get_closest_marker("chaos_long"):
                item.add_marker(LONG)


@pytest.fixture
async def world(temporal_server: TemporalServer, tmp_path: Path) -> AsyncIterator[World]:
    """A world without workers."""
    async with a_world(temporal_server, tmp_path) as running:
        yield running
