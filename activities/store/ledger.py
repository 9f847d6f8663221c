"""The risk rows of one transaction: reservations, positions and balances, read once, written once.

Rows are locked in one order: the orders, then the accounts by name, then the sums of what is
reserved by key, then (with the commit) the head of the journal. A reservation is written under its
order's lock, and what depends on all of an account under the account's. A release needs the order's
lock alone: it moves the sums by a difference, as the last thing before the journal.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from activities.store import risk_statements as sql
from activities.store.account_book import AccountBook, BySide, Watermark
from activities.store.inbox import once
from activities.store.risk_rows import (
    SumKey,
    balance_values,
    key_of_sums,
    named,
    position_key,
    position_values,
    reservation_of_row,
    reservation_values,
    sums_of,
    values_of_sums,
)
from trading.oms.enums import OrderSide
from trading.oms.models import Fill, OrderState
from trading.oms.risk.limits import Scope
from trading.oms.risk.reservation import (
    Held,
    Reservation,
    closed,
    following,
    modification_settled,
    reservation_of,
)

AccountKey = tuple[str, str]
Rated = Mapping[AccountKey, bool]
"""Accounts of which it is counted how many orders came in the last minute; true: by whose name."""
RATE_WINDOW = timedelta(minutes=1)
_BEGINNING = timedelta(minutes=1)
"""A modification reserves first and is noted in its order after that, at most so much later."""


class Change(NamedTuple):
    """An order before and after the transaction; before is None for one that it inserts."""

    before: OrderState | None
    after: OrderState

    @property
    def matters(self) -> bool:
        """Whether its reservation may have to change."""
        before, after = self.before, self.after
        return (
            before is None
            or before.is_open is not after.is_open
            or before.remaining_quantity != after.remaining_quantity
            or before.price != after.price
            or modification_settled(before, after)
        )


class Ledger:
    """The memory of one transaction for all that is kept by account."""

    def __init__(self, connection: sa.Connection, now: datetime) -> None:
        """Work on a connection whose transaction has begun, the orders' rows locked."""
        self._connection = connection
        self._now = now
        self.reservations: dict[str, Reservation] = {}
        self.books: dict[AccountKey, AccountBook] = {}
        self._stored: dict[str, Reservation] = {}
        self._changed_at: dict[str, datetime] = {}
        self._moved: dict[SumKey, Held] = {}
        self._compared: set[AccountKey] = set()
        self._stored_sums: dict[tuple[str, str, str], dict[BySide, Held]] = {}

    # Reading.

    def load(self, order_ids: Iterable[str], accounts: Iterable[AccountKey], rated: Rated) -> None:
        """Read the orders' reservations; lock the accounts and read all that stands on them.

        Of those in `rated` it is counted how many orders were reserved for in the last minute: in
        all, or (true) by symbol and strategy.
        """
        keys = sorted(set(order_ids))
        for exchange, account in sorted(set(accounts)):
            book = AccountBook(exchange, account, self._lock(exchange, account, keys))
            keys = []  # They are read with the first lock.
            since = self._now - RATE_WINDOW if (exchange, account) in rated else self._now
            names = {**named(exchange, account), "since": since}
            by_name = rated.get((exchange, account), False)
            standing = sql.STANDING[self._connection.dialect.name, by_name]
            book.read(standing.read(self._connection, names))
            self.books[exchange, account] = book
        if keys:
            self._keep(sql.RESERVATIONS.read(self._connection, {"keys": keys}))
        self.reservations = dict(self._stored)

    def _lock(self, exchange: str, account: str, keys: list[str]) -> Watermark:
        names = named(exchange, account)
        lock = sql.LOCK_ACCOUNT_AND_READ_RESERVATIONS
        rows = lock.read(self._connection, {**names, "keys": keys})
        if not rows:
            sql.MAKE_ACCOUNT.run(self._connection, [names])
            rows = lock.read(self._connection, {**names, "keys": keys})
        self._keep([row for row in rows if row.order_id is not None])
        return Watermark(rows[0].as_of, rows[0].as_of_latest, rows[0].fetched_at)

    def _keep(self, rows: Iterable[Any]) -> None:
        for row in rows:
            self._stored[row.order_id] = reservation_of_row(row)
            self._changed_at[row.order_id] = row.changed_at

    def recent_orders(self, book: AccountBook, scope: Scope) -> int:
        """How many of ours were reserved in the last minute; those of this transaction count."""
        new = sum(
            one.order_id not in self._stored and not one.external
            for one in self.reservations.values()
            if (one.exchange, one.account) == (book.exchange, book.account)
            and scope.strategy_id in {None, one.strategy_id}
            and scope.symbol in {None, one.symbol}
        )
        return book.recent_orders(scope) + new

    def fills_since(self, book: AccountBook, since: datetime) -> list[Any]:
        """The rows of the account's fills after a time of the exchange's."""
        names = {**named(book.exchange, book.account), "since": since}
        return sql.FILLS_SINCE.read(self._connection, names)

    def held_by(self, book: AccountBook, strategy_id: str) -> dict[BySide, Held]:
        """What a strategy's open orders hold of the account, with this transaction's changes."""
        own = (book.exchange, book.account, strategy_id)
        if own not in self._stored_sums:
            names = {**named(book.exchange, book.account), "strategy_id": strategy_id}
            rows = sql.SUMS_OF_STRATEGY.read(self._connection, names)
            self._stored_sums[own] = sums_of(rows)
        found = dict(self._stored_sums[own])
        for key, moved in self._moved.items():
            if (key.exchange, key.account, key.strategy_id) == own:
                known = found.get((key.symbol, key.side), Held())
                found[key.symbol, key.side] = known.plus(moved)
        return found

    # Changing.

    def set(self, reservation: Reservation) -> None:
        """A reservation is made or becomes another."""
        known = self.reservations.get(reservation.order_id)
        self.reservations[reservation.order_id] = reservation
        if known is not None:
            self._move(key_of_sums(known), Held().minus(known.held))
        self._move(key_of_sums(reservation), reservation.held)

    def _move(self, key: SumKey, difference: Held) -> None:
        """What is held under a key becomes more or less, in the sums and in the account's book."""
        self._moved[key] = self._moved.get(key, Held()).plus(difference)
        book = self.books.get((key.exchange, key.account))
        if book is not None:
            book.move(key.symbol, key.side, difference)

    def mend_sums(self, book: AccountBook) -> list[SumKey]:
        """Make the account's sums what its open reservations say; those that were anything else.

        Both are read at one moment and the difference is added, so nobody else has to wait; once
        in a transaction, because what is read again does not hold that difference yet.
        """
        kept: dict[SumKey, Held] = {}
        right: dict[SumKey, Held] = {}
        compared = sql.COMPARED_SUMS[self._connection.dialect.name]
        where = (book.exchange, book.account)
        if where in self._compared:
            return []
        self._compared.add(where)
        rows = compared.read(self._connection, named(*where))
        for kind, symbol, side, strategy_id, quote, base, quantity, notional, orders in rows:
            found = kept if kind == "s" else right
            key = SumKey(*where, symbol, OrderSide(side), strategy_id)
            a, b, c, d = map(Decimal, (quote, base, quantity, notional))
            found[key] = Held(a, b, c, d, orders)
        mended = []
        for key in sorted({*kept, *right}):
            difference = right.get(key, Held()).minus(kept.get(key, Held()))
            if any(difference):
                self._move(key, difference)
                mended.append(key)
        return mended

    def follow(self, change: Change) -> None:
        """The order has changed: so does what it holds."""
        known = self.reservations.get(change.after.client_order_id)
        if known is not None:
            before, after = change
            settled = before is not None and modification_settled(before, after)
            self.set(following(known, change.after, is_settled=settled))

    def release(self, order_id: str) -> Reservation | None:
        """Let the order hold nothing itself; what it held, where that was anything."""
        known = self.reservations.get(order_id)
        if known is None or not known.is_open:
            return None
        self.set(closed(known))
        return known

    def follow_external(self, state: OrderState) -> None:
        """Somebody else's order counts, though the exchange's locks hold its funds."""
        self.set(reservation_of(state, self._now, external=True))

    def mend(self, state: OrderState, *, external: bool) -> bool:
        """Make the reservation what the order says; whether it was anything else."""
        known = self.reservations.get(state.client_order_id)
        if known is None:
            if not (state.is_open and state.exchange):
                return False
            self.set(reservation_of(state, self._now, external=external))
            return True
        is_modified = state.pending.value == "modify" or state.replacing
        may_begin = self._now - self._changed_at.get(known.order_id, self._now) < _BEGINNING
        settled = state.is_terminal or not (is_modified or may_begin)
        right = following(known, state, is_settled=settled)
        if right == known:
            return False
        self.set(right)
        return True

    def book(self, fill: Fill, strategy_id: str | None) -> None:
        """A fill moves from the reservation to the position."""
        self.books[fill.exchange, fill.account].book(fill, strategy_id or "")

    def once(self, ticket: str, value: str) -> str | None:
        """Note what a command has found; what an earlier try of it had found, if there was one."""
        return once(self._connection, ticket, value)

    def adjust(self, entry: dict[str, Any]) -> None:
        """Note in the audit that a position was set by hand."""
        self._connection.execute(sql.INSERT_ADJUSTMENT, entry)

    def set_watermark(self, book: AccountBook, mark: Watermark) -> None:
        """The account's balances were fetched."""
        book.watermark = mark
        names = {f"k_{name}": value for name, value in named(book.exchange, book.account).items()}
        sql.UPDATE_ACCOUNT.run(self._connection, [{**mark._asdict(), **names}])

    # Writing.

    def write(self) -> None:
        """Write every row that has changed."""
        inserts, updates = [], []
        for order_id, one in sorted(self.reservations.items()):
            stored = self._stored.get(order_id)
            if stored is None:
                inserts.append({**reservation_values(one, self._now), "order_id": order_id})
            elif stored != one:
                updates.append({**reservation_values(one, self._now), "k_order_id": order_id})
        moved = [values_of_sums(key, one) for key, one in sorted(self._moved.items()) if any(one)]
        dialect = self._connection.dialect.name
        at_once = dialect == "postgresql" and len(inserts) == len(moved) == 1
        if not at_once:
            sql.INSERT_RESERVATION.run(self._connection, inserts)
        sql.UPDATE_RESERVATION.run(self._connection, updates)
        for book in self.books.values():
            self._write_positions(book)
            self._write_balances(book)
        if at_once:
            sql.RESERVE_AND_MOVE_SUMS.run(self._connection, [{**inserts[0], **moved[0]}])
        else:
            sql.MOVE_SUMS[dialect].run(self._connection, moved)

    def _write_positions(self, book: AccountBook) -> None:
        inserts, updates = [], []
        for key, one in sorted(book.positions.items()):
            stored = book.stored_positions.get(key)
            if stored is None:
                inserts.append({**position_values(one, self._now), **position_key(one)})
            elif stored != one:
                keys = {f"k_{name}": value for name, value in position_key(one).items()}
                updates.append({**position_values(one, self._now), **keys})
        sql.INSERT_POSITION.run(self._connection, inserts)
        sql.UPDATE_POSITION.run(self._connection, updates)

    def _write_balances(self, book: AccountBook) -> None:
        inserts, updates = [], []
        for asset, one in sorted(book.balances.items()):
            stored = book.stored_balances.get(asset)
            key = {**named(book.exchange, book.account), "asset": asset}
            if stored is None:
                inserts.append({**balance_values(one), **key})
            elif stored != one:
                keys = {f"k_{name}": value for name, value in key.items()}
                updates.append({**balance_values(one), **keys})
        sql.INSERT_BALANCE.run(self._connection, inserts)
        sql.UPDATE_BALANCE.run(self._connection, updates)


def together(rated: Iterable[Rated]) -> dict[AccountKey, bool]:
    """What several ask for at once: counted by symbol and strategy where any of them asks so."""
    found: dict[AccountKey, bool] = {}
    for account, by_name in (one for each in rated for one in each.items()):
        found[account] = by_name or found.get(account, False)
    return found
