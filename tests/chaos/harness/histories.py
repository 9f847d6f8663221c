"""Everything known of one order, in lines: journal, claims, ledger, and its workflows' history."""

import json
from collections.abc import Mapping
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.service import RPCError

from activities.store import OrderFilter
from tests.chaos.truth import AtExchange
from tests.chaos.world import World

_SAYS_NOTHING = ("WORKFLOW_TASK_SCHEDULED", "UPSERT_WORKFLOW")


async def history_of(world: World, order_id: str, there: Mapping[str, AtExchange]) -> list[str]:
    """The order's own, and that of each leg of an order that is split."""
    lines = await _journal(world, order_id)
    lines += await _claims(world, order_id)
    entries = there.get(order_id, AtExchange()).entries
    lines += [f"  ledger leg {leg}: {json.dumps(entry)}" for leg, entry in entries]
    lines += await _workflow(world, order_id)
    state = await world.store.order(order_id)
    lines.append(f"  store: {state and state.model_dump_json()}")
    if state is not None and state.is_split:
        for leg in await world.store.orders(OrderFilter(parent_order_id=order_id), limit=None):
            lines += [f" {leg.client_order_id}:"]
            lines += await history_of(world, leg.client_order_id, there)
    return lines


async def _journal(world: World, order_id: str) -> list[str]:
    return [
        f"  {entry.committed_at:%H:%M:%S.%f} {entry.name} {entry.state.status.value} "
        f"leg {entry.state.leg} filled {entry.state.filled_quantity} "
        f"{entry.alarm or ''} {json.dumps(dict(entry.details or {}), default=str)}"
        for entry in await world.store.events_of(order_id)
    ]


async def _claims(world: World, order_id: str) -> list[str]:
    return [
        f"  claim {claim.key.leg}/{claim.key.generation} stamp {claim.stamp} "
        f"{claim.outcome} at {claim.claimed_at:%H:%M:%S.%f} by {claim.claimant} "
        f"answer {claim.answer}"
        for claim in await world.store.claims_of(order_id)
    ]


async def _workflow(world: World, order_id: str) -> list[str]:
    """The events of its runs, each in a line."""
    id_, lines = f"order-{order_id}", []
    try:
        runs = [found async for found in world.client.list_workflows(f"WorkflowId='{id_}'")]
        for run in sorted(runs, key=lambda found: found.start_time):
            lines.append(f"  run {run.run_id}:")
            handle = world.client.get_workflow_handle(id_, run_id=run.run_id)
            lines += [
                line async for event in handle.fetch_history_events() if (line := _line(event))
            ]
    except RPCError as error:
        lines.append(f"  its workflow cannot be read: {error}")
    return lines


def _line(event: Any) -> str:
    name = EventType.Name(event.event_type)[11:]
    if name.startswith(_SAYS_NOTHING):
        return ""
    return f"  {event.event_time.ToDatetime():%H:%M:%S.%f} {name} {_said(event)}"


def _said(event: Any) -> str:
    """What is worth reading of an event: the names, the attempt, who did it, why it failed."""
    fields = getattr(event, event.WhichOneof("attributes"))
    found = []
    for name in ("activity_type", "identity", "attempt", "marker_name", "signal_name"):
        value = getattr(fields, name, None)
        if value:
            found.append(f"{name} {getattr(value, 'name', value)}")
    for name in ("failure", "last_failure"):
        value = getattr(fields, name, None)
        if value is not None and value.message:
            found.append(f"{name} {value.message[:200]}")
    if hasattr(fields, "marker_name") and "data" in fields.details:
        found.append(str(fields.details["data"].payloads[0].data[:160]))
    if hasattr(fields, "start_to_fire_timeout"):
        found.append(f"in {fields.start_to_fire_timeout.ToTimedelta().total_seconds()} s")
    return ", ".join(found)
