"""The first step of an order: admitted, reserved for and claimed, or denied, in one commit."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from activities.store import ClaimKey, Store
from activities.store.claims import ClaimRequest
from activities.store.placing import FirstSend, Place, Placing
from activities.store.reservations import MendSums, ReserveWish
from tests.activities.risk_builders import HERE, LOOSE, buy, d, fetched, reserved
from tests.activities.store_builders import opened, request_of
from tests.oms.builders import event
from trading.oms.enums import OrderStatus, ReasonCode, RejectedBy, TradingState
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order

ROUTED = event(EventKind.ROUTED, exchange="sandbox", account="main")


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        await fetched(store, "1000")
        yield store
        assert await store.risk._writer.do(MendSums(*HERE)) == []


def first(order: Order, **fields: Any) -> FirstSend:
    marks = [ROUTED, event(EventKind.SUBMITTING)]
    key = ClaimKey(order.client_order_id, 1, 1)
    claim = ClaimRequest(key, request_of(order), "test", before=marks, **fields)
    return FirstSend(wish=ReserveWish(order=order, limits=LOOSE), claim=claim, before=[ROUTED])


async def place(store: Store, order: Order, **fields: Any) -> Placing | None:
    return await store.risk.place(order, first(order, **fields))


async def names(store: Store, order_id: str) -> list[str]:
    entries = await store.events_after(0)
    return [one.name for one in entries if one.order_id == order_id]


async def test_one_commit_admits_reserves_and_claims(store: Store) -> None:
    order, before = buy("4"), store._writer.commits
    placing = await place(store, order)
    assert store._writer.commits == before + 1
    assert placing is not None
    assert placing.claim is not None
    assert placing.claim.won
    assert placing.claim.request == request_of(order)
    assert placing.state == await store.order(order.client_order_id)
    assert placing.state.status is OrderStatus.SUBMITTED
    assert (placing.state.exchange, placing.state.account) == HERE
    assert await reserved(store) == d(400)
    assert await names(store, order.client_order_id) == [
        "order_created",
        "order_pending",
        "order_leg_started",
        "order_submitted",
    ]


async def test_what_the_account_denies_has_ended_in_the_same_commit(store: Store) -> None:
    order, before = buy("11"), store._writer.commits
    placing = await place(store, order)
    assert store._writer.commits == before + 1
    assert placing is not None
    assert placing.claim is None
    assert placing.state.status is OrderStatus.REJECTED
    assert placing.state.rejected_by is RejectedBy.RISK
    assert placing.state.reason_code is ReasonCode.INSUFFICIENT_FUNDS
    assert placing.state.exchange == "sandbox"
    assert await reserved(store) == d(0)
    assert await store.claims_of(order.client_order_id) == []
    entries = await store.events_after(0)
    numbers = {"numbers": {"required": "1100", "available": "1000"}}
    last = next(one for one in entries if one.name == "order_rejected")
    assert dict(last.details or {})["numbers"] == numbers["numbers"]


async def test_many_at_once_cannot_overspend(store: Store) -> None:
    placings = await asyncio.gather(*(place(store, buy("1")) for _ in range(30)))
    assert sum(one is not None and one.claim is not None for one in placings) == 10
    assert await reserved(store) == d(1000)


@pytest.mark.parametrize("known_as", ["admitted", "reserved", "claimed", "ended"])
async def test_an_order_that_is_known_is_left_alone(store: Store, known_as: str) -> None:
    order = buy("4")
    await store.admit(order)
    if known_as == "reserved":
        await store.risk.reserve(ReserveWish(order=order, limits=LOOSE))
    elif known_as == "claimed":
        await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="other")
    elif known_as == "ended":
        await store.record(order.client_order_id, [event(EventKind.CANCELLED)])
    before = (
        await store.order(order.client_order_id),
        await store.claims_of(order.client_order_id),
        await reserved(store),
    )
    assert await place(store, order) is None
    assert await store.risk.place(order, [ROUTED, event(EventKind.CANCELLED)]) is None
    assert before == (
        await store.order(order.client_order_id),
        await store.claims_of(order.client_order_id),
        await reserved(store),
    )


async def test_a_commit_whose_answer_was_lost_is_known_again_as_its_own(store: Store) -> None:
    """The writer runs the same command once more; another one with the same order is no owner."""
    order = buy("4")
    command = Place(order, first(order))
    one = await store._writer.do(command)
    again = await store._writer.do(command)
    assert one.claim.won
    assert again.claim.won
    assert again.state == one.state
    assert await place(store, order) is None
    assert await reserved(store) == d(400)
    assert len(await names(store, order.client_order_id)) == 4


async def test_a_halt_refuses_the_claim_and_keeps_the_order(store: Store) -> None:
    await store.set_trading_state("all", TradingState.HALTED, reason="test", by="test")
    order = buy("1")
    placing = await place(store, order)
    assert placing is not None
    if placing.claim is None:
        assert placing.state.reason_code is ReasonCode.TRADING_HALTED
    else:
        assert not placing.claim.won
        assert placing.claim.refusal is ReasonCode.TRADING_HALTED
    assert await store.claims_of(order.client_order_id) == []


async def test_a_send_by_that_has_passed_refuses_the_claim(store: Store) -> None:
    order = buy("1")
    placing = await place(store, order, not_after=order.created_at.replace(year=2020))
    assert placing is not None
    assert placing.claim is not None
    assert placing.claim.refusal is ReasonCode.SEND_BY_PASSED
    assert placing.state.is_open
    assert placing.state.status is OrderStatus.PENDING_SUBMISSION


async def test_a_denial_that_needs_no_account_is_one_commit_too(store: Store) -> None:
    order, before = buy("1", price="1"), store._writer.commits
    denial = event(
        EventKind.DENIED, rejected_by=RejectedBy.RISK, reason_code=ReasonCode.PRICE_TOO_FAR
    )
    placing = await store.risk.place(order, [ROUTED, denial])
    assert store._writer.commits == before + 1
    assert placing is not None
    assert placing.state.status is OrderStatus.REJECTED
    assert placing.state.quantity == Decimal(1)
    assert await names(store, order.client_order_id) == [
        "order_created",
        "order_rejected",
    ]
