"""No limit is ever exceeded, slots belong to those who asked first, and cancels do not queue."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.oms.interfaces import IRateLimiter, IRateLimitGuard, RateSlot, RateWish
from trading.oms.rate_limit_guard import RateLimiter, RateLimitGuard
from trading.oms.rate_limits import FixedWindow, RateBook, RateRule, TokenBucket

CANCEL, PLACE = "cancel_order", "place_order"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now = max(self.now, self.now + seconds)
        await asyncio.sleep(0)


def slots(book: RateBook, count: int, now: float = 1000.0, endpoint: str = PLACE) -> list[float]:
    return [book.take(endpoint, now).at for _ in range(count)]


def test_a_fixed_window_gives_out_its_limit_and_then_slots_in_the_next_ones() -> None:
    book = RateBook({"orders": FixedWindow(3, 10, urgent_share=0)})
    assert slots(book, 8, now=1002) == [1002] * 3 + [1010] * 3 + [1020] * 2


def test_a_token_bucket_gives_out_its_burst_and_then_slots_at_its_rate() -> None:
    book = RateBook({"counter": TokenBucket(3, 0.5, urgent_share=0)})
    assert slots(book, 5) == [1000, 1000, 1000, 1002, 1004]
    assert slots(book, 1, now=1100) == [1100]


requests = st.lists(
    st.tuples(st.floats(min_value=0, max_value=20), st.integers(1, 5), st.booleans()),
    max_size=60,
)


def booked(rule: RateRule, asked: list[tuple[float, int, bool]]) -> list[tuple[float, int]]:
    given_out = []
    now = 1000.0
    for pause, weight, urgent in asked:
        now += pause
        at = rule.earliest(now, weight, urgent=urgent)
        assert at >= now
        rule.book(at, weight, urgent=urgent)
        given_out.append((at, weight))
    return given_out


@settings(max_examples=150, deadline=None)
@given(requests)
def test_no_fixed_window_is_ever_exceeded(asked: list[tuple[float, int, bool]]) -> None:
    used: dict[int, int] = {}
    for at, weight in booked(FixedWindow(10, 7), asked):
        used[int(at // 7)] = used.get(int(at // 7), 0) + weight
    assert max(used.values(), default=0) <= 10


@settings(max_examples=150, deadline=None)
@given(requests)
def test_no_period_wherever_it_begins_sees_more_than_its_limit(
    asked: list[tuple[float, int, bool]],
) -> None:
    limit, period = 20, 7.0
    given_out = booked(TokenBucket.within(limit, period), asked)
    for begin, _ in given_out:
        inside = sum(w for at, w in given_out if begin <= at < begin + period - 1e-6)
        assert inside <= limit


def test_a_cancel_does_not_queue_behind_orders() -> None:
    for rule in (FixedWindow(10, 10), TokenBucket(10, 1)):
        book = RateBook({"rule": rule})
        assert max(slots(book, 50)) > 1010
        assert slots(book, 1, endpoint=CANCEL) == [1000]


def test_cancels_may_use_the_whole_limit_of_a_window() -> None:
    book = RateBook({"rule": FixedWindow(10, 10)})
    assert slots(book, 11, endpoint=CANCEL) == [1000] * 10 + [1010]


def test_a_request_satisfies_all_its_rules_at_once() -> None:
    book = RateBook(
        {
            "weight": FixedWindow(10, 60, urgent_share=0),
            "orders": FixedWindow(2, 10, urgent_share=0),
        },
        {PLACE: {"weight": 1, "orders": 1}, "query": {"weight": 4}},
    )
    assert slots(book, 3, now=1020) == [1020, 1020, 1030]
    assert slots(book, 2, now=1020, endpoint="query") == [1020, 1080]


def test_an_endpoint_that_is_not_listed_weighs_one_in_every_rule() -> None:
    book = RateBook({"a": FixedWindow(1, 10, urgent_share=0)}, {PLACE: {}})
    assert slots(book, 2, endpoint="other") == [1000, 1010]
    assert slots(book, 2) == [1000, 1000]


def test_a_pause_holds_everything_and_is_never_shortened() -> None:
    book = RateBook({"rule": FixedWindow(10, 10)})
    book.pause(1030)
    book.pause(1020)
    assert slots(book, 1) == slots(book, 1, endpoint=CANCEL) == [1030]


def test_the_exchanges_own_count_is_taken_where_it_is_higher() -> None:
    book = RateBook({"rule": FixedWindow(10, 10, urgent_share=0)})
    book.sync({"rule": 9, "unknown": 5}, 1000)
    assert slots(book, 2) == [1000, 1010]
    book.sync({"rule": 3}, 1000)
    assert slots(book, 1) == [1010]

    bucket = RateBook({"rule": TokenBucket(10, 1, urgent_share=0)})
    bucket.sync({"rule": 10}, 1000)
    assert slots(bucket, 1) == [1001]


@pytest.mark.parametrize("rule", [FixedWindow(5, 10), TokenBucket(5, 1)])
def test_a_weight_that_never_fits_is_refused(rule: RateRule) -> None:
    with pytest.raises(ValueError, match=r"weight is 6, the limit is [45]"):
        rule.earliest(0, 6, urgent=False)


def test_a_cost_in_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="place_order has costs in wait; the rules are weight"):
        RateBook({"weight": FixedWindow(5, 10)}, {PLACE: {"wait": 1}})


def test_windows_of_the_past_are_forgotten() -> None:
    rule = FixedWindow(1, 1)
    for second in range(5000):
        rule.book(second, 1, urgent=True)
    assert len(rule._used) <= 1000
    assert rule.earliest(4999.5, 1, urgent=True) == 5000


def limited(limit: int = 2, clock: Clock | None = None) -> tuple[RateLimiter, Clock]:
    clock = clock or Clock()
    rules = {"orders": FixedWindow(limit, 10, urgent_share=0)}
    return RateLimiter(rules, clock=clock, sleep=clock.sleep), clock


async def test_acquiring_waits_for_the_slot_and_checking_counts_nothing() -> None:
    limiter, clock = limited()
    guard: IRateLimitGuard = RateLimitGuard({"sandbox": limiter})
    for _ in range(5):
        assert await guard.check_rate_limit("sandbox", PLACE)
    await guard.acquire_rate_limit("sandbox", PLACE)
    await guard.acquire_rate_limit("sandbox", PLACE)
    assert not await guard.check_rate_limit("sandbox", PLACE)
    assert clock.now == 1000
    await guard.acquire_rate_limit("sandbox", PLACE)
    assert clock.now == 1010


async def waits(guard: RateLimitGuard, count: int, account: str | None = None) -> list[float]:
    return [(await guard.reserve(RateWish("sandbox", PLACE, account))).wait_s for _ in range(count)]


async def test_reserving_answers_now_or_the_seconds_to_wait() -> None:
    limiter, _ = limited()
    guard = RateLimitGuard({"sandbox": limiter})
    assert await waits(guard, 5) == [0, 0, 10, 10, 20]


async def test_an_order_that_comes_back_has_its_slot_and_one_too_late_has_none() -> None:
    limiter, _ = limited(1)
    guard = RateLimitGuard({"sandbox": limiter})
    assert (await guard.reserve(RateWish("sandbox", PLACE, order_id="first"))).wait_s == 0
    assert (await guard.reserve(RateWish("sandbox", PLACE, order_id="second"))).wait_s == 10
    assert (await guard.reserve(RateWish("sandbox", PLACE, order_id="second"))).wait_s <= 10
    late = await guard.reserve(RateWish("sandbox", PLACE, order_id="third", within_s=15))
    assert (late.wait_s, late.granted) == (20, False)


async def test_an_order_that_is_refused_takes_nobodys_slot() -> None:
    limiter, _ = limited(1)
    guard = RateLimitGuard({"sandbox": limiter})
    assert await waits(guard, 1) == [0]
    for number in range(5):
        late = RateWish("sandbox", PLACE, order_id=f"late-{number}", within_s=5)
        assert await guard.reserve(late) == RateSlot(10, granted=False)
    assert await waits(guard, 1) == [10]


async def test_a_slot_that_nobody_comes_for_is_forgotten() -> None:
    limiter, clock = limited(1)
    guard = RateLimitGuard({"sandbox": limiter})
    guard._clock = clock
    for order_id in ("first", "second", "cancelled"):
        await guard.reserve(RateWish("sandbox", PLACE, order_id=order_id))
    clock.now += 15  # The second comes a little late and has its slot; the third never comes.
    assert (await guard.reserve(RateWish("sandbox", PLACE, order_id="second"))).wait_s == 0
    assert list(guard._slots) == ["cancelled"]
    clock.now += 100
    assert await waits(guard, 1) == [0]
    assert guard._slots == {}


async def test_a_pause_makes_the_slots_of_those_who_wait_void() -> None:
    clock = Clock()
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            limiter.pause(60)
        await clock.sleep(seconds)

    limiter = RateLimiter({"o": FixedWindow(1, 10, urgent_share=0)}, clock=clock, sleep=sleep)
    limiter.reserve(PLACE)
    await limiter.acquire(PLACE)
    assert (sleeps, clock.now) == ([10, 50], 1060)


async def test_the_status_says_what_is_used_and_who_waits() -> None:
    clock, gate = Clock(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait()
        clock.now += seconds

    rules: dict[str, RateRule] = {
        "orders": FixedWindow(1, 10, urgent_share=0),
        "counter": TokenBucket(10, 1),
    }
    guard = RateLimitGuard({"sandbox": RateLimiter(rules, clock=clock, sleep=sleep)})
    await guard.acquire_rate_limit("sandbox", PLACE)
    waiting = asyncio.create_task(guard.acquire_rate_limit("sandbox", PLACE))
    await asyncio.sleep(0)
    status = guard.get_rate_limit_status("sandbox")
    assert (status["limited"], status["paused_for_s"]) == (True, 0)
    assert status["waiting"] == [{"endpoint": PLACE, "wait_s": 10}]
    orders, counter = status["rules"]["orders"], status["rules"]["counter"]
    assert (orders["limit"], orders["used"], orders["booked_ahead"]) == (1, 1, 1)
    assert (orders["resets_in_s"], counter["limit"]) == (10, 10)
    gate.set()
    await waiting
    assert guard.get_rate_limit_status("sandbox")["waiting"] == []


async def test_one_who_gives_up_waiting_is_not_listed_any_more() -> None:
    limiter = RateLimiter({"orders": FixedWindow(1, 3600, urgent_share=0)})
    limiter.reserve(PLACE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(limiter.acquire(PLACE), 0.01)
    assert limiter.status()["waiting"] == []


async def test_an_exchange_without_a_limiter_is_not_limited() -> None:
    guard = RateLimitGuard()
    await guard.acquire_rate_limit("elsewhere", PLACE)
    guard.pause("elsewhere", 5)
    guard.sync("elsewhere", {})
    assert await guard.check_rate_limit("elsewhere", PLACE)
    assert await guard.reserve(RateWish("elsewhere", PLACE)) == RateSlot()
    assert guard.get_rate_limit_status("elsewhere") == {"exchange": "elsewhere", "limited": False}


async def test_an_account_can_have_limits_of_its_own() -> None:
    common, _ = limited(1)
    own: Any
    own, _ = limited(3)
    guard = RateLimitGuard({"sandbox": common, "sandbox/main": own})
    assert await waits(guard, 3, "main") == [0, 0, 0]
    assert await waits(guard, 2, "other") == [0, 10]
    guard.pause("sandbox", 30, "main")
    guard.sync("sandbox", {"orders": 1}, "main")
    assert not await guard.check_rate_limit("sandbox", PLACE, "main")
    accepted: IRateLimiter = own
    assert accepted.status()["paused_for_s"] == 30
