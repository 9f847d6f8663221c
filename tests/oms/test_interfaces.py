"""What we ship is what the specification's interfaces ask for, names and parameters included."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from activities.rate_desk import RateDesk
from trading.oms import interfaces
from trading.oms.event_bus import EventBus
from trading.oms.interfaces import (
    IEventBus,
    IInstrumentMapper,
    IOrderManager,
    IOrderRouter,
    IRateLimiter,
    IRateLimitGuard,
    IRateSlots,
    IRiskChecker,
)
from trading.oms.order_manager import OrderManager
from trading.oms.rate_limit_guard import RateLimiter, RateLimitGuard
from trading.oms.risk.checker import RiskChecker
from trading.oms.routing.simple import SimpleRouter
from trading.oms.routing.smart import SmartOrderRouter

# Mypy compares these with the interfaces.
EVENT_BUS: Callable[[], IEventBus] = EventBus
MANAGER: Callable[[], IOrderManager] = OrderManager
GUARD: Callable[[], IRateSlots] = RateLimitGuard
LIMITER: Callable[[dict[str, Any]], IRateLimiter] = RateLimiter
CHECKER: Callable[[], IRiskChecker] = RiskChecker
SIMPLE: Callable[[], IOrderRouter] = SimpleRouter
SMART: Callable[[Any], IOrderRouter] = SmartOrderRouter

SPECIFIED: list[tuple[type, str, list[str]]] = [
    (IOrderManager, "submit_order", ["order"]),
    (IOrderManager, "cancel_order", ["order_id", "exchange", "symbol"]),
    (IOrderManager, "modify_order", ["order_id", "new_quantity", "new_price"]),
    (IOrderManager, "get_order", ["order_id"]),
    (IOrderManager, "get_open_orders", ["exchange", "symbol", "strategy_id"]),
    (IOrderManager, "sync_orders", ["exchange"]),
    (IRiskChecker, "check_order", ["order", "portfolio"]),
    (IRiskChecker, "add_check", ["name", "check_func"]),
    (IOrderRouter, "route_order", ["order"]),
    (IOrderRouter, "register_exchange", ["exchange_name", "connector"]),
    (IRateLimitGuard, "check_rate_limit", ["exchange", "endpoint"]),
    (IRateLimitGuard, "acquire_rate_limit", ["exchange", "endpoint"]),
    (IRateLimitGuard, "get_rate_limit_status", ["exchange"]),
]

OURS: dict[type, list[type]] = {
    IOrderManager: [OrderManager],
    IRiskChecker: [RiskChecker],
    IOrderRouter: [SimpleRouter, SmartOrderRouter],
    IRateLimitGuard: [RateLimitGuard, RateDesk],
}
NOT_AWAITED = {
    "get_order",
    "get_open_orders",
    "add_check",
    "register_exchange",
    "get_rate_limit_status",
}
CASES = [(c, m, p) for i, m, p in SPECIFIED for c in [i, *OURS[i]]]


@pytest.mark.parametrize(
    ("where", "method", "parameters"), CASES, ids=[f"{c.__name__}.{m}" for c, m, _ in CASES]
)
def test_a_method_has_the_specified_parameters_and_further_ones_have_defaults(
    where: type, method: str, parameters: list[str]
) -> None:
    found = getattr(where, method)
    given = list(inspect.signature(found).parameters.values())[1:]
    assert [each.name for each in given[: len(parameters)]] == parameters
    assert all(each.default is not inspect.Parameter.empty for each in given[len(parameters) :])
    assert inspect.iscoroutinefunction(found) is (method not in NOT_AWAITED)


@pytest.mark.parametrize(
    "interface", [*OURS, IRateSlots, IRateLimiter, IEventBus, IInstrumentMapper]
)
def test_a_subclass_that_lacks_a_method_cannot_be_made(interface: type) -> None:
    methods = inspect.getmembers(interface, inspect.isfunction)
    names = {name for name, _ in methods if not name.startswith("_")}
    for missing in names:
        others = dict.fromkeys(names - {missing}, lambda *_: None)
        with pytest.raises(TypeError, match=missing):
            type("Incomplete", (interface,), others)()
    assert type("Complete", (interface,), dict.fromkeys(names, lambda *_: None))()


def test_every_interface_can_be_imported_from_one_place() -> None:
    assert [name for name in interfaces.__all__ if not hasattr(interfaces, name)] == []
