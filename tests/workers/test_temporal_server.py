"""The dev server, and the server that somebody else runs."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from workers import temporal_dev_server
from workers.temporal_dev_server import SEARCH_ATTRIBUTES
from workers.temporal_server import (
    DevServer,
    ExternalServer,
    Ports,
    TemporalUnavailable,
    running_dev_server,
    running_temporal,
)

pytestmark = pytest.mark.temporal

STATUS = SearchAttributeKey.for_keyword("OrderStatus")
CREATED = TypedSearchAttributes([SearchAttributePair(STATUS, "created")])

said: list[str] = []


@pytest.fixture
async def durable_server(tmp_path: Path) -> AsyncIterator[DevServer]:
    async with running_dev_server(said.append, tmp_path / "temporal.db") as server:
        yield server


async def start_a_workflow(client: Client) -> str:
    """A workflow that nobody works on; returns its id."""
    name = f"order-{uuid.uuid4()}"
    await client.start_workflow("nobody", id=name, task_queue="nowhere")
    return name


async def test_it_knows_the_search_attributes_of_an_order(temporal_client: Client) -> None:
    known = await temporal_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=temporal_client.namespace)
    )
    for name in SEARCH_ATTRIBUTES:
        assert known.custom_attributes[name] == IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD


async def test_a_killed_server_comes_back_with_what_it_knew(durable_server: DevServer) -> None:
    workflow = await start_a_workflow(await durable_server.connect())
    pids, addresses = [durable_server.pid], [durable_server.address]
    durable_server.kill()
    pids.append(durable_server.pid)
    await durable_server.start()
    pids.append(durable_server.pid)
    addresses.append(durable_server.address)
    assert pids[1] is None
    assert pids[2] not in {None, pids[0]}
    assert addresses[0] == addresses[1]
    client = await durable_server.connect()
    assert (await client.get_workflow_handle(workflow).describe()).status is not None


async def test_a_client_outlives_a_restart(durable_server: DevServer) -> None:
    client = await durable_server.connect()
    workflow = await start_a_workflow(client)
    await durable_server.restart()
    await client.get_workflow_handle(workflow).describe()


async def test_its_log_stands_beside_its_data(durable_server: DevServer, tmp_path: Path) -> None:
    assert durable_server.log_path == tmp_path / "temporal.log"
    assert durable_server.log_path.exists()


async def test_the_web_ui_answers(durable_server: DevServer) -> None:
    assert durable_server.ui_url is not None
    port = int(durable_server.ui_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_it_ends_with_the_block_that_fails() -> None:
    servers = []

    async def fail_within() -> None:
        async with running_dev_server(said.append, ui=False) as server:
            servers.append(server)
            assert server.pid is not None
            assert server.ui_url is None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_within()
    assert [server.pid for server in servers] == [None]


async def test_a_server_that_cannot_start_says_why(durable_server: DevServer) -> None:
    taken = int(durable_server.address.rpartition(":")[2])
    ports = Ports(frontend=taken, ui=taken, http=taken, metrics=taken)
    with pytest.raises(TemporalUnavailable, match=str(taken)):
        async with running_dev_server(said.append, ports=ports):
            pytest.fail("two servers on one port")


async def test_free_ports_are_four_and_below_those_of_connections() -> None:
    ports = Ports.free()
    numbers = {ports.frontend, ports.ui, ports.http, ports.metrics}
    assert len(numbers) == 4
    assert all(1024 < number < 32768 for number in numbers)


async def test_temporal_address_names_a_server_and_nothing_is_started(
    durable_server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", durable_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")
    async with running_temporal(said.append) as server:
        assert isinstance(server, ExternalServer)
        assert server.address == durable_server.address
        await start_a_workflow(await server.connect())


async def test_a_server_without_our_search_attributes_gets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(temporal_dev_server, "SEARCH_ATTRIBUTES", ())
    async with running_dev_server(said.append, ui=False) as server:
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        async with running_temporal(said.append) as external:
            client = await external.connect()
            await client.start_workflow(
                "nobody", id="order-1", task_queue="nowhere", search_attributes=CREATED
            )


async def test_an_address_without_a_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    with pytest.raises(TemporalUnavailable, match=r"127\.0\.0\.1:1"):
        async with running_temporal(said.append):
            pytest.fail("nobody listens there")


async def test_without_an_address_a_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    async with running_temporal(said.append, ui=False) as server:
        assert isinstance(server, DevServer)
