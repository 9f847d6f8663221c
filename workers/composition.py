"""The composition root: the one place where real parts are made and put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.account_watch import AccountWatch
from activities.alerts import Alerts
from activities.cancel_all import CancellingAll
from activities.connectors.registry import build_connector
from activities.dead_man import DeadMan
from activities.exchange_steps import ExchangeSteps
from activities.feed import ExecutionFeed
from activities.look_up import OrderLookUp
from activities.markets import Markets
from activities.messages import Account
from activities.order_steps import OrderSteps, Parts
from activities.rate_desk import RateDesk, patient
from activities.reconciling import Reconciling
from activities.risk_desk import RiskDesk
from activities.splitting import AskingLegs, Splitting
from activities.store import Store
from activities.store_marks import halt_if_gone_back, halt_if_orders_lack
from trading.oms.errors import ExchangeError, StartUpError
from trading.oms.order_workflow import TASK_TIMEOUT
from trading.oms.risk.rules_file import RulesFile
from trading.oms.routing.simple import SimpleRouter
from trading.oms.routing.smart import RoutingStrategy, SmartOrderRouter
from workers.connection import check_search_attributes
from workers.metrics import Metrics
from workers.one_argument import OneArgument, for_workers
from workers.order_marks import newest_orders
from workers.risk_checks import with_installed_checks
from workers.schedules import keep_schedules, last_marks
from workflows.account_feed import AccountFeedWorkflow
from workflows.alerts import AlertsWorkflow
from workflows.cancel_all import CancelAllWorkflow
from workflows.dead_man import DeadManWorkflow
from workflows.order import OrderWorkflow
from workflows.reconcile import ReconcileWorkflow
from workflows.steps import io_queue

if TYPE_CHECKING:
    from temporalio.worker import WorkflowRunner

    from trading.oms.interfaces import IOrderRouter, IRateLimitGuard
    from trading.oms.models import OrderState
    from trading.oms.portfolio import Portfolio
    from trading.oms.risk.base import IRiskChecker
    from trading.oms.venue import IExecutionConnector
    from workers.settings import Settings

_log = logging.getLogger(__name__)
_SLOTS = 1000
# Orders that a worker works on at once; it does some 45 a second. A task must not outlast its
# time-out: of five hundred that begin at once each does, and each is begun again. The rest waits at
# the server, where no time-out runs.
_TASKS_AT_ONCE = 200
_CACHED_WORKFLOWS = 5000
_DRAIN = timedelta(seconds=10)
_CLOCK_S = 60.0
_STICKY_TIMEOUT = timedelta(seconds=2)
# The SDK's default is a hash of every module loaded, which takes from one to eight seconds.
_BUILD_ID = "oms"


class Choices(NamedTuple):
    """What the user brings of their own; None means ours (specification, "Example Usage")."""

    risk_checker: IRiskChecker | None = None
    rate_limit_guard: IRateLimitGuard | None = None
    order_router: IOrderRouter | None = None
    portfolio: Portfolio | None = None


class Runtime:
    """The parts of one process that works on orders: store, connectors, activities, workers."""

    def __init__(
        self, settings: Settings, client: Client, store: Store, parts: Parts, rules: RulesFile
    ) -> None:
        """Use `running`."""
        self.rules = rules
        self.settings = settings
        self.client = client
        self.store = store
        self.parts = parts

    def workers(self, runner: WorkflowRunner | None = None) -> list[Worker]:
        """Two: one for the orders and their local activities, one for everything that takes long.

        The sandbox of the workflow runner is left to the tests: it costs 3 to 4 ms an order.
        """
        runner = runner or UnsandboxedWorkflowRunner()
        steps, exchange = OrderSteps(self.parts), ExchangeSteps(self.parts)
        splitting = Splitting(self.parts)
        client = for_workers(self.client)
        orders = Worker(
            client,
            task_queue=self.settings.task_queue,
            build_id=_BUILD_ID,
            workflows=[OrderWorkflow],
            activities=[
                steps.place_order,
                steps.prepare_order,
                steps.load_order,
                steps.check_risk,
                steps.acquire_rate_limit,
                steps.send_order,
                steps.record_events,
                steps.book_reports,
                exchange.cancel_at_exchange,
                exchange.amend_at_exchange,
                exchange.collect_fills,
                splitting.split_order,
                splitting.load_legs,
                splitting.plan_split_change,
            ],
            interceptors=[OneArgument()],
            workflow_runner=runner,
            no_remote_activities=True,
            max_concurrent_workflow_tasks=_TASKS_AT_ONCE,
            max_concurrent_local_activities=_SLOTS,
            max_cached_workflows=_CACHED_WORKFLOWS,
            sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
            graceful_shutdown_timeout=_DRAIN,
        )
        return [orders, self._inputs(client, runner)]

    def _inputs(self, client: Client, runner: WorkflowRunner) -> Worker:
        """The worker for what takes long: feeds, look-ups, reconciliation."""
        feed = ExecutionFeed(self.parts, self.client, self.settings.task_queue)
        armed = {(x.exchange, x.account): x.dead_man_s for x in self.settings.exchanges}
        reconciling = Reconciling(self.parts, self.client, self.settings.task_queue)
        return Worker(
            client,
            task_queue=io_queue(self.settings.task_queue),
            build_id=_BUILD_ID,
            workflows=[
                AccountFeedWorkflow,
                AlertsWorkflow,
                CancelAllWorkflow,
                DeadManWorkflow,
                ReconcileWorkflow,
            ],
            activities=[
                Alerts(self.store, self.settings.alerts).deliver_alerts,
                feed.watch_executions,
                OrderLookUp(self.parts).look_up_order,
                DeadMan(self.parts, armed).hold_dead_man_switch,
                CancellingAll(self.parts).cancel_all_at_exchange,
                reconciling.list_accounts,
                reconciling.reconcile_account,
                AskingLegs(self.client, self.settings.task_queue).ask_leg,
            ],
            interceptors=[OneArgument()],
            workflow_runner=runner,
            max_concurrent_activities=_SLOTS,
            max_cached_workflows=100,
            sticky_queue_schedule_to_start_timeout=_STICKY_TIMEOUT,
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            default_heartbeat_throttle_interval=timedelta(seconds=1),
        )

    async def arm_dead_man_switches(self) -> None:
        """Hold the switch of each account that has one to be armed."""
        for one in self.settings.exchanges:
            if one.dead_man_s:
                await self.client.start_workflow(
                    "DeadMan",
                    Account(exchange=one.exchange, account=one.account),
                    id=f"dead-man-{one.exchange}-{one.account}",
                    task_queue=io_queue(self.settings.task_queue),
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    task_timeout=TASK_TIMEOUT,
                    static_summary=f"dead-man switch of {one.exchange} / {one.account}",
                )

    async def start_feeds(self) -> None:
        """Make sure that every account has its feed; one that runs already is left alone."""
        for exchange, account in self.parts.connectors:
            with contextlib.suppress(WorkflowAlreadyStartedError):
                await self.client.start_workflow(
                    "AccountFeed",
                    Account(exchange=exchange, account=account),
                    id=f"feed-{exchange}-{account}",
                    task_queue=io_queue(self.settings.task_queue),
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    task_timeout=TASK_TIMEOUT,
                    static_summary=f"execution feed of {exchange} / {account}",
                )

    async def start_alerts(self) -> None:
        """Make sure that alerts are delivered, where there is a webhook."""
        if self.settings.alerts is not None:
            await self.client.start_workflow(
                AlertsWorkflow.run,
                id=f"alerts-{self.settings.task_queue}",
                task_queue=io_queue(self.settings.task_queue),
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                task_timeout=TASK_TIMEOUT,
                static_summary="alerts to the webhook",
            )


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    client: Client,
    on_state: Callable[[OrderState], None] = lambda _state: None,
    choices: Choices | None = None,
    runner: WorkflowRunner | None = None,
) -> AsyncIterator[Runtime]:
    """Open the store, start the connectors and the workers; all of it ends with the block.

    Raises `StartUpError` that says what is wrong: the store, a connector, the namespace.
    """
    choices = choices or Choices()
    await check_search_attributes(client)
    store = await Store.open(settings.store_url.get_secret_value())
    connectors: dict[tuple[str, str], IExecutionConnector] = {}
    rates = RateDesk(store.rates, settings.rate_wait_s)
    try:
        await _own_accounts(settings, store)
        await _halt_if_restored(settings, client, store)
        await _start(settings, connectors, rates)
        rules = RulesFile(Path(settings.risk_file) if settings.risk_file else None)
        choices = choices._replace(rate_limit_guard=choices.rate_limit_guard or rates)
        parts = parts_of(settings, store, connectors, on_state, choices, rules)
        runtime = Runtime(settings, client, store, parts, rules)
        watch = AccountWatch(store, connectors, rules)
        await watch.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(parts.risk.close)
            stack.push_async_callback(parts.markets.close)
            for worker in runtime.workers(runner):
                await stack.enter_async_context(worker)
            await runtime.start_feeds()
            await runtime.arm_dead_man_switches()
            await runtime.start_alerts()
            await keep_schedules(client, settings, list(connectors))
            clock = asyncio.create_task(_keep_clocks(list(connectors.values())))
            stack.callback(clock.cancel)
            stack.push_async_callback(watch.close)
            watch.run()
            parts.risk.run()
            if (telemetry := client.service_client.config.runtime) is not None:
                metrics = Metrics(telemetry.metric_meter, store)
                stack.push_async_callback(metrics.close)
                metrics.start()
            yield runtime
    finally:
        await asyncio.gather(*(connector.close() for connector in connectors.values()))
        await rates.close()
        await store.close()


async def _start(
    settings: Settings, connectors: dict[tuple[str, str], IExecutionConnector], rates: RateDesk
) -> None:
    """Start every connector behind the rate ledger; those made are in `connectors` all the same."""
    for one in settings.exchanges:
        connector = build_connector(one)
        connectors[one.exchange, one.account] = connector
        rates.put_behind(connector)
        with patient():
            await connector.start()


async def _own_accounts(settings: Settings, store: Store) -> None:
    """Take the accounts' leases. Raises `StartUpError` where another deployment has one."""
    for one in settings.exchanges:
        lease = await store.upkeep.take_lease(one.exchange, one.account, settings.deployment)
        if lease.deployment != settings.deployment:
            msg = (
                f"account {one.exchange}/{one.account} belongs to deployment {lease.deployment!r} "
                f"since {lease.taken_at:%Y-%m-%d %H:%M:%S}, and this is {settings.deployment!r} "
                "(OMS_DEPLOYMENT): each takes the other's orders for somebody else's. Stop its "
                f"workers and end its orders, then `oms let-go {one.exchange} {one.account}`"
            )
            raise StartUpError(msg)


async def _halt_if_restored(settings: Settings, client: Client, store: Store) -> None:
    """Compare the store with what Temporal has kept of it, before anything is sent."""
    for mark in await last_marks(client, [(x.exchange, x.account) for x in settings.exchanges]):
        await halt_if_gone_back(store, mark)
    await halt_if_orders_lack(store, await newest_orders(client, settings.task_queue))


async def _keep_clocks(connectors: list[IExecutionConnector]) -> None:
    """Look at each exchange's clock every minute: a fence is only as good as the time stamp."""
    while True:
        await asyncio.sleep(_CLOCK_S)
        for connector in connectors:
            try:
                await connector.server_time()
            except ExchangeError as error:
                _log.warning("the clock of %s was not looked at: %s", connector.exchange, error)
            except Exception:  # noqa: BLE001 - the clock outlives every error
                _log.exception("the clock of %s was not looked at", connector.exchange)


def parts_of(
    settings: Settings,
    store: Store,
    connectors: dict[tuple[str, str], IExecutionConnector],
    on_state: Callable[[OrderState], None] = lambda _state: None,
    choices: Choices | None = None,
    rules: RulesFile | None = None,
) -> Parts:
    """What the order's steps are made of, for a worker or for a check that sends nothing."""
    choices = choices or Choices()
    limits = rules or RulesFile(Path(settings.risk_file) if settings.risk_file else None)
    accounts: dict[str, str] = {}
    for one in settings.exchanges:
        accounts.setdefault(one.exchange, one.account)
    risk = RiskDesk(
        connectors,
        store,
        lambda: limits.rules,
        with_installed_checks(choices.risk_checker),
        choices.portfolio,
    )
    markets = Markets(connectors, store, accounts, risk, lambda: limits.rules)
    router = choices.order_router or _router(settings, markets)
    for one in settings.exchanges:
        router.register_exchange(one.exchange, connectors[one.exchange, one.account])
    return Parts(
        deployment=settings.deployment,
        store=store,
        connectors=connectors,
        default_accounts=accounts,
        risk=risk,
        markets=markets,
        router=router,
        rate_limits=choices.rate_limit_guard or RateDesk(store.rates, settings.rate_wait_s),
        on_state=on_state,
    )


def _router(settings: Settings, markets: Markets) -> IOrderRouter:
    exchanges = [one.exchange for one in settings.exchanges]
    default = settings.default_exchange or (exchanges[0] if exchanges else None)
    if settings.routing is RoutingStrategy.CONFIGURED:
        return SimpleRouter(default_exchange=default)
    return SmartOrderRouter(markets.market, settings.routing, default_exchange=default)
