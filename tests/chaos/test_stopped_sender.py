"""SIGSTOP in the middle of a send, for longer than the fence, then SIGCONT: one order, no more."""

import asyncio
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness.plan import FENCES
from tests.chaos.truth import at_exchange, differences, until_equal
from tests.chaos.world import Shape, World, a_world, deeds, until
from trading.oms.commands import CancelRequest, ModifyRequest
from trading.oms.enums import CancelOutcome, OrderStatus, OrderType, ReasonCode, TimeInForce
from trading.oms.models import Order, OrderResult
from trading.oms.order_client import OrderClient
from workers.child_process import ChildProcess
from workers.temporal_server import TemporalServer

SENT_AGAIN: dict[str, dict[str, Any]] = {
    "resting": {},
    "marketable": {"price": Decimal(41000)},
}
NEVER_LATE: dict[str, dict[str, Any]] = {
    "ioc": {"price": Decimal(41000), "time_in_force": TimeInForce.IOC},
    "market": {"order_type": OrderType.MARKET, "price": None},
}
BEFORE_CHECK, AFTER_CHECK = "stop before the last check", "stop after the last check"
PLACES = [pytest.param(BEFORE_CHECK, marks=pytest.mark.chaos_long), AFTER_CHECK]
NEW_PRICE, PART = Decimal(30500), Decimal("0.004")
MODIFY = ModifyRequest(new_price=NEW_PRICE, wait_s=60)


@pytest.mark.parametrize("place", PLACES)
async def test_a_sender_stopped_between_claim_and_write_places_no_second_order(
    world: World, place: str
) -> None:
    """Its own check refuses the late write, or the exchange does. Others have gone on meanwhile."""
    again = {kind: world.order(f"-{kind}", **fields) for kind, fields in SENT_AGAIN.items()}
    never = {kind: world.order(f"-{kind}", **fields) for kind, fields in NEVER_LATE.items()}
    orders = [*again.values(), *never.values()]
    plan = world.plan(sabotage=(place,), orders_only=True, together=len(orders))
    sleeper = await world.working(world.worker(plan))
    await world.start_all(orders, task_timeout_s=1)
    await until(lambda: bool(deeds(plan)), "the senders stand still")
    await world.working(world.worker())
    await until_equal(world, orders)

    sleeper.send_signal(signal.SIGCONT)
    if place == AFTER_CHECK:
        await until(lambda: all_written(world, orders), "the late writes have reached the exchange")
    await drained(sleeper)

    assert not await differences(world, orders)
    there = await at_exchange(world)
    for order in again.values():
        assert len(there[order.client_order_id].orders) == 1
        claims = await world.store.claims_of(order.client_order_id)
        assert [claim.outcome for claim in claims] == ["not_placed", "accepted"]
    for order in never.values():
        assert not there[order.client_order_id].orders
        state = await world.store.order(order.client_order_id)
        assert state is not None
        assert (state.status, state.reason_code) == (OrderStatus.REJECTED, ReasonCode.NOT_PLACED)


async def all_written(world: World, orders: list[Order]) -> bool:
    """Whether the exchange was sent the first request of every order, however late."""
    async with world.session.get(f"{world.exchange_url}/control/requests") as answer:
        requests = (await answer.json(content_type=None))["requests"]
    placed = "".join(item["raw"] for item in requests if "POST" in item["endpoint"])
    first = [(await world.store.claims_of(order.client_order_id))[0] for order in orders]
    return all(claim.request.exchange_client_id in placed for claim in first)


async def test_a_sender_stopped_before_it_reads_the_answer_disturbs_nothing(world: World) -> None:
    """The exchange has the orders; while their sender stands still, others look them up."""
    kinds = {**SENT_AGAIN, **NEVER_LATE}
    orders = [world.order(f"-{kind}", **fields) for kind, fields in kinds.items()]
    await world.control("faults", fault="reply_delayed_ms", ms=900, count=len(orders))
    sleeper = await world.working(world.worker(world.plan(orders_only=True)))
    await world.start_all(orders, task_timeout_s=1)

    async def are_there() -> bool:
        return len((await at_exchange(world)).keys()) == len(orders)

    await until(are_there, "the exchange has the orders", pause_s=0.01)
    sleeper.send_signal(signal.SIGSTOP)
    await world.working(world.worker())
    await until_equal(world, orders)
    head = await world.store.head()

    sleeper.send_signal(signal.SIGCONT)
    await drained(sleeper)

    assert not await differences(world, orders)
    late = [entry.name for entry in await world.store.events_after(head)]
    assert not late, "the late answers have changed something"
    there = await at_exchange(world)
    assert [len(there[order.client_order_id].orders) for order in orders] == [1, 1, 1, 1]


async def drained(sleeper: ChildProcess) -> None:
    """The sleeper has ended all that it had begun."""
    assert await sleeper.stop(30) == 0, sleeper.log_tail()


async def written_after_waking(world: World, sleeper: ChildProcess, request: str) -> int:
    """How many of such requests the sleeper writes once it goes on, until it has ended."""
    before = await written(world, request)
    sleeper.send_signal(signal.SIGCONT)
    await drained(sleeper)
    return await written(world, request) - before


@pytest.mark.parametrize("place", PLACES)
async def test_a_cancel_replace_stopped_between_claim_and_write_changes_nothing_afterwards(
    world: World, place: str
) -> None:
    """Others have proved it dead meanwhile, and have gone on: each order by its own rule."""
    again, rejecting = world.order("-again"), world.order("-rejecting", if_not_placed="reject")
    filled, cancelled = world.order("-filled", price=Decimal(30001)), world.order("-cancelled")
    orders = [again, rejecting, filled, cancelled]
    sleeper, answers = await stopped_changes(world, orders, place, "replace")
    cancel = OrderClient(world.client, world.task_queue).cancel
    wish = asyncio.create_task(cancel(cancelled.client_order_id, CancelRequest(wait_s=60)))
    sale = {"symbol": "BTCUSDT", "side": "SELL", "price": "30001", "quantity": str(PART)}
    await world.control("market_order", **sale)
    await world.working(world.worker())
    await until_equal(world, orders)
    success = {one.order_id: one.success for one in await answers}

    late = await written_after_waking(world, sleeper, "cancelReplace")

    assert late == (len(orders) if place == AFTER_CHECK else 0)
    assert not await differences(world, orders)
    assert (await wish).outcome is CancelOutcome.CANCELLED
    there = await at_exchange(world)
    live = {
        order: [(Decimal(one["price"]), one["executedQty"]) for one in mine.live]
        for order, mine in there.items()
    }
    assert live[again.client_order_id] == [(NEW_PRICE, "0.00000000")]
    assert live[filled.client_order_id] == [(NEW_PRICE, "0.00000000")]
    assert there[filled.client_order_id].executed == PART
    assert live[rejecting.client_order_id] == [(rejecting.price, "0.00000000")]
    assert live[cancelled.client_order_id] == []
    assert [success[order.client_order_id] for order in orders] == [True, False, True, False]
    for order in orders:
        (first, dead, *sent) = await world.store.claims_of(order.client_order_id)
        assert (first.key[1:], first.outcome) == ((1, 1), "accepted")
        assert (dead.key[1:], dead.outcome) == ((2, 1), "not_placed")
        expected = [((2, 2), "accepted")] if order in (again, filled) else []
        assert [(claim.key[1:], claim.outcome) for claim in sent] == expected


A_MINUTE_OF_NONCES = ("--kraken-nonces", "60000000")
KRAKEN = Shape(kinds=("kraken",), fences=FENCES, sandbox=A_MINUTE_OF_NONCES)
"""The window of the key lets old nonces through, so that the deadline alone is left to refuse."""


@pytest.mark.parametrize("place", PLACES)
async def test_an_amendment_in_place_stopped_before_its_write_takes_back_no_later_one(
    temporal_server: TemporalServer, tmp_path: Path, place: str
) -> None:
    """Nothing claims it, so others repeat it at once; what it wanted may be old when it wakes."""
    async with a_world(temporal_server, tmp_path, KRAKEN) as world:
        orders = [world.order("-once"), world.order("-twice")]
        once, twice = (order.client_order_id for order in orders)
        sleeper, answers = await stopped_changes(world, orders, place, "amend")
        stopped_at = await krakens_time(world)
        await world.working(world.worker())
        await until_equal(world, orders)
        assert all(answer.success for answer in await answers)
        newest = ModifyRequest(new_price=Decimal(30200), new_quantity=Decimal("0.02"), wait_s=60)
        changed = await OrderClient(world.client, world.task_queue).modify(twice, newest)
        assert changed.success, changed

        async def fence_has_passed() -> bool:
            window_s = int(FENCES["kraken"]["RECV_WINDOW_MS"]) / 1000
            return await krakens_time(world) > stopped_at + window_s + 1

        await until(fence_has_passed, "the deadlines have passed")

        late = await written_after_waking(world, sleeper, "AmendOrder")

        assert late == (len(orders) if place == AFTER_CHECK else 0)
        assert not await differences(world, orders)
        there = await at_exchange(world)
        for order_id, wanted in {once: ("0.01", "30500"), twice: ("0.02", "30200")}.items():
            (entry,) = there[order_id].orders
            state = await world.store.order(order_id)
            assert state is not None
            terms = (Decimal(wanted[0]), Decimal(wanted[1]))
            assert (Decimal(entry["origQty"]), Decimal(entry["price"])) == terms
            assert (state.quantity, state.price) == terms


async def stopped_changes(
    world: World, orders: list[Order], place: str, request: str
) -> tuple[ChildProcess, asyncio.Future[list[OrderResult]]]:
    """Orders at rest whose changes stand still with their process, and the answers to come."""
    plan = world.plan(sabotage=(place,), orders_only=True, together=len(orders), request=request)
    sleeper = await world.working(world.worker(plan))
    await world.start_all(orders, task_timeout_s=1)
    await until_equal(world, orders)
    modify = OrderClient(world.client, world.task_queue).modify
    answers = asyncio.gather(*(modify(order.client_order_id, MODIFY) for order in orders))
    await until(lambda: bool(deeds(plan)), "the changes stand still")
    return sleeper, answers


async def krakens_time(world: World) -> int:
    """The exchange's clock, in whole seconds."""
    async with world.session.get(f"{world.exchange_url}/0/public/Time") as answer:
        return int((await answer.json(content_type=None))["result"]["unixtime"])


async def written(world: World, endpoint: str) -> int:
    """How many requests of a kind the exchange was sent."""
    url = f"{world.exchange_url}/control/requests?last=10000"
    async with world.session.get(url) as answer:
        requests = (await answer.json(content_type=None))["requests"]
    return sum(endpoint in item["endpoint"] for item in requests)
