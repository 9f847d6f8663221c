"""What an operator watches, counted in one read of the store."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from activities.store.reads import trading_states
from activities.store.schema import execution_inbox, orders, reconcile_reports
from trading.oms.enums import OPEN_STATUSES, TradingState

_ORDERS, _INBOX, _REPORTS = orders.c, execution_inbox.c, reconcile_reports.c
_OPEN = _ORDERS.status.in_(sorted(status.value for status in OPEN_STATUSES))
_OPEN_ORDERS = (
    sa.select(_ORDERS.exchange, _ORDERS.account, _ORDERS.status, sa.func.count().label("count"))
    .where(_OPEN)
    .group_by(_ORDERS.exchange, _ORDERS.account, _ORDERS.status)
)
_IN_DOUBT = (
    sa.select(
        _ORDERS.exchange,
        _ORDERS.account,
        sa.func.count().label("count"),
        sa.func.min(_ORDERS.in_doubt_since).label("since"),
    )
    .where(_OPEN, _ORDERS.in_doubt_since.is_not(None))
    .group_by(_ORDERS.exchange, _ORDERS.account)
)
_WAITING = (
    sa.select(
        _INBOX.exchange,
        _INBOX.account,
        sa.func.count().label("count"),
        sa.func.min(_INBOX.added_at).label("since"),
    )
    .where(_INBOX.delivered_at.is_(None))
    .group_by(_INBOX.exchange, _INBOX.account)
)
_NEWEST = sa.select(sa.func.max(_REPORTS.id)).group_by(_REPORTS.exchange, _REPORTS.account)
_PASSES = sa.select(
    _REPORTS.exchange, _REPORTS.account, _REPORTS.started_at, _REPORTS.differed
).where(_REPORTS.id.in_(_NEWEST))


class Queue(NamedTuple):
    """How many of an account wait for something, and since when the oldest does."""

    exchange: str
    account: str
    number: int
    since: datetime


class Open(NamedTuple):
    """How many orders of an account are open in a status."""

    exchange: str
    account: str
    status: str
    number: int


class Pass(NamedTuple):
    """The newest reconciliation of an account: when it began, how much differed."""

    exchange: str
    account: str
    started_at: datetime
    differed: int


class Figures(NamedTuple):
    """All of it, of one moment."""

    open_orders: list[Open]
    in_doubt: list[Queue]
    waiting_reports: list[Queue]
    passes: list[Pass]
    trading: dict[str, TradingState]


def figures(connection: sa.Connection) -> Figures:
    """Count."""
    run = connection.execute
    return Figures(
        open_orders=[Open(*row) for row in run(_OPEN_ORDERS)],
        in_doubt=[Queue(*row) for row in run(_IN_DOUBT)],
        waiting_reports=[Queue(*row) for row in run(_WAITING)],
        passes=[Pass(*row) for row in run(_PASSES)],
        trading=trading_states(connection),
    )
