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
    risk_accounts,
)
from activities.store.statements import Among

_HERE = "exchange = :exchange AND account = :account"


def _of_account(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(
        table.c.exchange == sa.bindparam("exchange"), table.c.account == sa.bindparam("account")
    )


RESERVATIONS = sa.select(reservations).where(Among(reservations.c.order_id))
LOCK_ACCOUNT = sa.select(risk_accounts).where(_of_account(risk_accounts)).with_for_update()
ACCOUNT = sa.select(risk_accounts).where(_of_account(risk_accounts))
MAKE_ACCOUNT = sa.text(
    "INSERT INTO risk_accounts (exchange, account) VALUES (:exchange, :account) "
    "ON CONFLICT DO NOTHING"
)


def _standing(total: str) -> sa.TextClause:
    """All that stands on an account in one statement, and so at one moment.

    Kind r: what is reserved, by symbol and side; p: positions; b: balances; t: trading states.
    """
    held = ("quote_amount", "base_amount", "open_quantity", "notional")
    sums = ", ".join(total.format(name) for name in held)
    return sa.text(
        f"SELECT 'r', symbol, side, {sums}, count(*), '' FROM reservations "  # noqa: S608
        f"WHERE {_HERE} AND is_open GROUP BY symbol, side "
        "UNION ALL SELECT 'p', symbol, strategy_id, quantity, cost, realised, realised_on_day, 0, "
        f"day FROM positions WHERE {_HERE} "
        "UNION ALL SELECT 'b', asset, '', total, free, foreign_locked, filled_since, 0, '' "
        f"FROM balances WHERE {_HERE} "
        "UNION ALL SELECT 't', scope, state, 0, 0, 0, 0, 0, '' FROM trading_states"
    )


# SQLite has no exact decimals: the digits come as one text, and Python adds them up.
STANDING = {"postgresql": _standing("sum({})"), "sqlite": _standing("group_concat({}, ' ')")}

RESERVED_SINCE = (
    sa.select(sa.func.count())
    .select_from(reservations)
    .where(
        _of_account(reservations),
        reservations.c.reserved_at > sa.bindparam("since"),
        reservations.c.external.is_(sa.false()),
    )
)
FILLS_SINCE = sa.select(fills).where(
    fills.c.exchange == sa.bindparam("exchange"),
    fills.c.account == sa.bindparam("account"),
    fills.c.timestamp > sa.bindparam("since"),
)
OPEN_RESERVATIONS = sa.select(reservations.c.order_id).where(reservations.c.is_open)
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
