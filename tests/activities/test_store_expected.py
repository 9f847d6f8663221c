"""What balances should be: the opening ones with every fill since, each counted once."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from activities.store import Store
from activities.store.expected import Drift, Seen
from tests.activities.store_builders import (
    fill_event,
    lose_next_answer,
    new_order,
    opened,
    report,
)
from trading.oms.models import Order, utc_now
from trading.oms.venue import Transfer

_AT = utc_now() - timedelta(hours=1)


def seen(at: datetime = _AT, window_s: float = 1, **totals: str) -> Seen:
    amounts = {asset: Decimal(amount) for asset, amount in totals.items()}
    return Seen("sandbox", "main", amounts, at, at + timedelta(seconds=window_s))


async def bought(store: Store, at: datetime, *, trade: str = "1") -> Order:
    """One BTC for 100 USDT, fee 0.5 USDT, at a time of the exchange's."""
    order = new_order(symbol="BTC/USDT", quantity="5", price="100")
    await store.admit(order)
    fill = fill_event(order, trade, "1", price=Decimal(100), timestamp=at, exchange="sandbox")
    await store.record(order.client_order_id, [fill])
    return order


async def test_fills_explain_balances_whenever_they_are_booked(store_url: str) -> None:
    async with opened(store_url) as store:
        assert await store.risk.reckon(seen(BTC="5", USDT="1000")) == []
        await bought(store, _AT + timedelta(seconds=30))
        (fill,) = await store.fills((await store.orders())[0].client_order_id)
        left = str(Decimal(900) - (fill.fee if fill.fee_currency == "USDT" else 0))
        later = _AT + timedelta(minutes=1)
        assert await store.risk.reckon(seen(later, BTC="6", USDT=left)) == []
        assert await store.risk.reckon(seen(later, BTC="6", USDT=left)) == [], "counted once"


async def test_what_no_fill_explains_is_a_drift_until_it_is_taken_over(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.risk.reckon(seen(BTC="5", USDT="1000"))
        drifts = await store.risk.reckon(seen(BTC="4", USDT="1000", DOGE="7"))
        assert drifts == [
            Drift("BTC", Decimal(5), Decimal(4), Decimal(-1)),
            Drift("DOGE", Decimal(0), Decimal(7), Decimal(7)),
        ]
        await store.risk.take_over("sandbox", "main", drifts, by="ann")
        assert await store.risk.reckon(seen(BTC="4", USDT="1000", DOGE="7")) == []
        audit = await store.risk.adjustments("sandbox", "main")
        assert [(one.symbol, one.before, one.after, one.by) for one in audit] == [
            ("BTC", Decimal(5), Decimal(4), "ann"), ("DOGE", Decimal(0), Decimal(7), "ann"),
        ]  # fmt: skip


async def test_what_is_taken_over_counts_once_where_the_answer_was_lost(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store_url) as store:
        await store.risk.reckon(seen(BTC="5", USDT="1000"))
        drifts = await store.risk.reckon(seen(BTC="4", USDT="1000"))
        lose_next_answer(store, monkeypatch)
        await store.risk.take_over("sandbox", "main", drifts, by="oms")
        assert await store.risk.reckon(seen(BTC="4", USDT="1000")) == []
        assert len(await store.risk.adjustments("sandbox", "main")) == 1


async def test_a_long_journal_is_counted_in_parts(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.store.expected.ENTRIES_MAX", 3)
    async with opened(store_url) as store:
        assert await store.risk.reckon(seen(BTC="5", USDT="1000")) == []
        orders = [await bought(store, _AT + timedelta(seconds=1 + n)) for n in range(4)]
        fills = [(await store.fills(order.client_order_id))[0] for order in orders]
        fees = sum(fill.fee for fill in fills if fill.fee_currency == "USDT")
        commits = store._writer.commits

        later = seen(_AT + timedelta(minutes=1), BTC="9", USDT=str(Decimal(600) - fees))
        assert await store.risk.reckon(later) == []
        assert store._writer.commits >= commits + 3


async def test_a_fill_that_may_or_may_not_be_in_the_balances_is_no_drift(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.risk.reckon(seen(BTC="5", USDT="1000"))
        asked = _AT + timedelta(minutes=1)
        order = await bought(store, asked + timedelta(seconds=0.5))
        (fill,) = await store.fills(order.client_order_id)
        left = str(Decimal(900) - (fill.fee if fill.fee_currency == "USDT" else 0))
        for btc, usdt in (("5", "1000"), ("6", left)):
            assert await store.risk.reckon(seen(asked, BTC=btc, USDT=usdt)) == []
        (drift,) = await store.risk.reckon(seen(asked, BTC="7", USDT=left))
        assert (drift.asset, drift.more) == ("BTC", Decimal(1))
        certain = await store.risk.reckon(seen(asked, window_s=0.1, BTC="5", USDT="1000"))
        assert certain == []


async def test_the_first_look_waits_where_it_cannot_tell(store_url: str) -> None:
    async with opened(store_url) as store:
        await bought(store, _AT + timedelta(seconds=0.5))
        assert await store.risk.reckon(seen(BTC="5", USDT="1000")) == []
        later = _AT + timedelta(minutes=1)
        assert await store.risk.reckon(seen(later, BTC="9", USDT="1")) == [], "that was the first"
        assert len(await store.risk.reckon(seen(later, BTC="8", USDT="1"))) == 1


async def test_a_fill_on_its_way_at_the_first_look_is_in_its_balances(store_url: str) -> None:
    """An account that trades while its first worker starts: booked later, not counted again."""
    async with opened(store_url) as store:
        assert await store.risk.reckon(seen(BTC="5", USDT="1000")) == []
        await bought(store, _AT - timedelta(seconds=1))
        later = _AT + timedelta(minutes=1)
        assert await store.risk.reckon(seen(later, BTC="5", USDT="1000")) == []
        (drift,) = await store.risk.reckon(seen(later, BTC="6", USDT="1000"))
        assert (drift.asset, drift.more) == ("BTC", Decimal(1))


async def test_other_accounts_fills_do_not_count(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.risk.reckon(seen(BTC="5"))
        external = report(None, account="other")
        assert external.account == "other"
        order = new_order(symbol="BTC/USDT", quantity="5", price="100", account="other")
        await store.admit(order)
        one = fill_event(order, "1", "1", exchange="sandbox")
        assert one.fill is not None
        moved = one.model_copy(update={"fill": one.fill.model_copy(update={"account": "other"})})
        await store.record(order.client_order_id, [moved])
        assert await store.risk.reckon(seen(_AT + timedelta(minutes=1), BTC="5")) == []


def came(amount: str, at: datetime, transfer_id: str = "d-1", asset: str = "BTC") -> Transfer:
    return Transfer(
        exchange="sandbox",
        account="main",
        transfer_id=transfer_id,
        asset=asset,
        amount=Decimal(amount),
        at=at,
        received_at=utc_now(),
    )


async def test_what_the_exchange_says_has_come_or_gone_is_expected_once(store_url: str) -> None:
    async with opened(store_url) as store:
        await store.risk.reckon(seen(BTC="5", USDT="1000"))
        later = _AT + timedelta(minutes=1)
        news = [await store.risk.note_transfer(came("2", later)) for _ in range(2)]
        assert news == [True, False]
        assert await store.risk.note_transfer(came("-400", later, "w-1", "USDT"))
        assert await store.risk.note_transfer(came("7", later, "d-2", "DOGE"))

        assert await store.risk.reckon(seen(later, BTC="7", USDT="600", DOGE="7")) == []
        audit = await store.risk.adjustments("sandbox", "main")
        assert [(one.symbol, one.before, one.after) for one in audit] == [
            ("BTC", Decimal(5), Decimal(7)),
            ("USDT", Decimal(1000), Decimal(600)),
            ("DOGE", Decimal(0), Decimal(7)),
        ]


async def test_what_came_before_the_balances_were_taken_as_they_are_is_in_them(
    store_url: str,
) -> None:
    async with opened(store_url) as store:
        assert await store.risk.note_transfer(came("1", _AT - timedelta(minutes=2), "first"))
        await store.risk.reckon(seen(BTC="5"))
        await store.risk.note_transfer(came("2", _AT - timedelta(minutes=1), "late"))
        assert await store.risk.reckon(seen(_AT + timedelta(minutes=1), BTC="5")) == []
