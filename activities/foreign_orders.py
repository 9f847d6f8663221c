"""Orders of an account that the store does not know: somebody else's, and lost ones of ours.

Somebody else's are recorded, so that their fills have an order, and never touched. One with the
mark of this deployment is recovered: it gets a row and a claim of its own, and a workflow.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.booking import Booking
from activities.store import ClaimOutcome
from trading.oms.enums import OrderSide, OrderType
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, OrderState
from trading.oms.reports import events_of
from trading.oms.venue import OrderRequest

if TYPE_CHECKING:
    from activities.store import Store
    from trading.oms.venue import ExecutionReport

_CLAIMANT = "reconciliation"
_ADMITTED = 1
"""The number of the entry that admits an order, which is its first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ForeignOrders:
    """Records and recovers. Doing it twice changes nothing."""

    def __init__(self, store: Store) -> None:
        """Take the store."""
        self._store = store
        self._booking = Booking(store)

    async def record(self, report: ExecutionReport) -> bool:
        """Record somebody else's order as the exchange describes it; True where that was news."""
        order_id = _external_id(report)
        known = await self._store.order(order_id)
        if known is None:
            known = await self._store.admit_external(_external(report))
        if known.sequence > _ADMITTED:
            after = (await self._booking.book(order_id, [report])).state
            return after.sequence != known.sequence
        # With its first word, so that a try that was cut off before it is made again.
        text = "external: the account has an order that this deployment has not sent"
        alarm = LifecycleEvent(kind=EventKind.ALARM, at=report.at, reason=text)
        await self._store.record(order_id, [alarm, *events_of(report, 1, known)])
        return True

    async def recover(self, report: ExecutionReport) -> str | None:
        """Make a lost order of ours known again, and alarm it; its id, None where it cannot be."""
        if not report.price or not report.quantity or report.side is None:
            return None  # Not a limit order: nobody knows what it was meant to be.
        order = Order(
            client_order_id=f"recovered-{report.exchange_client_id}",
            symbol=report.symbol,
            side=report.side,
            order_type=OrderType.LIMIT,
            quantity=report.quantity,
            price=report.price,
            exchange=report.exchange,
            account=report.account,
            # Should its claim be missing, nothing may ever be sent for it.
            send_by=_EPOCH,
            created_at=report.at,
        )
        await self._store.admit(order)
        order_id = order.client_order_id
        routed = LifecycleEvent(
            kind=EventKind.ROUTED, at=report.at, exchange=report.exchange, account=report.account
        )
        text = "recovered: the exchange had it under our mark, and the store did not know it"
        alarm = LifecycleEvent(kind=EventKind.ALARM, at=report.at, reason=text)
        claim = await self._store.upkeep.claim_what_is_there(
            order_id, _request(report), _CLAIMANT, [routed, alarm]
        )
        await self._store.settle_claim(
            order_id,
            1,
            1,
            outcome=ClaimOutcome.ACCEPTED,
            answer={"exchange_order_id": report.exchange_order_id},
            events=events_of(report, 1, claim.state),
        )
        return order_id


def _external_id(report: ExecutionReport) -> str:
    parts = (report.exchange, report.account, report.symbol, report.exchange_order_id or "")
    return f"external-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:24]}"


def _external(report: ExecutionReport) -> OrderState:
    quantity = report.quantity or report.cumulative_quantity
    if quantity is None:
        quantity = sum((fill.quantity for fill in report.fills), start=report.fills[0].quantity * 0)
    return OrderState(
        client_order_id=_external_id(report),
        exchange_order_id=report.exchange_order_id,
        exchange_client_id=report.exchange_client_id,
        exchange=report.exchange,
        account=report.account,
        symbol=report.symbol,
        side=report.side or OrderSide.BUY,
        order_type=OrderType.LIMIT if report.price else OrderType.MARKET,
        quantity=quantity,
        remaining_quantity=quantity,
        price=report.price or None,
        created_at=report.at,
        last_updated_at=report.at,
    )


def _request(report: ExecutionReport) -> OrderRequest:
    """The request that must have placed it; its time is the exchange's."""
    assert report.side is not None  # noqa: S101 - checked by the caller
    assert report.quantity is not None  # noqa: S101
    return OrderRequest(
        exchange=report.exchange,
        account=report.account,
        symbol=report.symbol,
        exchange_client_id=report.exchange_client_id or "",
        side=report.side,
        order_type=OrderType.LIMIT,
        quantity=report.quantity,
        price=report.price,
        timestamp_ms=int(report.at.timestamp() * 1000),
        window_ms=0,
    )
