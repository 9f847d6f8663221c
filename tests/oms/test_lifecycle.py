"""The lifecycle's promises, over random sets of events in random orders of arrival."""

import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oms.builders import event, fill, state
from trading.oms.enums import OrderStatus, Pending, ReasonCode, RejectedBy
from trading.oms.lifecycle import EventKind, LifecycleEvent, always_journalled, apply, fee_in_quote
from trading.oms.models import OrderState
from trading.oms.transitions import RANK, TABLE, Row, Step

S = OrderStatus
K = EventKind
few = settings(max_examples=150, deadline=None)

EVIDENCE: dict[Step, OrderStatus] = {
    Step.SUBMITTING: S.PENDING_SUBMISSION,
    Step.DENIED: S.REJECTED,
    Step.SUBMITTED: S.SUBMITTED,
    Step.ACCEPTED: S.ACCEPTED,
    Step.FILL_PART: S.PARTIALLY_FILLED,
    Step.FILL_WHOLE: S.FILLED,
    Step.MODIFIED: S.ACCEPTED,
    Step.MODIFIED_WHOLE: S.FILLED,
    Step.CANCELLED: S.CANCELLED,
    Step.EXPIRED: S.EXPIRED,
    Step.REJECTED: S.REJECTED,
    Step.NOT_PLACED: S.REJECTED,
    Step.DECLARED_DEAD: S.ERROR,
}
STRAIGHT = {
    (S.CREATED, Step.SUBMITTING),
    (S.CREATED, Step.DENIED),
    (S.PENDING_SUBMISSION, Step.DENIED),
    (S.PENDING_SUBMISSION, Step.SUBMITTED),
    (S.SUBMITTED, Step.ACCEPTED),
    (S.SUBMITTED, Step.MODIFIED),
    (S.SUBMITTED, Step.REJECTED),
    (S.SUBMITTED, Step.NOT_PLACED),
    (S.ACCEPTED, Step.FILL_PART),
    (S.ACCEPTED, Step.FILL_WHOLE),
    (S.ACCEPTED, Step.CANCELLED),
    (S.ACCEPTED, Step.EXPIRED),
    (S.PARTIALLY_FILLED, Step.FILL_WHOLE),
}
"""The arrows of the specification's picture, and what a modification and an expiry add."""

reasons = st.fixed_dictionaries(
    {
        "rejected_by": st.sampled_from([None, *RejectedBy]),
        "reason_code": st.sampled_from([None, *ReasonCode]),
        "reason": st.sampled_from([None, "no", "because", "-2010: insufficient balance"]),
    }
)
seconds = st.integers(min_value=0, max_value=20)
amounts = st.decimals(min_value="0.1", max_value=8, places=1)


@st.composite
def said_by_the_exchange(draw: st.DrawFn) -> list[LifecycleEvent]:
    """A set of distinct events, contradictory ones included, in one order of arrival."""
    plain = [K.SUBMITTING, K.SUBMITTED, K.ACCEPTED, K.SUBMITTED]
    ends = [K.DENIED, K.CANCELLED, K.EXPIRED, K.REJECTED, K.NOT_PLACED, K.DECLARED_DEAD]
    events = [
        event(kind, draw(seconds), exchange_order_id="x1" if kind is K.ACCEPTED else None)
        for kind in draw(st.lists(st.sampled_from(plain), max_size=4))
    ]
    events += [
        event(kind, draw(seconds), **draw(reasons))
        for kind in draw(st.lists(st.sampled_from(ends), max_size=4))
    ]
    for number, quantity in enumerate(draw(st.lists(amounts, max_size=5))):
        booked = fill(
            f"f{number}",
            str(quantity),
            str(draw(st.decimals(min_value=90, max_value=110, places=2))),
            fee_currency=draw(st.sampled_from(["USDT", "BTC", "BNB"])),
        )
        events.append(event(K.FILL, draw(seconds), fill=booked, exchange_order_id="x1"))
    for revision, quantity in enumerate(draw(st.lists(amounts, max_size=3)), start=1):
        totals = {"quantity": quantity, "price": Decimal(100 + revision), "revision": revision}
        events.append(event(K.MODIFIED, draw(seconds), **totals))
    return events


def settled(events: list[LifecycleEvent], start: OrderState | None = None) -> OrderState:
    """Apply them as the store does: a fill whose id is known does not come this far."""
    current = start or state()
    seen: set[str] = set()
    for each in events:
        if each.fill is not None:
            if each.fill.fill_id in seen:
                continue
            seen.add(each.fill.fill_id)
        current = apply(current, each).state
    return current


@few
@given(said_by_the_exchange(), st.data())
def test_any_order_of_arrival_ends_in_the_same_state(
    events: list[LifecycleEvent], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events))
    assert settled(shuffled) == settled(events)


@few
@given(said_by_the_exchange(), st.data())
def test_what_we_asked_and_what_we_doubt_end_alike_where_nothing_was_modified(
    events: list[LifecycleEvent], data: st.DataObject
) -> None:
    events = [each for each in events if each.kind is not K.MODIFIED]
    start = state(
        status=S.SUBMITTED,
        pending=data.draw(st.sampled_from(Pending)),
        in_doubt_since=event(K.IN_DOUBT).at,
    )
    assert settled(data.draw(st.permutations(events)), start) == settled(events, start)


@few
@given(said_by_the_exchange(), st.data())
def test_the_same_events_again_change_nothing(
    events: list[LifecycleEvent], data: st.DataObject
) -> None:
    again = data.draw(st.permutations(events + events))
    assert settled(again) == settled(events)


@few
@given(said_by_the_exchange())
def test_one_event_twice_in_a_row_is_one_event(events: list[LifecycleEvent]) -> None:
    current = state()
    for each in events:
        current = apply(current, each).state
        if each.fill is None:
            repeated = apply(current, each)
            assert not repeated.changed
            assert repeated.state == current


@few
@given(said_by_the_exchange())
def test_the_filled_quantity_is_the_sum_of_the_distinct_fills(
    events: list[LifecycleEvent],
) -> None:
    end = settled(events + events)
    fills = [each.fill for each in events if each.fill is not None]
    assert end.filled_quantity == sum(f.quantity for f in fills)
    assert end.filled_notional == sum(f.quantity * f.price for f in fills)
    assert end.remaining_quantity == end.quantity - end.filled_quantity
    assert end.fees == sum(fee_in_quote(f) for f in fills)
    assert sum(end.fees_by_currency.values()) == sum(f.fee for f in fills)
    if fills:
        exact = end.filled_notional / end.filled_quantity
        assert end.average_fill_price is not None
        assert abs(end.average_fill_price - exact) <= Decimal("1e-18")


@few
@given(said_by_the_exchange())
def test_no_step_leaves_the_table(events: list[LifecycleEvent]) -> None:
    allowed = {(before, row.status) for (before, _), row in TABLE.items()}
    # A modification that makes room above a whole fill uncovers the exchange's final word.
    allowed |= {(S.FILLED, S.CANCELLED), (S.FILLED, S.EXPIRED)}
    current = state()
    for each in events:
        applied = apply(current, each)
        assert (current.status, applied.state.status) in allowed
        assert "no row" not in (applied.alarm or "")
        current = applied.state


@few
@given(said_by_the_exchange())
def test_the_status_says_filled_exactly_when_nothing_remains(
    events: list[LifecycleEvent],
) -> None:
    end = settled(events)
    assert (end.status is S.FILLED) is (end.remaining_quantity <= 0)


@few
@given(said_by_the_exchange())
def test_every_state_survives_its_json(events: list[LifecycleEvent]) -> None:
    end = settled(events)
    assert OrderState.model_validate_json(end.model_dump_json()) == end


@pytest.mark.parametrize(("key", "row"), TABLE.items(), ids=lambda v: "-".join(map(str, v[:2])))
def test_each_row_is_the_join_of_the_evidence(key: tuple[OrderStatus, Step], row: Row) -> None:
    before, step = key
    if before is S.FILLED and step is Step.MODIFIED:
        expected = S.PARTIALLY_FILLED  # The one step down.
    else:
        expected = max(before, EVIDENCE[step], key=RANK.__getitem__)
    assert row.status is expected


def test_the_table_has_a_row_for_everything_that_can_happen() -> None:
    missing = {(s, step) for s in OrderStatus for step in Step} - set(TABLE)
    unfilled = {S.CREATED, S.PENDING_SUBMISSION, S.ERROR, S.REJECTED}
    # Filled orders have no part to fill, and what is modified down to its fills has some.
    assert missing == {(S.FILLED, Step.FILL_PART)} | {(s, Step.MODIFIED_WHOLE) for s in unfilled}


def test_every_odd_row_has_a_reason() -> None:
    odd = {
        key: row
        for key, row in TABLE.items()
        if key not in STRAIGHT and EVIDENCE[key[1]] is not key[0]
    }
    assert [key for key, row in odd.items() if not row.reason] == []


def test_every_alarm_has_a_reason() -> None:
    assert [key for key, row in TABLE.items() if row.alarm and not row.reason] == []


def told(*events: LifecycleEvent) -> OrderState:
    return settled(list(events), state(status=S.ACCEPTED))


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        (
            {"reason_code": ReasonCode.EXCHANGE_CANCELLED},
            {"reason_code": ReasonCode.CANCEL_REQUESTED},
        ),
        (
            {"reason_code": ReasonCode.NOT_PLACED, "rejected_by": RejectedBy.OMS},
            {"reason_code": ReasonCode.EXCHANGE_REJECTED, "rejected_by": RejectedBy.EXCHANGE},
        ),
        ({}, {"reason_code": ReasonCode.EXCHANGE_CANCELLED}),
        ({"reason_code": ReasonCode.CANCEL_REQUESTED},) * 2,
    ],
)
def test_of_two_equally_strong_words_the_one_that_says_more_stays(
    weaker: dict[str, Any], stronger: dict[str, Any]
) -> None:
    one, other = event(K.CANCELLED, **weaker), event(K.CANCELLED, **stronger)
    for end in (told(one, other), told(other, one)):
        assert end.reason_code is stronger["reason_code"]
        assert end.rejected_by is stronger.get("rejected_by")


@pytest.mark.parametrize("kind", [K.CANCELLED, K.EXPIRED, K.REJECTED])
def test_the_end_of_a_replaced_leg_is_not_the_end_of_the_order(kind: EventKind) -> None:
    replacing = told(event(K.REPLACE_STARTED))
    assert apply(replacing, event(kind)).state.status is S.ACCEPTED

    second = told(event(K.LEG_STARTED, leg=2, exchange_client_id="c2"))
    assert apply(second, event(kind, leg=1)).state.status is S.ACCEPTED
    assert apply(second, event(kind, leg=1)).state.ended_as is None
    assert (apply(second, event(kind, leg=2)).state.ended_as or "") == kind.value


def test_an_old_leg_does_not_take_back_the_exchange_order_id() -> None:
    second = told(
        event(K.ACCEPTED, exchange_order_id="x1"),
        event(K.LEG_STARTED, leg=2, exchange_client_id="c2"),
        event(K.ACCEPTED, leg=2, exchange_order_id="x2"),
        event(K.FILL, leg=1, fill=fill(), exchange_order_id="x1"),
    )
    assert (second.exchange_order_id, second.exchange_client_id) == ("x2", "c2")
    assert second.filled_quantity == 1


def test_doubt_ends_with_proof_and_not_with_an_old_legs_fill() -> None:
    doubted = told(event(K.LEG_STARTED, leg=2, exchange_client_id="c2"), event(K.IN_DOUBT, 1))
    assert doubted.in_doubt_since is not None
    assert apply(doubted, event(K.FILL, leg=1, fill=fill())).state.in_doubt_since is not None
    for kind in (K.ACCEPTED, K.CANCELLED, K.EXPIRED, K.REJECTED, K.MODIFIED):
        assert apply(doubted, event(kind, leg=2)).state.in_doubt_since is None, kind


IN_DOUBT = {"in_doubt_since": event(K.IN_DOUBT).at}


@pytest.mark.parametrize("kind", [K.REJECTED, K.NOT_PLACED, K.DENIED])
def test_doubt_ends_with_the_order_that_is_not_there(kind: EventKind) -> None:
    ended = apply(state(status=S.SUBMITTED, **IN_DOUBT), event(kind)).state
    assert (ended.status, ended.in_doubt_since) == (S.REJECTED, None)


@pytest.mark.parametrize("quantity", ["1", "10"])
def test_a_fill_ends_a_doubt(quantity: str) -> None:
    doubted = state(status=S.SUBMITTED, **IN_DOUBT)
    known = apply(doubted, event(K.FILL, fill=fill(quantity=quantity))).state
    assert known.in_doubt_since is None


@pytest.mark.parametrize("kind", [K.CANCELLED, K.EXPIRED])
def test_the_exchanges_end_leaves_nothing_asked_and_nothing_doubted(kind: EventKind) -> None:
    asked = state(status=S.ACCEPTED, pending=Pending.CANCEL, **IN_DOUBT)
    ended = apply(asked, event(kind)).state
    assert (ended.pending, ended.in_doubt_since) == (Pending.NONE, None)


def test_while_a_leg_is_replaced_the_doubt_is_about_the_next_one() -> None:
    doubted = state(status=S.ACCEPTED, replacing=True, **IN_DOUBT)
    for old in (event(K.ACCEPTED), event(K.FILL, fill=fill())):
        assert apply(doubted, old).state.in_doubt_since is not None
    assert apply(doubted, event(K.ACCEPTED, leg=2)).state.in_doubt_since is None


@few
@given(st.data())
def test_the_events_of_two_legs_end_alike_in_any_order(data: st.DataObject) -> None:
    second = told(
        event(K.ACCEPTED, exchange_order_id="x1"),
        event(K.REPLACE_STARTED),
        event(K.CANCELLED),
        event(K.LEG_STARTED, leg=2, exchange_client_id="c2"),
        event(K.SUBMITTED, 1, leg=2),
        event(K.IN_DOUBT, 2),
    )
    assert (second.status, second.leg, second.replacing) == (S.ACCEPTED, 2, False)
    said = [
        event(kind, data.draw(seconds), leg=leg, exchange_order_id=f"x{leg}")
        for leg in (1, 2)
        for kind in data.draw(st.sets(st.sampled_from([K.ACCEPTED, K.CANCELLED, K.EXPIRED])))
    ]
    said += [
        event(K.FILL, data.draw(seconds), leg=leg, fill=fill(f"f{leg}", str(data.draw(amounts))))
        for leg in data.draw(st.sets(st.sampled_from([1, 2])))
    ]
    shuffled = settled(data.draw(st.permutations(said)), second)
    assert shuffled == settled(said, second)
    ended = {each.kind for each in said if each.leg == 2} & {K.CANCELLED, K.EXPIRED}
    assert (shuffled.ended_as is not None) is bool(ended)


@pytest.mark.parametrize(
    ("happened", "field", "value"),
    [
        (event(K.ROUTED, exchange="kraken", account="main"), "exchange", "kraken"),
        (event(K.CANCEL_REQUESTED), "pending", Pending.CANCEL),
        (event(K.MODIFY_REQUESTED), "pending", Pending.MODIFY),
        (event(K.REPLACE_STARTED), "replacing", True),
        (event(K.RESENT, exchange_client_id="c9"), "exchange_client_id", "c9"),
        (event(K.IN_DOUBT, 5), "in_doubt_since", event(K.IN_DOUBT, 5).at),
        (
            event(K.MODIFIED, stop_price=Decimal(7), revision=1),
            "stop_price",
            Decimal(7),
        ),
    ],
)
def test_a_mark_sets_its_field_and_leaves_the_status(
    happened: LifecycleEvent, field: str, value: object
) -> None:
    applied = apply(state(status=S.ACCEPTED), happened)
    assert getattr(applied.state, field) == value
    assert applied.state.status is S.ACCEPTED


@pytest.mark.parametrize("kind", [K.DOUBT_ENDED, K.REQUEST_ENDED, K.MESSAGE_REFUSED, K.ALARM])
def test_what_is_over_or_only_worth_a_note_leaves_nothing_asked(kind: EventKind) -> None:
    after_it = told(event(kind))
    assert (after_it.pending, after_it.in_doubt_since) == (Pending.NONE, None)
    assert always_journalled(kind) is (kind in {K.MESSAGE_REFUSED, K.ALARM})


@pytest.mark.parametrize("kind", [K.IN_DOUBT, K.CANCEL_REQUESTED])
def test_an_ended_order_is_neither_doubted_nor_asked(kind: EventKind) -> None:
    ended = told(event(K.CANCELLED))
    assert not apply(ended, event(kind)).changed


def test_a_leg_that_is_over_does_not_start_again() -> None:
    second = told(event(K.LEG_STARTED, leg=2, exchange_client_id="c2"))
    assert not apply(second, event(K.LEG_STARTED, leg=1, exchange_client_id="c1")).changed


def test_an_order_declared_dead_is_revived_by_proof_of_life() -> None:
    dead = settled([event(K.DECLARED_DEAD)], state(status=S.SUBMITTED))
    assert dead.status is S.ERROR
    revived = apply(dead, event(K.ACCEPTED))
    assert revived.state.status is S.ACCEPTED
    assert "revives" in (revived.alarm or "")


def test_an_overfill_is_booked_and_alarmed() -> None:
    applied = apply(told(event(K.FILL, fill=fill("a", "10"))), event(K.FILL, fill=fill("b")))
    assert applied.state.status is S.FILLED
    assert applied.state.remaining_quantity == -1
    assert "overfill" in (applied.alarm or "")


def test_products_with_36_decimals_still_survive_json() -> None:
    dust = event(K.FILL, fill=fill(quantity="1e-18", price="1e-18", fee_currency="BTC"))
    huge = event(K.FILL, fill=fill("f2", "9" * 20, "9" * 20 + ".123456789012345678"))
    end = told(dust, huge)
    assert OrderState.model_validate_json(end.model_dump_json()) == end
    assert told(huge, dust) == end


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(K.FILL, {}), (K.ACCEPTED, {"fill": fill()}), (K.CANCELLED, {"fill": fill()})],
)
def test_a_fill_comes_in_a_fill_event_and_nowhere_else(
    kind: EventKind, fields: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="fill is"):
        event(kind, **fields)


def test_what_the_table_does_not_know_is_alarmed_and_changes_no_status() -> None:
    applied = apply(state(), event(K.MODIFIED, quantity=Decimal(0), revision=1))
    assert applied.state.status is S.CREATED
    assert "no row for modified_whole in created" in (applied.alarm or "")


def test_applying_a_fill_takes_microseconds() -> None:
    start, booked = state(status=S.ACCEPTED), event(K.FILL, fill=fill())
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(50):
            apply(start, booked)
        best = min(best, (time.perf_counter() - began) / 50)
    assert best < 200e-6, f"{best * 1e6:.1f} microseconds; 20 are expected on an idle machine"
