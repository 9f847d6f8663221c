"""The Temporal server of the local stack and of the tests: theirs, or one of our own.

`TEMPORAL_ADDRESS` names a server that runs already: then nothing is started. Otherwise a dev server
is found (`workers.temporal_program`) and started (`workers.temporal_dev_server`).
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from workers.temporal_dev_server import (
    NAMESPACE,
    SEARCH_ATTRIBUTES,
    DevServer,
    Ports,
    TemporalUnavailable,
)
from workers.temporal_program import Say, TemporalNotFound, find_temporal

__all__ = [
    "DevServer",
    "ExternalServer",
    "Ports",
    "TemporalNotFound",
    "TemporalServer",
    "TemporalUnavailable",
    "ensure_search_attributes",
    "find_temporal",
    "running_dev_server",
    "running_temporal",
]


class TemporalServer(Protocol):
    """A Temporal server that answers, whoever started it."""

    @property
    def address(self) -> str:
        """The frontend as host:port."""

    @property
    def namespace(self) -> str:
        """The namespace to work in."""

    @property
    def ui_url(self) -> str | None:
        """The address of the web UI, where it is known."""

    async def connect(self, **options: Any) -> Client:
        """A new client; `options` are those of `temporalio.client.Client.connect`."""


@dataclass(frozen=True)
class ExternalServer:
    """A server that somebody else runs, reached by the TEMPORAL_* environment variables."""

    address: str
    namespace: str
    ui_url: str | None = None

    async def connect(self, **options: Any) -> Client:
        """A new client, with the TLS settings and the API key of the environment."""
        here = {"target_host": self.address, "namespace": self.namespace}
        config = ClientConfig.load_client_connect_config()
        return await Client.connect(**{**config, **here, **options})


@asynccontextmanager
async def running_temporal(
    say: Say, db_filename: Path | None = None, *, ui: bool = True
) -> AsyncIterator[TemporalServer]:
    """The server that TEMPORAL_ADDRESS names, or a dev server that ends with this block.

    Without a `db_filename` the dev server keeps its data in memory; with one, its log stands beside
    it. Raises TemporalNotFound or
    TemporalUnavailable.
    """
    if not os.environ.get("TEMPORAL_ADDRESS"):
        async with running_dev_server(say, db_filename, ui=ui) as server:
            yield server
        return
    config = ClientConfig.load_client_connect_config()
    external = ExternalServer(config["target_host"], config.get("namespace", NAMESPACE))
    say(f"Using the Temporal server at {external.address} (TEMPORAL_ADDRESS).")
    try:
        await ensure_search_attributes(await external.connect(), say)
    except (RPCError, RuntimeError, TimeoutError) as error:
        raise TemporalUnavailable(
            f"TEMPORAL_ADDRESS is {external.address}, which does not answer: {error}"
        ) from error
    yield external


@asynccontextmanager
async def running_dev_server(
    say: Say, db_filename: Path | None = None, *, ui: bool = True, ports: Ports | None = None
) -> AsyncIterator[DevServer]:
    """A dev server of our own that ends with this block, whatever ends it.

    Without `ports` it gets free ones. Raises TemporalNotFound or TemporalUnavailable.
    """
    program = await find_temporal(say)
    say(f"Starting the Temporal server ({program.origin}: {program.version}) ...")
    with tempfile.TemporaryDirectory(prefix="oms-temporal-") as folder:
        log_path = (db_filename or Path(folder) / "temporal").with_suffix(".log")
        server = DevServer(program, ports or Ports.free(), log_path, db_filename=db_filename, ui=ui)
        await server.start()
        say(f"Temporal answers at {server.address}" + (f", UI at {server.ui_url}" if ui else ""))
        try:
            yield server
        finally:
            await server.stop()


async def ensure_search_attributes(client: Client, say: Say) -> None:
    """Add the search attributes of orders to a namespace that lacks them.

    Returns when the server knows them: it reads them from a cache, and would refuse an order before
    that. Raises TemporalUnavailable where the server does not let us add them.
    """
    operator = client.operator_service
    namespace = client.namespace
    listed = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    missing = [name for name in SEARCH_ATTRIBUTES if name not in listed.custom_attributes]
    if not missing:
        return
    say(f"Adding the search attributes {', '.join(missing)} to the namespace {namespace} ...")
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    request = AddSearchAttributesRequest(
        namespace=namespace, search_attributes=dict.fromkeys(missing, keyword)
    )
    try:
        await operator.add_search_attributes(request)
    except RPCError as error:
        raise TemporalUnavailable(
            f"The namespace {namespace} lacks the search attributes {', '.join(missing)} (all of "
            f"type Keyword), and the server did not let us add them: {error}"
        ) from error
    for name in missing:
        await _until_searchable(client, name)


async def _until_searchable(client: Client, attribute: str) -> None:
    for tries_left in reversed(range(60)):
        try:
            await client.count_workflows(f"{attribute} = ''")
        except RPCError:
            if tries_left == 0:
                raise
            await asyncio.sleep(0.5)
        else:
            return
