"""What leaves us and how often, against a server that plays a script on a bare socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from activities.connectors.binance_wire import BinanceWire
from activities.connectors.classify import Operation
from activities.connectors.clock import ExchangeClock
from activities.connectors.settings import ConnectorSettings
from activities.connectors.wire import Call
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.request_gate import OpenGate, Permit

KEY, SECRET = "k" * 64, "s" * 64
Reply = bytes | None
"""What to write back; None: close the connection without a byte."""


def http(body: str, status: str = "200 OK", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@dataclass
class ScriptedServer:
    """Answers each request by the next line of its script and keeps what it received."""

    script: list[Reply]
    port: int = 0
    received: list[bytes] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.received.append(head + await reader.readexactly(length))
                reply = self.script.pop(0) if self.script else None
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def settings(port: int, **more: object) -> ConnectorSettings:
    values = {
        "exchange": "binance",
        "account": "main",
        "api_key": KEY,
        "secret": SECRET,
        "rest_url": f"http://127.0.0.1:{port}",
        "timeout_ms": 400,
    }
    return ConnectorSettings.model_validate(values | more)


@asynccontextmanager
async def wired(script: Sequence[Reply]) -> AsyncIterator[tuple[ScriptedServer, BinanceWire]]:
    played = ScriptedServer(list(script))
    server = await asyncio.start_server(played.answer, "127.0.0.1", 0)
    played.port = server.sockets[0].getsockname()[1]
    wire = BinanceWire(settings(played.port), ExchangeClock())
    try:
        yield played, wire
    finally:
        await wire.close()
        server.close()


def command(wire: BinanceWire, method: str = "POST", call: Call | None = None) -> Awaitable[object]:
    operation = {"POST": Operation.PLACE, "DELETE": Operation.CANCEL, "PUT": Operation.AMEND}
    return wire.call(call or Call(operation[method]), method, "order", {"newClientOrderId": "a"})


def query(wire: BinanceWire) -> Awaitable[object]:
    return wire.call(Call(Operation.QUERY), "GET", "order", {})


STALE = [http("{}"), None, http("{}"), http("{}")]


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_a_command_on_a_stale_connection_is_written_once(method: str) -> None:
    async with wired(STALE) as (server, wire):
        await query(wire)
        with pytest.raises(OutcomeUnknown):
            await command(wire, method)

        assert len(server.received) == 2


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
async def test_a_redirect_is_not_followed(status: str) -> None:
    reply = http("", status, "Location: /api/v3/order\r\n")
    async with wired([reply, http("{}")]) as (server, wire):
        with pytest.raises(OutcomeUnknown):
            await command(wire)

        assert len(server.received) == 1


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",
        b"not http at all\r\n\r\n",
        http(""),
        http("{"),
        http("<html>", "502 Bad Gateway"),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b; charset=klingon\r\nContent-Length: 1\r\n\r\n{",
    ],
)
async def test_a_broken_answer_leaves_a_command_in_doubt_and_a_query_unanswered(
    reply: Reply,
) -> None:
    async with wired([reply, reply, reply]) as (server, wire):
        with pytest.raises(OutcomeUnknown):
            await command(wire)
        assert len(server.received) == 1
        with pytest.raises(ExchangeUnavailable):
            await query(wire)


async def test_silence_leaves_a_command_in_doubt() -> None:
    async with wired([b""]) as (_, wire):
        with pytest.raises(OutcomeUnknown, match="Timeout"):
            await command(wire)


async def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        wire = BinanceWire(settings(taken.getsockname()[1]), ExchangeClock())
        with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
            await command(wire)
        await wire.close()


@pytest.mark.parametrize("address", ["http://no-such-host.invalid", "https://127.0.0.1:{port}"])
async def test_dns_and_tls_fail_before_the_write(address: str) -> None:
    async with wired([]) as (server, _):
        wire = BinanceWire(settings(0, rest_url=address.format(port=server.port)), ExchangeClock())
        with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
            await command(wire)
        await wire.close()


async def test_the_time_is_checked_with_the_connection_in_hand() -> None:
    def too_late() -> None:
        raise ExchangeUnavailable("too late", code="local_deadline")

    async with wired([http("{}"), http("{}")]) as (server, wire):
        with pytest.raises(ExchangeUnavailable) as refusal:
            await command(wire, call=Call(Operation.PLACE, check_time=too_late))
        assert refusal.value.code == "local_deadline"
        assert server.received == []
        await command(wire)
        assert len(server.received) == 1


async def test_every_answer_belongs_to_its_own_request() -> None:
    script: list[Reply] = [
        http(f'{{"code": -2010, "msg": "number {n}"}}', "400 Bad Request") for n in range(20)
    ]
    async with wired(script) as (_, wire):
        errors = await asyncio.gather(*[command(wire) for _ in range(20)], return_exceptions=True)

    assert all(type(error) is ExchangeRejected for error in errors)
    assert len({str(error) for error in errors}) == 20


async def test_the_rate_headers_are_kept() -> None:
    headers = "X-MBX-USED-WEIGHT-1M: 12\r\nX-MBX-ORDER-COUNT-10S: 3\r\nDate: now\r\n"
    async with wired([http("{}", headers=headers)]) as (_, wire):
        await query(wire)

        assert wire.rate_usage.headers == {
            "x-mbx-used-weight-1m": "12",
            "x-mbx-order-count-10s": "3",
        }
        assert wire.rate_usage.at_ms > 0


def chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *chain(error.__cause__ or error.__context__)]


ECHO = http(f"<p>bad request /order?signature={'f' * 64} of {KEY} {SECRET}", "400 Bad Request")


@pytest.mark.parametrize("reply", [None, b"", b"not http\r\n\r\n", ECHO])
@pytest.mark.parametrize("ask", [command, query])
async def test_no_error_shows_a_secret(
    reply: Reply, ask: Callable[[BinanceWire], Awaitable[object]]
) -> None:
    async with wired([reply, reply]) as (server, wire):
        with pytest.raises(ExchangeError) as refusal:
            await ask(wire)

        assert server.received
        for error in chain(refusal.value):
            shown = f"{error!r} {error} {vars(error)}"
            assert KEY not in shown
            assert SECRET not in shown
            assert "signature=f" not in shown
            assert "127.0.0.1" not in shown


def test_settings_mask_their_secrets() -> None:
    shown = f"{settings(1)!r} {settings(1)} {settings(1).model_dump_json()}"

    assert KEY not in shown
    assert SECRET not in shown


async def test_a_secret_that_is_a_common_letter_does_not_change_what_is_read() -> None:
    reply = http('{"code": -2010, "msg": "Duplicate order sent."}', "400 Bad Request")
    async with wired([http('{"status": "NEW"}'), reply]) as (server, _):
        wire = BinanceWire(settings(server.port, api_key="e", secret="s"), ExchangeClock())
        assert await query(wire) == {"status": "NEW"}
        with pytest.raises(DuplicateOrder):
            await command(wire)
        await wire.close()


class LateGate(OpenGate):
    """Says right before each of the first writes that the slot has passed."""

    def __init__(self, times: int) -> None:
        self.times = times

    def is_valid(self, permit: Permit) -> bool:
        self.times -= 1
        return self.times < 0


@pytest.mark.parametrize(
    ("operation", "writes"), [(Operation.QUERY, 1), (Operation.PLACE, 0), (Operation.CANCEL, 0)]
)
async def test_a_query_that_came_too_late_for_its_slot_takes_the_next_one(
    operation: Operation, writes: int
) -> None:
    async with wired([http("{}")]) as (server, wire):
        wire.gate = LateGate(1)
        wire.oms_clock.observe(1, 0.0, 0.0)  # Before that nothing passes a gate.
        call = Call(operation)
        if writes:
            assert await wire.call(call, "GET", "order", {"symbol": "BTCUSDT"}) == {}
        else:
            with pytest.raises(ExchangeUnavailable, match="slot in the rate limits has passed"):
                await wire.call(call, "POST", "order", {"symbol": "BTCUSDT"})
        assert (len(server.received), call.written) == (writes, bool(writes))
