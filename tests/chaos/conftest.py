"""Every test of this folder breaks something on purpose, in a world of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.world import World, a_world
from workers.temporal_server import TemporalServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder."""
    for item in items:
        if "chaos" in item.path.parts:
            item.add_marker(pytest.mark.chaos)


@pytest.fixture
async def world(temporal_server: TemporalServer, tmp_path: Path) -> AsyncIterator[World]:
    """A world without workers."""
    async with a_world(temporal_server, tmp_path) as running:
        yield running
