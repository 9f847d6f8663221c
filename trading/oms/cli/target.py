"""Which Temporal server, store and exchanges a command works with.

The environment (TEMPORAL_..., OMS_...) comes first; without it, the stack that `oms up` runs.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trading.oms.cli.failures import Exit, Failed

if TYPE_CHECKING:
    from activities.store import Store
    from trading.oms.order_manager import OrderManager
    from trading.oms.venue import IExecutionConnector
    from workers.settings import Settings

DECIDING = (
    "TEMPORAL_ADDRESS",
    "TEMPORAL_PROFILE",
    "TEMPORAL_CONFIG_FILE",
    "OMS_STORE_URL",
    "OMS_EXCHANGES",
)
"""Any of these in the environment means: the environment, and not `oms up`."""
_OURS = ("OMS_", "TEMPORAL_")


@dataclass(frozen=True)
class Target:
    """The place that a command works with; `source` says in words where that comes from."""

    environment: Mapping[str, str]
    source: str

    @property
    def store_url(self) -> str:
        """The database of the orders."""
        from workers.settings import DEFAULT_STORE

        return self.environment.get("OMS_STORE_URL") or DEFAULT_STORE

    @property
    def live_accounts(self) -> list[str]:
        """The exchanges whose account trades with real money, by their OMS_<NAME>_LIVE."""
        return [name for name in self._exchanges if self._is_live(name)]

    @property
    def accounts(self) -> set[tuple[str, str]]:
        """The exchanges and their accounts as the environment names them."""
        from workers.settings import exchange_prefix

        given = self.environment
        return {
            (name, given.get(f"{exchange_prefix(name)}ACCOUNT") or "main")
            for name in self._exchanges
        }

    @property
    def _exchanges(self) -> list[str]:
        names = [name.strip() for name in self.environment.get("OMS_EXCHANGES", "").split(",")]
        return [name for name in names if name]

    def _is_live(self, name: str) -> bool:
        from workers.settings import exchange_prefix

        value = self.environment.get(f"{exchange_prefix(name)}LIVE", "")
        return value.lower() in {"1", "true", "yes", "on", "t", "y"}

    def is_live(self, exchange: str | None) -> bool:
        """Whether an order there is real; without an exchange, whether one may become so."""
        return bool(self.live_accounts) if exchange is None else exchange in self.live_accounts

    def settings(self) -> "Settings":
        """All settings, the exchanges' keys too. Raises `StartUpError`."""
        from workers.settings import Settings

        return Settings.from_environment(self.environment)

    def order_link(self, order_id: str) -> str:
        """The order's workflow in the Temporal web UI; empty where the UI is not known."""
        ui = self.environment.get("OMS_UI_URL", "").rstrip("/")
        namespace = self.environment.get("TEMPORAL_NAMESPACE", "default")
        return f"{ui}/namespaces/{namespace}/workflows/order-{order_id}" if ui else ""

    def apply(self) -> None:
        """Make our part of this process's environment the target's, for the Temporal SDK."""
        for name in [name for name in os.environ if name.startswith(_OURS)]:
            del os.environ[name]
        os.environ.update(self.environment)

    @contextlib.asynccontextmanager
    async def orders(self, *, with_store: bool = False) -> "AsyncIterator[OrderManager]":
        """The remote door; `with_store` where a command also reads or writes the store."""
        from trading.oms.order_manager import OrderManager
        from workers.connection import connect

        self.apply()
        queue = self.environment.get("OMS_TASK_QUEUE") or "oms-orders"
        door = OrderManager.remote(
            client=await connect(),
            task_queue=queue,
            store_url=self.store_url if with_store else None,
        )
        async with door as oms:
            yield oms

    @contextlib.asynccontextmanager
    async def store(self) -> "AsyncIterator[Store]":
        """The store, for reading."""
        from activities.store import Store

        store = await Store.open(self.store_url)
        try:
            yield store
        finally:
            await store.close()

    @contextlib.asynccontextmanager
    async def connectors(
        self, exchange: str | None = None
    ) -> "AsyncIterator[dict[tuple[str, str], IExecutionConnector]]":
        """The connectors of all accounts, or of one exchange, started."""
        from activities.connectors.registry import build_connector

        chosen = [
            one for one in self.settings().exchanges if exchange is None or one.exchange == exchange
        ]
        if not chosen:
            known = self.environment.get("OMS_EXCHANGES") or "none"
            msg = f"exchange is {exchange!r}; the exchanges here are: {known}"
            raise Failed(msg, Exit.BAD_INPUT)
        async with contextlib.AsyncExitStack() as parts:
            found = {}
            for one in chosen:
                connector = build_connector(one)
                parts.push_async_callback(connector.close)
                await connector.start()
                found[one.exchange, one.account] = connector
            yield found


def find_target() -> Target:
    """Where to work. Raises `Failed` that says how to set it up."""
    if any(os.environ.get(name) for name in DECIDING):
        return Target(dict(os.environ), "the environment")
    from workers.stack_file import running_stack

    stack = running_stack()
    if stack is None:
        msg = (
            "no `oms up` is running on this machine, and neither TEMPORAL_ADDRESS nor "
            "OMS_STORE_URL is set; start `oms up` in another terminal, or set them"
        )
        raise Failed(msg, Exit.UNREACHABLE)
    others = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return Target({**others, **stack.environment}, f"`oms up` (process {stack.pid})")
