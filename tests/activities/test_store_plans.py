"""Every statement of an order's life finds its rows by an index, however many rows there are."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from activities.store import ClaimKey, ClaimOutcome, Store, prepared
from activities.store.claims import ClaimRequest
from activities.store.placing import FirstSend
from activities.store.reservations import ReserveWish
from activities.store.types import OrderFilter
from tests.activities.risk_builders import LOOSE, buy, fetched
from tests.activities.store_builders import fill_event, opened, report, request_of
from tests.oms.builders import event
from trading.oms.lifecycle import EventKind
from trading.oms.models import utc_now

SMALL = {"anon_1", "trading_states", "journal_head", "account_leases", "rate_ledger", "json_each"}
"""Tables that do not grow with the orders, and what a statement has gathered itself."""
BY_ACCOUNT = {"balances", "positions", "reserved_sums", "risk_accounts"}
"""Those with few rows of each account."""
PARTIAL = {"idx_execution_inbox_undelivered", "idx_reservations_open"}
"""Indexes that have only what waits, or is open."""
ACCOUNT = {"exchange", "account"}
Ran = dict[str, Any]


def engines_of(store: Store) -> list[sa.Engine]:
    transactions: list[Any] = [store._engines.writes, store._engines.reads]
    return [getattr(one._engine, "sync_engine", one._engine) for one in transactions]


async def a_life(store: Store) -> None:
    """Placed, accepted, filled by a report of the feed, and looked at."""
    order = buy("4", strategy_id="s")
    order_id, request = order.client_order_id, request_of(order)
    rules = LOOSE.model_copy(update={"max_orders_per_minute": 1000})
    await store.risk.place(
        order,
        FirstSend(
            wish=ReserveWish(order=order, limits=rules),
            claim=ClaimRequest(ClaimKey(order_id, 1, 1), request, "test"),
        ),
    )
    accepted = event(EventKind.ACCEPTED, exchange_order_id="1")
    await store.settle_claim(order_id, 1, 1, outcome=ClaimOutcome.ACCEPTED, events=[accepted])
    ids = await store.inbox_add([report(order)])
    await store.inbox_undelivered("sandbox", "main")
    fill = fill_event(order, "t1", "4")
    await store.standing(order_id, ["t1"])
    await store.record(order_id, [fill])
    await store.inbox_delivered(ids)
    await store.inbox_oldest("sandbox", "main")
    await store.order(order_id)
    await store.claims_of(order_id)
    await store.fills(order_id)
    await store.events_after(0)
    await store.find_claim("sandbox", "main", request.exchange_client_id)
    await store.find_order(("sandbox", "main", order.symbol), "1")
    await store.risk.book("sandbox", "main")
    await store.risk.mend()
    await store.risk.mend("sandbox", "main")
    await store.upkeep.symbols("sandbox", "main", utc_now())
    await store.upkeep.ended("main", [order_id], utc_now())
    await store.open_orders("sandbox", "main")
    await store.orders(OrderFilter("sandbox", "main", in_doubt_only=True))
    await store.orders(OrderFilter("sandbox", "main"), limit=50)


def scanned(connection: sa.Connection, statement: str, parameters: Any) -> set[str]:
    """The tables of which the statement reads all rows, or all rows of an account."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = "\n".join(row[3] for row in rows)
        whole = re.findall(r"\bSCAN (\w+)\b(?! USING)", plan)
        found = re.findall(r"\bSEARCH (\w+) USING .*INDEX (\w+) \((.+)\)", plan)
    else:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(row[0] for row in rows)
        whole = re.findall(r"Seq Scan on (\w+)", plan)
        found = re.findall(r"Scan using (\w+) on (\w+).*\n +Index Cond: (.+)", plan)
        found = [(table, index, condition) for index, table, condition in found]
        bitmaps = re.findall(r"Bitmap Index Scan on (\w+).*\n +Index Cond: (.+)", plan)
        found += [(f"by {index}", index, condition) for index, condition in bitmaps]
    by_account = {
        table
        for table, index, condition in found
        if columns_of(condition) <= ACCOUNT and index not in PARTIAL
    }
    return set(whole) | (by_account - BY_ACCOUNT)


def columns_of(condition: str) -> set[str]:
    """The columns that an index is asked for: `((a.exchange)::text = …) AND …`, `exchange=? …`."""
    return set(re.findall(r"(\w+)\)?(?:::\w+)? ?(?:=|<|>)", condition))


async def test_no_statement_of_an_orders_life_reads_a_whole_table(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: Ran = {}
    execute = prepared.execute

    def noted(connection: sa.Connection, statement: str, values: Any) -> Any:
        ran.setdefault(statement, values[0])
        return execute(connection, statement, values)

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        ran.setdefault(statement, parameters[0] if many else parameters)

    async with opened(store_url) as store:
        await fetched(store)
        for engine in engines_of(store):
            sa.event.listen(engine, "before_cursor_execute", note)
        monkeypatch.setattr(prepared, "execute", noted)
        await a_life(store)
        monkeypatch.undo()
        for engine in engines_of(store):
            sa.event.remove(engine, "before_cursor_execute", note)

        def plans(connection: sa.Connection) -> dict[str, set[str]]:
            found = {
                statement: scanned(connection, statement, tuple(parameters or ())) - SMALL
                for statement, parameters in ran.items()
                if re.match(r"\s*(SELECT|UPDATE|WITH|DELETE)", statement)
            }
            return {statement: tables for statement, tables in found.items() if tables}

        assert len(ran) > 20
        assert await store._engines.writes.run(plans) == {}


async def test_a_reservation_takes_four_statements_and_a_placing_nine(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every limit set; BEGIN and COMMIT come on top. Each is a round trip on PostgreSQL."""
    on_postgres = store_url.startswith("postgres")
    ran: list[str] = []
    execute = prepared.execute

    def counted(connection: sa.Connection, statement: str, values: Any) -> Any:
        ran.append(statement)
        return execute(connection, statement, values)

    rules = LOOSE.model_copy(update={"max_orders_per_minute": 9, "max_open_orders": 9})
    async with opened(store_url) as store:
        await fetched(store)
        one, two = buy("4", strategy_id="s"), buy("4", strategy_id="s")
        await store.admit(one)
        monkeypatch.setattr(prepared, "execute", counted)
        answer = await store.risk.reserve(ReserveWish(order=one, limits=rules))
        assert answer.denial is None
        assert len(ran) == (4 if on_postgres else 5)
        ran.clear()
        key = ClaimKey(two.client_order_id, 1, 1)
        wish = ReserveWish(order=two, limits=rules)
        claim = ClaimRequest(key, request_of(two), "test")
        placing = await store.risk.place(two, FirstSend(wish=wish, claim=claim))
        assert placing is not None
        assert placing.claim is not None
        # PostgreSQL locks the trading states, which SQLite's BEGIN IMMEDIATE keeps still, and
        # writes the reservation and its sums at once.
        assert len(ran) == 9
        assert ("pg_advisory" in ran[0]) is on_postgres
