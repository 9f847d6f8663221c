"""The arithmetic of the rate ledger: windows, margins, queue, what is given back."""

import json
import math
from typing import Any

import pytest

from trading.oms.rate_card import Cost, EndpointCost, PoolKind, PoolScope, RateCard, RatePool
from trading.oms.rate_ledger import EVERYTHING, Granted, RateLedger, Want, block_size, status_of
from trading.oms.rate_pools import MARGIN_S, Seen, windows_of

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
        granted: Granted = self.change(lambda one: one.ask(Want(cost, latest, strategy)))
        return granted

    def back(self, slot: float, strategy: str, cost: Cost = PLACE) -> Granted:
        """One that has waited for a slot comes back."""
        want = Want(cost, NEVER, strategy, slot)
        granted: Granted = self.change(lambda one: one.ask(want))
        return granted

    def settle(self, name: str, window: int, count: int) -> None:
        self.change(lambda one: one.pools[name].settle(window, count))

    def see(self, name: str, seen: Seen) -> None:
        self.change(lambda one: one.pools[name].see(seen))

    def pass_s(self, seconds: float) -> None:
        """Time goes by, and somebody looks at the ledger."""
        self.now += seconds
        self.change(lambda _: None)

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
    ledger.settle("orders", 100, 10)
    assert ledger.ask(PLACE).at > 1020


def test_what_was_not_answered_in_its_window_may_arrive_in_the_next() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 8)
    ledger.now = 1011.0
    assert ledger.times(PLACE, 3) == [1, 1, 2]
    ledger.settle("orders", 100, 7)
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
    ledger.settle("orders", 100, 10)
    slot = 1010.101
    assert [ledger.back(slot, "few").at for _ in range(5)] == [ledger.now] * 5
    assert ledger.back(slot, "third").at == ledger.now
    assert [ledger.back(slot, "many").at for _ in range(4)] == [ledger.now] * 4
    assert ledger.back(slot, "many").at > 1020
    assert ledger.used("orders") == 10


def test_who_has_waited_waits_on_for_no_more_than_what_is_on_its_way() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    slots = [ledger.ask(PLACE, strategy="one").slot or 0 for _ in range(10)]
    ledger.now = 1010.2
    ledger.settle("orders", 100, 8)
    waits = [ledger.back(slot, "one") for slot in slots]
    assert [granted.at for granted in waits[:8]] == [ledger.now] * 8
    assert [granted.slot for granted in waits[8:]] == slots[8:]
    ledger.now += 0.3
    ledger.settle("orders", 100, 2)
    assert [ledger.back(slot, "one").at for slot in slots[8:]] == [ledger.now] * 2


def test_who_comes_after_his_window_takes_what_a_younger_one_waits_for() -> None:
    """A machine that is too busy carries its orders in their turn and does not ask twice."""
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    slots = [ledger.ask(PLACE, strategy="one").slot or 0 for _ in range(20)]
    ledger.settle("orders", 100, 10)
    ledger.now = 1015.0
    assert [ledger.back(slot, "one").at for slot in slots[:4]] == [ledger.now] * 4
    ledger.settle("orders", 101, 4)
    ledger.now = 1021.0
    assert [ledger.back(slot, "one").at for slot in slots[4:14]] == [ledger.now] * 10
    assert ledger.back(slots[14], "one").at > 1030
    assert ledger.used("orders") == 10


def test_what_nobody_comes_for_is_anybodys_after_a_while() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    for _ in range(10):
        ledger.ask(PLACE, strategy="gone")
    ledger.settle("orders", 100, 10)
    ledger.now = 1015.0
    assert ledger.ask(PLACE, strategy="new").at > 1020
    ledger.now = 1017.0
    assert [ledger.ask(PLACE, strategy="new").at for _ in range(10)] == [ledger.now] * 10
    assert ledger.ask(PLACE, strategy="new").at > 1020


def test_who_waits_has_no_place_of_another_account() -> None:
    other = ORDERS.model_copy(update={"name": "others"})
    ledger = Ledger(ORDERS, other)
    for _ in range(20):
        ledger.ask(PLACE, strategy="many")
        ledger.ask(Cost({"others": 1}), strategy="few")
    assert ledger.ask(PLACE, strategy="few").slot == 1010.101
    assert ledger.ask(Cost({"others": 1}), strategy="many").slot == 1010.101
    ledger.settle("orders", 100, 10)
    ledger.now = 1012.0
    assert ledger.back(1010.101, "nobody").at > 1020
    assert ledger.back(1010.101, "many").at == ledger.now


def test_at_the_edge_of_a_window_who_has_waited_waits_for_the_next() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    slots = [ledger.ask(PLACE, strategy="one").slot or 0 for _ in range(11)]
    ledger.settle("orders", 100, 10)
    ledger.now = 1019.95
    assert ledger.back(slots[0], "one").slot == slots[0]
    ledger.now = 1020.2
    assert ledger.back(slots[0], "one").at == ledger.now


def test_what_the_exchange_gives_back_is_used_again() -> None:
    """Ten orders were answered before the request left, and the exchange counts only four."""
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    ledger.settle("orders", 100, 10)
    ledger.see("orders", Seen(100, used=4, settled=10))
    assert ledger.used("orders") == 4
    assert ledger.times(PLACE, 7) == [0] * 6 + [1]


def test_what_was_not_answered_yet_is_never_taken_for_given_back() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 10)
    ledger.see("orders", Seen(100, used=4, settled=0))
    assert ledger.used("orders") == 10


def test_what_others_use_is_counted_against_us() -> None:
    ledger = Ledger(ORDERS)
    ledger.ask(PLACE)
    ledger.see("orders", Seen(100, used=9, settled=0))
    assert ledger.used("orders") == 9
    assert ledger.times(PLACE, 2) == [0, 1]


def test_what_others_have_used_stays_counted_when_an_older_count_comes_later() -> None:
    ledger = Ledger(ORDERS)
    ledger.ask(PLACE)
    ledger.see("orders", Seen(100, used=9, settled=0))
    ledger.see("orders", Seen(100, used=3, settled=0))
    assert ledger.used("orders") == 9


def test_no_more_is_given_back_than_was_handed_out() -> None:
    ledger = Ledger(ORDERS)
    ledger.times(PLACE, 2)
    ledger.see("orders", Seen(100, used=0, settled=9))
    assert ledger.used("orders") == 0
    assert ledger.times(PLACE, 11) == [0] * 10 + [1]


def test_a_place_is_never_on_the_edge_of_a_window() -> None:
    """Where it would count twice, and its order would have to come back once more."""
    ledger = Ledger(ORDERS)
    ledger.change(lambda one: one.pause("orders", 1019.95))
    assert ledger.ask(PLACE, strategy="one").at == pytest.approx(1020 + MARGIN_S, abs=0.01)


def test_a_decaying_counter_keeps_a_share_for_what_is_urgent() -> None:
    ledger = Ledger(KRAKEN)
    one, cancel = Cost({"counter": 1}), Cost({"counter": 6}, urgent=True)
    assert [ledger.ask(one).at for _ in range(54)] == [NOW] * 54
    waits = [ledger.ask(one, strategy="one").at - NOW for _ in range(3)]
    assert waits == pytest.approx([1, 2, 3], abs=0.01)
    assert ledger.ask(cancel).at == NOW
    assert ledger.used("counter") == 60
    assert ledger.ask(cancel, latest=NOW).booked is False
    assert ledger.ask(cancel._replace(held=False)).at == NOW


def test_a_decaying_counter_falls_only_by_what_has_been_answered() -> None:
    ledger = Ledger(KRAKEN)
    one = Cost({"counter": 1})
    for _ in range(54):
        ledger.ask(one)
    ledger.now += 10
    assert ledger.used("counter") == 54
    ledger.settle("counter", math.floor(NOW), 54)
    ledger.now += 10
    assert ledger.used("counter") == 44
    for _ in range(10):
        ledger.ask(one)
    ledger.now += 20  # Nobody ever heard of these: five seconds ago they were given up.
    assert ledger.used("counter") == 34


def test_what_is_not_answered_decays_from_fifteen_seconds_on() -> None:
    ledger = Ledger(KRAKEN)
    for _ in range(10):
        ledger.ask(Cost({"counter": 1}))
    ledger.pass_s(15)
    ledger.pass_s(1)
    assert ledger.used("counter") == 10
    ledger.pass_s(4)
    assert ledger.used("counter") == 6


def test_no_more_is_answered_than_was_asked() -> None:
    ledger = Ledger(KRAKEN)
    for _ in range(10):
        ledger.ask(Cost({"counter": 1}))
    ledger.settle("counter", math.floor(NOW), 20)
    assert ledger.used("counter") == 10


def test_a_process_whose_clock_is_behind_lets_nothing_decay_twice() -> None:
    ledger = Ledger(KRAKEN)
    for _ in range(54):
        ledger.ask(Cost({"counter": 1}))
    ledger.settle("counter", math.floor(NOW), 54)
    used = []
    for seconds in (10, -5, 5):
        ledger.pass_s(seconds)
        used.append(ledger.used("counter"))
    assert used == [44, 44, 44]


def test_who_waits_for_a_decaying_counter_comes_behind_what_was_urgent_and_in_turn() -> None:
    ledger = Ledger(KRAKEN)
    one = Cost({"counter": 1})
    for _ in range(54):
        ledger.ask(one)
    ledger.settle("counter", math.floor(NOW), 54)
    slots = [ledger.ask(one, strategy="one").slot or 0 for _ in range(3)]
    ledger.ask(Cost({"counter": 6}, urgent=True))
    ledger.settle("counter", math.floor(NOW), 6)
    again = []
    for slot in slots:
        ledger.now = slot
        again.append(ledger.back(slot, "one", one))
    assert [granted.slot for granted in again] == slots
    assert [granted.at - NOW for granted in again] == pytest.approx([7, 8, 9], abs=0.02)
    for granted in again:
        ledger.now = granted.at
        assert ledger.back(granted.slot or 0, "one", one) == Granted(ledger.now, booked=True)


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
