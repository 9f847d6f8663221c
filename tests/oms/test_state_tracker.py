"""The tracker answers like a list of all states would, only faster, and says how fresh it is."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import NOW, after, state
from trading.oms.enums import OrderStatus
from trading.oms.errors import StateUnavailable
from trading.oms.events import IJournalEntry
from trading.oms.models import OrderState
from trading.oms.state_tracker import Freshness, StateTracker

OPEN, ENDED = OrderStatus.ACCEPTED, OrderStatus.FILLED


def entry(sequence: int, order_id: str, order_sequence: int, **fields: Any) -> IJournalEntry:
    return SimpleNamespace(
        sequence=sequence,
        order_id=order_id,
        order_sequence=order_sequence,
        name="order_accepted",
        state=known(order_id, order_sequence, **fields),
        fill=None,
        alarm=None,
        details=None,
        exchange_at=None,
        received_at=None,
        committed_at=NOW,
    )


def known(order_id: str, sequence: int = 1, **fields: Any) -> OrderState:
    return state(client_order_id=order_id, sequence=sequence, **{"status": OPEN, **fields})


def test_an_older_entry_of_an_order_is_ignored() -> None:
    tracker = StateTracker()
    assert tracker.apply(entry(5, "a", 2, status=ENDED))
    assert not tracker.apply(entry(4, "a", 1))
    assert not tracker.apply(entry(5, "a", 2))
    order = tracker.get_order("a")
    assert order is not None
    assert order.status is ENDED
    assert tracker.sequence == 5


def test_an_order_nobody_has_seen_is_none() -> None:
    assert StateTracker().get_order("a") is None


places = st.fixed_dictionaries(
    {
        "status": st.sampled_from([OPEN, ENDED, OrderStatus.SUBMITTED]),
        "exchange": st.sampled_from(["", "binance", "kraken"]),
        "symbol": st.sampled_from(["BTC/USDT", "ETH/USDT"]),
        "strategy_id": st.sampled_from([None, "s1", "s2"]),
    }
)
filters = st.fixed_dictionaries(
    {
        "exchange": st.sampled_from([None, "binance"]),
        "symbol": st.sampled_from([None, "BTC/USDT"]),
        "strategy_id": st.sampled_from([None, "s1"]),
    }
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), places), max_size=30), filters)
def test_the_indexes_answer_like_a_search_through_everything(
    steps: list[tuple[str, dict[str, Any]]], wanted: dict[str, str | None]
) -> None:
    tracker = StateTracker()
    everything: dict[str, OrderState] = {}
    for number, (order_id, place) in enumerate(steps, start=1):
        tracker.apply(entry(number, order_id, number, **place))
        everything[order_id] = known(order_id, number, **place)
    expected = {
        order_id
        for order_id, each in everything.items()
        if each.is_open and all(getattr(each, k) == v for k, v in wanted.items() if v is not None)
    }
    found = tracker.get_open_orders(**wanted)
    assert {each.client_order_id for each in found} == expected
    assert found == [everything[each.client_order_id] for each in found]
    assert tracker.count_open_orders(**wanted) == len(expected)
    assert {key: tracker.get_order(key) for key in everything} == everything


def test_ended_orders_are_kept_up_to_a_bound_and_open_ones_without() -> None:
    tracker = StateTracker(ended_max=2)
    for number, order_id in enumerate("abc", start=1):
        tracker.apply(entry(2 * number, order_id, 2, status=ENDED))
        tracker.apply(entry(2 * number + 1, "open-" + order_id, 1))
    with pytest.raises(StateUnavailable, match=r"'a' is not known here.*fetch_order\('a'\)"):
        tracker.get_order("a")
    assert [tracker.get_order(key) is not None for key in "bc"] == [True, True]
    assert len(tracker.get_open_orders()) == 3
    assert (tracker.forgotten, len(tracker)) == (1, 5)


def test_none_is_said_of_no_order_that_may_have_ended_unseen() -> None:
    tracker = StateTracker()
    tracker.load([], sequence=0, at=NOW)  # A store that was empty holds nothing else.
    tracker.apply(entry(1, "a", 1))
    assert tracker.get_order("b") is None
    tracker.load([known("a")], sequence=1, at=NOW)
    with pytest.raises(StateUnavailable):
        tracker.get_order("b")


def test_a_repeated_entry_does_not_bring_back_a_forgotten_order() -> None:
    tracker = StateTracker(ended_max=0)
    tracker.apply(entry(1, "a", 1))
    tracker.apply(entry(2, "a", 2, status=ENDED))
    assert not tracker.apply(entry(1, "a", 1))
    assert tracker.get_open_orders() == []


def test_a_reopened_order_is_open_again() -> None:
    tracker = StateTracker()
    tracker.apply(entry(1, "a", 1, status=OrderStatus.REJECTED))
    tracker.apply(entry(2, "a", 2, status=OPEN))
    assert [each.client_order_id for each in tracker.get_open_orders()] == ["a"]


def test_a_commands_answer_counts_before_the_journal_brings_it() -> None:
    tracker = StateTracker()
    assert tracker.put(known("a", 3, exchange="kraken"))
    assert not tracker.apply(entry(9, "a", 2))
    assert [each.sequence for each in tracker.get_open_orders(exchange="kraken")] == [3]
    assert tracker.sequence == 9


def test_it_says_how_fresh_it_is() -> None:
    tracker = StateTracker()
    assert tracker.freshness.age(NOW) is None
    tracker.load([known("a"), known("b")], sequence=10, at=NOW)
    assert tracker.freshness == Freshness(10, 0, NOW)
    tracker.mark(head=12, at=after(1))
    assert (tracker.lag, tracker.fresh_as_of) == (2, NOW)
    tracker.apply(entry(12, "a", 2))
    tracker.mark(head=12, at=after(2))
    assert tracker.freshness == Freshness(12, 0, after(2))
    assert tracker.freshness.age(after(5)) == timedelta(seconds=3)


def test_a_batch_far_behind_the_head_leaves_the_picture_old() -> None:
    tracker = StateTracker()
    tracker.load([known("a")], sequence=10, at=NOW)
    tracker.mark(head=100, at=after(1))
    tracker.apply(entry(12, "a", 2))
    tracker.mark(head=12, at=after(2))
    assert tracker.freshness == Freshness(12, 88, NOW)


@pytest.mark.parametrize("open_orders", [10, 5000])
def test_a_question_costs_what_its_answer_is_long(open_orders: int) -> None:
    tracker = StateTracker()
    for number in range(1, open_orders):
        tracker.apply(entry(number, f"o{number}", 1, strategy_id="other"))
    tracker.apply(entry(open_orders, "mine", 1, strategy_id="s1"))
    assert len(tracker.get_open_orders("sandbox", "BTC/USDT", "s1")) == 1
