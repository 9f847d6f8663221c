"""The user data stream against a server that plays a script on a real WebSocket."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from activities.connectors.binance_wire import EventStream
from activities.connectors.clock import ExchangeClock
from activities.connectors.settings import ConnectorSettings
from trading.oms.errors import ExchangeUnavailable
from trading.oms.venue import StreamState

Socket = web.WebSocketResponse
Scene = Callable[[Socket], Coroutine[Any, Any, None]]
CONNECTED = StreamState.CONNECTED


def event(number: int) -> str:
    body = {"e": "executionReport", "i": number, "p": "0.10"}
    return json.dumps({"subscriptionId": 0, "event": body})


async def subscribed(ws: Socket) -> dict[str, Any]:
    """Wait for the subscription and confirm it, as Binance does."""
    asked: dict[str, Any] = json.loads((await ws.receive(timeout=2)).data)
    await ws.send_str(
        json.dumps({"id": asked["id"], "status": 200, "result": {"subscriptionId": 0}})
    )
    return asked


def saying(*frames: str | bytes, stay: bool = True) -> Scene:
    """Confirm the subscription, say these frames, then stay or hang up."""

    async def scene(ws: Socket) -> None:
        await subscribed(ws)
        for frame in frames:
            await (ws.send_str(frame) if isinstance(frame, str) else ws.send_bytes(frame))
        if stay:
            while (await ws.receive()).type is WSMsgType.TEXT:
                pass

    return scene


async def deaf(ws: Socket) -> None:
    """Confirm the subscription, then answer nothing any more, not even pings."""
    await subscribed(ws)
    await asyncio.sleep(3)


async def cut(ws: Socket) -> None:
    """Confirm the subscription, then cut the line without a goodbye."""
    await subscribed(ws)
    assert ws._req is not None
    assert ws._req.transport is not None
    ws._req.transport.abort()


@asynccontextmanager
async def streaming(*scenes: Scene, **more: object) -> AsyncIterator[EventStream]:
    """One scene per connection, the last one for all that follow."""
    played = 0

    async def handle(request: web.Request) -> Socket:
        nonlocal played
        ws = Socket(autoping=scenes[min(played, len(scenes) - 1)] is not deaf)
        await ws.prepare(request)
        scene = scenes[min(played, len(scenes) - 1)]
        played += 1
        await scene(ws)
        return ws

    app = web.Application()
    app.router.add_get("/ws-api/v3", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    values = {
        "exchange": "binance",
        "account": "main",
        "api_key": "k" * 64,
        "secret": "s" * 64,
        "rest_url": f"http://127.0.0.1:{runner.addresses[0][1]}",
        "stream_silence_ms": 500,
    }
    try:
        yield EventStream(ConnectorSettings.model_validate(values | more), ExchangeClock())
    finally:
        await runner.cleanup()


async def first(stream: EventStream, count: int) -> list[Any]:
    """The first items of a stream: the order id of an event, or the state."""
    found: list[Any] = []
    async with asyncio.timeout(8), aclosing(stream.events()) as events:  # type: ignore[type-var]
        async for item in events:
            found.append(item if isinstance(item, StreamState) else item["i"])
            if len(found) == count:
                break
    return found


async def test_events_come_raw_and_in_their_order() -> None:
    async with streaming(saying(event(1), event(2), event(2))) as stream:
        assert await first(stream, 4) == [CONNECTED, 1, 2, 2]


ENDINGS = ["eventStreamTerminated", "serverShutdown"]


@pytest.mark.parametrize(
    "gap",
    [
        saying(event(1), stay=False),
        saying(event(1), json.dumps({"event": {"e": ENDINGS[0], "E": 1}})),
        saying(event(1), json.dumps({"e": ENDINGS[1], "E": 1})),
        cut,
        deaf,
    ],
    ids=["closed", *ENDINGS, "cut", "half-open"],
)
async def test_a_gap_of_any_kind_is_noticed_and_said(gap: Scene) -> None:
    began = time.monotonic()
    async with streaming(gap, saying(event(7))) as stream:
        found = await first(stream, 3 if gap in {cut, deaf} else 4)

    assert found[-2:] == [CONNECTED, 7]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[1, 2]",
        "[" * 100_000,
        "null",
        "",
        "12",
        b"\xff\xfe",
        '{"event": null}',
        '{"event": {"e": null}}',
        '{"event": {"e": ["x"]}}',
        '{"event": {"e": {"x": 1}}}',
        '{"id": "99", "status": 200}',
        '{"id": ["99"], "status": 500}',
        '{"error": {"code": -1, "msg": "x"}, "status": 400}',
        '{"status": {}}',
        '{"u": 1, "b": "2", "a": "3"}',
        '{"event": {"e": "outboundAccountPosition"}}',
    ],
)
async def test_a_senseless_frame_does_not_end_the_stream(frame: str | bytes) -> None:
    async with streaming(saying(event(1), frame, event(2))) as stream:
        assert await first(stream, 3) == [CONNECTED, 1, 2]


async def test_a_refused_subscription_is_unavailable_and_shows_no_secret() -> None:
    async def refuse(ws: Socket) -> None:
        asked = json.loads((await ws.receive(timeout=2)).data)
        error = {"code": -2015, "msg": f"Invalid {asked['params']['apiKey']}"}
        await ws.send_str(json.dumps({"id": asked["id"], "status": 401, "error": error}))
        await ws.receive()

    async with streaming(refuse) as stream:
        with pytest.raises(ExchangeUnavailable, match="Invalid") as refusal:
            await first(stream, 1)
    assert "k" * 64 not in str(refusal.value)


async def test_a_subscription_without_an_answer_is_unavailable() -> None:
    async def silent(ws: Socket) -> None:
        await ws.receive()
        await ws.receive()

    async with streaming(silent, timeout_ms=1000) as stream:
        with pytest.raises(ExchangeUnavailable, match="within 1 s"):
            await first(stream, 1)


async def test_a_connection_lost_for_good_ends_the_iteration() -> None:
    async def refuse(ws: Socket) -> None:
        await ws.close()

    began = time.monotonic()
    async with streaming(saying(event(1), stay=False), refuse) as stream:
        with pytest.raises(ExchangeUnavailable):
            await first(stream, 9)
    assert 0.4 < time.monotonic() - began < 4


async def test_a_cancelled_reader_leaves_nothing_behind() -> None:
    async with streaming(saying(event(1))) as stream:
        before = asyncio.all_tasks()
        reader = asyncio.create_task(first(stream, 3))
        await asyncio.sleep(0.3)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await asyncio.sleep(0.05)

        ours = [task for task in asyncio.all_tasks() - before if "ccxt" in repr(task)]
        assert ours == []
        assert stream.session is None


async def test_the_stamp_of_the_subscription_is_the_exchanges_time() -> None:
    stamps: list[int] = []

    async def keep(ws: Socket) -> None:
        stamps.append((await subscribed(ws))["params"]["timestamp"])
        await ws.receive()

    async with streaming(keep) as stream:
        stream.oms_clock.observe(1_000_000, time.monotonic(), time.monotonic())
        await first(stream, 1)
    assert 1_000_000 <= stamps[0] < 1_002_000
