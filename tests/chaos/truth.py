"""Three pictures of the same orders, entry by entry: the exchange's ledger, the store, Temporal."""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.chaos.world import World, until
from trading.oms.enums import OrderStatus
from trading.oms.models import Order, OrderState

LIVE = frozenset({"NEW", "PARTIALLY_FILLED"})
_STATUS = {
    "NEW": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.EXPIRED,
}


@dataclass
class AtExchange:
    """What the exchange has of one order of ours."""

    orders: list[dict[str, Any]] = field(default_factory=list)

    @property
    def live(self) -> list[dict[str, Any]]:
        """Those that can still trade."""
        return [order for order in self.orders if order["status"] in LIVE]

    @property
    def executed(self) -> Decimal:
        """The sum of what they have traded."""
        return sum((Decimal(order["executedQty"]) for order in self.orders), Decimal(0))

    @property
    def trade_ids(self) -> set[str]:
        """Every trade of theirs."""
        return {str(trade) for order in self.orders for trade in order["tradeIds"]}


async def at_exchange(world: World) -> dict[str, AtExchange]:
    """The ledger, by our order ids. An order there that no claim names is a fault by itself."""
    found: dict[str, AtExchange] = defaultdict(AtExchange)
    key = world.environment[f"OMS_{world.name.upper()}_API_KEY"]
    for entry in (await world.ledger())["orders"]:
        if entry["account"] != key:
            continue
        claim = await world.store.find_claim(world.name, "main", entry["clientOrderId"])
        assert claim is not None, f"the exchange has an order that nobody claimed: {entry}"
        found[claim.order_id].orders.append(entry)
    return found


async def faults_of(world: World, order: Order, there: AtExchange) -> list[str]:
    """Everything in which store and workflow differ from the exchange, in words; empty: nothing."""
    state = await world.store.order(order.client_order_id)
    if state is None:
        return ["the store does not know it"]
    found = [
        f"claim {claim.key.leg}/{claim.key.generation} has no outcome: {claim.outcome}"
        for claim in await world.store.claims_of(order.client_order_id)
        if claim.outcome is None or claim.outcome == "unknown"
    ]
    if len(there.live) > 1:
        found.append(f"{len(there.live)} live orders at the exchange")
    if state.filled_quantity != there.executed:
        found.append(f"filled {state.filled_quantity}, at the exchange {there.executed}")
    fills = await world.store.fills(order.client_order_id)
    if {fill.trade_id for fill in fills} != there.trade_ids:
        found.append(f"fills {[f.trade_id for f in fills]}, at the exchange {there.trade_ids}")
    if state.in_doubt_since is not None:
        found.append("it is in doubt")
    if state.pending.value != "none" or state.replacing:
        found.append(f"still pending {state.pending}, replacing {state.replacing}")
    found += _status_faults(state, there)
    if await world.is_running(order) is not state.is_open:
        found.append(f"{state.status}, but its workflow is not where it should be")
    return found


def _status_faults(state: OrderState, there: AtExchange) -> list[str]:
    if not there.orders:
        ended = {OrderStatus.REJECTED, OrderStatus.CANCELLED}
        return [] if state.status in ended else [f"{state.status}, but nothing at the exchange"]
    newest = max(there.orders, key=lambda order: int(order["orderId"]))
    wanted = _STATUS[newest["status"]]
    if wanted is OrderStatus.ACCEPTED and there.executed:
        wanted = OrderStatus.PARTIALLY_FILLED
    if state.status is not wanted:
        return [f"{state.status}, at the exchange {newest['status']}"]
    return []


async def differences(world: World, orders: list[Order]) -> dict[str, list[str]]:
    """The faults of all orders that have any."""
    there = await at_exchange(world)
    found = {
        order.client_order_id: await faults_of(world, order, there[order.client_order_id])
        for order in orders
    }
    return {order_id: faults for order_id, faults in found.items() if faults}


async def until_equal(world: World, orders: list[Order], *, seconds: float = 60) -> float:
    """Wait until the three pictures are one; how long it took. Fails with what differs."""
    last: dict[str, list[str]] = {}

    async def equal() -> bool:
        nonlocal last
        last = await differences(world, orders)
        return not last

    try:
        return await until(
            equal, "ledger, store and workflows are equal", seconds=seconds, pause_s=0.3
        )
    except AssertionError as error:
        lines = "\n".join(f"{order_id}: {faults}" for order_id, faults in last.items())
        msg = f"{error}\n{lines}"
        raise AssertionError(msg) from None
