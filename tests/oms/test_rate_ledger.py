"""The arithmetic of the rate ledger: windows, margins, queue, what is given back."""

import json
import math
from typing import Any

import pytest

from trading.oms.rate_card import Cost, EndpointCost, PoolKind, PoolScope, RateCard, RatePool
from trading.oms.rate_ledger import (
    EVERYTHING,
    MARGIN_S,
    Granted,
    RateLedger,
    Seen,
    Want,
    block_size,
    status_of,
    windows_of,
)

NOW = 1005.0
ORDERS = RatePool(
    name="orders", family="orders", scope=PoolScope.ACCOUNT, limit=10, window_s=10, urgent_share=0
)
WEIGHT = RatePool(name="weight", family="weight", scope=PoolScope.ADDRESS, limit=20, window_s=60)
KRAKEN = RatePool(
    name="counter",
    family="counter",
    kind=PoolKind.DECAYING,
    scope=PoolScope.SYMBOL,
    limit=60,
    decay_per_s=1,
)
PLACE = Cost({"orders": 1})
NEVER = math.inf


class Ledger:
    """One document, and transactions on it: every one reads JSON and writes JSON."""

    def __init__(self, *rules: RatePool) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.text = "{}"
        self.now = NOW

    def change(self, do: Any) -> Any:
        document = json.loads(self.text)
        answer = do(RateLedger(document, self.rules, self.now))
        self.text = json.dumps(document)
        return answer

    def ask(self, cost: Cost, latest: float = NEVER, strategy: str | None = None) -> Granted:
        process = f"of-{strategy}"
        granted: Granted = self.change(lambda one: one.ask(Want(cost, latest, strategy), process))
        return granted

    def times(self, cost: Cost, count: int, strategy: str | None = None) -> list[float]:
        """The windows of ten seconds after this one in which so many get their slots."""
        return [math.floor(self.ask(cost, strategy=strategy).at / 10) - 100 for _ in range(count)]

    def used(self, name: str) -> int:
        return int(status_of(json.loads(self.text), self.now)["pools"][name]["used"])


def test_a_window_is_filled_and_what_comes_later_gets_a_slot_in_the_next_ones() -> None:
    ledger = Ledger(ORDERS)
    assert ledger.times(PLACE, 25) == [0] * 10 + [1] * 10 + [2] * 5
    assert ledger.ask(PLACE).at == pytest.approx(1020 + MARGIN_S, abs=0.01)


def test_near_an_edge_a_request_counts_in_both_windows() -> None:
    assert windows_of(ORDERS, 1009.85) == (100,)
    assert windows_of(ORDERS, 1009.95) == (100, 101)
    assert windows_of(ORDERS, 1010.05) == (100, 101)
    assert windows_of(ORDERS, 1010.15) == (101,)
    ledger = Ledger(ORDERS)
    ledger.now = 1009.95
    assert [ledger.ask(PLACE).at for _ in range(10)] == [1009.95] * 10
    ledger.now = 1012.0
    ledger.change(lambda one: one.pools["orders"].settle(100, 10))
    assert ledger.ask(PLACE).at > 1020


def test_what_was_not_answered_in_its_window_may_arrive_in_the_next() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 8)
    ledger.now = 1011.0
    assert ledger.times(PLACE, 3) == [1, 1, 2]
    ledger.change(lambda one: one.pools["orders"].settle(100, 7))
    assert ledger.times(PLACE, 8) == [1] * 7 + [2]


def test_what_would_come_too_late_is_not_booked() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    late = ledger.ask(PLACE, latest=1010.0)
    assert (late.booked, late.at > 1010) == (False, True)
    assert ledger.times(PLACE, 10) == [1] * 10


def test_a_share_is_kept_for_what_is_urgent() -> None:
    ledger = Ledger(WEIGHT)
    assert ledger.ask(Cost({"weight": 18})).at == NOW
    assert ledger.ask(Cost({"weight": 1})).at > NOW
    assert ledger.ask(Cost({"weight": 2}, urgent=True)).at == NOW
    assert ledger.ask(Cost({"weight": 1}, urgent=True)).at > NOW


def test_a_request_waits_for_all_of_its_counters() -> None:
    ledger = Ledger(ORDERS, WEIGHT)
    both = Cost({"orders": 1, "weight": 6})
    at = [ledger.ask(both).at for _ in range(4)]
    assert at[:3] == [NOW] * 3
    assert 1020 < at[3] < 1021  # The minute ends at 1020.


def test_a_request_that_can_never_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="weight is 19, the limit of weight is 18"):
        Ledger(WEIGHT).ask(Cost({"weight": 19}))


def test_a_pause_holds_everything_or_what_costs_in_one_counter() -> None:
    ledger = Ledger(ORDERS, WEIGHT)
    ledger.change(lambda one: one.pause("orders", NOW + 30))
    assert ledger.ask(PLACE).at == NOW + 30
    assert ledger.ask(Cost({"weight": 1})).at == NOW
    ledger.change(lambda one: one.pause(EVERYTHING, NOW + 12))
    ledger.change(lambda one: one.pause(EVERYTHING, NOW + 2))
    assert ledger.ask(Cost({"weight": 1}, urgent=True)).at == NOW + 12
    assert ledger.change(lambda one: one.block("weight")) == {}
    ledger.now = NOW + 13
    assert ledger.ask(Cost({"weight": 1})).at == ledger.now


def test_blocks_are_small_and_never_take_what_is_kept() -> None:
    ledger = Ledger(WEIGHT.model_copy(update={"limit": 100}))
    window = math.floor(NOW / 60)
    assert block_size(ledger.rules["weight"]) == 10
    blocks = [ledger.change(lambda one: one.block("weight")) for _ in range(11)]
    assert blocks == [{window: 10}] * 9 + [{}] * 2


def test_a_strategy_that_comes_later_is_not_behind_all_of_another() -> None:
    ledger = Ledger(ORDERS)
    assert ledger.times(PLACE, 50, "many") == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10
    assert ledger.times(PLACE, 10, "few") == [1] * 5 + [2] * 5
    assert ledger.times(PLACE, 1, "third") == [1]
    ledger.now = 1010.2
    assert ledger.change(lambda one: one.redeem(1010 + MARGIN_S + 0.001, "of-many")) is None
    ledger.change(lambda one: one.pools["orders"].settle(100, 10))
    kept = ledger.change(lambda one: one.redeem(1010 + MARGIN_S + 0.001, "of-many"))
    assert kept == {"many": 4}


def test_what_the_exchange_gives_back_is_used_again() -> None:
    """Ten orders were answered before the request left, and the exchange counts only four."""
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    ledger.change(lambda one: one.pools["orders"].settle(100, 10))
    ledger.change(lambda one: one.pools["orders"].see(Seen(100, used=4, settled=10)))
    assert ledger.used("orders") == 4
    assert ledger.times(PLACE, 7) == [0] * 6 + [1]


def test_what_was_not_answered_yet_is_never_taken_for_given_back() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    ledger.change(lambda one: one.pools["orders"].see(Seen(100, used=4, settled=0)))
    assert ledger.used("orders") == 10


def test_what_others_use_is_counted_against_us() -> None:
    ledger = Ledger(ORDERS)
    ledger.ask(PLACE)
    ledger.change(lambda one: one.pools["orders"].see(Seen(100, used=9, settled=0)))
    assert ledger.used("orders") == 9
    assert ledger.times(PLACE, 2) == [0, 1]


def test_a_decaying_counter_has_a_lane_of_its_own_for_what_is_urgent() -> None:
    ledger = Ledger(KRAKEN)
    one, cancel = Cost({"counter": 1}), Cost({"counter": 6}, urgent=True)
    assert [ledger.ask(one).at for _ in range(54)] == [NOW] * 54
    waits = [ledger.ask(one).at - NOW for _ in range(3)]
    assert waits == pytest.approx([1 / 0.9, 2 / 0.9, 3 / 0.9])
    assert ledger.ask(cancel).at == NOW
    assert 50 < ledger.used("counter") <= 60


def test_a_decaying_counter_is_shared_fairly_too() -> None:
    ledger = Ledger(KRAKEN)
    one = Cost({"counter": 1})
    for _ in range(54):
        ledger.ask(one)
    many = [ledger.ask(one, strategy="many").at for _ in range(20)]
    few = [ledger.ask(one, strategy="few").at for _ in range(3)]
    assert few == pytest.approx([many[1], many[3], many[5]], abs=0.01)


def test_the_status_shows_use_queue_and_pauses() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 13, "trend")
    ledger.change(lambda one: one.pause("orders", NOW + 2))
    status = status_of(json.loads(ledger.text), NOW)
    assert status == {
        "pools": {
            "orders": {
                "kind": "fixed_window",
                "limit": 10,
                "window_s": 10,
                "used": 10,
                "booked_ahead": 3,
                "resets_in_s": 5,
            }
        },
        "waiting": {"trend": 3},
        "paused_for_s": {"orders": 2},
    }


def test_a_card_says_what_an_endpoint_costs_in_each_counter() -> None:
    card = RateCard(
        pools=(ORDERS, WEIGHT, KRAKEN),
        endpoints={
            "POST order": EndpointCost(costs={"orders": 1, "counter": 2}),
            "GET open": EndpointCost(
                costs={"weight": 80}, with_parameter={"symbol": {"weight": 6}}, urgent=True
            ),
        },
        place="POST order",
        unlisted=7,
    )
    assert card.cost_of("place", "main", symbol="BTC/USDT").costs == {
        "orders:main": 1,
        "counter:main:BTC/USDT": 2,
    }
    assert card.cost_of("GET open", "main") == Cost({"weight": 80}, urgent=True)
    assert card.cost_of("GET open", "main", parameters={"symbol": "X"}).costs == {"weight": 6}
    assert card.cost_of("GET unknown", "main").costs == {"weight": 7}
    assert card.pool_of("counter:main:BTC/USDT") is KRAKEN
    more = WEIGHT.model_copy(update={"limit": 99})
    assert card.with_pools([more]).pools == (more,)
    assert card.with_pools([]) is card
