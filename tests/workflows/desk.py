"""A desk to test at: sandbox exchanges, a store, a worker and the doors, all real."""

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.connectors.settings import ConnectorSettings
from activities.store import JournalEntry, Store
from trading.oms.enums import OrderStatus
from trading.oms.models import CancelResult, Order, OrderResult, OrderState
from trading.oms.order_client import OrderClient
from trading.oms.order_manager import OrderManager
from trading.oms.order_workflow import workflow_id
from trading.oms.routing.smart import RoutingStrategy
from workers.composition import Choices, Runtime, running
from workers.sandbox.config import (
    BINANCE,
    KRAKEN,
    KrakenLimits,
    SandboxConfig,
    parse_account,
)
from workers.sandbox.server import SandboxServer
from workers.settings import Settings

KEY, SECRET = "key-of-the-desk", "c2VjcmV0LW9mLXRoZS1kZXNr"  # Base64, as Kraken has them.
BALANCES = "BTC=100,ETH=1000,USDT=10000000"
OPEN_MARKET = Path(__file__).parent.parent / "open_market.toml"
FENCE_MS = 600
"""How long a request of these tests is taken: long enough for a busy machine."""
KRAKEN_FENCE_MS = 2000
"""Kraken tells its time in whole seconds, so our stamps are up to one behind."""
WITHIN_S = 15.0
_numbers = itertools.count(1)


async def until(check: Callable[[], Awaitable[Any]], within_s: float = WITHIN_S) -> Any:
    """Ask until the answer is true, and give it; fails with the last answer after `within_s`."""
    answer = None
    try:
        async with asyncio.timeout(within_s):
            while not (answer := await check()):  # noqa: ASYNC110 - the other side has no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s; last seen: {answer!r}") from None
    return answer


class Exchange:
    """One sandbox exchange, its switches and its truth."""

    def __init__(self, server: SandboxServer, name: str) -> None:
        self.server = server
        self.name = name
        self.kind = server.exchange.config.protocol
        self._control = server.exchange.control

    def fault(self, kind: str, **options: Any) -> None:
        """Set a fault; Binance's endpoints without their path's beginning: "POST order"."""
        if " " in options.get("endpoint", ""):
            method, path = options["endpoint"].split()
            options["endpoint"] = f"{method} /api/v3/{path}"
        self._control.set_faults({"fault": kind, **options})

    def clear(self, which: str = "all") -> None:
        self._control.set_faults({"clear": which})

    def market(
        self,
        side: str,
        price: str,
        quantity: str,
        time_in_force: str = "IOC",
        symbol: str = "BTCUSDT",
    ) -> None:
        """Somebody else's order; GTC rests in the book."""
        self._control.market_order(
            {
                "symbol": symbol,
                "side": side,
                "price": price,
                "quantity": quantity,
                "time_in_force": time_in_force,
            }
        )

    def orders(self, **wanted: str) -> list[dict[str, Any]]:
        """The account's orders in the exchange's own ledger, oldest first."""
        found: list[dict[str, Any]] = self._control.ledger({})["orders"]
        return [
            order
            for order in found
            if order["account"] == KEY and all(order[k] == v for k, v in wanted.items())
        ]

    def trades_of(self, exchange_order_id: str | int) -> list[dict[str, Any]]:
        """The trades of one order in the exchange's own ledger."""
        trades: list[dict[str, Any]] = self._control.ledger({})["trades"]
        ids = {str(exchange_order_id)}
        return [
            trade
            for trade in trades
            if {str(trade["buyer"]["orderId"]), str(trade["seller"]["orderId"])} & ids
        ]

    def hits(self, kind: str) -> int:
        """How often the faults of a kind that are set have struck."""
        faults = self._control.faults({})["faults"]
        return sum(int(fault["hits"]) for fault in faults if fault["fault"] == kind)

    def requests(self, endpoint: str = "POST order") -> int:
        """How many requests to trade of this kind came in."""
        method, path = endpoint.split()
        name = f"{method} {'/0/private' if self.kind == KRAKEN else '/api/v3'}/{path}"
        found = self._control.requests({"last": 20_000})["requests"]
        return sum(1 for request in found if request["endpoint"] == name)

    def rules(self, **values: str) -> None:
        """The exchange changes its rules for the symbol: status, sizes, steps."""
        self._control.symbol({"symbol": "BTCUSDT", **values})

    def cancel(self, order: dict[str, Any]) -> None:
        """The exchange cancels an order of its own accord."""
        self._control.cancel(
            {"account": KEY, "symbol": order["symbol"], "order_id": order["orderId"]}
        )

    def forget(self, order: dict[str, Any]) -> None:
        """The exchange drops an order that has ended from its records."""
        for account in self.server.exchange.engine.accounts.values():
            account.orders.get(order["symbol"], {}).pop(order["orderId"], None)
            account.by_client_id.pop((order["symbol"], order["clientOrderId"]), None)

    def deposit(self, asset: str, amount: str) -> None:
        """Money comes to the account, or with a minus goes."""
        self._control.deposit({"account": KEY, "asset": asset, "amount": amount})

    def next_order_id(self, symbol: str, order_id: str) -> None:
        """The exchange gives this id to its next order of the symbol."""
        self.server.exchange.engine.markets[symbol]._order_id = int(order_id) - 1

    def disconnect(self) -> None:
        """Cut the user data stream."""
        self._control.disconnect({})

    def tidy(self) -> None:
        """No faults, an empty book."""
        self.clear()
        engine = self.server.exchange.engine
        for account in (*engine.accounts.values(), engine.market_account):
            for orders in list(account.open_orders.values()):
                for order in list(orders.values()):
                    engine.expire(order, "EXCHANGE_CANCELED")


class Desk:
    """One deployment under test: exchanges, store, worker; and how a test asks about orders."""

    def __init__(self, client: Client, settings: Settings, exchanges: list[Exchange]) -> None:
        self.client = client
        self.settings = settings
        self.exchanges = exchanges
        self.exchange = exchanges[0]
        self.orders = OrderClient(client, settings.task_queue)
        self.oms = OrderManager.remote(
            client=client,
            store_url=settings.store_url.get_secret_value(),
            task_queue=settings.task_queue,
        )
        self.store: Store
        self.runtime: Runtime | None = None

    @property
    def task_queue(self) -> str:
        return self.settings.task_queue

    def handle(self, order_id: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(workflow_id(order_id))

    async def submit(self, **fields: Any) -> OrderResult:
        """Submit `an_order` at the remote door and wait for the outcome."""
        return await self.oms.submit_order(an_order(**fields))

    async def resting(self, **fields: Any) -> OrderState:
        """A limit order that rests in the book."""
        result = await self.submit(**fields)
        assert result.status is OrderStatus.ACCEPTED, result
        assert result.state is not None
        return result.state

    async def cancel(self, order_id: str, **fields: Any) -> CancelResult:
        return await self.oms.cancel_order(order_id, **fields)

    async def state(self, order_id: str) -> OrderState:
        state = await self.store.order(order_id)
        assert state is not None, f"the store has no order {order_id}"
        return state

    async def until(
        self, order_id: str, check: Callable[[OrderState], Any], within_s: float = WITHIN_S
    ) -> OrderState:
        """Wait until the order's state in the store passes."""
        seen: OrderState | None = None

        async def passes() -> bool:
            nonlocal seen
            seen = await self.store.order(order_id)
            return seen is not None and bool(check(seen))

        try:
            await until(passes, within_s)
        except AssertionError:
            names = await self.names(order_id)
            raise AssertionError(f"not within {within_s} s: {seen!r}; journal: {names}") from None
        assert seen is not None
        return seen

    async def reset(self, order_id: str) -> None:
        """Reset the order's workflow to its start, as an operator may.

        The server wants a completed task to go back to, and a first one that has sent the order
        completes a moment after the store knows it.
        """
        completed = await until(lambda: self._first_completed(order_id))
        described = await self.handle(order_id).describe()
        await self.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(
                    workflow_id=described.id, run_id=str(described.run_id)
                ),
                reason="an operator's try",
                workflow_task_finish_event_id=completed,
                request_id=order_id,
            )
        )

    async def _first_completed(self, order_id: str) -> int:
        """The id of the event that completed the order's first task, or 0."""
        async for event in self.handle(order_id).fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return event.event_id
        return 0

    def replaces_at_once(self, *, at_once: bool) -> None:
        """Whether our record says that an exchange cancels and replaces in one request."""
        assert self.runtime is not None
        for connector in self.runtime.parts.connectors.values():
            can = {"cancel_replace": at_once and hasattr(connector, "replace")}
            connector.capabilities = connector.capabilities.model_copy(update=can)

    async def lift_pauses(self) -> None:
        """Take back every pause that a pretended 429 has asked for."""
        for exchange in self.exchanges:
            await self.store.rates.lift_pauses(exchange.name)

    async def until_status(self, order_id: str, status: OrderStatus) -> OrderState:
        return await self.until(order_id, lambda state: state.status is status)

    async def until_closed(self, order_id: str) -> OrderResult:
        """Wait for the end of the order's workflow."""
        async with asyncio.timeout(WITHIN_S):
            raw = await self.handle(order_id).result()
        return OrderResult.model_validate(raw)

    async def journal(self, order_id: str) -> list[JournalEntry]:
        return await self.store.events_of(order_id)

    async def names(self, order_id: str) -> list[str]:
        """The names of the order's events, in order."""
        return [entry.name for entry in await self.journal(order_id)]

    async def alarms(self, order_id: str) -> list[str]:
        return [entry.alarm for entry in await self.journal(order_id) if entry.alarm]

    async def transitions(self, order_id: str) -> int:
        """The state transitions of the order's workflow so far."""
        described = await self.handle(order_id).describe()
        info = described.raw_description.workflow_execution_info
        return int(info.state_transition_count)

    async def history(self, order_id: str) -> list[str]:
        """The kinds of the events in the order's history, as in "TIMER_STARTED"."""
        return [
            EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
            async for event in self.handle(order_id).fetch_history_events()
        ]


def an_order(**fields: Any) -> Order:
    """A limit buy of 0.01 BTC at 30000 under an id of its own, with what the test changes."""
    values: dict[str, Any] = {
        "client_order_id": f"t{next(_numbers)}-{uuid.uuid4().hex[:6]}",
        "symbol": "BTC/USDT",
        "side": "buy",
        "order_type": "limit",
        "quantity": "0.01",
        "price": "30000",
        **fields,
    }
    if values["order_type"] in {"market", "stop"}:
        del values["price"]
    return Order.model_validate(values)


def plain(order: Order) -> dict[str, Any]:
    """The order as plain JSON values."""
    values: dict[str, Any] = json.loads(order.model_dump_json(exclude_none=True))
    return values


def amount(text: str) -> Decimal:
    return Decimal(text)


@asynccontextmanager
async def a_desk(
    client: Client,
    store_url: str,
    *,
    exchanges: int = 1,
    protocols: Sequence[str] = (),
    work: bool = True,
    choices: Choices | None = None,
    runner: WorkflowRunner | None = None,
    timeout_ms: int = 1500,
    routing: RoutingStrategy = RoutingStrategy.CONFIGURED,
) -> AsyncIterator[Desk]:
    """Start everything, on a task queue and with exchanges of its own; `work` starts a worker.

    `protocols` gives each exchange's kind; without it they all speak Binance's.
    """
    token = uuid.uuid4().hex[:6]
    async with asynccontextmanager(_some_exchanges)(
        protocols or [BINANCE] * exchanges, token
    ) as servers:
        settings = _settings(store_url, token, servers, timeout_ms)
        settings = settings.model_copy(update={"routing": routing})
        store = await Store.open(store_url, create=True)
        desk = Desk(client, settings, servers)
        desk.store = store
        try:
            async with desk.oms:
                if work:
                    async with working(desk, choices, runner):
                        yield desk
                else:
                    yield desk
        finally:
            await store.close()
            await _end_everything(desk)


@asynccontextmanager
async def working(
    desk: Desk, choices: Choices | None = None, runner: WorkflowRunner | None = None
) -> AsyncIterator[Runtime]:
    """A worker for the desk, in the workflow sandbox where not told otherwise."""
    runner = runner or SandboxedWorkflowRunner()
    async with running(desk.settings, desk.client, choices=choices, runner=runner) as runtime:
        desk.runtime = runtime
        yield runtime
    desk.runtime = None


async def _some_exchanges(protocols: Sequence[str], token: str) -> AsyncIterator[list[Exchange]]:
    servers = []
    try:
        for number, protocol in enumerate(protocols, 1):
            config = SandboxConfig(
                name=f"x{number}",
                dead_man=True,
                protocol=protocol,
                accounts=(parse_account(f"{KEY}:{SECRET}:{BALANCES}"),),
                kraken_limits=KrakenLimits(calls=10_000, trading=10_000),
            )
            config.set_limits({("ORDERS", "SECOND"): 10_000, ("REQUEST_WEIGHT", "MINUTE"): 10**6})
            server = SandboxServer(config)
            await server.start()
            servers.append(Exchange(server, f"x{number}-{token}"))
        yield servers
    finally:
        for exchange in servers:
            await exchange.server.stop()


def _settings(store_url: str, token: str, exchanges: list[Exchange], timeout_ms: int) -> Settings:
    return Settings(
        store_url=SecretStr(store_url),
        task_queue=f"orders-{token}",
        deployment=f"test-{token}",
        reconcile_s=0,
        risk_file=str(OPEN_MARKET),
        exchanges=tuple(
            ConnectorSettings(
                exchange=exchange.name,
                account="main",
                kind=exchange.kind,
                api_key=SecretStr(KEY),
                secret=SecretStr(SECRET),
                rest_url=exchange.server.url,
                recv_window_ms=KRAKEN_FENCE_MS if exchange.kind == KRAKEN else FENCE_MS,
                tier="none" if exchange.kind == KRAKEN else "",
                processing_bound_ms=50,
                clock_skew_ms=50,
                data_lag_ms=50,
                timeout_ms=timeout_ms,
                stream_silence_ms=1000,
            )
            for exchange in exchanges
        ),
    )


async def _end_everything(desk: Desk) -> None:
    """Nobody works on this queue any more: its workflows are in the way of later tests."""
    query = f"TaskQueue STARTS_WITH '{desk.task_queue}' AND ExecutionStatus = 'Running'"
    async for execution in desk.client.list_workflows(query):
        handle = desk.client.get_workflow_handle(execution.id)
        with contextlib.suppress(RPCError):  # It may have ended by itself meanwhile.
            await handle.terminate("the test is over")
