"""The store's door to what risk is measured by: reservations, balances, positions, portfolios."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeVar

import sqlalchemy as sa

from activities.store import risk_statements as sql
from activities.store.account_book import AccountBook, AssetBalance, Watermark
from activities.store.accounts import Adjustment, AdjustPosition, Fetched, TakeBalances
from activities.store.expected import (
    Drift,
    NoteTransfer,
    Reckon,
    Seen,
    TakeOver,
    is_reckoned,
)
from activities.store.ledger import RATE_WINDOW
from activities.store.placing import AdmitEnded, FirstSend, Place, Placing
from activities.store.reservations import (
    Mend,
    MendSums,
    Reserve,
    Reserved,
    ReserveWish,
    Surroundings,
    snapshot_of,
)
from activities.store.risk_rows import sums_of
from activities.store.schema import orders, risk_accounts
from activities.store.splitting import Split, SplitDenied
from activities.store.statements import IS_SENT, beside
from activities.store.writer import Writer
from trading.oms.enums import OPEN_STATUSES, TradingState
from trading.oms.errors import UnreadableOrder
from trading.oms.exact import EXACT
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import Balance, Order, OrderState, utc_now
from trading.oms.portfolio import Portfolio
from trading.oms.risk.checker import run_checks
from trading.oms.risk.checks import ACCOUNT_CHECKS
from trading.oms.risk.reservation import Held
from trading.oms.venue import Transfer

_log = logging.getLogger(__name__)
_MEND_AT_ONCE = 200
_Found = TypeVar("_Found")


class _Read(Protocol):
    """How the store reads."""

    async def __call__(self, query: Callable[[sa.Connection], _Found]) -> _Found: ...


class AdjustmentEntry(NamedTuple):
    """One line of the audit of positions that were set by hand or adopted."""

    symbol: str
    strategy_id: str
    before: Decimal
    after: Decimal
    reason: str
    by: str
    at: datetime


class RiskStore:
    """Reservations, balances and positions; each write is one step and may be repeated."""

    def __init__(self, writer: Writer, read: _Read, dialect: str) -> None:
        """Write through the store's writer, read as the store reads."""
        self._writer = writer
        self._read = read
        self._dialect = dialect

    async def reserve(self, wish: ReserveWish) -> Reserved:
        """Check an order against its account as it stands and reserve what it needs, or neither.

        In one transaction under the account's lock, keyed by the order's id: asking again changes
        nothing. The order's end releases it, fills move it, a modification holds old and new.
        Raises `OrderNotFound`.
        """
        return await self._writer.do(Reserve(wish))  # type: ignore[no-any-return]

    async def place(
        self, order: Order, first: FirstSend | Sequence[LifecycleEvent]
    ) -> Placing | None:
        """Admit an order, reserve for it and claim its first send, in one transaction.

        Or admit it with the events that end it. None where the order is known already: then
        nothing was done. What the account denies has ended in the state.
        """
        given = Place(order, first) if isinstance(first, FirstSend) else AdmitEnded(order, first)
        return await self._writer.do(given)  # type: ignore[no-any-return]

    async def split(
        self, parent_id: str, wishes: Sequence[ReserveWish], *, adds: bool = False
    ) -> tuple[OrderState, SplitDenied | None]:
        """Make the legs of an order with their reservations, in one transaction, or none of them.

        `adds`: the order becomes greater by them; else further legs are of what it has. The
        parent after it, and why it was not split. Raises `OrderNotFound`.
        """
        return await self._writer.do(Split(parent_id, wishes, adds=adds))  # type: ignore[no-any-return]

    async def preview(self, wish: ReserveWish, trading_state: TradingState) -> Reserved:
        """What `reserve` would answer for an order that is not there yet; nothing is reserved."""
        where = (wish.order.exchange or "", wish.order.account or "")
        book = await self._book(*where, utc_now() - RATE_WINDOW, by_name=True)
        own = {
            "exchange": book.exchange,
            "account": book.account,
            "strategy_id": wish.order.strategy_id or "",
        }
        held = await self._read(lambda c: sums_of(sql.SUMS_OF_STRATEGY.read(c, own)))
        around = Surroundings(utc_now(), trading_state, Held(), book.recent_orders, lambda _: held)
        snapshot = snapshot_of(wish, book, around)
        names, denial = run_checks(wish.order, snapshot, ACCOUNT_CHECKS)
        return Reserved(tuple(names), denial)

    async def take_balances(self, fetched: Fetched) -> bool:
        """Keep the exchange's balances; False where newer ones are known."""
        return await self._writer.do(TakeBalances(fetched))  # type: ignore[no-any-return]

    async def adjust_position(self, change: Adjustment) -> Decimal:
        """Set a position by hand, with reason and name in the audit; the quantity before.

        Nothing is changed where the change expects another quantity.
        """
        return await self._writer.do(AdjustPosition(change))  # type: ignore[no-any-return]

    async def accounts(self, exchange: str) -> set[str]:
        """The accounts of an exchange that a worker has seen."""
        query = sa.select(risk_accounts.c.account).where(risk_accounts.c.exchange == exchange)
        return set(await self._read(lambda c: c.execute(query).scalars().all()))

    async def adjustments(self, exchange: str, account: str) -> list[AdjustmentEntry]:
        """The audit of an account's positions, oldest first."""
        names = {"exchange": exchange, "account": account}
        rows = await self._read(lambda c: c.execute(sql.ADJUSTMENTS, names).all())
        return [
            AdjustmentEntry(
                row.symbol,
                row.strategy_id,
                row.before,
                row.after,
                row.reason,
                row.changed_by,
                row.changed_at,
            )
            for row in rows
        ]

    async def reckon(self, seen: Seen) -> list[Drift]:
        """Where the exchange's balances are not the opening ones with our fills since."""
        while (found := await self._writer.do(Reckon(seen))) is None:
            pass
        return found  # type: ignore[no-any-return]

    async def is_reckoned(self, exchange: str, account: str) -> bool:
        """Whether the balances of an account have been looked at before."""
        return await self._read(lambda c: is_reckoned(c, exchange, account))

    async def note_transfer(self, transfer: Transfer) -> bool:
        """What came or went is expected from now on; False where it was noted before."""
        return await self._writer.do(NoteTransfer(transfer))  # type: ignore[no-any-return]

    async def take_over(
        self, exchange: str, account: str, drifts: Sequence[Drift], *, by: str
    ) -> None:
        """From now on these differences are expected; the audit keeps them."""
        await self._writer.do(TakeOver(exchange, account, drifts, by))

    async def mend(self, exchange: str | None = None, account: str | None = None) -> list[str]:
        """Compare reservations with the open orders and mend what differs; the orders mended.

        An open order at a venue without a reservation gets one, one that has ended is released.
        With an exchange and an account only the orders there. Afterwards the accounts' running sums
        are made what their open reservations say; where they were not, the log says it.
        """
        # Two queries with an index each: with OR between them all orders ever made are read.
        query = sa.select(orders.c.client_order_id, orders.c.external)
        if exchange is not None:
            here = (beside(orders.c.exchange) == exchange, beside(orders.c.account) == account)
            query = query.where(*here)
        is_open = query.where(orders.c.status.in_(sorted(OPEN_STATUSES)), IS_SENT)
        holds = query.where(orders.c.client_order_id.in_(sql.OPEN_RESERVATIONS))
        suspects = sa.union(is_open, holds)
        rows = await self._read(lambda c: c.execute(suspects).all())
        mended: list[str] = []
        for start in range(0, len(rows), _MEND_AT_ONCE):
            some = rows[start : start + _MEND_AT_ONCE]
            changed = await asyncio.gather(
                *(self._mend(row.client_order_id, external=row.external) for row in some)
            )
            pairs = zip(some, changed, strict=True)
            mended += [row.client_order_id for row, is_new in pairs if is_new]
        await self._mend_sums(exchange, account)
        return mended

    async def _mend(self, order_id: str, *, external: bool) -> bool:
        """Whether it was mended; what holds an order that cannot be read stays as it is."""
        try:
            return await self._writer.do(Mend(order_id, external=external))  # type: ignore[no-any-return]
        except UnreadableOrder as error:
            _log.warning("%s; what it holds is not checked", error)
            return False

    async def _mend_sums(self, exchange: str | None, account: str | None) -> None:
        if exchange is not None and account is not None:
            accounts = [(exchange, account)]
        else:
            query = sa.select(risk_accounts.c.exchange, risk_accounts.c.account)
            accounts = await self._read(lambda c: [(e, a) for e, a in c.execute(query)])
        for where in accounts:
            for key in await self._writer.do(MendSums(*where)):
                _log.error("the sums of what is reserved were wrong and are mended: %s", key)

    async def book(self, exchange: str, account: str) -> AccountBook:
        """All that stands on an account, at one moment."""
        return await self._book(exchange, account, utc_now())

    async def _book(
        self, exchange: str, account: str, since: datetime, *, by_name: bool = False
    ) -> AccountBook:
        """With how many orders came after `since`: in all, or by symbol and strategy."""
        names = {"exchange": exchange, "account": account}

        def query(connection: sa.Connection) -> AccountBook:
            mark = Watermark()
            for row in sql.ACCOUNT.read(connection, names):
                mark = Watermark(row.as_of, row.as_of_latest, row.fetched_at)
            found = AccountBook(exchange, account, mark)
            standing = sql.STANDING[self._dialect, by_name]
            found.read(standing.read(connection, {**names, "since": since}))
            return found

        return await self._read(query)

    async def portfolio(
        self,
        exchange: str,
        account: str,
        prices: Mapping[str, Decimal] | None = None,
        quote_currency: str = "USDT",
    ) -> Portfolio:
        """The account as the risk checks see it: balances, reservations, positions."""
        book = await self.book(exchange, account)
        symbols = sorted({symbol for symbol, _ in book.positions})
        return Portfolio(
            quote_currency=quote_currency,
            balances={a: _balance(a, one) for a, one in sorted(book.balances.items())},
            reserved={asset: book.reserved(asset) for asset in reserved_assets(book)},
            positions={symbol: book.position(symbol) for symbol in symbols},
            prices=dict(prices or {}),
        )


def reserved_assets(book: AccountBook) -> set[str]:
    """The assets that any open order may hold."""
    return {asset for symbol, _ in book.held for asset in symbol.split("/")}


def _balance(asset: str, one: AssetBalance) -> Balance:
    """What is ours counts as free: our own locks are in the reservations."""
    locked = EXACT.subtract(EXACT.add(one.total, one.filled_since), one.ours)
    return Balance(asset=asset, free=one.ours, locked=locked)
