"""The order management system: what an order is, and the doors to submit one.

    from trading.oms import OrderManager
    from trading.oms.models import Order

`OrderManager` is loaded when it is first asked for, so that the pure domain stays light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trading.oms.order_manager import OrderManager

__all__ = ["OrderManager"]


def __getattr__(name: str) -> Any:
    """Load the door when it is asked for."""
    if name == "OrderManager":
        from trading.oms.order_manager import OrderManager

        return OrderManager
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
