"""The past that the benchmark writes into a store looks like one that was lived."""

import uuid
from datetime import timedelta
from pathlib import Path

from bench.history import Books, fill
from tests.activities.store_builders import accepted, fill_event, new_order, opened
from trading.oms.models import utc_now


async def test_a_copied_past_is_dense_old_closed_and_each_order_has_its_own_names(
    store_url: str, tmp_path: Path
) -> None:
    lived = f"sqlite:///{tmp_path / 'lived.sqlite3'}"
    async with opened(lived) as store:
        order = await accepted(store, new_order(client_order_id=uuid.uuid4().hex))
        state = await store.record(order.client_order_id, [fill_event(order, "t1", "10")])
        entries = await store.events_of(order.client_order_id)
    count = 1100  # More than one transaction has.
    source, target = Books(state.exchange, lived), Books("other", store_url)
    # A row more than whole orders have: none is cut off.
    assert await fill(source, target, count * len(entries) + 1) == count
    async with opened(store_url) as store:
        head = await store.head()
        assert head == count * len(entries)
        assert await store.open_orders() == []
        last = await store.events_after(head - len(entries))
        assert [entry.sequence for entry in last] == list(range(head - len(entries) + 1, head + 1))
        assert [entry.name for entry in last] == [entry.name for entry in entries]
        own = last[-1].order_id
        assert own != order.client_order_id
        assert {entry.order_id for entry in last} == {own}
        assert {entry.state.client_order_id for entry in last} == {own}
        copy = await store.order(own)
        assert copy is not None
        assert (copy.exchange, copy.status, copy.sequence) == ("other", state.status, len(entries))
        assert copy.created_at < utc_now() - timedelta(days=29)
        assert [one.order_id for one in await store.fills(own)] == [own]
        claims = await store.claims_of(own)
        assert [claim.request.exchange_client_id for claim in claims] == [copy.exchange_client_id]
