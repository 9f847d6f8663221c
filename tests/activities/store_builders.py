"""Stores, requests and reports for the tests of the store."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from activities.store import ClaimOutcome, Store, StoreSettings
from activities.store.schema import journal_head, order_events, orders
from tests.oms.builders import NOW, event, fill, order
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order
from trading.oms.venue import ExecutionReport, OrderRequest, ReportSource, VenueStatus

_numbers = itertools.count(1)
QUICK = StoreSettings(answer_within_s=1.0, poll_interval_s=0.01, fallback_poll_s=0.2)


@contextlib.asynccontextmanager
async def opened(url: str, settings: StoreSettings | None = None) -> AsyncIterator[Store]:
    store = await Store.open(url, create=True, settings=settings)
    try:
        yield store
    finally:
        await store.close()


def new_order(**fields: Any) -> Order:
    """An order with an id of its own."""
    given = {"client_order_id": f"order-{next(_numbers)}", "account": "main", **fields}
    return order(**given)


def request_of(order: Order, leg: int = 1, generation: int = 1, **fields: Any) -> OrderRequest:
    given: dict[str, Any] = {
        "exchange": "sandbox",
        "account": "main",
        "symbol": order.symbol,
        "exchange_client_id": exchange_client_id("test", order.client_order_id, leg, generation),
        "side": order.side,
        "order_type": order.order_type,
        "quantity": order.quantity,
        "price": order.price,
        "timestamp_ms": 1000,
        "window_ms": 500,
        **fields,
    }
    return OrderRequest(**given)


def fill_event(order: Order, trade: str, quantity: str = "1", **fields: Any) -> LifecycleEvent:
    """A fill of the order; the same trade is the same fill."""
    one = fill(f"{order.client_order_id}/{trade}", quantity, account="main", order_id="", **fields)
    return event(EventKind.FILL, fill=one)


def report(order: Order | None = None, **fields: Any) -> ExecutionReport:
    given: dict[str, Any] = {
        "exchange": "sandbox",
        "account": "main",
        "symbol": "BTC/USDT",
        "exchange_client_id": order and request_of(order).exchange_client_id,
        "status": VenueStatus.NEW,
        "cumulative_quantity": Decimal(0),
        "at": NOW,
        "received_at": NOW,
        "source": ReportSource.STREAM,
        **fields,
    }
    return ExecutionReport(**given)


async def claimed(store: Store, order: Order) -> Order:
    """Admit the order and claim its first send."""
    await store.admit(order)
    claim = await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="test")
    assert claim.won
    return order


async def accepted(store: Store, order: Order, exchange_order_id: str = "x-1") -> Order:
    """Admit, claim and settle as accepted."""
    await claimed(store, order)
    known = event(EventKind.ACCEPTED, exchange_order_id=exchange_order_id)
    await store.settle_claim(
        order.client_order_id, 1, 1, outcome=ClaimOutcome.ACCEPTED, events=[known]
    )
    return order


async def restore(store: Store, sequence: int) -> None:
    """Lose the journal after a sequence, and the orders (no more than admitted) that it made."""

    def lose(connection: sa.Connection) -> None:
        kept = sa.select(order_events.c.order_id)
        connection.execute(sa.delete(order_events).where(order_events.c.sequence > sequence))
        connection.execute(sa.delete(orders).where(orders.c.client_order_id.not_in(kept)))
        connection.execute(sa.update(journal_head).values(sequence=sequence))

    await store._engines.writes.run(lose)


def lose_next_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next transaction is committed, and the line is cut before its answer."""
    writes = store._engines.writes
    run = writes.run

    async def commit_and_cut(work: Callable[[sa.Connection], Any]) -> Any:
        monkeypatch.setattr(writes, "run", run)
        await run(work)
        msg = "the line was cut"
        raise ConnectionResetError(msg)

    monkeypatch.setattr(writes, "run", commit_and_cut)
