"""Waking an order's workflow that does not answer an update.

The server keeps the task that an update makes in memory alone, and may lose it: then no update
comes through any more, whoever asks, neither a fill nor a cancel (seen with server 1.29.1 under
load). A signal makes a task that it writes down.
"""

import contextlib
from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from trading.oms.order_workflow import workflow_id

_RPC_TIMEOUT = timedelta(seconds=2)


async def nudge(client: Client, order_id: str) -> None:
    """Tell the order that a leg has changed: it looks, and finds nothing new."""
    with contextlib.suppress(RPCError):
        handle = client.get_workflow_handle(workflow_id(order_id))
        await handle.signal("leg", rpc_timeout=_RPC_TIMEOUT)
