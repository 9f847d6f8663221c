"""The pure figures: what deciding costs without Temporal, store or exchange. One core, no I/O."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from trading.oms.enums import OrderSide, OrderType
from trading.oms.lifecycle import EventKind, LifecycleEvent, apply
from trading.oms.models import Balance, Fill, Instrument, Order, OrderState, Quote, utc_now
from trading.oms.portfolio import Portfolio
from trading.oms.risk.checker import RiskChecker
from trading.oms.risk.limits import RiskLimits
from trading.oms.routing.simple import SimpleRouter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trading.oms.venue import IExecutionConnector

_BATCH = 200
_OPEN_ORDERS = 10
_QUOTE_AGE = timedelta(seconds=1)
_NOW = datetime(2025, 1, 2, tzinfo=UTC)
_SYMBOL = "BTC/USDT"
_LIMITS = RiskLimits(
    max_position_size=Decimal(100),
    max_open_orders=1000,
    max_exposure=Decimal(10_000_000),
    max_order_notional=Decimal(1_000_000),
    max_daily_loss=Decimal(100_000),
    max_orders_per_minute=10_000,
)
_INSTRUMENT = Instrument(
    exchange="sandbox",
    symbol=_SYMBOL,
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.000001"),
    min_order_size=Decimal("0.000001"),
    max_order_size=Decimal(9000),
    min_notional=Decimal(5),
)


@dataclass(frozen=True)
class PureFigures:
    """Medians of batches."""

    risk_us: float
    state_update_us: float
    pipeline_orders_per_s: float


class _Mapper:
    def get_instrument(self, symbol: str, exchange: str | None = None) -> Instrument | None:
        """The one instrument."""
        return _INSTRUMENT if (symbol, exchange) == (_SYMBOL, "sandbox") else None


class _Venue:
    """A connector as far as a router looks at it."""

    account = "main"


class _Quotes:
    """The newest quote, fetched each second, as the desk keeps it for all orders of a symbol."""

    def __init__(self) -> None:
        self._quote: Quote | None = None

    async def get(self, _: Order) -> Quote:
        """The one that is at hand."""
        now = utc_now()
        if self._quote is None or now - self._quote.received_at > _QUOTE_AGE:
            self._quote = Quote(
                exchange="sandbox",
                symbol=_SYMBOL,
                bid=Decimal(29999),
                ask=Decimal(30001),
                received_at=now,
            )
        return self._quote


def _order() -> Order:
    """From outside, so with all of its own checks."""
    return Order.model_validate(
        {
            "symbol": _SYMBOL,
            "side": OrderSide.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": "0.001",
            "price": "30000",
            "exchange": "sandbox",
        }
    )


def _life(order: Order) -> list[LifecycleEvent]:
    """Routed, submitting, leg started, submitted, accepted, filled."""
    fill = Fill(
        order_id=order.client_order_id,
        exchange="sandbox",
        symbol=order.symbol,
        side=order.side,
        quantity=order.quantity,
        price=order.price or Decimal(1),
        fee=Decimal("0.03"),
        fee_currency="USDT",
        timestamp=_NOW,
    )
    return [
        LifecycleEvent(kind=EventKind.ROUTED, at=_NOW, exchange="sandbox", account="main"),
        LifecycleEvent(kind=EventKind.SUBMITTING, at=_NOW),
        LifecycleEvent(kind=EventKind.LEG_STARTED, at=_NOW, exchange_client_id="x"),
        LifecycleEvent(kind=EventKind.SUBMITTED, at=_NOW),
        LifecycleEvent(kind=EventKind.ACCEPTED, at=_NOW, exchange_order_id="1"),
        LifecycleEvent(kind=EventKind.FILL, at=_NOW, fill=fill),
    ]


class _Pipeline:
    """Validate, route, check, and apply what happens; everything but the world."""

    def __init__(self) -> None:
        self.events = _life(_order())
        self._open = [OrderState.of(_order()) for _ in range(_OPEN_ORDERS)]
        usdt = Balance(asset="USDT", free=Decimal(1_000_000), locked=Decimal(0))
        self._portfolio = Portfolio(
            balances={"USDT": usdt},
            positions={_SYMBOL: Decimal(1)},
            prices={_SYMBOL: Decimal(30000)},
        )
        self._checker = RiskChecker(
            _LIMITS,
            instrument_mapper=_Mapper(),
            get_quote=_Quotes().get,
            get_open_orders=lambda: self._open,
        )
        self._router = SimpleRouter("sandbox")
        self._router.register_exchange("sandbox", cast("IExecutionConnector", _Venue()))

    async def check(self, order: Order) -> None:
        """All standard checks, the snapshot included."""
        result = await self._checker.check_order(order, self._portfolio)
        if not result.passed:
            msg = f"the benchmark's order is denied: {result.reason}"
            raise RuntimeError(msg)

    async def live(self) -> None:
        """One order's whole life."""
        order = _order()
        await self._router.route_order(order)
        await self.check(order)
        self.apply_all(OrderState.of(order))

    def apply_all(self, state: OrderState) -> None:
        """Every event of the life, one after the other."""
        for event in self.events:
            state = apply(state, event).state


async def _per_call_s(seconds: float, call: Callable[[], Awaitable[None]]) -> float:
    """The median of the batches that fit into so many seconds."""
    batches = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(_BATCH):
            await call()
        batches.append((time.perf_counter() - started) / _BATCH)
        await asyncio.sleep(0)
    return statistics.median(batches)


async def pure_figures(seconds: float) -> PureFigures:
    """Each figure from a third of the time."""
    pipeline = _Pipeline()
    order = _order()
    state = OrderState.of(order)

    async def update() -> None:
        pipeline.apply_all(state)

    third = seconds / 3
    return PureFigures(
        risk_us=await _per_call_s(third, lambda: pipeline.check(order)) * 1e6,
        state_update_us=await _per_call_s(third, update) * 1e6 / len(pipeline.events),
        pipeline_orders_per_s=1 / await _per_call_s(third, pipeline.live),
    )
