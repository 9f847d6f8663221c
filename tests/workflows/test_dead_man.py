"""The dead-man switch: held while a worker lives, and struck by the exchange when none does."""

from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import Client

from activities.connectors.registry import build_connector
from activities.messages import Account
from tests.workflows.desk import Desk, a_desk, until, working
from trading.oms.enums import OrderStatus
from trading.oms.errors import StartUpError
from workflows.steps import io_queue

pytestmark = pytest.mark.temporal
COUNTDOWN = "POST countdownCancelAll"
KRAKENS = "POST CancelAllOrdersAfter"
SWITCHED = "tests.workflows.switched:SwitchedConnector"


def armed(desk: Desk, seconds: float) -> None:
    (account,) = desk.settings.exchanges
    account = account.model_copy(update={"kind": SWITCHED, "dead_man_s": seconds})
    desk.settings = desk.settings.model_copy(update={"exchanges": (account,)})


async def test_orders_are_cancelled_when_every_worker_is_gone_and_not_before(
    idle_desk: Desk,
) -> None:
    desk, exchange = idle_desk, idle_desk.exchange
    armed(desk, 1.5)
    async with working(desk):
        order_id = (await desk.resting()).client_order_id
        first = exchange.requests(COUNTDOWN)

        async def told_for_longer_than_it_waits() -> bool:
            return exchange.requests(COUNTDOWN) > first + 5

        await until(told_for_longer_than_it_waits)
        assert len(exchange.orders(status="NEW")) == 1

    async def struck() -> bool:
        return exchange.orders(status="NEW") == []

    await until(struck)
    async with working(desk):
        ended = await desk.until_status(order_id, OrderStatus.EXPIRED)
        assert ended.filled_quantity == Decimal(0)


async def test_krakens_own_switch_strikes_when_every_worker_is_gone_and_not_before(
    temporal_client: Client, sqlite_url: str
) -> None:
    async with a_desk(temporal_client, sqlite_url, protocols=("kraken",), work=False) as desk:
        exchange = desk.exchange
        (account,) = desk.settings.exchanges
        accounts = (account.model_copy(update={"dead_man_s": 2}),)
        desk.settings = desk.settings.model_copy(update={"exchanges": accounts})
        async with working(desk):
            order_id = (await desk.resting()).client_order_id
            first = exchange.requests(KRAKENS)

            async def told_for_longer_than_it_waits() -> bool:
                return exchange.requests(KRAKENS) > first + 5

            await until(told_for_longer_than_it_waits)
            assert len(exchange.orders(status="NEW")) == 1

        async def struck() -> bool:
            return exchange.orders(status="NEW") == []

        await until(struck)
        async with working(desk):
            await desk.until_status(order_id, OrderStatus.CANCELLED)


async def test_a_switch_that_is_no_longer_wanted_is_disarmed(idle_desk: Desk) -> None:
    desk, exchange = idle_desk, idle_desk.exchange
    handle = desk.client.get_workflow_handle(f"dead-man-{exchange.name}-main")
    armed(desk, 3)
    async with working(desk):
        await desk.resting()

        async def told() -> bool:
            return exchange.requests(COUNTDOWN) > 0

        await until(told)
    armed(desk, 0)
    async with working(desk):
        await handle.result()
        assert exchange.server.exchange.dead_man is not None
        assert not exchange.server.exchange.dead_man.armed


async def test_an_exchange_without_a_switch_says_so_at_the_start(idle_desk: Desk) -> None:
    (account,) = idle_desk.settings.exchanges
    with pytest.raises(StartUpError, match="'binance' has no dead-man switch"):
        build_connector(account.model_copy(update={"dead_man_s": 10}))


async def test_a_switch_that_the_exchange_does_not_have_is_not_held(idle_desk: Desk) -> None:
    """Somebody has started the workflow by hand; it ends, and says nothing to the exchange."""
    async with working(idle_desk):
        ended = await idle_desk.client.execute_workflow(
            "DeadMan",
            Account(exchange=idle_desk.exchange.name, account="main"),
            id=f"dead-man-by-hand-{idle_desk.exchange.name}",
            task_queue=io_queue(idle_desk.task_queue),
            execution_timeout=timedelta(seconds=10),
        )
    assert ended is None
