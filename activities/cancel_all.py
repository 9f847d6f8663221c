"""One request that cancels all open orders of a symbol: a quick way out of many of ours.

It cancels whatever is open there, so it is used only where the store knows of no order of others
and the exchange, asked just before, shows none either. Nothing follows from it: each order still
gets its own cancel, and the execution feed tells each what became of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from temporalio import activity

from activities.messages import CancelAllAnswer, CancelAllWish
from activities.rate_desk import urgent
from activities.store import OrderFilter
from trading.oms.enums import OPEN_STATUSES, Pending
from trading.oms.errors import ExchangeError
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now

if TYPE_CHECKING:
    from activities.order_steps import Parts
    from trading.oms.venue import ICancelsAll, IExecutionConnector


class CancellingAll:
    """The activity that asks; it runs once, because what comes later may be another's."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._store = parts.store

    @activity.defn(name="cancel_all_at_exchange")
    async def cancel_all_at_exchange(self, wish: CancelAllWish) -> CancelAllAnswer:
        """Cancel all where all are ours; else say why it was not asked for."""
        connector = self._parts.connectors.get((wish.exchange, wish.account))
        if connector is None or not connector.capabilities.cancel_all:
            return _not_asked("there is no such request")
        theirs = OrderFilter(
            wish.exchange, wish.account, wish.symbol, statuses=OPEN_STATUSES, external=True
        )
        known = await self._store.listing(theirs, limit=1)
        for order_id in known.order_ids:
            return _not_asked(f"{order_id} is somebody else's")
        ours = await self._ours(wish)
        await self._note(ours, wish.reason)
        # The look comes last: from here to the request nothing but the request is waited for.
        why_not = await self._somebody_elses(connector, wish)
        if why_not is not None:
            return _not_asked(why_not)
        try:
            await cast("ICancelsAll", connector).cancel_all(wish.symbol)
        except ExchangeError as error:
            return CancelAllAnswer(is_asked=True, why_not=str(error))
        return CancelAllAnswer(is_asked=True)

    async def _ours(self, wish: CancelAllWish) -> dict[str, Pending]:
        mine = OrderFilter(
            wish.exchange, wish.account, wish.symbol, statuses=OPEN_STATUSES, external=False
        )
        found = await self._store.orders(mine, limit=None)
        return {order.client_order_id: order.pending for order in found if order.submitted_at}

    async def _note(self, ours: dict[str, Pending], reason: str | None) -> None:
        """Commit the wish on each, so that its end is one that was asked for."""
        event = LifecycleEvent(kind=EventKind.CANCEL_REQUESTED, at=utc_now(), reason=reason)
        quiet = [one for one, pending in ours.items() if pending is Pending.NONE]
        await asyncio.gather(*(self._store.record(one, [event]) for one in quiet))

    async def _somebody_elses(
        self, connector: IExecutionConnector, wish: CancelAllWish
    ) -> str | None:
        """Why not all that is open there is known to be ours; None: it is."""
        try:
            with urgent():
                listed = await connector.open_orders(wish.symbol)
        except ExchangeError as error:
            return f"its open orders cannot be had: {error}"
        if listed.gap is not None:
            return listed.gap
        ids = [report.exchange_client_id or "" for report in listed]
        claims = await asyncio.gather(
            *(self._store.find_claim(wish.exchange, wish.account, one) for one in ids)
        )
        others = [one for one, claim in zip(ids, claims, strict=True) if claim is None]
        return (
            f"{others[0] or 'an order without a client id'} is somebody else's" if others else None
        )


def _not_asked(why_not: str) -> CancelAllAnswer:
    return CancelAllAnswer(is_asked=False, why_not=why_not)
