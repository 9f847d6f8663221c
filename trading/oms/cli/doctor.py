"""`oms doctor`: is everything in order that orders need?"""

from typing import TYPE_CHECKING, NamedTuple

import click

from trading.oms.cli.failures import Exit, leave, run
from trading.oms.cli.output import console, json_option, put_json
from trading.oms.cli.target import Target, find_target
from trading.oms.errors import OmsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from temporalio.client import Client

    from activities.connectors.settings import ConnectorSettings
    from activities.store import Store
    from trading.oms.venue import IExecutionConnector

_CLOCK_WARNING_S = 0.5


class Finding(NamedTuple):
    """One thing that was looked at: "ok", "warning" or "failed", and what was found."""

    what: str
    verdict: str
    text: str


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check Temporal, the store, the exchanges' clocks and the keys.

    A warning is worth a look; a failed check means that orders cannot work, and the exit code
    is 1.
    """
    run(_doctor(as_json=as_json))


async def _doctor(*, as_json: bool) -> None:
    target = find_target()
    out = console()
    findings = []
    async for finding in _examine(target):
        findings.append(finding)
        if not as_json:
            colour = {"ok": "green", "warning": "yellow", "failed": "bold red"}[finding.verdict]
            text = f"  [{colour}]{finding.verdict:<8}[/] {finding.what:<16} {finding.text}"
            out.print(text, soft_wrap=True)
    failed = any(finding.verdict == "failed" for finding in findings)
    if as_json:
        put_json({"ok": not failed, "checks": [finding._asdict() for finding in findings]})
    leave(Exit.REFUSED if failed else Exit.OK)


async def _examine(target: Target) -> "AsyncIterator[Finding]":
    yield Finding("settings", "ok", f"from {target.source}")
    async for finding in _examine_temporal(target):
        yield finding
    async for finding in _examine_store(target):
        yield finding
    try:
        accounts = target.settings().exchanges
    except OmsError as error:
        yield Finding("exchanges", "failed", str(error))
        return
    if not accounts:
        yield Finding("exchanges", "warning", "OMS_EXCHANGES names none")
    for settings in accounts:
        async for finding in _examine_exchange(settings):
            yield finding


async def _examine_temporal(target: Target) -> "AsyncIterator[Finding]":
    from workers.connection import check_search_attributes, connect

    target.apply()
    address = target.environment.get("TEMPORAL_ADDRESS", "localhost:7233")
    try:
        client = await connect()
        await check_search_attributes(client)
    except OmsError as error:
        yield Finding("Temporal", "failed", str(error))
        return
    yield Finding("Temporal", "ok", f"{address}, namespace {client.namespace}, search attributes")
    queue = target.environment.get("OMS_TASK_QUEUE") or "oms-orders"
    workers = await _workers(client, queue)
    verdict = "ok" if workers else "warning"
    yield Finding("workers", verdict, f"{workers or 'none'} on the task queue {queue}")


async def _workers(client: "Client", queue: str) -> int:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return len({poller.identity for poller in answer.pollers})


async def _examine_store(target: Target) -> "AsyncIterator[Finding]":
    try:
        async with target.store() as store:
            yield Finding("store", "ok", f"{store!r}: schema and durable commits")
            async for finding in _examine_orders(store):
                yield finding
    except OmsError as error:
        yield Finding("store", "failed", str(error))


async def _examine_orders(store: "Store") -> "AsyncIterator[Finding]":
    for scope, state in (await store.trading_states()).items():
        if state.value != "active":
            yield Finding("trading", "warning", f"{scope} is {state.value}")
    states = await store.open_orders()
    doubts = [state.client_order_id for state in states if state.in_doubt_since is not None]
    text = f"{len(states)} open, {len(doubts)} in doubt"
    if doubts:
        text += f": {', '.join(doubts[:3])}" + (" ..." if len(doubts) > 3 else "")  # noqa: PLR2004
    yield Finding("orders", "warning" if doubts else "ok", text)


async def _examine_exchange(settings: "ConnectorSettings") -> "AsyncIterator[Finding]":
    from activities.connectors.registry import build_connector

    name = f"{settings.exchange}/{settings.account}"
    if settings.live:
        yield Finding(name, "warning", "[bold white on red] LIVE [/] orders here are real")
    yield _cards(name, settings)
    try:
        connector = build_connector(settings)
        try:
            await connector.start()
            for finding in [
                await _clock(name, connector),
                await _key(name, connector),
                await _withdrawals(name, connector),
            ]:
                yield finding
        finally:
            await connector.close()
    except OmsError as error:
        yield Finding(name, "failed", str(error))


def _cards(name: str, settings: "ConnectorSettings") -> Finding:
    from activities.connectors.conformance import record_of
    from activities.connectors.settings import is_loopback

    record = record_of(settings.kind)
    text = f"connector {settings.kind}: {record or 'its conformance cards have not run'}"
    if record is not None and record.is_proof:
        return Finding(name, "ok", text)
    verdict = "ok" if is_loopback(settings.rest_url) else "warning"
    return Finding(name, verdict, f"{text}; it is experimental")


async def _clock(name: str, connector: "IExecutionConnector") -> Finding:
    from trading.oms.models import utc_now

    before = utc_now()
    theirs = await connector.server_time()
    after = utc_now()
    offset_s = (theirs - (before + (after - before) / 2)).total_seconds()
    verdict = "ok" if abs(offset_s) <= _CLOCK_WARNING_S else "warning"
    return Finding(name, verdict, f"its clock is {round(offset_s * 1000)} ms from ours")


async def _key(name: str, connector: "IExecutionConnector") -> Finding:
    held = await connector.balances()
    return Finding(name, "ok", f"the key is valid; the account holds {', '.join(sorted(held))}")


async def _withdrawals(name: str, connector: "IExecutionConnector") -> Finding:
    may = await connector.can_withdraw()
    if may is None:
        return Finding(name, "ok", "the exchange does not say whether the key can withdraw")
    if may:
        return Finding(name, "warning", "the key can withdraw money; make one that cannot")
    return Finding(name, "ok", "the key cannot withdraw money")
