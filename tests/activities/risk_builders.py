"""Accounts, balances and wishes for the tests of the reservations."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from activities.store import Store
from activities.store.accounts import Fetched
from activities.store.reservations import Reserved, ReserveWish
from tests.activities.store_builders import new_order
from trading.oms.models import Balance, Order
from trading.oms.risk.limits import RiskLimits

HERE = ("sandbox", "main")
LOOSE = RiskLimits(max_price_deviation=None)


def d(text: str | int) -> Decimal:
    return Decimal(text)


def limits(**fields: Any) -> RiskLimits:
    return LOOSE.model_copy(update=fields)


async def fetched(
    store: Store,
    usdt: str = "10000",
    btc: str = "0",
    *,
    locked_usdt: str = "0",
    as_of: datetime | None = None,
    **fields: Any,
) -> bool:
    """The exchange says what the account holds; `usdt` and `btc` are totals."""
    at = as_of or datetime(2025, 1, 2, tzinfo=UTC)
    balances = {
        "USDT": Balance(asset="USDT", free=d(usdt) - d(locked_usdt), locked=d(locked_usdt)),
        "BTC": Balance(asset="BTC", free=d(btc), locked=d(0)),
    }
    given: dict[str, Any] = {
        "exchange": "sandbox",
        "account": "main",
        "balances": balances,
        "as_of": at,
        "as_of_latest": at + timedelta(seconds=1),
        "fetched_at": datetime.now(UTC),
        **fields,
    }
    return await store.risk.take_balances(Fetched(**given))


async def reserve(store: Store, order: Order, rules: RiskLimits = LOOSE, **fields: Any) -> Reserved:
    """Admit the order and reserve for it."""
    await store.admit(order)
    return await store.risk.reserve(ReserveWish(order=order, limits=rules, **fields))


async def reserved(store: Store, asset: str = "USDT") -> Decimal:
    return (await store.risk.book(*HERE)).reserved(asset)


async def available(store: Store, asset: str = "USDT") -> Decimal:
    return (await store.risk.book(*HERE)).available(asset)


async def position(store: Store) -> Decimal:
    return (await store.risk.book(*HERE)).position("BTC/USDT")


def buy(quantity: str = "10", price: str = "100", **fields: Any) -> Order:
    return new_order(quantity=d(quantity), price=d(price), **fields)
