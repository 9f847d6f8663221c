"""What the store keeps about the running of a deployment."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from activities.store import Store
from activities.workflow_check import WorkflowCheck
from tests.activities.store_builders import accepted, claimed, new_order, opened
from tests.oms.builders import NOW, event
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now


def report(exchange: str, number: int = 1) -> dict[str, Any]:
    return {"exchange": exchange, "account": "main", "number": number}


async def test_reports_are_listed_newest_first_and_by_account(store_url: str) -> None:
    now = utc_now()
    async with opened(store_url) as store:
        for number, name in enumerate(("alpha", "beta", "alpha")):
            await store.upkeep.add_report(now, report(name, number), 0)
        assert [one["number"] for one in await store.upkeep.reports()] == [2, 1, 0]
        assert [one["number"] for one in await store.upkeep.reports("alpha", limit=1)] == [2]
        assert await store.upkeep.reports("alpha", "other") == []


async def test_old_reports_are_forgotten(store_url: str) -> None:
    now = utc_now()
    async with opened(store_url) as store:
        await store.upkeep.add_report(now - timedelta(days=31), report("alpha", 1), 2)
        await store.upkeep.add_report(now, report("alpha", 2), 0)
        assert [one["number"] for one in await store.upkeep.reports()] == [2]


async def test_the_symbols_to_sweep_are_those_of_open_and_of_late_orders(store_url: str) -> None:
    now = utc_now()
    old = now - timedelta(days=3)
    async with opened(store_url) as store:
        for symbol, made in (("BTC/USDT", old), ("BTC/USDT", now), ("ETH/USDT", now)):
            await claimed(store, new_order(symbol=symbol, created_at=made))
        soon = utc_now() + timedelta(minutes=1)
        found = await store.upkeep.symbols("sandbox", "main", soon)
        assert found == {"BTC/USDT": old, "ETH/USDT": now}
        assert await store.upkeep.symbols("beta", "main", old) == {}


async def test_a_symbol_of_which_nothing_was_sent_is_not_swept(store_url: str) -> None:
    """A mistyped one is denied, and the exchange could not be asked for its fills."""
    async with opened(store_url) as store:
        denied, external = new_order(symbol="XYZ/USDT"), new_order(symbol="ETH/USDT")
        await store.admit(denied)
        await store.admit_external(OrderState.of(external))
        routed = event(EventKind.ROUTED, exchange="sandbox", account="main")
        for order in (denied, external):
            await store.record(order.client_order_id, [routed])
        for _ in range(2):
            symbols = await store.upkeep.symbols("sandbox", "main", NOW - timedelta(days=1))
            assert set(symbols) == {"ETH/USDT"}
            await store.record(denied.client_order_id, [event(EventKind.DENIED)])


async def ended(store: Store, account: str) -> str:
    """The id of an order of the account that has ended."""
    order = new_order(account=account)
    await store.admit(order)
    there = LifecycleEvent(kind=EventKind.ROUTED, at=utc_now(), exchange="sandbox", account=account)
    over = LifecycleEvent(kind=EventKind.CANCELLED, at=utc_now())
    await store.record(order.client_order_id, [there, over])
    return order.client_order_id


async def test_the_orders_of_an_account_that_have_ended_are_told_from_others(
    store_url: str,
) -> None:
    async with opened(store_url) as store:
        ours, another = await ended(store, "main"), await ended(store, "other")
        is_open = new_order()
        await store.admit(is_open)
        meant = [another, "nobody's", is_open.client_order_id, ours]
        soon = utc_now() + timedelta(minutes=1)

        assert await store.upkeep.ended("main", meant, soon) == [ours]
        assert await store.upkeep.ended("main", meant, soon - timedelta(hours=1)) == []
        assert await store.upkeep.ended("main", [], soon) == []


class Door:
    """Temporal lists these orders as running."""

    def __init__(self, running: set[str]) -> None:
        self.running = running

    async def all_running(self, _exchange: str) -> set[str]:
        return self.running

    async def is_running(self, _order_id: str) -> bool:
        return True


async def test_a_pass_reads_no_open_orders_of_other_accounts_one_by_one(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of running workflows has those of all accounts of the exchange."""
    monkeypatch.setattr("activities.workflow_check.SETTLING", timedelta(0))
    async with opened(sqlite_url) as store:
        over = await ended(store, "main")
        running = {over}
        for _ in range(5):
            order = await accepted(store, new_order(account="other"))
            running.add(order.client_order_id)
        read: list[str] = []
        order_of = store.order

        async def noted(order_id: str) -> Any:
            read.append(order_id)
            return await order_of(order_id)

        monkeypatch.setattr(store, "order", noted)
        connector: Any = SimpleNamespace(exchange="sandbox", account="main")
        door: Any = Door(running)
        check = WorkflowCheck(store, door, connector, dry_run=True)
        await check.run()

    assert [(one.kind, one.order_id) for one in check.findings] == [("ended_unknown", over)]
    assert set(read) == {over}


async def test_an_account_belongs_to_the_first_deployment_until_it_lets_go(store_url: str) -> None:
    async with opened(store_url) as store, opened(store_url) as other:
        both = await asyncio.gather(
            store.upkeep.take_lease("alpha", "main", "one"),
            other.upkeep.take_lease("alpha", "main", "two"),
        )
        first = both[0].deployment
        assert {lease.deployment for lease in both} == {first}
        assert (await store.upkeep.take_lease("alpha", "main", first)) == both[0]
        assert (await store.upkeep.take_lease("alpha", "second", "two")).deployment == "two"

        order = new_order()
        await store.admit(order)
        routed = LifecycleEvent(
            kind=EventKind.ROUTED, at=utc_now(), exchange="alpha", account="main"
        )
        await store.record(order.client_order_id, [routed])
        refused = await store.upkeep.let_go("alpha", "main")
        assert (refused.lease, refused.open_orders) == (both[0], 1)
        assert (await store.upkeep.take_lease("alpha", "main", "three")).deployment == first

        await store.record(
            order.client_order_id, [LifecycleEvent(kind=EventKind.DENIED, at=utc_now())]
        )
        assert (await store.upkeep.let_go("alpha", "main")).open_orders == 0
        assert (await store.upkeep.let_go("alpha", "main")).lease is None
        assert (await store.upkeep.take_lease("alpha", "main", "three")).deployment == "three"
