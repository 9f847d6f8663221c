"""The fills of an account by the exchange's own list, against those that are booked.

The list is read by trade id, from a cursor with an overlap: a fill that came late under an older
id is still seen. Beside it stands until when the list was read, for exchanges that list by time.
Orders that have ended are swept too, and those that were declared dead.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from activities.asked_until import AskedUntil, cursor_name
from activities.foreign_orders import ForeignOrders
from activities.store import OrderFilter
from trading.oms.enums import OPEN_STATUSES, OrderStatus, Pending
from trading.oms.models import utc_now
from trading.oms.reconciliation import unbooked
from trading.oms.venue import ExecutionReport, ReportSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from activities.order_door import OrderDoor
    from activities.order_steps import Parts
    from trading.oms.models import Fill
    from trading.oms.venue import IExecutionConnector

_RECENT = timedelta(days=1)
_MARGIN = timedelta(minutes=1)
_OVERLAP_IDS = 1000
_LISTED_LATE = timedelta(hours=1)
_SETTLING = timedelta(seconds=2)


class _Look(NamedTuple):
    """One look at a symbol's list: where it began, what was compared, what nobody has taken."""

    cursor: str | None
    asked_at: datetime
    settled: Sequence[Fill]
    left: list[Fill]


class FillSweep:
    """One account's sweep. `looked_at` counts the fills of the symbol asked for last."""

    def __init__(self, parts: Parts, door: OrderDoor, connector: IExecutionConnector) -> None:
        """Take the parts and the account's connector."""
        self._store = parts.store
        self._door = door
        self._connector = connector
        self._foreign = ForeignOrders(parts.store)
        self._asked_until = AskedUntil(parts.store, connector, "swept_at")
        self._looks: dict[str, _Look] = {}
        self.looked_at = 0

    async def symbols(self) -> dict[str, datetime]:
        """The symbols with orders of ours that were touched of late, and since when."""
        return await self._store.upkeep.symbols(
            self._connector.exchange, self._connector.account, utc_now() - _RECENT
        )

    async def missing(
        self, symbol: str, since: datetime
    ) -> list[tuple[str | None, ExecutionReport]]:
        """What is not booked, by exchange order: our order's id (None: not ours), and a report.

        Raises `ExchangeError`. The newest fills are left out: they are on their way.
        """
        cursor = await self._store.cursor(self._name(symbol))
        first = None if cursor is None else str(max(int(cursor) - _OVERLAP_IDS, 0))
        # An exchange that lists by time needs one beside the id: the account may have no trade of
        # the symbol that is as old as the id, and its whole history would be read for it.
        asked_at = self._connector.exchange_now()
        oldest = since - _MARGIN
        asked = await self._asked_until.but(_LISTED_LATE, symbol) or oldest
        start = asked if cursor is not None else max(oldest, asked)
        fills = await self._connector.fills_after(symbol, trade_id=first, since=start)
        self.looked_at = len(fills)
        settled_before = utc_now() - _SETTLING
        settled = [fill for fill in fills if fill.timestamp < settled_before]
        left = [fill for fill in fills if fill.timestamp >= settled_before]
        self._looks[symbol] = _Look(cursor, asked_at, settled, left)
        booked = await self._store.fills_known([fill.fill_id for fill in settled])
        by_order: dict[str, list[Fill]] = {}
        for fill in unbooked(settled, booked):
            by_order.setdefault(fill.exchange_order_id or "", []).append(fill)
        where = (self._connector.exchange, self._connector.account, symbol)
        owned: list[tuple[str | None, ExecutionReport]] = []
        unknown: dict[str, list[Fill]] = {}
        for id_, found in by_order.items():
            order_id = await self._store.find_order(where, id_)
            if order_id is None:
                unknown[id_] = found
            else:
                owned.append((order_id, _report(found)))
        return owned + await self._listed(symbol, unknown) if unknown else owned

    async def deliver(self, order_id: str | None, report: ExecutionReport) -> bool:
        """Let the order book its fills; somebody else's are booked on a row of their own.

        Raises `UnreadableOrder`.
        """
        taken = False
        try:
            if order_id is None or not (await self._store.standing(order_id, ())).is_ours:
                await self._foreign.record(report)
                taken = True
            else:
                taken = await self._door.tell(order_id, [report])
        finally:
            if not taken:
                self._looks[report.symbol].left.extend(report.fills)
        return taken

    async def done_with(self, symbol: str) -> None:
        """Move cursor and time up to the oldest fill that nobody has taken: it comes again."""
        cursor, asked_at, settled, left = self._looks[symbol]
        end = min((_number(fill) for fill in left if _is_numbered(fill)), default=None)
        passed = [f for f in settled if _is_numbered(f) and (end is None or _number(f) < end)]
        if passed:
            newest = str(max(_number(fill) for fill in passed))
            await self._store.advance_cursor(self._name(symbol), cursor, newest)
        until = min([asked_at, *(fill.timestamp for fill in left)])
        await self._asked_until.move(symbol, until)

    async def _listed(
        self, symbol: str, unknown: Mapping[str, Sequence[Fill]]
    ) -> list[tuple[str | None, ExecutionReport]]:
        """Whose fills these are, by exchange order; left out are those of which nobody can say yet.

        A send without an answer has no exchange id here: the list of orders has both.
        """
        exchange, account = self._connector.exchange, self._connector.account
        oldest = min(fill.timestamp for fills in unknown.values() for fill in fills)
        orders = await self._connector.orders_since(symbol, oldest - _RECENT)
        there = {order.exchange_order_id: order for order in orders}
        undecided = orders.gap is not None or await self._waits_for_an_answer(symbol)
        found: list[tuple[str | None, ExecutionReport]] = []
        for id_, fills in unknown.items():
            order = there.get(id_)
            if order is not None:
                report = order.model_copy(update={"fills": tuple(fills)})
                claim = await self._store.find_claim(
                    exchange, account, order.exchange_client_id or ""
                )
                found.append((claim.order_id if claim else None, report))
            elif undecided:
                self._looks[symbol].left.extend(fills)
            else:
                found.append((None, _report(fills)))
        return found

    async def _waits_for_an_answer(self, symbol: str) -> bool:
        """Whether a send of ours may have traded that has no exchange id yet."""
        exchange, account = self._connector.exchange, self._connector.account
        wanted = OrderFilter(exchange, account, symbol, statuses=OPEN_STATUSES)
        orders, unreadable = await self._store.listing(wanted)
        return bool(unreadable) or any(
            order.status is OrderStatus.SUBMITTED
            or order.in_doubt_since is not None
            or order.pending is Pending.MODIFY
            for order in orders
        )

    def _name(self, symbol: str) -> str:
        return cursor_name("swept", self._connector, symbol)


def _is_numbered(fill: Fill) -> bool:
    return (fill.trade_id or "").isdecimal()


def _number(fill: Fill) -> int:
    return int(fill.trade_id or 0)


def _report(fills: Sequence[Fill]) -> ExecutionReport:
    """Fills alone: they say nothing of their order's status."""
    newest = fills[-1]
    return ExecutionReport(
        exchange=newest.exchange,
        account=newest.account,
        symbol=newest.symbol,
        exchange_order_id=newest.exchange_order_id,
        side=newest.side,
        fills=tuple(fills),
        at=newest.timestamp,
        received_at=utc_now(),
        source=ReportSource.QUERY,
    )
