"""Accounts, balances and wishes for the tests of the reservations."""

import asyncio
import signal
import sys
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


async def from_several_processes(url: str, strategy_id: str = "", *, kills: int = 0) -> set[str]:
    """A thousand orders, from four processes at once, of which `kills` die: the ids that passed.

    Who is killed after its commit cannot tell of it.
    """
    processes = [await _ready(url, f"p{number}", strategy_id) for number in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    if kills:
        await asyncio.sleep(0.4)
        for process in processes[:kills]:
            process.send_signal(signal.SIGKILL)
    said = [(await process.communicate())[0] for process in processes]
    return {order_id for out in said for order_id in out.decode().split()}


async def _ready(url: str, prefix: str, strategy_id: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.activities.reserving_process"),
        *(url, prefix, "250", strategy_id),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"
    return process


def buy(quantity: str = "10", price: str = "100", **fields: Any) -> Order:
    return new_order(quantity=d(quantity), price=d(price), **fields)
