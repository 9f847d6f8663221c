"""An exchange's list of orders, judged row by row: one that cannot be read hides no other."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from activities.connectors.classify import shown
from activities.connectors.fields import MalformedError
from trading.oms.venue import ExecutionReport, OrderList

logger = logging.getLogger(__name__)
_NAMES = (
    *("symbol", "instId", "product_id"),
    *("orderId", "ordId", "order_id"),
    *("clientOrderId", "clOrdId", "orderLinkId", "client_order_id"),
)
Row = TypeVar("Row")


def read_orders(read: Callable[[Row], ExecutionReport], rows: Iterable[Row]) -> OrderList:
    """Read each row; one that cannot be read is logged and named in `OrderList.unreadable`."""
    found: list[ExecutionReport] = []
    unreadable: dict[str, None] = {}
    for row in rows:
        try:
            found.append(read(row))
        except MalformedError as error:
            unreadable[shown(f"{_name(row)}: {error}")] = None
    for text in unreadable:
        logger.warning("an order in the exchange's list cannot be read: %s", text)
    return OrderList(tuple(found), tuple(unreadable))


def joined(lists: Iterable[OrderList]) -> OrderList:
    """Several lists as one."""
    known = list(lists)
    reports = tuple(report for one in known for report in one)
    return OrderList(reports, tuple(text for one in known for text in one.unreadable))


def _name(row: object) -> str:
    """What the exchange calls the order, as far as the row says it."""
    if isinstance(row, tuple):  # Kraken's: the order's id, and the rest.
        return f"order {row[0]}"
    said = row if isinstance(row, dict) else {}
    names = [str(said[name]) for name in _NAMES if said.get(name)]
    return f"order {' '.join(names)}" if names else "an order without a name"
