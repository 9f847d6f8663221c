"""How an order looks in the Temporal web UI: like a line of a blotter, with its details below."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from trading.oms.models import OrderState
    from trading.oms.reading import number, summary

ORDER_STATUS = SearchAttributeKey.for_keyword("OrderStatus")
EXCHANGE = SearchAttributeKey.for_keyword("Exchange")
SYMBOL = SearchAttributeKey.for_keyword("Symbol")
STRATEGY = SearchAttributeKey.for_keyword("Strategy")
SIDE = SearchAttributeKey.for_keyword("Side")

__all__ = ["details", "number", "search_attributes", "summary"]


def search_attributes(state: OrderState) -> list[SearchAttributeUpdate[str]]:
    """What lists are filtered by in the web UI."""
    updates: list[SearchAttributeUpdate[str]] = [
        ORDER_STATUS.value_set(state.status.value),
        SYMBOL.value_set(state.symbol),
        SIDE.value_set(state.side.value),
    ]
    if state.exchange:
        updates.append(EXCHANGE.value_set(state.exchange))
    if state.strategy_id:
        updates.append(STRATEGY.value_set(state.strategy_id))
    return updates


def details(state: OrderState, slot_at: datetime | None = None, doubt: Sequence[str] = ()) -> str:
    """The order as a small Markdown table, what is unusual about it in bold above.

    `slot_at` is when the exchange's rate limit has room for it, where it waits for that; `doubt`
    what was asked and answered about it so far.
    """
    lines = [f"**{summary(state)}** is **{state.status.value}**"]
    if state.in_doubt_since is not None:
        lines.append(f"**IN DOUBT since {state.in_doubt_since.isoformat()}**")
        lines += doubt
    if slot_at is not None and state.is_open:
        lines.append(f"**waits for the exchange's rate limit** until {slot_at.isoformat()}")
    if state.pending.value != "none":
        lines.append(f"asked the exchange to **{state.pending.value}**")
    if state.rejection_reason:
        lines.append(f"{state.reason_code or ''}: {state.rejection_reason}")
    average = state.average_fill_price
    rows: list[tuple[str, str | Decimal | None]] = [
        ("exchange", "several" if state.is_split else f"{state.exchange} / {state.account}"),
        ("filled", f"{number(state.filled_quantity)} of {number(state.quantity)}"),
        ("average price", number(average) if average is not None else "-"),
        ("fees", ", ".join(f"{number(v)} {c}" for c, v in state.fees_by_currency.items()) or "-"),
        ("exchange order id", state.exchange_order_id or "-"),
        ("strategy", state.strategy_id or "-"),
    ]
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n\n".join(lines) + "\n\n" + "\n".join(table)
