import asyncio
import pytest
from temporalio.worker import UnsandboxedWorkflowRunner
from tests.workflows.desk import Desk, an_order, until, working
from tests.workflows.test_store_away import store_away
pytestmark = pytest.mark.temporal
async def test_dbg(idle_desk: Desk) -> None:
    order = an_order()
    async with working(idle_desk, runner=UnsandboxedWorkflowRunner()):
        with store_away(idle_desk, "admit") as tried:
            await idle_desk.orders.start(order)
            for _ in range(16):
                await asyncio.sleep(1)
                print(tried, await idle_desk.history(order.client_order_id))
        async for e in idle_desk.handle(order.client_order_id).fetch_history_events():
            print(e)
