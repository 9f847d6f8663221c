"""The steps of an order's story, where two processes meet in one of them."""

from typing import Any

import pytest

from activities.order_steps import OrderSteps, Parts
from activities.store import Store
from tests.activities.store_builders import new_order, opened, request_of
from tests.oms.builders import event
from trading.oms.enums import OrderStatus
from trading.oms.lifecycle import EventKind
from trading.oms.models import Order


def steps_of(store: Store) -> OrderSteps:
    """Steps that need nothing but the store."""
    nothing: dict[str, Any] = dict.fromkeys(Parts._fields)
    return OrderSteps(Parts(**nothing | {"store": store}))


async def claim(store: Store, order: Order) -> None:
    """What a sender does: the venue and the claim in one transaction."""
    routed = event(EventKind.ROUTED, exchange="sandbox", account="main")
    await store.claim_send(
        order.client_order_id, 1, 1, request_of(order), claimant="other", before=[routed]
    )


@pytest.mark.parametrize("step", ["admit", "load"])
@pytest.mark.parametrize("read", ["admit", "order", "claims_of", "trader_order"])
async def test_a_claim_is_never_told_with_a_state_from_before_it(
    store_url: str, monkeypatch: pytest.MonkeyPatch, step: str, read: str
) -> None:
    """Another process, which had only stalled, claims the send after one of the reads."""
    async with opened(store_url) as store:
        order = new_order(account=None)
        await store.admit(order)
        original = getattr(store, read)

        async def then_claimed(*arguments: Any) -> Any:
            found = await original(*arguments)
            monkeypatch.setattr(store, read, original)
            await claim(store, order)
            return found

        monkeypatch.setattr(store, read, then_claimed)
        steps = steps_of(store)
        if step == "admit":
            told: Any = await steps._admit(order)
        else:
            told = await steps.load_order(order.client_order_id)

        if told.claim is not None:
            assert told.state.status is OrderStatus.SUBMITTED
            assert told.state.account == "main"
