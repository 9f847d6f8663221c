"""How orders read to people: plain numbers and one-line summaries."""

from decimal import Decimal

from trading.oms.models import Order, OrderState


def number(value: Decimal) -> str:
    """A decimal without exponent and without trailing zeros: "0.001", "50000"."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def summary(order: Order | OrderState) -> str:
    """One line: "BUY 0.001 BTC/USDT @ 50000 limit GTC"."""
    parts = [order.side.value.upper(), number(order.quantity), order.symbol]
    if order.price is not None:
        parts.append(f"@ {number(order.price)}")
    if order.stop_price is not None:
        parts.append(f"stop {number(order.stop_price)}")
    parts += [order.order_type.value.replace("_", "-"), order.time_in_force.value]
    if order.post_only:
        parts.append("post-only")
    return " ".join(parts)
