"""Changes in place at Kraken that get no clear answer, and what comes between two tries."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from temporalio.client import Client

from activities.store import TradingState
from tests.workflows.desk import Desk, Exchange, a_desk
from trading.oms.enums import OrderStatus, Pending
from trading.oms.errors import OutcomeUnknown
from trading.oms.venue import ExecutionReport, OrderRef
from trading.oms.venue_changes import Terms

pytestmark = pytest.mark.temporal


@pytest.fixture(scope="module")
async def module_desk(
    temporal_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    url = f"sqlite:///{tmp_path_factory.mktemp('desk') / 'store.sqlite3'}"
    async with a_desk(temporal_client, url, protocols=("kraken",)) as desk:
        yield desk


@pytest.mark.parametrize(
    "wish",
    [{"new_quantity": Decimal("0.02")}, {"new_price": Decimal(30100)}],
    ids=["more", "dearer"],
)
async def test_an_amendment_is_not_sent_again_after_a_halt(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch, wish: dict[str, Any]
) -> None:
    """It was not carried out at first, and the halt came while it was on its way."""
    before = await desk.resting()
    order_id = before.client_order_id
    assert desk.runtime is not None
    connector: Any = desk.runtime.parts.connectors[exchange.name, "main"]
    amend = connector.amend

    async def halted_meanwhile(ref: OrderRef, terms: Terms) -> ExecutionReport:
        await desk.store.set_trading_state("all", TradingState.HALTED, by="ann")
        report: ExecutionReport = await amend(ref, terms)
        return report

    exchange.fault("http_503", count=1, endpoint="AmendOrder")
    with monkeypatch.context() as patched:
        patched.setattr(connector, "amend", halted_meanwhile)
        sent = exchange.requests("POST AmendOrder")
        result = await desk.oms.modify_order(order_id, **wish)

    assert (result.success, "halted" in str(result.error)) == (False, True), result
    assert exchange.requests("POST AmendOrder") == sent + 1
    after = await desk.state(order_id)
    assert (after.status, after.pending) == (OrderStatus.ACCEPTED, Pending.NONE)
    assert (after.quantity, after.price) == (before.quantity, before.price)
    (there,) = exchange.orders(status="NEW")
    assert (Decimal(there["origQty"]), Decimal(there["price"])) == (before.quantity, before.price)

    await desk.store.set_trading_state("all", TradingState.ACTIVE, by="ann")
    assert (await desk.oms.modify_order(order_id, **wish)).success


async def test_an_amendment_that_was_carried_out_before_the_halt_counts(
    desk: Desk, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is lost, and the first look for it fails: the next one is after the halt."""
    order_id = (await desk.resting()).client_order_id
    assert desk.runtime is not None
    connector: Any = desk.runtime.parts.connectors[exchange.name, "main"]
    find_order, looks = connector.find_order, 0

    async def blind_at_first(ref: OrderRef) -> ExecutionReport | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await desk.store.set_trading_state("all", TradingState.HALTED, by="ann")
            raise OutcomeUnknown("nobody answers")
        report: ExecutionReport | None = await find_order(ref)
        return report

    exchange.fault("reply_lost", count=1, endpoint="AmendOrder", order="alive")
    sent = exchange.requests("POST AmendOrder")
    with monkeypatch.context() as patched:
        patched.setattr(connector, "find_order", blind_at_first)
        result = await desk.oms.modify_order(order_id, new_quantity=Decimal("0.02"))
    await desk.store.set_trading_state("all", TradingState.ACTIVE, by="ann")

    assert result.success, result
    assert exchange.requests("POST AmendOrder") == sent + 1
    after = await desk.state(order_id)
    assert (after.quantity, after.pending) == (Decimal("0.02"), Pending.NONE)
