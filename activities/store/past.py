"""What an order's journal holds, however long it is: asked for exactly, by the order's index."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Protocol, TypeVar

import pydantic_core
import sqlalchemy as sa

from activities.store.journal import CREATED
from activities.store.schema import order_events

_Found = TypeVar("_Found")
_ENTRIES = order_events.c
_SETS_QUANTITY = (CREATED, "order_modified", "order_leg_started", "order_resent")
"""The events that give an order its quantity."""
_CHANGES_MAX = 1000


class _Read(Protocol):
    """How the store reads."""

    async def __call__(self, query: Callable[[sa.Connection], _Found]) -> _Found: ...


class Past:
    """Questions about what has been with an order."""

    def __init__(self, read: _Read) -> None:
        """Ask through the store's reader."""
        self._read = read

    async def alarms(self, order_id: str, texts: Collection[str]) -> set[str]:
        """Those of the texts that the order was alarmed with."""
        query = (
            sa.select(_ENTRIES.alarm)
            .where(_ENTRIES.order_id == order_id, _ENTRIES.alarm.in_(sorted(texts)))
            .distinct()
        )
        return await self._read(lambda c: set(c.scalars(query)))

    async def had_quantity(self, order_id: str, quantity: Decimal) -> bool:
        """Whether one of its newest thousand quantities was this one."""
        query = (
            sa.select(_ENTRIES.state)
            .where(_ENTRIES.order_id == order_id, _ENTRIES.name.in_(_SETS_QUANTITY))
            .order_by(_ENTRIES.order_sequence.desc())
            .limit(_CHANGES_MAX)
        )
        states = await self._read(lambda c: list(c.scalars(query)))
        return any(Decimal(pydantic_core.from_json(one)["quantity"]) == quantity for one in states)
