"""The statements of the risk tables, built once; see `activities.store.ledger`."""

from typing import Any

import sqlalchemy as sa

from activities.store.prepared import Prepared
from activities.store.schema import (
    balances,
    fills,
    position_adjustments,
    positions,
    reservations,
    reserved_sums,
    risk_accounts,
)
from activities.store.statements import Among

_HERE = "exchange = :exchange AND account = :account"


def _of_account(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.exchange == sa.bindparam("exchange"), table.c.account == sa.bindparam("account")
    )


RESERVATIONS = Prepared(sa.select(reservations).where(Among(reservations.c.order_id)))
LOCK_ACCOUNT = Prepared(
    sa.select(risk_accounts).where(_of_account(risk_accounts)).with_for_update()
)
_locked = sa.select(risk_accounts).where(_of_account(risk_accounts)).with_for_update().subquery()
# The orders are locked before, and nobody else changes their reservations: they may be read by a
# statement that still waits for the account. What stands on the account may not.
LOCK_ACCOUNT_AND_READ_RESERVATIONS = Prepared(
    sa.select(_locked.c.as_of, _locked.c.as_of_latest, _locked.c.fetched_at, reservations)
    .select_from(_locked)
    .outerjoin(reservations, Among(reservations.c.order_id))
)
ACCOUNT = Prepared(sa.select(risk_accounts).where(_of_account(risk_accounts)))
MAKE_ACCOUNT = Prepared(
    sa.text(
        "INSERT INTO risk_accounts (exchange, account) VALUES (:exchange, :account) "
        "ON CONFLICT DO NOTHING"
    )
)


_HELD = ("quote_amount", "base_amount", "open_quantity", "notional")


def _standing(total: str, *, by_name: bool) -> Prepared:
    """All that stands on an account in one statement, and so at one moment.

    Kind r: what is reserved, by symbol and side; n: how many orders of ours were reserved for
    after a time, in all or (which sorts them) by symbol and strategy; p: positions; b: balances;
    t: trading states.
    """
    names = "symbol, coalesce(strategy_id, '')" if by_name else "'', ''"
    grouped = f"GROUP BY {names} " if by_name else ""
    sums = ", ".join(total.format(name) for name in _HELD)
    text = sa.text(
        f"SELECT 'r', symbol, side, {sums}, CAST(sum(orders) AS BIGINT), '' "  # noqa: S608
        f"FROM reserved_sums WHERE {_HERE} AND orders <> 0 GROUP BY symbol, side "
        f"UNION ALL SELECT 'n', {names}, 0, 0, 0, 0, count(*), '' "
        f"FROM reservations WHERE {_HERE} AND reserved_at > :since AND NOT external {grouped}"
        "UNION ALL SELECT 'p', symbol, strategy_id, quantity, cost, realised, realised_on_day, 0, "
        f"day FROM positions WHERE {_HERE} "
        "UNION ALL SELECT 'b', asset, '', total, free, foreign_locked, filled_since, 0, '' "
        f"FROM balances WHERE {_HERE} "
        "UNION ALL SELECT 't', scope, state, 0, 0, 0, 0, 0, '' FROM trading_states"
    )
    return Prepared(text.bindparams(sa.bindparam("since", type_=reservations.c.reserved_at.type)))


# SQLite has no exact decimals: `exact_sum` and `exact_add` are ours (`activities.store.columns`).
STANDING = {
    (dialect, by_name): _standing(total, by_name=by_name)
    for dialect, total in (("postgresql", "sum({})"), ("sqlite", "exact_sum({})"))
    for by_name in (False, True)
}


def _compared(total: str) -> Prepared:
    """The sums as they are kept (s), and as the open reservations make them (r), at one moment."""
    sums = ", ".join(total.format(name) for name in _HELD)
    text = sa.text(
        "SELECT 's', symbol, side, strategy_id, "  # noqa: S608
        f"{', '.join(_HELD)}, orders FROM reserved_sums WHERE {_HERE} "
        f"UNION ALL SELECT 'r', symbol, side, coalesce(strategy_id, ''), {sums}, count(*) "
        f"FROM reservations WHERE {_HERE} AND is_open "
        "GROUP BY symbol, side, coalesce(strategy_id, '')"
    )
    return Prepared(text)


COMPARED_SUMS = {"postgresql": _compared("sum({})"), "sqlite": _compared("exact_sum({})")}


def _moving(added: str, before: str = "") -> str:
    """Add to the sums of a key, or make them; a change by a difference needs no lock before it."""
    columns = (*_KEY_OF_SUMS, *_HELD, "orders")
    changes = [f"{name} = {added.format(name)}" for name in _HELD]
    changes.append("orders = reserved_sums.orders + excluded.orders")
    return (
        f"{before}INSERT INTO reserved_sums ({', '.join(columns)}) "  # noqa: S608
        f"VALUES ({', '.join(f':s_{name}' for name in columns)}) "
        f"ON CONFLICT ({', '.join(_KEY_OF_SUMS)}) DO UPDATE SET {', '.join(changes)}"
    )


def _reserving() -> str:
    """A reservation before its sums, as two statements would write them, in one round trip."""
    columns = reservations.c.keys()
    return (
        f"WITH made AS (INSERT INTO reservations ({', '.join(columns)}) "  # noqa: S608
        f"VALUES ({', '.join(f':{name}' for name in columns)})) "
    )


def _typed(text: str, *, reserving: bool = False) -> Prepared:
    binds = [sa.bindparam(f"s_{c.name}", type_=c.type) for c in reserved_sums.c]
    if reserving:
        binds += [sa.bindparam(c.name, type_=c.type) for c in reservations.c]
    return Prepared(sa.text(text).bindparams(*binds))


_KEY_OF_SUMS = ("exchange", "account", "symbol", "side", "strategy_id")
_ADDED = "reserved_sums.{0} + excluded.{0}"
MOVE_SUMS = {
    "postgresql": _typed(_moving(_ADDED)),
    "sqlite": _typed(_moving("exact_add(reserved_sums.{0}, excluded.{0})")),
}
RESERVE_AND_MOVE_SUMS = _typed(_moving(_ADDED, _reserving()), reserving=True)
"""For PostgreSQL, which a round trip leads to."""
SUMS_OF_STRATEGY = Prepared(
    sa.select(reserved_sums).where(
        _of_account(reserved_sums), reserved_sums.c.strategy_id == sa.bindparam("strategy_id")
    )
)

FILLS_SINCE = Prepared(
    sa.select(fills).where(
        fills.c.exchange == sa.bindparam("exchange"),
        fills.c.account == sa.bindparam("account"),
        fills.c.timestamp > sa.bindparam("since"),
    )
)
# As the partial index says it: SQLite does not see that `is_open = 1` is the same.
OPEN_RESERVATIONS = sa.select(reservations.c.order_id).where(sa.text("reservations.is_open"))
ADJUSTMENTS = (
    sa.select(position_adjustments)
    .where(_of_account(position_adjustments))
    .order_by(position_adjustments.c.id)
)


def _update(table: sa.Table, keys: tuple[str, ...]) -> Prepared:
    changing: dict[str, Any] = {c.name: sa.bindparam(c.name) for c in table.c if c.name not in keys}
    named: list[Any] = [table.c[key] == sa.bindparam(f"k_{key}") for key in keys]
    return Prepared(sa.update(table).where(*named).values(changing))


_ON_ACCOUNT = ("exchange", "account")
INSERT_RESERVATION = Prepared(sa.insert(reservations), reservations.c.keys())
UPDATE_RESERVATION = _update(reservations, ("order_id",))
INSERT_POSITION = Prepared(sa.insert(positions), positions.c.keys())
UPDATE_POSITION = _update(positions, (*_ON_ACCOUNT, "symbol", "strategy_id"))
INSERT_BALANCE = Prepared(sa.insert(balances), balances.c.keys())
UPDATE_BALANCE = _update(balances, (*_ON_ACCOUNT, "asset"))
UPDATE_ACCOUNT = _update(risk_accounts, _ON_ACCOUNT)
INSERT_ADJUSTMENT = sa.insert(position_adjustments)
