"""The look at the exchanges' clocks goes on whatever meets it."""

import asyncio
from typing import Any

import pytest

from trading.oms.errors import ExchangeUnavailable
from workers import composition


class _Clock:
    """An exchange whose clock cannot be had twice, for two reasons."""

    exchange = "somewhere"

    def __init__(self) -> None:
        self.failures: list[Exception] = [ExchangeUnavailable("away"), ValueError("a defect")]
        self.seen = asyncio.Event()

    async def server_time(self) -> None:
        if self.failures:
            raise self.failures.pop()
        self.seen.set()


async def test_the_clocks_are_looked_at_again_after_any_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(composition, "_CLOCK_S", 0.0)
    clock: Any = _Clock()
    keeping = asyncio.create_task(composition._keep_clocks([clock]))

    async with asyncio.timeout(5):
        await clock.seen.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert all("the clock of somewhere" in record.message for record in caplog.records)
