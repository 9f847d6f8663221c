"""Between the models of risk and the rows of its tables."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from activities.store.account_book import AssetBalance, BySide
from trading.oms.enums import OrderSide
from trading.oms.positions import Position
from trading.oms.risk.reservation import Held, Reservation


class SumKey(NamedTuple):
    """Of what open reservations hold there is one row of sums for each of these."""

    exchange: str
    account: str
    symbol: str
    side: OrderSide
    strategy_id: str


def named(exchange: str, account: str) -> dict[str, str]:
    """The columns that name an account."""
    return {"exchange": exchange, "account": account}


def key_of_sums(one: Reservation) -> SumKey:
    """Under which key a reservation is summed."""
    return SumKey(one.exchange, one.account, one.symbol, one.side, one.strategy_id or "")


def sums_of(rows: Iterable[Any]) -> dict[BySide, Held]:
    """The rows of one strategy's running sums."""
    return {(row.symbol, OrderSide(row.side)): _held(row) for row in rows}


def _held(row: Any) -> Held:
    return Held(row.quote_amount, row.base_amount, row.open_quantity, row.notional, row.orders)


def values_of_sums(key: SumKey, held: Held) -> dict[str, Any]:
    """The values of `MOVE_SUMS`, by which a row of sums becomes more or less."""
    values = {
        **key._asdict(),
        "side": key.side.value,
        "quote_amount": held.quote,
        "base_amount": held.base,
        "open_quantity": held.quantity,
        "notional": held.notional,
        "orders": held.orders,
    }
    return {f"s_{name}": value for name, value in values.items()}


def reservation_of_row(row: Any) -> Reservation:
    """A stored reservation."""
    return Reservation(
        order_id=row.order_id,
        exchange=row.exchange,
        account=row.account,
        symbol=row.symbol,
        strategy_id=row.strategy_id,
        side=OrderSide(row.side),
        open_quantity=row.open_quantity,
        price=row.price,
        fee_rate=row.fee_rate,
        wanted_quantity=row.wanted_quantity,
        wanted_price=row.wanted_price,
        is_open=row.is_open,
        external=row.external,
        reserved_at=row.reserved_at,
    )


def reservation_values(one: Reservation, now: datetime) -> dict[str, Any]:
    """The columns that a write of a reservation sets."""
    held = one.held
    return {
        "exchange": one.exchange,
        "account": one.account,
        "symbol": one.symbol,
        "strategy_id": one.strategy_id,
        "side": one.side.value,
        "quote_amount": held.quote,
        "base_amount": held.base,
        "open_quantity": one.open_quantity,
        "notional": held.notional,
        "price": one.price,
        "fee_rate": one.fee_rate,
        "wanted_quantity": one.wanted_quantity,
        "wanted_price": one.wanted_price,
        "is_open": one.is_open,
        "external": one.external,
        "reserved_at": one.reserved_at,
        "changed_at": now,
    }


def position_key(one: Position) -> dict[str, str]:
    """The columns that name a position."""
    key = named(one.exchange, one.account)
    return {**key, "symbol": one.symbol, "strategy_id": one.strategy_id}


def position_values(one: Position, now: datetime) -> dict[str, Any]:
    """The columns that a write of a position sets."""
    return {
        "quantity": one.quantity,
        "cost": one.cost,
        "realised": one.realised,
        "day": one.day,
        "realised_on_day": one.realised_on_day,
        "changed_at": now,
    }


def balance_values(one: AssetBalance) -> dict[str, Any]:
    """The columns that a write of a balance sets."""
    return {
        "total": one.total,
        "free": one.free,
        "foreign_locked": one.foreign_locked,
        "filled_since": one.filled_since,
    }
