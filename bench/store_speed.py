"""The store alone: how long its durable commits take, and how many whole lives it books."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from activities.store import ClaimOutcome, Store
from trading.oms.enums import OrderSide, OrderType
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, utc_now
from trading.oms.venue import OrderRequest

_AT_ONCE = 50


@dataclass(frozen=True)
class StoreFigures:
    """Medians in milliseconds with one order at a time; lives per second with many at once."""

    admit_ms: float
    claim_ms: float
    settle_ms: float
    lives_per_s: float


def _order() -> Order:
    return Order(
        symbol="BTC/USDT",
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.001"),
        price=Decimal(30000),
        client_order_id=uuid.uuid4().hex,
    )


def _request(order: Order) -> OrderRequest:
    return OrderRequest(
        exchange="nowhere",
        account="main",
        symbol=order.symbol,
        exchange_client_id=exchange_client_id("bench", order.client_order_id, 1, 1),
        side=order.side,
        order_type=order.order_type,
        quantity=order.quantity,
        price=order.price,
        timestamp_ms=0,
        window_ms=5000,
    )


async def _live(store: Store) -> tuple[float, ...]:
    """One order until it is accepted; the seconds of each step."""
    order = _order()
    key = (order.client_order_id, 1, 1)
    times = [time.perf_counter()]
    await store.admit(order)
    times.append(time.perf_counter())
    await store.claim_send(*key, _request(order), claimant="bench")
    times.append(time.perf_counter())
    accepted = LifecycleEvent(
        kind=EventKind.ACCEPTED, at=utc_now(), exchange_order_id=order.client_order_id
    )
    await store.settle_claim(*key, outcome=ClaimOutcome.ACCEPTED, events=[accepted])
    times.append(time.perf_counter())
    return tuple(after - before for before, after in pairwise(times))


async def store_figures(url: str, seconds: float) -> StoreFigures:
    """Half of the time with one order at a time, half with many at once."""
    store = await Store.open(url, create=True)
    try:
        end = time.perf_counter() + seconds / 2
        steps = [await _live(store)]
        while time.perf_counter() < end:
            steps.append(await _live(store))
        started, count = time.perf_counter(), 0
        while time.perf_counter() < started + seconds / 2:
            count += len(await asyncio.gather(*(_live(store) for _ in range(_AT_ONCE))))
        per_s = count / (time.perf_counter() - started)
    finally:
        await store.close()
    admit, claim, settle = (statistics.median(column) * 1000 for column in zip(*steps, strict=True))
    return StoreFigures(admit, claim, settle, per_s)
