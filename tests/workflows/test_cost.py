"""What an order costs on the Temporal server, in state transitions; and what is shown there."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.common import SearchAttributeKey

from tests.workflows.desk import Desk, Exchange, an_order, until
from trading.oms.enums import OrderStatus
from trading.oms.models import OrderState
from workflows.blotter import summary

pytestmark = pytest.mark.temporal
FILLS = 5
TIMERS = {"TIMER_STARTED", "TIMER_FIRED", "TIMER_CANCELED"}


async def _eager(desk: Desk, **fields: Any) -> str:
    order = an_order(**fields)
    await desk.orders.start(order)
    return order.client_order_id


async def test_a_marketable_orders_whole_life_costs_two_transitions(
    desk: Desk, exchange: Exchange
) -> None:
    exchange.market("SELL", "29000", "0.01", "GTC")

    order_id = await _eager(desk)
    await desk.until_closed(order_id)

    assert await desk.transitions(order_id) == 2
    assert not TIMERS & set(await desk.history(order_id))


async def test_the_exchange_has_an_order_after_two_transitions(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = await _eager(desk)
    await desk.until_status(order_id, OrderStatus.ACCEPTED)

    await until(lambda: _first_task_is_over(desk, order_id))
    assert await desk.transitions(order_id) == 2
    await desk.cancel(order_id)


async def test_each_fill_costs_one_transition(desk: Desk, exchange: Exchange) -> None:
    order_id = await _eager(desk)
    await desk.until_status(order_id, OrderStatus.ACCEPTED)

    for number in range(1, FILLS + 1):
        exchange.market("SELL", "30000", "0.002")
        await desk.until(order_id, filled(number * Decimal("0.002")))
    await desk.until_closed(order_id)

    assert await desk.transitions(order_id) <= 2 + FILLS
    assert not TIMERS & set(await desk.history(order_id))


async def test_an_order_that_is_cancelled_costs_one_transition_more(
    desk: Desk, exchange: Exchange
) -> None:
    order_id = await _eager(desk)
    await desk.until_status(order_id, OrderStatus.ACCEPTED)

    assert (await desk.cancel(order_id)).success
    await desk.until_closed(order_id)

    assert await desk.transitions(order_id) == 3
    assert not TIMERS & set(await desk.history(order_id))


async def test_a_denied_order_costs_two_transitions(desk: Desk) -> None:
    order_id = await _eager(desk, price="30000.001")
    await desk.until_closed(order_id)

    assert await desk.transitions(order_id) == 2


async def test_the_remote_door_costs_three_transitions(desk: Desk, exchange: Exchange) -> None:
    order_id = (await desk.resting()).client_order_id

    assert await desk.transitions(order_id) == 3
    assert not TIMERS & set(await desk.history(order_id))


# What is shown in the web UI.


async def _shown(desk: Desk, order_id: str) -> tuple[dict[str, str | None], str]:
    described = await desk.handle(order_id).describe()
    names = ("OrderStatus", "Exchange", "Symbol", "Strategy", "Side")
    found = {
        name: described.typed_search_attributes.get(SearchAttributeKey.for_keyword(name))
        for name in names
    }
    shown = await desk.handle(order_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return found, str(shown.current_details)


async def _shown_as(desk: Desk, order_id: str, status: str) -> str:
    """The details, once that status is shown: the store has it a moment before the workflow."""

    async def details() -> str | None:
        attributes, text = await _shown(desk, order_id)
        return text if attributes["OrderStatus"] == status else None

    return str(await until(details))


async def test_an_order_reads_like_a_line_of_a_blotter(desk: Desk, exchange: Exchange) -> None:
    order = an_order(strategy_id="momentum", price="30000.50")
    await desk.oms.submit_order(order)
    order_id = order.client_order_id

    attributes, details = await _shown(desk, order_id)
    described = await desk.handle(order_id).describe()
    assert attributes == {
        "OrderStatus": "accepted", "Exchange": exchange.name, "Symbol": "BTC/USDT",
        "Strategy": "momentum", "Side": "buy",
    }  # fmt: skip
    assert await described.static_summary() == summary(order)
    assert "**accepted**" in details
    assert "| filled | 0 of 0.01 |" in details

    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)
    details = await _shown_as(desk, order_id, "partially_filled")
    assert "| filled | 0.004 of 0.01 |" in details
    assert "| average price | 30000.5 |" in details
    assert "0.000004 BTC" in details

    await desk.cancel(order_id)
    await desk.until_closed(order_id)
    attributes, details = await _shown(desk, order_id)
    assert attributes["OrderStatus"] == "cancelled"
    assert "**cancelled**" in details


async def test_doubt_and_what_was_asked_are_shown(desk: Desk, exchange: Exchange) -> None:
    exchange.fault("stream_drop")
    exchange.fault("http_503", count=1, endpoint="POST order")
    result = await desk.submit(if_not_placed="reject")

    _, details = await _shown(desk, result.order_id)
    assert "**IN DOUBT since 20" in details
    exchange.fault("http_503", endpoint="DELETE order")
    other = (await desk.resting()).client_order_id
    await desk.cancel(other, wait=0.1)
    _, details = await _shown(desk, other)
    assert "asked the exchange to **cancel**" in details


async def test_a_rejection_shows_its_reason(desk: Desk) -> None:
    result = await desk.submit(price="30000.001")

    attributes, details = await _shown(desk, result.order_id)
    assert attributes["OrderStatus"] == "rejected"
    assert "price_off_tick" in details
    assert "30000.001" in details


async def test_a_denial_before_routing_is_found_by_its_status(desk: Desk) -> None:
    result = await desk.submit(exchange="nowhere")

    attributes, _ = await _shown(desk, result.order_id)
    assert attributes["OrderStatus"] == "rejected"


async def test_a_good_till_date_order_has_one_timer(desk: Desk, exchange: Exchange) -> None:
    expire_at = datetime.now(UTC) + timedelta(hours=1)
    order_id = (await desk.resting(time_in_force="GTD", expire_at=expire_at)).client_order_id
    exchange.market("SELL", "30000", "0.004")
    await desk.until_status(order_id, OrderStatus.PARTIALLY_FILLED)

    assert (await desk.history(order_id)).count("TIMER_STARTED") == 1


def filled(quantity: Decimal) -> Callable[[OrderState], bool]:
    return lambda state: state.filled_quantity == quantity


async def _first_task_is_over(desk: Desk, order_id: str) -> bool:
    return "WORKFLOW_TASK_COMPLETED" in await desk.history(order_id)
