"""One transaction of many commands: read all rows once, decide in memory, write all rows once.

The steps have a fixed order, so that two processes lock in the same order: the lock of the
trading states, the rows of orders by id, those of accounts by name, then inserts by id, and the
head of the journal last.
The head's lock is held until the commit, so sequences become visible in order and without gaps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Protocol

import sqlalchemy as sa

from activities.store import statements as sql
from activities.store.journal import (
    REQUEST_ENDED,
    Draft,
    created,
    drafts_of,
    drafts_of_sum,
    entry_values,
    numbered_entry,
    request_mark,
)
from activities.store.ledger import AccountKey, Change, Ledger, Rated, together
from activities.store.prepared import Prepared
from activities.store.rows import (
    all_values,
    changing_values,
    fill_of,
    fill_values,
    numbered,
    state_of,
)
from activities.store.types import ClaimKey, JournalEntry, resend_scope, strictest
from trading.oms.enums import TradingState
from trading.oms.errors import OrderNotFound
from trading.oms.exact import EXACT
from trading.oms.inference import to_book
from trading.oms.lifecycle import EventKind, LifecycleEvent, apply
from trading.oms.models import Fill, OrderState, utc_now
from trading.oms.split import is_leg, parent_id_of, summed
from trading.oms.venue import OrderRequest


@dataclass(slots=True)
class OrderRow:
    """An order in the transaction's memory; `loaded` is what the database has."""

    state: OrderState
    loaded: OrderState | None
    extra: dict[str, Any] = field(default_factory=dict)
    """For an insert: the columns beside the state's."""


@dataclass(slots=True)
class ClaimRow:
    """A send claim in the transaction's memory: its columns, and whether to insert or update."""

    values: dict[str, Any]
    is_new: bool = False
    is_changed: bool = False


class OrderCommand(Protocol):
    """A write to one order. `plan` decides without I/O and may be called again after a retry."""

    order_id: str
    received_at: datetime

    @property
    def others(self) -> Iterable[str]:
        """Further orders that it reads or writes."""
        ...

    @property
    def fill_ids(self) -> Iterable[str]:
        """The fills that it may book."""
        ...

    @property
    def claims(self) -> bool:
        """Whether it reads or writes a send claim."""
        ...

    @property
    def sends(self) -> bool:
        """Whether it asks for leave to send, so that the trading states have to stand still."""
        ...

    @property
    def admits(self) -> bool:
        """Whether it may insert the order."""
        ...

    @property
    def waits(self) -> bool:
        """Whether it is planned last, when what the others do to the accounts is known."""
        ...

    @property
    def accounts(self) -> Iterable[AccountKey]:
        """The accounts that must stand still for it."""
        ...

    @property
    def rated(self) -> Rated:
        """Those of which it asks how many orders came in the last minute."""
        ...

    def plan(self, batch: "Batch") -> None:
        """Change the batch's rows, or raise and change nothing."""
        ...

    def answer(self, batch: "Batch") -> Any:
        """What the caller gets, once everything has its numbers."""
        ...


class Batch:
    """The memory of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        """Work on a connection whose transaction has begun."""
        self._connection = connection
        self.now = utc_now()
        self.orders: dict[str, OrderRow] = {}
        self.known_json: dict[str, tuple[str | None, str | None]] = {}
        self.claims: dict[ClaimKey, ClaimRow] = {}
        self.trading: dict[str, TradingState] = {}
        self.entries: list[JournalEntry] = []
        self.ledger = Ledger(connection, self.now)
        self._fills: list[tuple[Fill, str | None]] = []
        self._stored_fills: dict[str, list[Fill]] = {}
        self._booked: set[str] = set()
        self._new_fills: list[dict[str, Any]] = []
        self._drafts: list[tuple[OrderRow, Draft]] = []

    # Reading, all at once.

    def load(self, commands: Sequence[OrderCommand]) -> None:
        """Lock and read the rows that the commands speak of."""
        connection = self._connection
        sends = any(command.sends for command in commands)
        if sends and connection.dialect.name == "postgresql":
            sql.LOCK_TRADING_SHARED.read(connection)
        keys = {"keys": sorted(_orders_of(commands))}
        for row in sql.LOCK_ORDERS.read(connection, keys):
            state = state_of(row._asdict())
            self.orders[state.client_order_id] = OrderRow(state, state)
        if fill_ids := [fill_id for command in commands for fill_id in command.fill_ids]:
            known = sql.KNOWN_FILLS.read(connection, {"keys": fill_ids})
            self._booked.update(row.fill_id for row in known)
        claimed = {command.order_id for command in commands if command.claims}
        if claim_ids := sorted(claimed.intersection(self.orders)):
            for row in sql.CLAIMS_OF_ORDERS.read(connection, {"keys": claim_ids}):
                key = ClaimKey(row.order_id, row.leg, row.generation)
                self.claims[key] = ClaimRow(row._asdict())
        if known := [c.order_id for c in commands if c.admits and c.order_id in self.orders]:
            for row in sql.ORDER_JSON.read(connection, {"keys": known}):
                self.known_json[row.client_order_id] = (row.content_hash, row.order_json)
        if any(command.sends and not command.accounts for command in commands):
            for row in sql.TRADING_STATES.read(connection):
                self.trading[row.scope] = TradingState(row.state)

    # Deciding, in memory.

    def order(self, order_id: str) -> OrderRow:
        """The order's row. Raises `OrderNotFound`."""
        row = self.orders.get(order_id)
        if row is None:
            msg = f"no order has the id {order_id!r}"
            raise OrderNotFound(msg)
        return row

    def insert(self, state: OrderState, extra: dict[str, Any], received_at: datetime) -> None:
        """A new order with its first journal entry."""
        row = OrderRow(state, None, extra)
        self.orders[state.client_order_id] = row
        self._drafts.append((row, created(state, received_at)))

    def apply(self, row: OrderRow, events: Iterable[LifecycleEvent], told: datetime) -> None:
        """Apply events to an order; fills that are booked already are left out, one by one."""
        state = row.state
        for given in events:
            for event in self._with_corrections(state, given):
                fill = event.fill
                if fill is not None:
                    self._book(fill, state.client_order_id, told)
                    self._fills.append((fill, state.strategy_id))
                after, changed, alarm = apply(state, event)
                drafts = drafts_of(state, event, after, told, changed=changed, alarm=alarm)
                self._drafts += [(row, draft) for draft in drafts]
                state = after
        row.state = state

    def _with_corrections(self, state: OrderState, event: LifecycleEvent) -> list[LifecycleEvent]:
        """None of what is known already; a real fill after what it takes back of inferred ones."""
        fill = event.fill
        if fill is None:
            return [] if self._was_answered(state.client_order_id, event) else [event]
        if fill.fill_id in self._booked:
            return []
        if not (fill.inferred or state.inferred_quantity):
            return [event]
        return to_book(event, self._fills_of(state.client_order_id))

    def _was_answered(self, order_id: str, event: LifecycleEvent) -> bool:
        """Whether a request that is asked for has ended: it is asked by a task left behind."""
        mark = request_mark(event) if event.kind is EventKind.MODIFY_REQUESTED else None
        return mark is not None and (order_id, REQUEST_ENDED, mark) in self._marks_of([order_id])

    def _marks_of(self, order_ids: list[str]) -> set[tuple[str, str, str | None]]:
        """The fingerprints that the journal has, with the order and the name of each."""
        rows = sql.KNOWN_FINGERPRINTS.read(self._connection, {"keys": order_ids})
        return {(row.order_id, row.name, row.fingerprint) for row in rows}

    def _fills_of(self, order_id: str) -> list[Fill]:
        """An order's fills, those of this transaction too; asked for only where one is inferred."""
        if order_id not in self._stored_fills:
            rows = sql.FILLS_OF_ORDER.read(self._connection, {"order_id": order_id})
            self._stored_fills[order_id] = [fill_of(row._asdict()) for row in rows]
        both = zip(self._new_fills, self._fills, strict=True)
        new = [fill for row, (fill, _) in both if row["order_id"] == order_id]
        return self._stored_fills[order_id] + new

    def _book(self, fill: Fill, order_id: str, told: datetime) -> None:
        self._booked.add(fill.fill_id)
        self._new_fills.append({**fill_values(fill, told, self.now), "order_id": order_id})

    def new_fills(self, exchange: str, account: str) -> list[Fill]:
        """The fills of an account that this transaction books, which no query finds yet."""
        here = (exchange, account)
        return [fill for fill, _ in self._fills if (fill.exchange, fill.account) == here]

    def trading_state(self, exchange: str, account: str, strategy_id: str | None) -> TradingState:
        """The strictest trading state that holds for a send."""
        return strictest(self.trading, exchange, account, strategy_id)

    def resends_stopped(self, request: OrderRequest) -> bool:
        """Whether no further generation may be sent on the request's account."""
        scope = resend_scope(request.exchange, request.account)
        return self.trading.get(scope) is TradingState.HALTED

    def settle_accounts(self, waiting: Sequence[OrderCommand]) -> None:
        """Let reservations, positions and balances follow the orders, before `waiting` decide."""
        changes, external = self._changes()
        if not (changes or external or waiting or self._fills):
            return
        ids = {one for command in waiting for one in (command.order_id, *command.others) if one}
        ids.update(change.after.client_order_id for change in changes)
        accounts = {account for command in waiting for account in command.accounts}
        accounts.update((fill.exchange, fill.account) for fill, _ in self._fills)
        rated = together(command.rated for command in waiting)
        # An order that is not there yet has no reservation either.
        self.ledger.load(ids.intersection(self.orders), accounts, rated)
        for book in self.ledger.books.values():
            self.trading.update(book.trading)  # For a send that comes with its account.
        for change in changes:
            self.ledger.follow(change)
        for state in external:
            self.ledger.follow_external(state)
        for fill, strategy_id in self._fills:
            self.ledger.book(fill, strategy_id)

    def _changes(self) -> tuple[list[Change], list[OrderState]]:
        """What may matter to the accounts: orders that have changed, and new ones of others."""
        changes, external = [], []
        for row in self.orders.values():
            if row.loaded is None:
                if row.extra.get("external") and row.state.is_open:
                    external.append(row.state)
            elif row.state is not row.loaded:
                change = Change(row.loaded, row.state)
                if change.matters:
                    changes.append(change)
        return changes, external

    def sum_legs(self) -> None:
        """Let the orders that are split be the sums of their legs."""
        changed = [row.state for row in self.orders.values() if row.state is not row.loaded]
        ids = {state.client_order_id for state in changed if state.is_split}
        ids.update(str(state.parent_order_id) for state in changed if is_leg(state))
        parents = [self.orders[one] for one in sorted(ids) if one in self.orders]
        parents = [row for row in parents if row.state.is_split]
        if not parents:
            return
        keys = {"keys": [row.state.client_order_id for row in parents]}
        stored = [state_of(row._asdict()) for row in sql.LEGS.read(self._connection, keys)]
        legs = {state.client_order_id: state for state in stored}
        legs.update({one: row.state for one, row in self.orders.items()})
        for row in parents:
            own = row.state.client_order_id
            mine = [leg for leg in legs.values() if leg.parent_order_id == own and is_leg(leg)]
            after = summed(row.state, mine, self._grown(mine))
            if after is not row.state:
                drafts = drafts_of_sum(row.state, after, self.now)
                self._drafts += [(row, draft) for draft in drafts]
                row.state = after

    def _grown(self, legs: Iterable[OrderState]) -> Decimal:
        """By how much modifications have changed the legs' quantities; new legs do not count."""
        total = Decimal(0)
        for leg in legs:
            row = self.orders.get(leg.client_order_id)
            if row is not None and row.loaded is not None:
                total = EXACT.add(total, EXACT.subtract(leg.quantity, row.loaded.quantity))
        return total

    # Writing, all at once.

    def write(self) -> None:
        """Give numbers to the journal's drafts and write every changed row."""
        self._drop_repeated()
        self._number_within_orders()
        self._write_orders()
        self._many(sql.INSERT_FILL, self._new_fills, "fill_id")
        self._write_claims()
        self.ledger.write()
        self._write_journal()

    def _many(self, statement: Prepared, rows: list[dict[str, Any]], key: str) -> None:
        statement.run(self._connection, sorted(rows, key=itemgetter(key)))

    def _drop_repeated(self) -> None:
        """Leave out alarms and refused messages that the journal has already."""
        # What has changed the order is kept, and where all has nothing need be looked for.
        if not any(draft.fingerprint and not draft.changed for _, draft in self._drafts):
            return
        seen = self._marks_of(sorted({row.state.client_order_id for row, _ in self._drafts}))
        kept = []
        for row, draft in self._drafts:
            mark = (row.state.client_order_id, draft.name, draft.fingerprint)
            if draft.changed or mark not in seen:
                kept.append((row, draft))
                seen.add(mark)
        self._drafts = kept

    def _number_within_orders(self) -> None:
        last: dict[str, int] = {}
        newest: dict[str, tuple[OrderState, OrderState]] = {}
        for position, (row, draft) in enumerate(self._drafts):
            order_id = row.state.client_order_id
            known = last.get(order_id)
            if known is None:
                known = row.loaded.sequence if row.loaded else 0
            last[order_id] = known + 1
            after = numbered(draft.state, known + 1)
            self._drafts[position] = (row, draft._replace(state=after))
            newest[order_id] = (draft.state, after)
        for order_id, (bare, after) in newest.items():
            row = self.orders[order_id]
            # An event that only noted its time has no entry: then the row is ahead of it.
            row.state = after if row.state is bare else numbered(row.state, after.sequence)

    def _write_orders(self) -> None:
        inserts, updates = [], []
        for order_id, row in self.orders.items():
            if row.loaded is None:
                inserts.append({**all_values(row.state), **row.extra})
            elif row.state is not row.loaded:
                updates.append({**changing_values(row.state), "key": order_id})
        self._many(sql.INSERT_ORDER, inserts, "client_order_id")
        self._many(sql.UPDATE_ORDER, updates, "key")

    def _write_claims(self) -> None:
        inserts, updates = [], []
        for key, row in self.claims.items():
            if row.is_new:
                inserts.append(row.values)
            elif row.is_changed:
                changed = {name: row.values[name] for name in sql.CLAIM_CHANGING}
                names = {"k_order": key.order_id, "k_leg": key.leg, "k_gen": key.generation}
                updates.append({**changed, **names})
        self._many(sql.INSERT_CLAIM, inserts, "order_id")
        self._many(sql.UPDATE_CLAIM, updates, "k_order")

    def _write_journal(self) -> None:
        if not self._drafts:
            return
        take = sql.TAKE_SEQUENCES[self._connection.dialect.name]
        count = len(self._drafts)
        first = take.read(self._connection, {"count": count})[0].sequence - count + 1
        rows = []
        for sequence, (_, draft) in enumerate(self._drafts, first):
            entry = numbered_entry(sequence, draft, self.now)
            self.entries.append(entry)
            rows.append(entry_values(entry, draft.fingerprint))
        sql.INSERT_ENTRY.run(self._connection, rows)


def _orders_of(commands: Iterable[OrderCommand]) -> set[str]:
    """The orders that commands speak of, and those whose legs they may be."""
    named = {one for command in commands for one in (command.order_id, *command.others)}
    parents = {parent for one in named if (parent := parent_id_of(one)) is not None}
    return named | parents
