"""What the balances of an account should be, by the opening balances and every fill since.

The fills are counted as the journal has them, from a cursor on, so that each is counted once,
however late it was booked. Those of before the first look are in the balances that it took: one
that was still on its way then is not counted again when it is booked.
"""

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from activities.store import risk_statements as sql
from activities.store.inbox import AdvanceCursor, once
from activities.store.rows import fill_of
from activities.store.schema import (
    cursors,
    expected_balances,
    journal_head,
    order_events,
    position_adjustments,
)
from trading.oms.exact import EXACT
from trading.oms.models import Fill, utc_now
from trading.oms.positions import effects
from trading.oms.venue import Transfer

_ZERO = Decimal(0)
_EXPECTED = expected_balances.c
_FILL = "order_fill"
ENTRIES_MAX = 5000
"""So many entries of the journal are counted in one transaction, for which all others wait."""
Sums = dict[str, Decimal]


class Seen(NamedTuple):
    """The totals that an exchange gave: each fill up to `as_of` is in them, none after `latest`."""

    exchange: str
    account: str
    totals: Mapping[str, Decimal]
    as_of: datetime
    latest: datetime


class Drift(NamedTuple):
    """An asset's total at the exchange, and what it should be: `more` is there without a reason."""

    asset: str
    expected: Decimal
    actual: Decimal
    more: Decimal


class Reckon:
    """Count the fills that are new, and compare; the first time takes the balances as they are."""

    rank = 5

    def __init__(self, seen: Seen) -> None:
        """Note what the exchange said."""
        self._seen = seen
        self._names = {"exchange": seen.exchange, "account": seen.account}
        self._cursor = _reckoned(self._names)

    def run(self, connection: sa.Connection) -> list[Drift] | None:
        """The assets that differ. No fill of the account is booked meanwhile: its row is locked.

        None: the journal has more new entries than one transaction reads; go on from here.
        """
        sql.MAKE_ACCOUNT.run(connection, [self._names])
        sql.LOCK_ACCOUNT.read(connection, self._names)
        head = int(connection.execute(sa.select(journal_head.c.sequence)).scalar_one())
        counted = _cursor(connection, self._cursor)
        after, unsure = self._newest(connection)
        known = {
            row.asset: row.total
            for row in connection.execute(_of(sa.select(expected_balances), self._names))
        }
        if counted is None:
            if unsure:
                return []  # Nobody can say whether the balances hold these fills; the next time.
            until, expected = head, _sum([self._seen.totals, after])
            AdvanceCursor(_adopted(self._names), None, self._seen.as_of.isoformat()).run(connection)
        else:
            until = min(head, int(counted) + ENTRIES_MAX)
            expected = _sum([known, *self._booked(connection, int(counted), until)])
        self._write(connection, known, expected)
        AdvanceCursor(self._cursor, counted, str(until)).run(connection)
        return self._drifts(expected, after, unsure) if until == head else None

    def _newest(self, connection: sa.Connection) -> tuple[Sums, list[Sums]]:
        """What the booked fills after `as_of` have moved, and each of those that may be in it."""
        rows = sql.FILLS_SINCE.read(connection, {**self._names, "since": self._seen.as_of})
        fills = [fill_of(row._asdict()) for row in rows]
        unsure = [effects(fill) for fill in fills if fill.timestamp <= self._seen.latest]
        return _sum(effects(fill) for fill in fills), unsure

    def _booked(self, connection: sa.Connection, after: int, head: int) -> Iterable[Sums]:
        columns = order_events.c
        query = sa.select(columns.fill).where(
            columns.sequence > after, columns.sequence <= head, columns.name == _FILL
        )
        opening = _opening(connection, self._names)
        for text in connection.execute(query).scalars():
            fill = Fill.model_validate_json(text)
            is_here = (fill.exchange, fill.account) == (self._seen.exchange, self._seen.account)
            if is_here and (opening is None or fill.timestamp > opening):
                yield effects(fill)

    def _write(self, connection: sa.Connection, known: Sums, expected: Sums) -> None:
        for asset, total in sorted(expected.items()):
            if asset not in known:
                values = {**self._names, "asset": asset, "total": total}
                connection.execute(sa.insert(expected_balances), values)
            elif known[asset] != total:
                _set(connection, self._names, asset, total)

    def _drifts(self, expected: Sums, after: Sums, unsure: list[Sums]) -> list[Drift]:
        found = []
        for asset in sorted({*expected, *self._seen.totals}):
            actual = self._seen.totals.get(asset, _ZERO)
            highest = EXACT.subtract(expected.get(asset, _ZERO), after.get(asset, _ZERO))
            lowest = highest
            for moved in unsure:
                amount = moved.get(asset, _ZERO)
                highest = EXACT.add(highest, max(amount, _ZERO))
                lowest = EXACT.add(lowest, min(amount, _ZERO))
            nearest = min(max(actual, lowest), highest)
            if actual != nearest:
                found.append(Drift(asset, nearest, actual, EXACT.subtract(actual, nearest)))
        return found


class NoteTransfer:
    """Expect what the exchange says has come or gone; the same notice counts once.

    Before the first look at the balances nothing is expected: they are taken as they are, with all
    that had come by then.
    """

    rank = 5

    def __init__(self, transfer: Transfer) -> None:
        """Note what the exchange said."""
        self._transfer = transfer
        self._names = {"exchange": transfer.exchange, "account": transfer.account}

    def run(self, connection: sa.Connection) -> bool:
        """Whether it was new."""
        one, names = self._transfer, self._names
        sql.MAKE_ACCOUNT.run(connection, [names])
        sql.LOCK_ACCOUNT.read(connection, names)
        key = f"{one.exchange}|{one.account}|{one.transfer_id}"
        noted = f"transfer:{hashlib.sha256(key.encode()).hexdigest()}"
        opening = _opening(connection, names)
        if once(connection, noted, f"{one.amount:f} {one.asset}") is not None:
            return False
        is_counted = _cursor(connection, _reckoned(names)) is not None
        if is_counted and (opening is None or one.at > opening):
            before = _add(connection, names, one.asset, one.amount)
            after = EXACT.add(before, one.amount)
            reason = f"transfer {one.transfer_id}, by the exchange's own notice"
            _audit(connection, names, Drift(one.asset, before, after, one.amount), (reason, "oms"))
        return True


class TakeOver:
    """Take drifts as they are, once: from now on they are expected. The audit keeps them."""

    rank = 5

    def __init__(self, exchange: str, account: str, drifts: Iterable[Drift], by: str) -> None:
        """Note what is taken over, and who says so."""
        self._names = {"exchange": exchange, "account": account}
        self._drifts = list(drifts)
        self._by = by
        self._ticket = f"taken:{uuid.uuid4().hex}"

    def run(self, connection: sa.Connection) -> None:
        """Add each drift to what is expected."""
        sql.LOCK_ACCOUNT.read(connection, self._names)
        if once(connection, self._ticket, self._by) is not None:
            return
        for one in self._drifts:
            _add(connection, self._names, one.asset, one.more)
            reason = "the balance differed from the opening balance and the fills since"
            _audit(connection, self._names, one, (reason, self._by))


def is_reckoned(connection: sa.Connection, exchange: str, account: str) -> bool:
    """Whether the balances of an account have been taken as they were, once."""
    return _cursor(connection, _reckoned({"exchange": exchange, "account": account})) is not None


def _reckoned(names: Mapping[str, str]) -> str:
    """The cursor up to which the journal's fills are counted."""
    return f"reckoned:{names['exchange']}:{names['account']}"


def _adopted(names: Mapping[str, str]) -> str:
    """The cursor that keeps of when the balances are that were taken as they were."""
    return f"adopted:{names['exchange']}:{names['account']}"


def _opening(connection: sa.Connection, names: Mapping[str, str]) -> datetime | None:
    """Of when the opening balances are, which hold all that came before; None: it was not kept."""
    adopted = _cursor(connection, _adopted(names))
    return datetime.fromisoformat(adopted) if adopted else None


def _cursor(connection: sa.Connection, name: str) -> str | None:
    query = sa.select(cursors.c.value).where(cursors.c.name == name)
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found


def _add(connection: sa.Connection, names: Mapping[str, str], asset: str, more: Decimal) -> Decimal:
    """Expect so much more of an asset; what was expected before."""
    query = _of(sa.select(_EXPECTED.total), names).where(_EXPECTED.asset == asset)
    known = connection.execute(query).scalar_one_or_none()
    total = EXACT.add(known or _ZERO, more)
    if known is None:
        connection.execute(sa.insert(expected_balances), {**names, "asset": asset, "total": total})
    else:
        _set(connection, names, asset, total)
    return known or _ZERO


def _audit(
    connection: sa.Connection, names: Mapping[str, str], change: Drift, why: tuple[str, str]
) -> None:
    """Keep what was expected and is now; `why` is the reason and who gave it."""
    reason, by = why
    audit = {
        **names,
        "symbol": change.asset,
        "strategy_id": "",
        "before": change.expected,
        "after": change.actual,
        "reason": reason,
        "changed_by": by,
        "changed_at": utc_now(),
    }
    connection.execute(sa.insert(position_adjustments), audit)


def _of(statement: Any, names: Mapping[str, str]) -> Any:
    return statement.where(
        _EXPECTED.exchange == names["exchange"], _EXPECTED.account == names["account"]
    )


def _set(connection: sa.Connection, names: Mapping[str, str], asset: str, total: Decimal) -> None:
    update = _of(sa.update(expected_balances), names).where(_EXPECTED.asset == asset)
    connection.execute(update.values(total=total))


def _sum(many: Iterable[Mapping[str, Decimal]]) -> Sums:
    total: Sums = {}
    for one in many:
        for asset, amount in one.items():
            total[asset] = EXACT.add(total.get(asset, _ZERO), amount)
    return total
