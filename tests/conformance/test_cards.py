"""The conformance cards: what a connector must do at its venue, each card one promise.

They speak to the connector alone, so they hold for any; where a card needs the market's hand or a
fault it runs at the sandbox exchange only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from activities.connectors.clock import ExchangeClock
from tests.conformance.venue import ENDED, Venue, named
from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.errors import (
    DuplicateOrder,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
)
from trading.oms.venue import (
    Amend,
    DedupeScope,
    ExecutionReport,
    ICancelsAll,
    OrderRequest,
    VenueStatus,
)
from trading.oms.venue_changes import IAmends, Terms

NEVER_PLACED = "00000000000000000000000000000000"


# What a venue says of itself


async def test_the_rules_of_the_symbol_are_known(venue: Venue) -> None:
    rules = venue.rules

    assert min(rules.tick_size, rules.lot_size, rules.min_order_size) > 0
    assert (rules.base, rules.quote) == tuple(venue.symbol.split("/"))
    assert venue.connector.instrument("NOBODY/NOTHING") is None


async def test_the_estimated_clock_is_the_venues(venue: Venue) -> None:
    theirs = await venue.connector.server_time()

    assert abs(venue.connector.exchange_now() - theirs) < timedelta(seconds=1)


async def test_a_quote_has_two_sides(venue: Venue) -> None:
    quote = await venue.connector.quote(venue.symbol)

    assert Decimal(0) < quote.bid < quote.ask


async def test_a_resting_buy_locks_its_cost(venue: Venue) -> None:
    quote = venue.rules.quote
    before = (await venue.connector.balances())[quote]
    async with venue.placed() as (request, _):
        assert request.price is not None
        cost = request.price * request.quantity

        async def locked() -> bool:
            after = (await venue.connector.balances())[quote]
            return after.locked - before.locked >= cost

        await venue.until(locked)


async def test_our_client_ids_fit(venue: Venue) -> None:
    record = venue.connector.capabilities
    request = await venue.order()

    assert len(request.exchange_client_id) <= record.client_id_length
    assert set(request.exchange_client_id) <= set(record.client_id_alphabet)


# Placing and looking up


async def test_an_order_is_placed_and_found_by_its_client_id(venue: Venue) -> None:
    async with venue.placed() as (request, ref):
        found = await venue.found(request)

        assert (found.exchange_order_id, found.symbol) == (ref.exchange_order_id, request.symbol)
        assert (found.quantity, found.price) == (request.quantity, request.price)
        assert (found.side, found.status) == (request.side, VenueStatus.NEW)
        assert not found.cumulative_quantity


async def test_a_resting_order_is_listed(venue: Venue) -> None:
    async with venue.placed() as (request, _):

        async def listed() -> bool:
            reports = await venue.connector.open_orders(venue.symbol)
            return request.exchange_client_id in {one.exchange_client_id for one in reports}

        await venue.until(listed)


async def test_an_order_that_was_never_placed_is_nowhere(venue: Venue) -> None:
    since = await venue.connector.server_time() - timedelta(minutes=1)
    nobody = named(await venue.order(exchange_client_id=NEVER_PLACED))

    assert await venue.connector.find_order(nobody) is None
    listed = await venue.connector.orders_since(venue.symbol, since)
    assert NEVER_PLACED not in {report.exchange_client_id for report in listed}


async def test_an_ended_order_is_among_all_orders(venue: Venue) -> None:
    since = await venue.connector.server_time() - timedelta(seconds=5)
    async with venue.placed() as (request, ref):
        await venue.connector.cancel(ref)

        async def listed() -> bool:
            reports = await venue.connector.orders_since(venue.symbol, since)
            ours = [r for r in reports if r.exchange_client_id == request.exchange_client_id]
            return [report.status for report in ours] == [VenueStatus.CANCELLED]

        await venue.until(listed)


async def test_a_second_order_under_a_living_id_is_evidence_that_it_lives(venue: Venue) -> None:
    if venue.connector.capabilities.dedupe_scope is DedupeScope.NONE:
        pytest.skip("this exchange takes a client id twice")
    async with venue.placed() as (request, _):
        again = await venue.order(exchange_client_id=request.exchange_client_id)
        with pytest.raises(DuplicateOrder):
            await venue.connector.place(again)
        assert (await venue.found(request)).status is VenueStatus.NEW


async def test_a_stop_waits(venue: Venue) -> None:
    if not venue.connector.capabilities.stop_orders:
        pytest.skip("no stops are placed at this exchange")
    if venue.server is not None:
        venue.control("trade", side="BUY", price="39000", quantity="0.1")
        venue.make_a_market()
    quote = await venue.connector.quote(venue.symbol)
    stop = quote.ask * Decimal("1.2") // venue.rules.tick_size * venue.rules.tick_size
    kind = {"order_type": OrderType.STOP_LIMIT, "stop_price": stop, "price": stop}
    async with venue.placed(**kind) as (request, _):
        assert (await venue.found(request)).status is VenueStatus.NEW


# Refusals: definite, and nothing is placed


async def test_a_price_off_the_tick_is_refused(venue: Venue) -> None:
    price = await venue.far_below() + venue.rules.tick_size / 2
    request = await venue.order(price=price)

    with pytest.raises(ExchangeRejected):
        await venue.connector.place(request)
    assert await venue.connector.find_order(named(request)) is None


async def test_more_than_the_balance_is_refused(venue: Venue) -> None:
    price = await venue.far_below()
    free = (await venue.connector.balances())[venue.rules.quote].free
    quantity = (2 * free / price // venue.rules.lot_size + 1) * venue.rules.lot_size
    if venue.rules.max_order_size is not None and quantity > venue.rules.max_order_size:
        pytest.skip("the account holds more than the greatest order costs")
    request = await venue.order(price=price, quantity=quantity)

    with pytest.raises(ExchangeRejected):
        await venue.connector.place(request)
    assert await venue.connector.find_order(named(request)) is None


async def test_a_post_only_order_takes_nothing(venue: Venue) -> None:
    quote = await venue.connector.quote(venue.symbol)
    above = quote.ask + 10 * venue.rules.tick_size
    request = await venue.order(price=above, post_only=True)
    try:
        await venue.connector.place(request)
    except ExchangeRejected:
        return
    assert not (await venue.ended(request)).cumulative_quantity


async def test_a_symbol_that_is_not_listed_leaves_nothing(venue: Venue) -> None:
    with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
        await venue.connector.place(await venue.order(symbol="NOBODY/NOTHING"))


# Cancel and change


async def test_a_cancel_by_client_id_ends_the_order(venue: Venue) -> None:
    async with venue.placed() as (request, _):
        report = await venue.connector.cancel(named(request))

        assert report.exchange_client_id == request.exchange_client_id
        assert report.status in {VenueStatus.CANCELLED, None}, "None: it was only taken note of"
        assert (await venue.ended(request)).status is VenueStatus.CANCELLED


async def test_a_cancel_of_nothing_is_refused(venue: Venue) -> None:
    nobody = named(await venue.order(exchange_client_id=NEVER_PLACED))

    with pytest.raises(ExchangeRejected):
        await venue.connector.cancel(nobody)


async def test_a_second_cancel_is_refused(venue: Venue) -> None:
    async with venue.placed() as (request, ref):
        await venue.connector.cancel(ref)
        await venue.ended(request)
        with pytest.raises(ExchangeRejected):
            await venue.connector.cancel(ref)


async def test_one_request_cancels_every_open_order_of_the_symbol(venue: Venue) -> None:
    """For connectors whose record says that there is one. None to cancel is no error."""
    if not venue.connector.capabilities.cancel_all:
        pytest.skip("the venue has no such request for one symbol")
    if await venue.connector.open_orders(venue.symbol):
        pytest.skip("orders of others rest in the symbol")
    connector = cast("ICancelsAll", venue.connector)
    async with venue.placed() as (one, _), venue.placed() as (other, _):
        await venue.found(other)
        await connector.cancel_all(venue.symbol)
        for request in (one, other):
            assert (await venue.ended(request)).status is VenueStatus.CANCELLED
    await connector.cancel_all(venue.symbol)


async def test_a_reduction_in_place_keeps_the_ids(venue: Venue) -> None:
    if venue.connector.capabilities.amend not in {Amend.IN_PLACE, Amend.IN_PLACE_REDUCE}:
        pytest.skip("this exchange cannot change an order in place")
    price = await venue.far_below()
    whole = 2 * venue.enough(price)
    async with venue.placed(price=price, quantity=whole) as (request, ref):
        await venue.connector.reduce(ref, venue.enough(price))

        async def reduced() -> bool:
            found = await venue.found(request)
            assert found.exchange_order_id == ref.exchange_order_id
            return found.quantity == venue.enough(price)

        await venue.until(reduced)


async def test_better_terms_in_place_keep_the_ids(venue: Venue) -> None:
    """Another price and a greater quantity, where the record says that all can be changed."""
    connector = venue.connector
    if connector.capabilities.amend is not Amend.IN_PLACE:
        pytest.skip("this exchange cannot change price and quantity in place")
    assert isinstance(connector, IAmends)
    price = await venue.far_below()
    async with venue.placed(price=price) as (request, ref):
        dearer = price + 10 * venue.rules.tick_size
        wanted = Terms(
            quantity=2 * request.quantity, price=dearer, deadline_ms=request.deadline_ms + 5000
        )
        for _ in range(2):  # Repeating it changes nothing.
            await connector.amend(ref, wanted)

        async def amended() -> bool:
            found = await venue.found(request)
            assert (found.exchange_order_id, found.status) == (
                ref.exchange_order_id, VenueStatus.NEW,
            )  # fmt: skip
            return (found.quantity, found.price) == (wanted.quantity, wanted.price)

        await venue.until(amended)


async def test_an_order_without_a_fill_is_replaced_in_one_request(venue: Venue) -> None:
    async with replaceable(venue) as (connector, old, new):
        done = await connector.replace(new)

        assert done.cancelled is not None
        assert isinstance(done.placed, ExecutionReport)
        assert done.cancelled.exchange_client_id == old.exchange_client_id
        assert (done.cancelled.status, done.placed.status) == (
            VenueStatus.CANCELLED, VenueStatus.NEW,
        )  # fmt: skip
        assert (await venue.ended(old)).status is VenueStatus.CANCELLED
        found = await venue.found(new)
        assert (found.status, found.price) == (VenueStatus.NEW, new.price)


async def test_an_order_that_has_ended_is_not_replaced(venue: Venue) -> None:
    async with replaceable(venue) as (connector, old, new):
        await connector.cancel(named(old))
        await venue.ended(old)

        refused = await connector.replace(new)

        assert refused.cancelled is None
        assert isinstance(refused.placed, ExchangeUnavailable)
        assert await connector.find_order(named(new)) is None


async def test_an_order_with_a_fill_is_not_replaced(venue: Venue) -> None:
    async with replaceable(venue, price=Decimal(38995)) as (connector, old, new):
        venue.control("market_order", side="SELL", price="38995", quantity="0.00001")

        refused = await connector.replace(new)

        assert refused.cancelled is None
        assert (await venue.found(old)).status is VenueStatus.PARTIALLY_FILLED
        assert await connector.find_order(named(new)) is None


async def test_a_replacement_that_cannot_be_paid_ends_the_old_order_at_most(venue: Venue) -> None:
    """Whatever is refused, the new order is not there."""
    async with replaceable(venue, costs_too_much=True) as (connector, old, new):
        with contextlib.suppress(ExchangeRejected):
            half = await connector.replace(new)
            assert half.cancelled is not None
            assert isinstance(half.placed, ExchangeRejected)
            assert (await venue.ended(old)).status is VenueStatus.CANCELLED

        assert await connector.find_order(named(new)) is None


@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_a_replacement_whose_answer_was_lost_is_done_whole_or_not_at_all(
    venue: Venue, order: str
) -> None:
    async with replaceable(venue) as (connector, old, new):
        venue.control("set_faults", fault="reply_lost", order=order, count=1)
        with pytest.raises(OutcomeUnknown):
            await connector.replace(new)

        was_done = await connector.find_order(named(new)) is not None
        assert was_done == (order == "alive")
        there = (await venue.found(old)).status
        assert there is (VenueStatus.CANCELLED if was_done else VenueStatus.NEW)


@asynccontextmanager
async def replaceable(
    venue: Venue, price: Decimal | None = None, *, costs_too_much: bool = False
) -> AsyncIterator[tuple[Any, OrderRequest, OrderRequest]]:
    """A resting order and the one that shall replace it; both are gone afterwards."""
    if not venue.connector.capabilities.cancel_replace:
        pytest.skip("this exchange has no cancel-replace")
    price = price or await venue.far_below()
    async with venue.placed(price=price, quantity=venue.enough(price)) as (old, ref):
        quantity = old.quantity
        if costs_too_much:
            free = (await venue.connector.balances())[venue.rules.quote].free
            quantity = (2 * free / price // venue.rules.lot_size + 1) * venue.rules.lot_size
        new = await venue.order(
            price=price - 10 * venue.rules.tick_size, quantity=quantity, replaces=ref
        )
        yield venue.connector, old, new
        if await venue.connector.find_order(named(new)) is not None:
            await venue.connector.cancel(named(new))


# Trades


async def test_a_market_orders_fills_are_the_same_from_every_source(venue: Venue) -> None:
    since = await venue.connector.server_time() - timedelta(seconds=5)
    market = {"order_type": OrderType.MARKET, "price": None, "side": venue.first_market_side}
    quantity = venue.enough((await venue.connector.quote(venue.symbol)).bid)
    async with venue.stream() as stream:
        request = await venue.order(**market, quantity=quantity)
        placed = await venue.connector.place(request)
        reports = await stream.of(
            request, lambda seen: sum(f.quantity for r in seen for f in r.fills) >= quantity
        )
    streamed = {fill.fill_id: fill for report in reports for fill in report.fills}
    ended = await venue.ended(request)
    ref = named(request, ended.exchange_order_id)

    async def listed() -> bool:
        fills = await venue.connector.fills_after(venue.symbol, trade_id=None, since=since)
        return streamed.keys() <= {fill.fill_id for fill in fills}

    await venue.until(listed)
    assert (ended.status, ended.cumulative_quantity) == (VenueStatus.FILLED, quantity)
    assert {fill.fill_id for fill in placed.fills} <= streamed.keys()
    for fills in (ended.fills, await venue.connector.fills_of(ref)):
        assert {fill.fill_id for fill in fills} == streamed.keys()
        for fill in fills:
            twin = streamed[fill.fill_id]
            assert (fill.price, fill.quantity, fill.side) == (twin.price, twin.quantity, twin.side)
            assert (fill.fee, fill.fee_currency) == (twin.fee, twin.fee_currency)


async def test_fills_are_listed_from_a_trade_on(venue: Venue) -> None:
    market = {"order_type": OrderType.MARKET, "price": None}
    quantity = venue.enough((await venue.connector.quote(venue.symbol)).bid)
    ids = []
    for side in (venue.first_market_side, OrderSide.SELL):
        request = await venue.order(**market, side=side, quantity=quantity)
        await venue.connector.place(request)
        ids += [fill.trade_id for fill in (await venue.ended(request)).fills]

    async def listed() -> bool:
        fills = await venue.connector.fills_after(venue.symbol, trade_id=ids[0], since=None)
        return {fill.trade_id for fill in fills} >= set(ids)

    await venue.until(listed)


async def test_an_ioc_that_finds_nobody_ends_without_a_fill(venue: Venue) -> None:
    request = await venue.order(time_in_force=TimeInForce.IOC)
    await venue.connector.place(request)
    ended = await venue.ended(request)

    assert ended.status in {VenueStatus.EXPIRED, VenueStatus.CANCELLED}
    assert not ended.cumulative_quantity
    assert not ended.fills


async def test_the_remainder_of_an_ioc_expires(venue: Venue) -> None:
    venue.control("market_order", side="SELL", price="39005", quantity="0.004", time_in_force="GTC")
    request = await venue.order(
        price=Decimal(39005), quantity=Decimal("0.01"), time_in_force=TimeInForce.IOC
    )
    await venue.connector.place(request)
    ended = await venue.ended(request)

    assert ended.status in {VenueStatus.EXPIRED, VenueStatus.CANCELLED}
    assert ended.cumulative_quantity == Decimal("0.004")
    assert sum(fill.quantity for fill in ended.fills) == Decimal("0.004")


async def test_a_resting_order_is_filled_in_parts_as_maker(venue: Venue) -> None:
    async with venue.stream() as stream:
        request = await venue.order(price=Decimal(38995), quantity=Decimal("0.01"))
        venue.control("market_order", side="SELL", price="38996", quantity="0.001")
        await venue.connector.place(request)
        for part in ("0.004", "0.006"):
            venue.control("market_order", side="SELL", price="38995", quantity=part)
        reports = await stream.of(
            request, lambda seen: sum(f.quantity for r in seen for f in r.fills) >= Decimal("0.01")
        )
    fills = [fill for report in reports for fill in report.fills]

    assert [fill.quantity for fill in fills] == [Decimal("0.004"), Decimal("0.006")]
    assert all(fill.is_maker for fill in fills)
    assert (await venue.ended(request)).status is VenueStatus.FILLED


# The stream


async def test_the_stream_tells_of_a_new_order_and_its_end(venue: Venue) -> None:
    async with venue.stream() as stream, venue.placed() as (request, ref):
        await stream.of(request, lambda seen: bool(seen) and seen[-1].status is VenueStatus.NEW)
        await venue.connector.cancel(ref)
        told = await stream.of(request, lambda seen: bool(seen) and seen[-1].status in ENDED)

        assert told[-1].exchange_order_id == ref.exchange_order_id
        assert told[-1].status is VenueStatus.CANCELLED


# The fence, and doubt


async def test_a_late_request_is_refused_by_the_venue_itself(venue: Venue) -> None:
    """The process was stopped after its claim: its own clock does not save it."""
    record = venue.connector.capabilities
    clock = getattr(venue.connector, "_clock", None)
    if record.fence is None or not isinstance(clock, ExchangeClock):
        pytest.skip("this exchange has no fence, or the connector's clock cannot be set back")
    request = await venue.order()
    late_ms = request.timestamp_ms - record.fence_ms - 2000
    stale = request.model_copy(update={"timestamp_ms": late_ms})
    clock.observe(late_ms, time.monotonic(), time.monotonic())
    try:
        with pytest.raises(ExchangeUnavailable) as refused:
            await venue.connector.place(stale)
    finally:
        await venue.connector.server_time()

    assert refused.value.status is not None, "the refusal is the connector's, not the venue's"
    assert await venue.connector.find_order(named(stale)) is None


async def test_a_request_whose_time_has_passed_is_not_written(venue: Venue) -> None:
    request = await venue.order(timestamp_ms=1_700_000_000_000)

    with pytest.raises(ExchangeUnavailable, match="nothing was sent"):
        await venue.connector.place(request)


async def test_an_order_whose_answer_was_lost_is_found(venue: Venue) -> None:
    request = await venue.order()
    venue.control("set_faults", fault="reply_lost", count=1)
    with pytest.raises(OutcomeUnknown):
        await venue.connector.place(request)

    assert (await venue.found(request)).status is VenueStatus.NEW
    await venue.connector.cancel(named(request))


@pytest.mark.parametrize("fault", ["http_503", "code_-1006", "code_-1007", "code_-1008"])
@pytest.mark.parametrize("order", ["alive", "dead"])
async def test_a_failing_venue_leaves_the_outcome_unknown(
    venue: Venue, fault: str, order: str
) -> None:
    request = await venue.order()
    venue.control("set_faults", fault=fault, order=order, count=1)
    with pytest.raises(OutcomeUnknown):
        await venue.connector.place(request)

    found = await venue.connector.find_order(named(request))
    assert (found is not None) == (order == "alive")
    if found is not None:
        await venue.connector.cancel(named(request))


async def test_a_refusal_at_the_door_proves_that_nothing_was_placed(venue: Venue) -> None:
    request = await venue.order()
    venue.control("set_faults", fault="rate_429", count=1, retry_after=1)
    with pytest.raises(ExchangeUnavailable):
        await venue.connector.place(request)

    assert await venue.connector.find_order(named(request)) is None


async def test_a_query_that_fails_is_no_observation(venue: Venue) -> None:
    request = await venue.order()
    venue.control("set_faults", fault="rate_429", count=1, retry_after=1)
    with pytest.raises(ExchangeUnavailable):
        await venue.connector.find_order(named(request))


async def test_the_use_of_the_rate_limits_is_known(venue: Venue) -> None:
    usage = getattr(venue.connector, "rate_usage", None)
    if usage is None:
        pytest.skip("this exchange says nothing of it in its answers")
    await venue.connector.server_time()

    assert usage.headers
    assert usage.at_ms > 0


async def test_many_calls_at_once_do_not_mix(venue: Venue) -> None:
    requests = [await venue.order() for _ in range(5)]
    await asyncio.gather(*(venue.connector.place(request) for request in requests))
    found = await asyncio.gather(*(venue.found(request) for request in requests))

    assert [r.exchange_client_id for r in found] == [r.exchange_client_id for r in requests]
    await asyncio.gather(*(venue.connector.cancel(named(request)) for request in requests))
