"""The messages in an order's inbox, and the room for their answers."""

from dataclasses import dataclass

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import OrderAt, Sighting
    from trading.oms.commands import (
        CancelRequest,
        ExecutionBatch,
        ModifyRequest,
        ResolveRequest,
    )
    from trading.oms.models import CancelResult, OrderResult


@dataclass(eq=False)
class Cancel:
    """Someone wants the order cancelled."""

    command: CancelRequest
    answer: CancelResult | None = None


@dataclass(eq=False)
class Modify:
    """Someone wants the order changed; `request_id` is the same in every try of its task."""

    command: ModifyRequest
    request_id: str = ""
    answer: OrderResult | None = None


@dataclass(eq=False)
class Executions:
    """The execution feed brought reports."""

    command: ExecutionBatch
    answer: bool | None = None


@dataclass(eq=False)
class Resolve:
    """An operator gives a verdict on the doubt."""

    command: ResolveRequest
    answer: OrderResult | None = None


@dataclass(eq=False)
class Seen:
    """A look-up of an order in doubt came back; `adopting` is the verdict that asked for it."""

    sighting: Sighting
    at: OrderAt
    adopting: Resolve | None = None


@dataclass(eq=False)
class LegNews:
    """Something about a leg of this order may have changed; the store knows what."""


@dataclass(eq=False)
class Due:
    """Something is due: `what` names it, the loop knows it; `attempt` counts its repeats."""

    what: str
    attempt: int = 0


@dataclass(eq=False)
class Refused:
    """A signal could not be read; it is journalled."""

    reason: str


Answerable = Cancel | Modify | Resolve | Executions
Request = Cancel | Modify | Resolve | Executions | Seen | LegNews | Due | Refused
