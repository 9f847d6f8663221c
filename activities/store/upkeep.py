"""What the running of a deployment needs beside its orders: leases, reports, what to sweep."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from activities.store.claims import ClaimRequest, ClaimSend
from activities.store.figures import Figures, figures
from activities.store.schema import account_leases, orders, reconcile_reports
from activities.store.statements import IS_SENT, Among, beside
from activities.store.types import Claim, ClaimKey
from activities.store.writer import Writer
from trading.oms.enums import OPEN_STATUSES
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.venue import OrderRequest

KEPT = timedelta(days=30)
"""How long reports are kept."""
_Found = TypeVar("_Found")
_REPORTS = reconcile_reports.c
_ENDED = (
    sa.select(orders.c.client_order_id)
    .where(
        Among(orders.c.client_order_id),
        beside(orders.c.account) == sa.bindparam("account"),
        orders.c.status.not_in(sorted(OPEN_STATUSES)),
        orders.c.last_updated_at < sa.bindparam("before"),
    )
    .order_by(orders.c.client_order_id)
)


class _Read(Protocol):
    """How the store reads: `query` runs on a connection of its own, where that may wait."""

    async def __call__(self, query: Callable[[sa.Connection], _Found]) -> _Found: ...


class Lease(NamedTuple):
    """Which deployment owns an account, and since when."""

    exchange: str
    account: str
    deployment: str
    taken_at: datetime


class LetGo(NamedTuple):
    """The lease that was there (None: none), and the open orders that keep it."""

    lease: Lease | None
    open_orders: int


class Upkeep:
    """Each write is one step and may be repeated."""

    def __init__(self, writer: Writer, read: _Read) -> None:
        """Write through the store's writer, read through its reader."""
        self._writer = writer
        self._read = read

    async def add_report(self, started_at: datetime, report: dict[str, Any], differed: int) -> None:
        """Keep the report of one pass, as plain JSON values; those older than `KEPT` go."""
        await self._writer.do(_AddReport(started_at, report, differed))

    async def reports(
        self, exchange: str = "", account: str = "", *, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The newest reports of an account (or of all), the newest first."""
        query = sa.select(_REPORTS.report).order_by(_REPORTS.id.desc()).limit(limit)
        if exchange:
            query = query.where(_REPORTS.exchange == exchange)
        if account:
            query = query.where(_REPORTS.account == account)
        return await self._read(lambda c: [row.report for row in c.execute(query)])

    async def claim_what_is_there(
        self, order_id: str, request: OrderRequest, claimant: str, before: Sequence[LifecycleEvent]
    ) -> Claim:
        """Claim the first send of an order that the exchange has: nothing can refuse it any more.

        It is no send: neither a halt nor that the order has ended here speaks against it.
        """
        key = ClaimKey(order_id, 1, 1)
        wish = ClaimRequest(key, request, claimant, before=before, is_there=True)
        return await self._writer.do(ClaimSend(wish))  # type: ignore[no-any-return]

    async def figures(self) -> Figures:
        """What an operator watches."""
        return await self._read(figures)

    async def symbols(
        self, exchange: str, account: str, touched_since: datetime
    ) -> dict[str, datetime]:
        """The symbols with orders that were sent and are open, or were touched since then.

        With each, when the oldest of these orders was made. One that was denied may name a symbol
        that the exchange does not list.
        """
        columns = orders.c
        here = sa.select(columns.symbol, columns.created_at).where(
            beside(columns.exchange) == exchange, beside(columns.account) == account, IS_SENT
        )
        # Two queries with an index each: with OR between them all orders ever made are read.
        meant = sa.union_all(
            here.where(columns.status.in_(sorted(OPEN_STATUSES))),
            here.where(columns.last_updated_at >= touched_since),
        ).subquery()
        since = sa.func.min(meant.c.created_at).label("since")
        query = sa.select(meant.c.symbol, since).group_by(meant.c.symbol)
        return await self._read(lambda c: {row.symbol: row.since for row in c.execute(query)})

    async def ended(
        self, account: str, among: Collection[str], changed_before: datetime
    ) -> list[str]:
        """Those of the orders that are an account's and have ended; unchanged since then."""
        values = {"keys": sorted(among), "account": account, "before": changed_before}
        return await self._read(
            lambda c: [row.client_order_id for row in c.execute(_ENDED, values)]
        )

    async def take_lease(self, exchange: str, account: str, deployment: str) -> Lease:
        """Take an account for a deployment, or find who has it: a lease does not end by itself."""
        lease = Lease(exchange, account, deployment, utc_now())
        return await self._writer.do(_TakeLease(lease))  # type: ignore[no-any-return]

    async def let_go(self, exchange: str, account: str) -> LetGo:
        """End the lease of an account, unless orders of ours are open there."""
        return await self._writer.do(_LetGo(exchange, account))  # type: ignore[no-any-return]


class _TakeLease:
    """Insert the lease, or read the one that is there."""

    rank = 4

    def __init__(self, wanted: Lease) -> None:
        self._wanted = wanted

    def run(self, connection: sa.Connection) -> Lease:
        wanted = self._wanted
        query = _lease_of(sa.select(account_leases), wanted.exchange, wanted.account)
        known = connection.execute(query).one_or_none()
        if known is not None:
            return Lease(*known)
        connection.execute(sa.insert(account_leases), wanted._asdict())
        return wanted


class _LetGo:
    """Delete the lease where no order of ours is open."""

    rank = 4

    def __init__(self, exchange: str, account: str) -> None:
        self._key = (exchange, account)

    def run(self, connection: sa.Connection) -> LetGo:
        exchange, account = self._key
        columns = orders.c
        query = sa.select(sa.func.count()).where(
            columns.exchange == exchange,
            columns.account == account,
            columns.status.in_(sorted(OPEN_STATUSES)),
            columns.external.is_(sa.false()),
        )
        still_open = int(connection.execute(query).scalar_one())
        known = connection.execute(
            _lease_of(sa.select(account_leases), exchange, account)
        ).one_or_none()
        if known is not None and not still_open:
            connection.execute(_lease_of(sa.delete(account_leases), exchange, account))
        return LetGo(None if known is None else Lease(*known), still_open)


def _lease_of(statement: Any, exchange: str, account: str) -> Any:
    columns = account_leases.c
    return statement.where(columns.exchange == exchange, columns.account == account)


class _AddReport:
    """Insert a report and forget the old ones."""

    rank = 4

    def __init__(self, started_at: datetime, report: dict[str, Any], differed: int) -> None:
        self._values = {
            "exchange": report["exchange"],
            "account": report["account"],
            "started_at": started_at,
            "differed": differed,
            "report": report,
        }
        self._old = started_at - KEPT

    def run(self, connection: sa.Connection) -> None:
        connection.execute(sa.insert(reconcile_reports), self._values)
        connection.execute(sa.delete(reconcile_reports).where(_REPORTS.started_at < self._old))
