"""The sandbox as a process, and the recorded minute as its market."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.sandbox.conftest import Raw, Start
from workers.sandbox.__main__ import config_of
from workers.sandbox.config import SandboxConfig, parse_account
from workers.sandbox.model import NewOrder
from workers.sandbox.replay import MarketMaker, Print, Quote, Replay, recorded
from workers.sandbox.server import Sandbox

COMMAND = [sys.executable, "-m", "workers.sandbox"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "OMS_SANDBOX_ACCOUNTS": "carol:c-secret:USDT=5;dave:d-secret"}
    with subprocess.Popen(
        [*COMMAND, "--name", "north", "--max-recv-window-ms", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield process
        process.kill()


async def test_a_process_says_when_it_is_ready_and_ends_when_told(
    process: subprocess.Popen[str], session: aiohttp.ClientSession
) -> None:
    assert process.stdout is not None
    ready = json.loads(await asyncio.to_thread(process.stdout.readline))
    assert (ready["name"], ready["url"]) == ("north", f"http://127.0.0.1:{ready['port']}")
    async with session.get(f"{ready['url']}/control/ledger") as response:
        ledger = await response.json()
    assert ledger["balances"]["carol"] == {"USDT": {"free": "5.00000000", "locked": "0.00000000"}}
    async with session.ws_connect(f"{ready['url']}/ws") as socket:
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        await asyncio.wait_for(socket.receive(), 5)
    assert await asyncio.to_thread(process.wait, 5) == 0
    assert time.monotonic() - started < 2
    _, stderr = process.communicate()
    assert "secret" not in stderr


def test_a_wrong_account_is_refused_without_repeating_the_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for account in ("key", "key:hush:BTC", "key:hush:BTC=NaN", "key:hush:BTC=1e9"):
        with pytest.raises(SystemExit):
            config_of(["--account", account])
        assert "hush" not in capsys.readouterr().err


def test_the_command_line_sets_limits_and_times() -> None:
    config = config_of(["--order-limit-10s", "7", "--max-recv-window-ms", "300", "--speed", "2.5"])
    assert [limit.limit for limit in config.rate_limits if limit.kind == "ORDERS"] == [7, 200000]
    assert (config.default_recv_window_ms, config.speed) == (300, Decimal("2.5"))


def test_the_recording_is_whole() -> None:
    events = recorded()
    assert sum(isinstance(event, Print) for event in events) == 2001
    assert sum(isinstance(event, Quote) for event in events) == 451


def played(loops: int = 1) -> Sandbox:
    """The whole recording, and alice with an order that it trades through."""
    config = SandboxConfig(accounts=(parse_account("alice:s"),), first_id=0, ladder_levels=1)
    sandbox = Sandbox(config)
    replay = Replay(sandbox.engine, MarketMaker(sandbox.engine))
    for _ in range(loops):
        for event in recorded():
            replay.play(event)
    return sandbox


def test_the_replay_prints_the_recorded_trades_and_keeps_two_sides() -> None:
    market = played().engine.markets["BTCUSDT"]
    recording = [event for event in recorded() if isinstance(event, Print)]
    printed = [(trade.price, trade.quantity) for trade in market.recent]
    assert printed[-1] == (recording[-1].price, recording[-1].quantity)
    assert market.statistics.high == max(event.price for event in recording)
    assert market.statistics.volume >= sum(event.quantity for event in recording)
    assert None not in market.book.best()


def test_a_stop_that_the_market_triggers_finds_the_markets_quote() -> None:
    sandbox = Sandbox(SandboxConfig(accounts=(parse_account("alice:s"),), first_id=0))
    engine, maker = sandbox.engine, MarketMaker(sandbox.engine)
    one = Decimal(1)
    maker.quote("BTCUSDT", (Decimal(99), one), (Decimal(101), one))
    maker.trade("BTCUSDT", "BUY", Decimal(100), one)
    stop = engine.place(
        engine.accounts["alice"],
        NewOrder("BTCUSDT", "SELL", "STOP_LOSS", "GTC", quantity=one, stop_price=Decimal(98)),
    )
    maker.trade("BTCUSDT", "SELL", Decimal(97), one)
    assert (stop.status, stop.executed_quote) == ("FILLED", Decimal(97))


def test_the_replay_is_the_same_each_time_and_its_ids_grow_over_loops() -> None:
    def prints(sandbox: Sandbox) -> list[tuple[Any, ...]]:
        recent = sandbox.engine.markets["BTCUSDT"].recent
        return [(trade.id, trade.price, trade.quantity) for trade in recent]

    assert prints(played()) == prints(played())
    twice = prints(played(loops=2))
    assert [row[0] for row in twice] == sorted({row[0] for row in twice})


async def test_resting_orders_fill_because_the_market_trades_through_them(
    start: Start, session: aiohttp.ClientSession
) -> None:
    server = await start(market="replay", speed=Decimal(100))
    raw = Raw(server.url, session)
    await raw.order(price="39431", quantity="0.05")
    await raw.order(side="SELL", price="39470", quantity="0.05")
    async with asyncio.timeout(60):
        while True:
            orders = (await raw.ledger())["orders"]
            if all(order["status"] == "FILLED" for order in orders):
                break
            await asyncio.sleep(0.05)
    counterparties = {
        trade[side]["account"]
        for trade in (await raw.ledger())["trades"]
        for side in ("buyer", "seller")
    }
    assert counterparties == {"alice", "market"}
