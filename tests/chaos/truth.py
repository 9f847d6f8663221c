"""Three pictures of the same orders, entry by entry: exchanges' ledgers, store, Temporal."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.store import OrderFilter
from activities.store.types import ClaimKey
from tests.chaos.world import World, until
from trading.oms.enums import OrderStatus, Pending, ReasonCode
from trading.oms.models import Order, OrderResult, OrderState
from trading.oms.split import summed

LIVE = frozenset({"NEW", "PARTIALLY_FILLED"})
_STATUS = {
    "NEW": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELLED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}
_AT_ONCE = 20


class Kind(StrEnum):
    """The ways in which the pictures can differ."""

    LOST = "lost"
    DOUBLED = "doubled"
    FILLS_MISSING = "fills_missing"
    FILLS_DOUBLED = "fills_doubled"
    WRONG_STATE = "wrong_state"
    STUCK = "stuck"


class Difference(NamedTuple):
    """One way in which an order differs, in words."""

    kind: Kind
    words: str

    def __str__(self) -> str:
        """As a line of a report."""
        return f"{self.kind}: {self.words}"


@dataclass
class AtExchange:
    """What the exchanges have of one order of ours: ledger entries with the leg that each is."""

    entries: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def orders(self) -> list[dict[str, Any]]:
        """The entries alone."""
        return [entry for _, entry in self.entries]

    @property
    def live(self) -> list[dict[str, Any]]:
        """Those that can still trade."""
        return [order for order in self.orders if order["status"] in LIVE]

    @property
    def executed(self) -> Decimal:
        """The sum of what they have traded."""
        return sum((Decimal(order["executedQty"]) for order in self.orders), Decimal(0))

    @property
    def notional(self) -> Decimal:
        """The sum of what that was worth, in the quote currency."""
        worth = (Decimal(order["cummulativeQuoteQty"]) for order in self.orders)
        return sum(worth, Decimal(0))

    @property
    def trade_ids(self) -> set[str]:
        """Every trade of theirs."""
        return {str(trade) for order in self.orders for trade in order["tradeIds"]}


async def at_exchange(world: World) -> dict[str, AtExchange]:
    """The ledgers, by our order ids. An order there that no claim names is a fault by itself."""
    found, strangers = await at_exchanges(world)
    assert not strangers, f"the exchange has orders that nobody claimed: {strangers}"
    return found


async def at_exchanges(world: World) -> tuple[dict[str, AtExchange], list[dict[str, Any]]]:
    """The ledgers by our order ids, and the entries that no claim names."""
    found: dict[str, AtExchange] = defaultdict(AtExchange)
    strangers = []
    for venue in world.venues.values():
        for entry in (await world.ledger(venue.name))["orders"]:
            if entry["account"] != venue.key:
                continue
            claim = await _claim_of(world, venue.name, entry["clientOrderId"])
            if claim is None:
                strangers.append(entry)
            else:
                entry["status"] = _in_its_words(venue.kind, entry["status"])
                found[claim.order_id].entries.append((claim.leg, entry))
    return found, strangers


def _in_its_words(kind: str, status: str) -> str:
    """The ledger speaks as Binance does; Kraken tells an expiry that is not by date as a cancel.

    Dates are ours to watch at both: no order has one there.
    """
    return "CANCELED" if kind == "kraken" and status == "EXPIRED" else status


async def _claim_of(world: World, exchange: str, client_id: str) -> ClaimKey | None:
    """A claim that is there stays; the ledgers are read again and again."""
    if client_id not in world.claims:
        claim = await world.store.find_claim(exchange, "main", client_id)
        if claim is None:
            return None
        world.claims[client_id] = claim
    return world.claims[client_id]


async def faults_of(
    world: World, order: Order, there: Mapping[str, AtExchange]
) -> list[Difference]:
    """Everything in which store and workflow differ from the exchange, in words; empty: nothing.

    An order that is split differs where its legs do, or their sum.
    """
    state = await world.store.order(order.client_order_id)
    if state is None or not state.is_split:
        return await _plain_faults(world, order, there.get(order.client_order_id, AtExchange()))
    legs = await world.store.orders(OrderFilter(parent_order_id=order.client_order_id), limit=None)
    found = []
    for leg in legs:
        legs_order = await world.store.trader_order(leg.client_order_id)
        assert legs_order is not None
        faults = await faults_of(world, legs_order, there)
        found += [fault._replace(words=f"{leg.client_order_id}: {fault.words}") for fault in faults]
    entries = [there.get(leg.client_order_id, AtExchange()) for leg in legs]
    found += _sum_faults(state, legs, sum((entry.executed for entry in entries), Decimal(0)))
    return found + await _workflow_faults(world, order, state)


def _sum_faults(
    state: OrderState, legs: Sequence[OrderState], executed: Decimal
) -> list[Difference]:
    """The parent is the sum of its legs, and has not traded more than was wanted."""
    found = []
    if executed > state.quantity:
        words = f"{executed} of {state.quantity} were traded by its legs"
        found.append(Difference(Kind.DOUBLED, words))
    if summed(state, legs) != state or state.filled_quantity != executed:
        words = f"filled {state.filled_quantity} as {state.status}, its legs {executed}"
        found.append(Difference(Kind.WRONG_STATE, words))
    if state.is_terminal and any(leg.is_open for leg in legs):
        found.append(Difference(Kind.STUCK, f"{state.status}, and a leg of it is open"))
    if state.in_doubt_since is not None or state.pending is not Pending.NONE:
        found.append(Difference(Kind.STUCK, f"in doubt, or still pending {state.pending}"))
    return found


async def _plain_faults(world: World, order: Order, there: AtExchange) -> list[Difference]:
    state = await world.store.order(order.client_order_id)
    if state is None:
        return [Difference(Kind.LOST, "the store does not know it")]
    found = [
        Difference(
            Kind.STUCK,
            f"claim {claim.key.leg}/{claim.key.generation} has no outcome: {claim.outcome}",
        )
        for claim in await world.store.claims_of(order.client_order_id)
        if claim.outcome is None or claim.outcome == "unknown"
    ]
    if state.in_doubt_since is not None:
        found.append(Difference(Kind.STUCK, "it is in doubt"))
    if state.pending.value != "none" or state.replacing:
        words = f"still pending {state.pending}, replacing {state.replacing}"
        found.append(Difference(Kind.STUCK, words))
    found += _doubled(state, there)
    found += await _fill_faults(world, state, there)
    found += _status_faults(state, there)
    return found + await _workflow_faults(world, order, state)


def _doubled(state: OrderState, there: AtExchange) -> list[Difference]:
    """One live order at most, and one order for each leg: a generation follows a dead one only."""
    found = []
    if len(there.live) > 1:
        found.append(f"{len(there.live)} live orders at the exchange")
    found += [
        f"leg {leg} was placed {count} times"
        for leg, count in Counter(leg for leg, _ in there.entries).items()
        if count > 1
    ]
    if there.executed > state.quantity:
        found.append(f"{there.executed} of {state.quantity} were traded")
    return [Difference(Kind.DOUBLED, words) for words in found]


async def _fill_faults(world: World, state: OrderState, there: AtExchange) -> list[Difference]:
    booked = Counter(fill.trade_id for fill in await world.store.fills(state.client_order_id))
    found = []
    if missing := there.trade_ids - booked.keys():
        found.append(Difference(Kind.FILLS_MISSING, f"trades {sorted(missing)} are not booked"))
    twice = {trade for trade, count in booked.items() if count > 1}
    if surplus := twice | (booked.keys() - there.trade_ids):
        words = f"trades {sorted(map(str, surplus))} are booked twice, or are not at the exchange"
        found.append(Difference(Kind.FILLS_DOUBLED, words))
    ours, theirs = (
        (state.filled_quantity, state.filled_notional),
        (there.executed, there.notional),
    )
    if ours != theirs and not found:
        words = f"filled and worth {ours}, at the exchange {theirs}"
        found.append(Difference(Kind.WRONG_STATE, words))
    return found


def _status_faults(state: OrderState, there: AtExchange) -> list[Difference]:
    if not there.orders:
        ended = {OrderStatus.REJECTED, OrderStatus.CANCELLED}
        if state.expire_at is not None:
            ended.add(OrderStatus.EXPIRED)
        if state.status in ended:
            return []
        kind = Kind.STUCK if state.submitted_at is None else Kind.LOST
        return [Difference(kind, f"{state.status}, but nothing at the exchange")]
    newest = max(there.orders, key=lambda order: int(order["orderId"]))
    wanted = _STATUS[newest["status"]]
    if wanted is OrderStatus.CANCELLED and state.reason_code is ReasonCode.EXPIRY_REACHED:
        wanted = OrderStatus.EXPIRED  # By our own timer, with a cancel.
    if wanted is OrderStatus.ACCEPTED and there.executed:
        wanted = OrderStatus.PARTIALLY_FILLED
    if state.status is not wanted:
        words = f"{state.status}, at the exchange {newest['status']}"
        return [Difference(Kind.WRONG_STATE, words)]
    return []


async def _workflow_faults(world: World, order: Order, state: OrderState) -> list[Difference]:
    """The workflow runs as long as the order is open, and returns what the store has."""
    try:
        described = await world.handle(order).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return [Difference(Kind.LOST, f"{state.status}, and there is no workflow")]
    if described.status is WorkflowExecutionStatus.RUNNING:
        words = f"{state.status}, but its workflow still runs"
        return [] if state.is_open else [Difference(Kind.STUCK, words)]
    if state.is_open:
        return [Difference(Kind.STUCK, f"{state.status}, but its workflow has ended")]
    return await _result_faults(world, described, state)


async def _result_faults(
    world: World, described: WorkflowExecutionDescription, state: OrderState
) -> list[Difference]:
    if described.run_id in world.terminated:
        return []
    if described.status is not WorkflowExecutionStatus.COMPLETED:
        return [Difference(Kind.WRONG_STATE, f"its workflow has ended as {described.status}")]
    handle = world.client.get_workflow_handle(
        described.id, run_id=described.run_id, result_type=OrderResult
    )
    result = (await handle.result(follow_runs=False)).state
    if result is None:
        return [Difference(Kind.WRONG_STATE, "its workflow has returned no state")]
    return [
        Difference(Kind.WRONG_STATE, f"{name} is {here}, in the workflow's result {given}")
        for name in ("status", "filled_quantity", "average_fill_price", "fees_by_currency", "leg")
        if (here := getattr(state, name)) != (given := getattr(result, name))
    ]


async def differences(world: World, orders: Sequence[Order]) -> dict[str, list[Difference]]:
    """The faults of all orders that have any."""
    return await differences_from(world, orders, await at_exchange(world))


async def differences_from(
    world: World, orders: Iterable[Order], there: Mapping[str, AtExchange]
) -> dict[str, list[Difference]]:
    """The same, against ledgers that were read a moment ago."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def look_at(order: Order) -> tuple[str, list[Difference]]:
        async with turn:
            return order.client_order_id, await faults_of(world, order, there)

    found = await asyncio.gather(*(look_at(order) for order in orders))
    return {order_id: faults for order_id, faults in found if faults}


async def until_equal(world: World, orders: Sequence[Order], *, seconds: float = 60) -> float:
    """Wait until the three pictures are one; how long it took. Fails with what differs."""
    last: dict[str, list[Difference]] = {}

    async def equal() -> bool:
        nonlocal last
        last = await differences(world, orders)
        return not last

    try:
        return await until(
            equal, "ledger, store and workflows are equal", seconds=seconds, pause_s=0.3
        )
    except AssertionError as error:
        lines = "\n".join(
            f"{order_id}: {'; '.join(map(str, faults))}" for order_id, faults in last.items()
        )
        msg = f"{error}\n{lines}"
        raise AssertionError(msg) from None
