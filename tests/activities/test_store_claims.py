"""The send claim: who may send, what exactly, and how it ended."""

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest

from activities.store import ClaimKey, ClaimOutcome, Store, TradingState
from activities.store.types import Sent, resend_scope
from tests.activities.store_builders import (
    accepted,
    claimed,
    fill_event,
    new_order,
    opened,
    request_of,
)
from tests.oms.builders import event
from trading.oms.enums import OrderStatus, ReasonCode, RejectedBy
from trading.oms.errors import OrderNotFound, StoreRefused
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import Order, utc_now

ROUTED = event(EventKind.ROUTED, exchange="sandbox", account="main")
HERE = ("sandbox", "main", "BTC/USDT")
REJECTED = event(EventKind.REJECTED, rejected_by=RejectedBy.EXCHANGE, reason="no")


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
async def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    """One store for all tests here: each has orders of its own."""
    url = f"sqlite:///{tmp_path_factory.mktemp('claims')}/store.db"
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        server.psql("CREATE DATABASE claims;")
        url = server.get_uri(database="claims", driver="asyncpg")
    async with opened(url) as store:
        yield store


async def names_of(store: Store, order: Order) -> list[str]:
    return [entry.name for entry in await store.events_of(order.client_order_id)]


async def test_a_won_claim_holds_the_request_and_makes_the_order_submitted(store: Store) -> None:
    order = new_order()
    await store.admit(order)
    request = request_of(order)
    claim = await store.claim_send(
        order.client_order_id,
        1,
        1,
        request,
        claimant="me",
        before=[ROUTED, event(EventKind.SUBMITTING)],
    )
    assert claim.won
    assert (claim.request, claim.outcome, claim.stamp) == (request, None, 1)
    assert claim.state.status is OrderStatus.SUBMITTED
    assert claim.state.exchange_client_id == request.exchange_client_id
    assert claim.state == await store.order(order.client_order_id)
    stored = await store.claim(order.client_order_id, 1, 1)
    assert stored is not None
    assert (stored.request, stored.claimant, stored.outcome) == (request, "me", None)
    assert await names_of(store, order) == [
        "order_created",
        "order_pending",
        "order_leg_started",
        "order_submitted",
    ]


async def test_a_taken_claim_shows_the_request_of_the_winner(store: Store) -> None:
    order = await claimed(store, new_order())
    later = request_of(order, timestamp_ms=99_999)
    claim = await store.claim_send(order.client_order_id, 1, 1, later, claimant="other")
    assert not claim.won
    assert claim.refusal is None
    assert claim.request == request_of(order)
    assert len(await store.claims_of(order.client_order_id)) == 1


async def test_the_start_of_a_leg_may_be_given_with_the_claim(store: Store) -> None:
    order = await accepted(store, new_order())
    request = request_of(order, leg=2)
    start = event(
        EventKind.LEG_STARTED,
        leg=2,
        exchange_client_id=request.exchange_client_id,
        revision=1,
        quantity=Decimal(12),
    )
    claim = await store.claim_send(
        order.client_order_id, 2, 1, request, claimant="me", events=[start]
    )
    assert claim.won
    assert (claim.state.leg, claim.state.quantity) == (2, Decimal(12))
    assert (await names_of(store, order)).count("order_leg_started") == 2


async def test_a_later_generation_is_published_as_sent_again(store: Store) -> None:
    order = await claimed(store, new_order())
    request = request_of(order, generation=2)
    claim = await store.claim_send(order.client_order_id, 1, 2, request, claimant="me")
    assert claim.won
    assert "order_resent" in await names_of(store, order)


async def test_nothing_is_sent_again_where_resending_is_stopped(store: Store) -> None:
    """A first send goes on: only that an earlier one placed nothing cannot be proved there."""
    scope = resend_scope("sandbox", "main")
    await store.set_trading_state(scope, TradingState.HALTED, by="test")
    order = await claimed(store, new_order())
    wish = (order.client_order_id, 1, 2, request_of(order, generation=2))

    claim = await store.claim_send(*wish, claimant="me")
    assert (claim.won, claim.refusal) == (False, ReasonCode.RESENDING_STOPPED)

    await store.set_trading_state(scope, TradingState.ACTIVE, by="test")
    assert (await store.claim_send(*wish, claimant="me")).won


async def test_an_order_that_is_to_be_cancelled_is_not_sent(store: Store) -> None:
    order = new_order()
    await store.admit(order)
    await store.record(order.client_order_id, [event(EventKind.CANCEL_REQUESTED)])
    claim = await store.claim_send(
        order.client_order_id, 1, 1, request_of(order), claimant="me", before=[ROUTED]
    )
    assert not claim.won
    assert claim.refusal is ReasonCode.CANCELLED_BEFORE_SEND
    assert claim.state.status is OrderStatus.CREATED
    assert await store.claim(order.client_order_id, 1, 1) is None


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (event(EventKind.CANCELLED), ReasonCode.CANCELLED_BEFORE_SEND),
        (event(EventKind.DENIED, reason_code=ReasonCode.UNSUPPORTED), ReasonCode.UNSUPPORTED),
        (event(EventKind.DECLARED_DEAD), ReasonCode.CANCELLED_BEFORE_SEND),
    ],
)
async def test_an_order_that_has_ended_is_not_sent(
    store: Store, ended: LifecycleEvent, code: ReasonCode
) -> None:
    order = new_order()
    await store.admit(order)
    await store.record(order.client_order_id, [ended])
    claim = await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="me")
    assert claim.refusal is code


async def test_nothing_is_sent_after_its_time(store: Store) -> None:
    order = new_order()
    await store.admit(order)
    claim = await store.claim_send(
        order.client_order_id,
        1,
        1,
        request_of(order),
        claimant="me",
        not_after=utc_now() - timedelta(milliseconds=1),
    )
    assert claim.refusal is ReasonCode.SEND_BY_PASSED


@pytest.mark.parametrize("scope", ["all", "account:sandbox/main", "strategy:s-1"])
async def test_nothing_is_sent_while_trading_is_halted(store: Store, scope: str) -> None:
    order = new_order(strategy_id="s-1")
    await store.admit(order)
    wish = (order.client_order_id, 1, 1, request_of(order))
    for _ in range(2):
        await store.set_trading_state(scope, TradingState.HALTED, reason="drift", by="me")
    assert await store.trading_state("sandbox", "main", "s-1") is TradingState.HALTED
    assert (await store.claim_send(*wish, claimant="me")).refusal is ReasonCode.TRADING_HALTED
    await store.set_trading_state(scope, TradingState.REDUCING, by="me")
    assert (await store.trading_states())[scope] is TradingState.REDUCING
    assert (await store.claim_send(*wish, claimant="me")).won
    await store.set_trading_state(scope, TradingState.ACTIVE, by="me")


async def test_trading_is_active_where_nobody_said_otherwise(store: Store) -> None:
    assert await store.trading_state() is TradingState.ACTIVE
    await store.set_trading_state("account:sandbox/other", TradingState.HALTED, by="me")
    assert await store.trading_state("sandbox", "main") is TradingState.ACTIVE
    await store.set_trading_state("account:sandbox/other", TradingState.ACTIVE, by="me")


async def test_an_unknown_order_cannot_be_claimed_or_settled(store: Store) -> None:
    order = new_order()
    with pytest.raises(OrderNotFound):
        await store.claim_send(order.client_order_id, 1, 1, request_of(order), claimant="me")
    await store.admit(order)
    with pytest.raises(OrderNotFound, match="has no claim for leg 1, generation 1"):
        await store.settle_claim(order.client_order_id, 1, 1, outcome=ClaimOutcome.UNKNOWN)
    with pytest.raises(OrderNotFound, match="has no claim"):
        await store.reclaim(
            order.client_order_id, 1, 1, stamp=1, request=request_of(order), claimant="me"
        )


async def test_an_exchange_client_id_is_claimed_once_per_account(store: Store) -> None:
    first = await claimed(store, new_order())
    second = new_order()
    await store.admit(second)
    with pytest.raises(StoreRefused):
        await store.claim_send(second.client_order_id, 1, 1, request_of(first), claimant="me")
    elsewhere = request_of(first, account="other")
    assert (await store.claim_send(second.client_order_id, 1, 1, elsewhere, claimant="me")).won


async def test_a_refusal_that_placed_nothing_is_stamped_anew_once(store: Store) -> None:
    order = await claimed(store, new_order())
    name = order.client_order_id
    await store.settle_claim(name, 1, 1, outcome=ClaimOutcome.NEVER_REACHED, stamp=1)
    fresh = request_of(order, timestamp_ms=2000)
    claim = await store.reclaim(name, 1, 1, stamp=1, request=fresh, claimant="me")
    assert claim.won
    assert (claim.request, claim.outcome, claim.stamp) == (fresh, None, 2)
    late = await store.reclaim(name, 1, 1, stamp=1, request=fresh, claimant="other")
    assert not late.won
    assert late.stamp == 2
    stored = await store.claim(name, 1, 1)
    assert stored is not None
    assert (stored.stamp, stored.request.timestamp_ms, stored.claimant) == (2, 2000, "me")


async def test_who_knows_only_of_an_older_stamp_claims_nothing_again(store: Store) -> None:
    """The newer one has failed too: it is for whoever knows of that one to go on."""
    order = await claimed(store, new_order())
    name, fresh = order.client_order_id, request_of(order, timestamp_ms=2000)
    for stamp in (1, 2):
        await store.settle_claim(name, 1, 1, outcome=ClaimOutcome.NEVER_REACHED, stamp=stamp)
        claim = await store.reclaim(name, 1, 1, stamp=1, request=fresh, claimant="me")
        assert claim.won is (stamp == 1)
    assert claim.stamp == 2


@pytest.mark.parametrize(
    "outcome", [None, ClaimOutcome.ACCEPTED, ClaimOutcome.REJECTED, ClaimOutcome.UNKNOWN]
)
async def test_what_may_have_been_placed_is_not_claimed_again(
    store: Store, outcome: ClaimOutcome | None
) -> None:
    """Nor is what nobody has said anything about: it may be on its way."""
    order = await claimed(store, new_order())
    if outcome is not None:
        await store.settle_claim(order.client_order_id, 1, 1, outcome=outcome)
    claim = await store.reclaim(
        order.client_order_id, 1, 1, stamp=1, request=request_of(order), claimant="me"
    )
    assert not claim.won
    assert claim.outcome is outcome


async def test_a_cancel_prevents_a_second_stamp(store: Store) -> None:
    order = await claimed(store, new_order())
    name = order.client_order_id
    await store.settle_claim(name, 1, 1, outcome=ClaimOutcome.NEVER_REACHED)
    await store.record(name, [event(EventKind.CANCEL_REQUESTED)])
    claim = await store.reclaim(
        order.client_order_id, 1, 1, stamp=1, request=request_of(order), claimant="me"
    )
    assert claim.refusal is ReasonCode.CANCELLED_BEFORE_SEND
    assert not claim.won


async def test_the_outcome_and_its_events_are_one_commit(store: Store) -> None:
    order = await claimed(store, new_order())
    name = order.client_order_id
    events = [
        event(EventKind.ACCEPTED, exchange_order_id="x-20"),
        fill_event(order, "t1", "10"),
    ]
    for _ in range(2):
        state = await store.settle_claim(
            name, 1, 1, outcome=ClaimOutcome.ACCEPTED, answer={"status": "FILLED"}, events=events
        )
    assert state.status is OrderStatus.FILLED
    assert state.filled_quantity == Decimal(10)
    stored = await store.claim(name, 1, 1)
    assert stored is not None
    assert stored.answer == {"status": "FILLED"}
    assert stored.exchange_order_id == "x-20"
    assert stored.settled_at is not None


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("accepted", "rejected", "accepted"),
        ("rejected", "accepted", "rejected"),
        ("not_placed", "accepted", "accepted"),
        ("not_placed", "rejected", "not_placed"),
        ("unknown", "accepted", "accepted"),
        ("unknown", "not_placed", "not_placed"),
        ("never_reached", "rejected", "rejected"),
        ("accepted", "unknown", "accepted"),
    ],
)
async def test_a_settled_outcome_stays(store: Store, first: str, second: str, kept: str) -> None:
    order = await claimed(store, new_order())
    for outcome in (first, second):
        await store.settle_claim(
            order.client_order_id, 1, 1, outcome=ClaimOutcome(outcome), answer={"is": outcome}
        )
    stored = await store.claim(order.client_order_id, 1, 1)
    assert stored is not None
    assert stored.outcome is ClaimOutcome(kept)
    assert stored.answer == {"is": kept}


async def test_a_stale_word_about_an_overtaken_stamp_ends_nothing(store: Store) -> None:
    order = await claimed(store, new_order())
    name = order.client_order_id
    await store.settle_claim(name, 1, 1, outcome=ClaimOutcome.NEVER_REACHED, stamp=1)
    fresh = request_of(order, timestamp_ms=2000)
    await store.reclaim(name, 1, 1, stamp=1, request=fresh, claimant="me")
    state = await store.settle_claim(
        name,
        1,
        1,
        outcome=ClaimOutcome.REJECTED,
        events=[REJECTED, fill_event(order, "t1")],
        stamp=1,
    )
    assert state.status is OrderStatus.PARTIALLY_FILLED
    stored = await store.claim(name, 1, 1)
    assert stored is not None
    assert stored.outcome is None


@pytest.mark.parametrize("settled", [ClaimOutcome.ACCEPTED, ClaimOutcome.NOT_PLACED])
@pytest.mark.parametrize("late", [ClaimOutcome.UNKNOWN, ClaimOutcome.REJECTED])
async def test_a_sender_that_wakes_too_late_changes_nothing(
    store: Store, settled: ClaimOutcome, late: ClaimOutcome
) -> None:
    """Others have looked the order up meanwhile, and gone on with what they found."""
    order = await claimed(store, new_order())
    name = order.client_order_id
    before = await store.settle_claim(name, 1, 1, outcome=settled)
    word = event(EventKind.IN_DOUBT) if late is ClaimOutcome.UNKNOWN else REJECTED
    after = await store.settle_claim(
        name, 1, 1, outcome=late, events=[word, fill_event(order, "t1")], stamp=1
    )
    assert (after.in_doubt_since, after.ended_as) == (None, before.ended_as)
    assert after.filled_quantity == Decimal(1)


async def test_claims_are_found_by_the_ids_of_the_exchange(store: Store) -> None:
    order = await accepted(store, new_order(), "x-77")
    client_id = request_of(order).exchange_client_id
    key = ClaimKey(order.client_order_id, 1, 1)
    assert await store.find_claim("sandbox", "main", client_id) == key
    assert await store.find_claim("sandbox", "other", client_id) is None
    assert await store.find_order(HERE, "x-77") == order.client_order_id
    assert await store.find_order(HERE, "x-78") is None
    other = new_order()
    await store.admit(other)
    late = event(EventKind.ACCEPTED, exchange_order_id="x-79")
    await store.record(other.client_order_id, [ROUTED, late])
    assert await store.find_order(HERE, "x-79") == other.client_order_id


async def test_an_exchanges_order_id_is_of_one_symbol(store: Store) -> None:
    """Binance counts its order ids per symbol: two orders of an account may share one."""
    eth = new_order(symbol="ETH/USDT")
    btc = await accepted(store, new_order(), "x-80")
    await store.admit(eth)
    late = event(EventKind.ACCEPTED, exchange_order_id="x-80")
    await store.record(eth.client_order_id, [ROUTED, late])

    assert await store.find_order(HERE, "x-80") == btc.client_order_id
    there = ("sandbox", "main", "ETH/USDT")
    assert await store.find_order(there, "x-80") == eth.client_order_id
    assert await store.find_order(("sandbox", "main", "SOL/USDT"), "x-80") is None


@pytest.mark.parametrize(
    ("outcome", "is_applied"),
    [
        (None, False),
        (ClaimOutcome.UNKNOWN, False),
        (ClaimOutcome.NEVER_REACHED, True),
        (ClaimOutcome.NOT_PLACED, True),
    ],
)
async def test_an_order_ends_as_unsent_only_where_nothing_was_sent_meanwhile(
    store: Store, outcome: ClaimOutcome | None, is_applied: bool
) -> None:
    order_id = (await claimed(store, new_order())).client_order_id
    if outcome is not None:
        await store.settle_claim(order_id, 1, 1, outcome=outcome)
    ended = event(EventKind.CANCELLED, reason_code=ReasonCode.CANCELLED_BEFORE_SEND)

    state = await store.record(order_id, [ended], Sent(1, 1, 0))

    assert state.is_terminal is is_applied
    known = await store.record(order_id, [ended], Sent(1, 1, 1))
    assert known.is_terminal, "the caller knows of this one"


async def test_a_send_that_placed_nothing_ends_no_order_that_was_sent_again(store: Store) -> None:
    order = await claimed(store, new_order())
    order_id = order.client_order_id
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED)
    again = request_of(order, generation=2)
    assert (await store.claim_send(order_id, 1, 2, again, claimant="other")).won
    ended = event(EventKind.NOT_PLACED, rejected_by=RejectedBy.OMS)

    state = await store.settle_claim(
        order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED, events=[ended]
    )

    assert state.status is OrderStatus.SUBMITTED


async def test_a_send_that_lives_after_all_is_not_followed_by_another(store: Store) -> None:
    order = await claimed(store, new_order())
    order_id = order.client_order_id
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.NOT_PLACED)
    lives = event(EventKind.ACCEPTED, exchange_order_id="x-80")
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.ACCEPTED, events=[lives])

    again = request_of(order, generation=2)
    claim = await store.claim_send(order_id, 1, 2, again, claimant="other")
    ended = event(EventKind.CANCELLED, reason_code=ReasonCode.CANCELLED_BEFORE_SEND)
    state = await store.record(order_id, [ended], Sent(1, 2, 0))

    assert (claim.won, claim.refusal) == (False, ReasonCode.RESENDING_STOPPED)
    assert state.status is OrderStatus.ACCEPTED
