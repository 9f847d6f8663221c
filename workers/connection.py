"""The connection to Temporal. Loads no database and no exchange library, so the CLI starts fast."""

import os
from typing import Any

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import GrpcCompression, RPCError

from trading.oms.errors import StartUpError
from workers.encryption import data_converter

SEARCH_ATTRIBUTES = ("OrderStatus", "Exchange", "Symbol", "Strategy", "Side")


async def connect(*, metrics: bool = False, **overrides: Any) -> Client:
    """A Temporal client by the SDK's own variables and `OMS_ENCRYPTION_KEYS`.

    With `metrics` this process serves them at `OMS_METRICS`, where that is set: a worker does, and
    a command beside it must not want its port. Raises `StartUpError` when nobody answers, for keys
    that cannot be read and for a port that is taken.
    """
    runtime = telemetry(os.environ.get("OMS_METRICS", "")) if metrics else None
    converter = data_converter(os.environ.get("OMS_ENCRYPTION_KEYS", ""))
    config: dict[str, Any] = {**ClientConfig.load_client_connect_config(), **overrides}
    config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(
            **config,
            data_converter=converter,
            runtime=runtime,
            grpc_compression=GrpcCompression.NONE,
        )
    except (RPCError, RuntimeError, ValueError) as error:
        msg = (
            f"no Temporal server answers at {config['target_host']}: {error}; "
            "start one, or set TEMPORAL_ADDRESS"
        )
        raise StartUpError(msg) from None


def telemetry(metrics: str) -> Runtime | None:
    """The SDK's own runtime, or one that serves its metrics to Prometheus at host:port.

    Raises `StartUpError` where that is no address, or somebody else's.
    """
    if not metrics:
        return None
    prometheus = PrometheusConfig(bind_address=metrics)
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=prometheus, attach_service_name=False))
    except (RuntimeError, ValueError) as error:
        msg = f"OMS_METRICS is {metrics!r}, and metrics cannot be served there: {error}"
        raise StartUpError(msg) from None


async def check_search_attributes(client: Client) -> None:
    """Raise `StartUpError` when the namespace lacks one: an order's task would fail for ever."""
    try:
        answer = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        msg = f"the namespace {client.namespace!r} cannot be used: {error}"
        raise StartUpError(msg) from None
    missing = [name for name in SEARCH_ATTRIBUTES if name not in answer.custom_attributes]
    if missing:
        words = " ".join(f"--name {name} --type Keyword" for name in missing)
        msg = (
            f"the namespace {client.namespace!r} lacks the search attributes "
            f"{', '.join(missing)}; make them with: temporal operator search-attribute create "
            f"{words}"
        )
        raise StartUpError(msg)
