"""Orders, fills and events for the pure tests, with everything that a test does not care about."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from trading.oms.enums import OrderSide, OrderType
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Fill, Instrument, Order, OrderState, Quote

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def order(**fields: Any) -> Order:
    given: dict[str, Any] = {
        "symbol": "BTC/USDT",
        "side": OrderSide.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal(10),
        "price": Decimal(100),
        "client_order_id": "order-1",
        "exchange": "sandbox",
        "created_at": NOW,
        **fields,
    }
    if given["order_type"] in {OrderType.MARKET, OrderType.STOP}:
        given.pop("price")
    return Order(**given)


def state(**fields: Any) -> OrderState:
    """The state of `order()`; `fields` are set on the state, whatever the order would say."""
    base = OrderState.of(order())
    if "quantity" in fields and "remaining_quantity" not in fields:
        fields["remaining_quantity"] = fields["quantity"] - fields.get("filled_quantity", 0)
    return base.model_copy(update=fields)


def fill(fill_id: str = "f1", quantity: str = "1", price: str = "100", **fields: Any) -> Fill:
    given: dict[str, Any] = {
        "fill_id": fill_id,
        "order_id": "order-1",
        "exchange": "sandbox",
        "symbol": "BTC/USDT",
        "side": OrderSide.BUY,
        "quantity": Decimal(quantity),
        "price": Decimal(price),
        "fee": Decimal("0.1"),
        "fee_currency": "USDT",
        "timestamp": NOW,
        **fields,
    }
    return Fill(**given)


def event(kind: EventKind, at: float = 0, **fields: Any) -> LifecycleEvent:
    return LifecycleEvent(kind=kind, at=after(at), **fields)


def instrument(**fields: Any) -> Instrument:
    given: dict[str, Any] = {
        "exchange": "sandbox",
        "symbol": "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "tick_size": Decimal("0.01"),
        "lot_size": Decimal("0.001"),
        "min_order_size": Decimal("0.001"),
        "max_order_size": Decimal(1000),
        "min_notional": Decimal(5),
        "fetched_at": NOW,
        **fields,
    }
    return Instrument(**given)


def quote(bid: str = "99.99", ask: str = "100.01", **fields: Any) -> Quote:
    given: dict[str, Any] = {
        "exchange": "sandbox",
        "symbol": "BTC/USDT",
        "bid": Decimal(bid),
        "ask": Decimal(ask),
        "received_at": NOW,
        **fields,
    }
    return Quote(**given)
