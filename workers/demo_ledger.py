"""The exchange's ledger beside ours: what it says happened, and what we have booked."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from activities.store import OrderFilter, Store
from trading.oms.enums import OrderSide
from trading.oms.exact import EXACT
from trading.oms.models import Fill
from trading.oms.reading import number
from workers.stack import LocalStack
from workers.stack_exchange import SandboxExchange

_PATIENCE_S = 15.0
Balances = Mapping[str, Mapping[str, Decimal]]
"""By exchange and asset."""


class Line(NamedTuple):
    """One number in both ledgers."""

    exchange: str
    what: str
    theirs: str
    ours: str

    @property
    def is_equal(self) -> bool:
        """Whether both say the same, to the last digit."""
        return self.theirs == self.ours


async def balances(stack: LocalStack) -> Balances:
    """What the account holds at each exchange, locked or not."""
    return {
        name: _holdings(exchange, await exchange.ledger())
        for name, exchange in stack.exchanges.items()
    }


async def compared(stack: LocalStack, store: Store, before: Balances, prefix: str) -> list[Line]:
    """Both ledgers, line by line, of the orders whose id begins with `prefix`.

    Waits a little where the last executions are on their way.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        lines = [
            line
            for name, exchange in stack.exchanges.items()
            for line in await _of_exchange(exchange, store, before[name], prefix)
        ]
        if all(line.is_equal for line in lines) or time.monotonic() > deadline:
            return lines
        await asyncio.sleep(0.2)


async def _of_exchange(
    exchange: SandboxExchange, store: Store, before: Mapping[str, Decimal], prefix: str
) -> list[Line]:
    ledger = await exchange.ledger()
    theirs = _their_trades(exchange, ledger)
    found_orders = await store.orders(OrderFilter(exchange=exchange.name), limit=None)
    orders = [order for order in found_orders if order.client_order_id.startswith(prefix)]
    ours: dict[str, Fill] = {}
    legs = 0
    for order in orders:
        fills = await store.fills(order.client_order_id)
        ours |= {f"{fill.side.value} {fill.trade_id}": fill for fill in fills}
        claims = await store.claims_of(order.client_order_id)
        legs += sum(claim.outcome is not None and claim.outcome == "accepted" for claim in claims)
    placed = [row for row in ledger["orders"] if row["account"] == exchange.keys.key]
    still_open = [row for row in placed if row["status"] in {"NEW", "PARTIALLY_FILLED"}]
    lines = [
        ("orders placed", len(placed), legs),
        ("orders open", len(still_open), sum(order.is_open for order in orders)),
        ("executions", len(theirs), len(ours)),
        ("the same executions", len(theirs), len(theirs.keys() & ours.keys())),
    ]
    found = [Line(exchange.name, what, str(one), str(two)) for what, one, two in lines]
    found += _sums(exchange.name, list(theirs.values()), [_plain(fill) for fill in ours.values()])
    now = _holdings(exchange, ledger)
    booked = _after(before, list(ours.values()))
    found += [
        Line(exchange.name, f"{asset} balance", number(now[asset]), number(booked[asset]))
        for asset in sorted(now.keys() & {"BTC", "USDT"})
    ]
    return found


Execution = tuple[str, Decimal, Decimal, Decimal, str]
"""Side, quantity, notional, fee, the fee's currency."""


def _sums(exchange: str, theirs: Sequence[Execution], ours: Sequence[Execution]) -> list[Line]:
    one, two = _summed(theirs), _summed(ours)
    return [
        Line(exchange, what, number(one.get(what, Decimal(0))), number(two.get(what, Decimal(0))))
        for what in sorted(one.keys() | two.keys(), key=lambda what: (what[:4] == "fees", what))
    ]


def _summed(executions: Sequence[Execution]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for side, quantity, notional, fee, currency in executions:
        verb = "bought" if side == "buy" else "sold"
        sums[f"{verb}, BTC"] = EXACT.add(sums[f"{verb}, BTC"], quantity)
        sums[f"{verb}, USDT"] = EXACT.add(sums[f"{verb}, USDT"], notional)
        sums[f"fees, {currency}"] = EXACT.add(sums[f"fees, {currency}"], fee)
    return sums


def _plain(fill: Fill) -> Execution:
    notional = EXACT.multiply(fill.quantity, fill.price)
    return (fill.side.value, fill.quantity, notional, fill.fee, fill.fee_currency)


def _their_trades(exchange: SandboxExchange, ledger: Mapping[str, Any]) -> dict[str, Execution]:
    """Our account's side of each of the exchange's trades, by side and trade id.

    Two orders of ours may meet: both sides of that trade are ours.
    """
    found: dict[str, Execution] = {}
    for trade in ledger["trades"]:
        for side, name in (("buy", "buyer"), ("sell", "seller")):
            own = trade[name]
            if own["account"] == exchange.keys.key:
                found[f"{side} {trade['id']}"] = (
                    side,
                    Decimal(trade["quantity"]),
                    Decimal(trade["quoteQuantity"]),
                    Decimal(own["commission"]),
                    own["commissionAsset"],
                )
    return found


def _holdings(exchange: SandboxExchange, ledger: Mapping[str, Any]) -> dict[str, Decimal]:
    rows: Mapping[str, Any] = ledger["balances"][exchange.keys.key]
    return {asset: Decimal(row["free"]) + Decimal(row["locked"]) for asset, row in rows.items()}


def _after(before: Mapping[str, Decimal], fills: Sequence[Fill]) -> dict[str, Decimal]:
    """The balances that our fills make of the balances before."""
    now: dict[str, Decimal] = defaultdict(Decimal, before)
    for fill in fills:
        base, _, quote = fill.symbol.partition("/")
        sign = 1 if fill.side is OrderSide.BUY else -1
        now[base] = EXACT.add(now[base], fill.quantity * sign)
        now[quote] = EXACT.subtract(now[quote], EXACT.multiply(fill.quantity, fill.price) * sign)
        now[fill.fee_currency] = EXACT.subtract(now[fill.fee_currency], fill.fee)
    return now
