"""The door of the OMS: submit, cancel and modify orders, and read what became of them.

Two doors, one class. *Embedded*: the worker runs in this process (`OrderManager(...)`), orders
start eagerly and their outcome comes back in memory. *Remote*: only a Temporal client
(`OrderManager.remote(...)`), the work is done by workers elsewhere; with a store's URL the
synchronous reads work as well, without one they raise `StateUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
from decimal import Decimal
from typing import TYPE_CHECKING, Self, cast

from trading.oms.answers import result_of
from trading.oms.commands import (
    RESOLVE_WAIT_S,
    CancelRequest,
    KnownOrder,
    ModifyRequest,
    ResolveRequest,
    checked,
    validated,
)
from trading.oms.enums import CancelOutcome, Verdict
from trading.oms.errors import Closed, OrderNotFound, ServiceUnavailable, StateUnavailable
from trading.oms.event_bus import EventBus
from trading.oms.identity import content_hash
from trading.oms.journal_reader import JournalReader
from trading.oms.models import CancelResult, Order, OrderResult, OrderState
from trading.oms.order_client import OrderClient
from trading.oms.outcomes import Outcomes
from trading.oms.state_tracker import StateTracker

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.messages import CancelAllAnswer, CancelAllWish
    from activities.reconcile_messages import ReconcileReport
    from activities.store import Store
    from trading.oms.interfaces import IEventBus, IOrderRouter, IRateLimitGuard
    from trading.oms.portfolio import Portfolio
    from trading.oms.risk.base import IRiskChecker
    from workers.settings import Settings

_SHORTCUT_S = 3.0


class OrderManager:
    """Submits orders and follows them (specification, "IOrderManager").

    Use as `async with OrderManager(...) as oms:`; without it the first call starts everything,
    and `close` ends it: then a call raises `Closed` until it is started again. `event_bus` gets
    every event of every order from the journal.
    """

    def __init__(  # noqa: PLR0913 - the specification's constructor
        self,
        event_bus: IEventBus | None = None,
        risk_checker: IRiskChecker | None = None,
        rate_limit_guard: IRateLimitGuard | None = None,
        order_router: IOrderRouter | None = None,
        portfolio: Portfolio | None = None,
        *,
        settings: Settings | None = None,
        client: Client | None = None,
    ) -> None:
        """The embedded door. `settings` default to the environment, `client` to TEMPORAL_*.

        `portfolio` is what custom risk checks get in place of the account's own, as the store has
        it; the standard checks always compare with the store.
        """
        # Ours, or the user's own: who gives one knows what it can do.
        self.event_bus = cast("EventBus", event_bus or EventBus())
        self.tracker = StateTracker()
        self._choices = (risk_checker, rate_limit_guard, order_router, portfolio)
        self._settings = settings
        self._client = client
        self._store_url: str | None = None
        self._task_queue = "oms-orders"
        self._embedded = True
        self._orders: OrderClient | None = None
        self._store: Store | None = None
        self._outcomes = Outcomes()
        self._parts = contextlib.AsyncExitStack()
        self._starting = asyncio.Lock()
        self._closed = False

    @classmethod
    def remote(
        cls,
        *,
        client: Client | None = None,
        store_url: str | None = None,
        task_queue: str = "oms-orders",
        event_bus: IEventBus | None = None,
    ) -> Self:
        """The remote door. `store_url`, read-only here, makes `get_order` and the events work."""
        manager = cls(event_bus, client=client)
        manager._embedded = False
        manager._store_url = store_url
        manager._task_queue = task_queue
        return manager

    async def __aenter__(self) -> Self:
        """Start everything."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything that was started."""
        await self.close()

    async def start(self) -> None:
        """Connect, and start the worker on the embedded door. Raises `StartUpError`."""
        async with self._starting:
            self._closed = False
            await self._start_once()

    async def _start_once(self) -> OrderClient:
        if self._orders is None:
            async with contextlib.AsyncExitStack() as parts:
                orders = await self._start(parts)
                self._parts = parts.pop_all()
            self._orders = orders
        return self._orders

    async def _start(self, parts: contextlib.AsyncExitStack) -> OrderClient:
        from workers.connection import connect

        client = self._client or await connect(metrics=self._embedded)
        if self._embedded:
            from workers.composition import Choices, running
            from workers.settings import Settings

            settings = self._settings or Settings.from_environment()
            self._task_queue = settings.task_queue
            runtime = await parts.enter_async_context(
                running(settings, client, self._committed, Choices(*self._choices))
            )
            self._store = runtime.store
        elif self._store_url is not None:
            from activities.store import Store

            self._store = await Store.open(self._store_url)
            parts.push_async_callback(self._store.close)
        if self._store is not None:
            reader = JournalReader(self._store, self.tracker, self.event_bus, self._committed)
            await parts.enter_async_context(reader.running())
            parts.push_async_callback(self.event_bus.close)
        return OrderClient(client, self._task_queue)

    async def close(self) -> None:
        """End the worker, after what it has begun is done, and close every connection."""
        async with self._starting:
            try:
                await self._parts.aclose()
            finally:
                self._orders, self._store, self._closed = None, None, True

    # Commands.

    async def submit_order(self, order: Order) -> OrderResult:
        """Submit an order and answer when the exchange, a denial or doubt has decided.

        The same object again, after a time-out too, is the same order. Another order under a
        known id is refused with `order_exists_with_different_content`. The workflow goes on
        whatever happens to this call. Raises `InvalidOrder`.
        """
        order = checked(order)
        orders = await self._started()
        result = await (
            self._submit_here(orders, order) if self._embedded else orders.submit(order)
        )
        self._seen(result.state)
        return result

    async def cancel_order(
        self,
        order_id: str,
        exchange: str | None = None,
        symbol: str | None = None,
        *,
        wait: float = 5.0,
        reason: str | None = None,
    ) -> CancelResult:
        """Cancel an order; answers with the exchange's outcome, or `pending` after `wait` seconds.

        `exchange` and `symbol`, where given, must be the order's own: `InvalidOrder` otherwise.
        An id that no order has is answered with the outcome `not_found`.
        """
        orders = await self._started_for(order_id)
        request = validated(
            {"reason": reason, "wait_s": wait, "exchange": exchange, "symbol": symbol},
            CancelRequest,
        )
        try:
            result = await orders.cancel(order_id, request)
        except OrderNotFound as error:
            return CancelResult(
                success=False,
                order_id=order_id,
                outcome=CancelOutcome.NOT_FOUND,
                error=str(error),
            )
        await self._catch_up(order_id)
        return result

    async def modify_order(
        self,
        order_id: str,
        new_quantity: Decimal | None = None,
        new_price: Decimal | None = None,
        *,
        wait: float = 5.0,
    ) -> OrderResult:
        """Change the total quantity, the price or both. Raises `OrderNotFound`, `InvalidOrder`.

        In place where the exchange can, else by cancelling and sending the rest.
        """
        orders = await self._started_for(order_id)
        request = validated(
            {"new_quantity": new_quantity, "new_price": new_price, "wait_s": wait}, ModifyRequest
        )
        result = await orders.modify(order_id, request)
        self._seen(result.state)
        return result

    async def resolve_order(
        self,
        order_id: str,
        verdict: Verdict | str,
        reason: str,
        *,
        by: str | None = None,
        wait: float = RESOLVE_WAIT_S,
    ) -> OrderResult:
        """Give an operator's verdict on an order in doubt: adopt, dead or retry.

        Or on a confirmed one: adopt, and dead where the exchange has it no more. The journal keeps
        `reason` and `by` (default: the user of this process). The answer is not a success where
        the verdict does not fit. Raises `OrderNotFound`, `InvalidOrder`.
        """
        orders = await self._started_for(order_id)
        given = {"verdict": verdict, "reason": reason, "by": by or _user(), "wait_s": wait}
        request = validated(given, ResolveRequest)
        if self._store is not None and await self._store.order(order_id) is None:
            msg = f"no order has the id {order_id!r}"
            raise OrderNotFound(msg)
        result = await orders.resolve(order_id, request)
        self._seen(result.state)
        return result

    async def sync_orders(self, exchange: str) -> None:
        """Reconcile every account at the exchange now; returns when it is done."""
        await self.reconcile(exchange)

    async def reconcile(
        self, exchange: str = "", account: str = "", *, dry_run: bool = False
    ) -> tuple[ReconcileReport, ...]:
        """Compare our orders and fills with the exchange's, and put right what differs.

        Without an exchange all of them. One report for each account; a `dry_run` changes nothing.
        Raises `InvalidOrder` for a name that no account has, and `ServiceUnavailable`.
        """
        return await (await self._started()).accounts.reconcile(exchange, account, dry_run=dry_run)

    async def cancel_all(self, wish: CancelAllWish) -> CancelAllAnswer:
        """Ask the exchange once to cancel all open orders of a symbol, where all are ours.

        Each order still needs its own cancel. Raises `ServiceUnavailable`.
        """
        return await (await self._started()).accounts.cancel_all(wish)

    async def resume(self, reason: str, *, by: str | None = None) -> tuple[ReconcileReport, ...]:
        """Let orders be sent again after a halt of all trading; reconciles everything first.

        Raises `ServiceUnavailable` where an exchange could not be asked: then the halt stays.
        """
        await self._started()
        store = self._must_know()
        from activities.store import TradingState

        reports = await self.reconcile()
        if failed := [text for report in reports for text in report.failed]:
            msg = f"not resumed, because not everything could be asked: {'; '.join(failed)}"
            raise ServiceUnavailable(msg)
        await store.set_trading_state("all", TradingState.ACTIVE, reason=reason, by=by or _user())
        return reports

    async def allow_resending(
        self, exchange: str, account: str, reason: str, *, by: str | None = None
    ) -> None:
        """Let orders be sent again on an account where two sends of one were alive.

        Raises `StateUnavailable` on a remote door without a store.
        """
        await self._started()
        store = self._must_know()
        from activities.store import TradingState, resend_scope

        scope = resend_scope(exchange, account)
        await store.set_trading_state(scope, TradingState.ACTIVE, reason=reason, by=by or _user())

    # Reads.

    def get_order(self, order_id: str) -> OrderState | None:
        """The newest state that this process has read (`tracker.freshness`); None: no such order.

        Raises `StateUnavailable` where it cannot know: no store, or one that has ended unseen.
        """
        self._must_know()
        return self.tracker.get_order(order_id)

    def get_open_orders(
        self,
        exchange: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
    ) -> list[OrderState]:
        """The open orders that pass the filters; a row that cannot be read is logged and left out.

        Raises `StateUnavailable` as `get_order`.
        """
        self._must_know()
        return self.tracker.get_open_orders(exchange, symbol, strategy_id)

    async def fetch_order(self, order_id: str) -> OrderState | None:
        """The state in the store, or else the workflow's; None: no such order. `InvalidOrder`."""
        orders = await self._started_for(order_id)
        if self._store is not None:
            return await self._store.order(order_id)
        return await orders.state(order_id)

    async def fetch_doubt(self, order_id: str) -> list[str]:
        """What the exchange was asked about an order in doubt, and its last answers, in words.

        Empty where there is no doubt. Raises `OrderNotFound`, `InvalidOrder`, `ServiceUnavailable`.
        """
        return await (await self._started_for(order_id)).doubt(order_id)

    # How it works.

    async def _submit_here(self, orders: OrderClient, order: Order) -> OrderResult:
        """Start eagerly; the outcome comes from this process's memory, else from the workflow.

        The shortcut is not the truth: the start's answer may be lost, or the task may move to
        another process. Then the journal or the workflow itself answers.
        """
        with self._outcomes.expected(order.client_order_id) as outcome:
            if not await orders.start(order):
                return await orders.outcome(order)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHORTCUT_S):
                    return result_of(await outcome, content_hash(order))
            return await orders.outcome(order)

    def _committed(self, state: OrderState) -> None:
        """A state was committed, by this process or (told by the journal) by another."""
        self.tracker.put(state)
        self._outcomes.committed(state)

    async def _started(self) -> OrderClient:
        if self._orders is not None:
            return self._orders
        async with self._starting:
            if self._closed:
                raise Closed
            return await self._start_once()

    async def _started_for(self, order_id: object) -> OrderClient:
        """Raises `InvalidOrder` for what can be no order's id."""
        validated({"order_id": order_id}, KnownOrder)
        return await self._started()

    def _must_know(self) -> Store:
        if self._store is None:
            msg = (
                "this door has no store to read (or was not started); give store_url, "
                "or ask with `await fetch_order(order_id)`"
            )
            raise StateUnavailable(msg)
        return self._store

    def _seen(self, state: OrderState | None) -> None:
        """After a command the same process reads at least the state that it answered."""
        if state is not None:
            self.tracker.put(state)

    async def _catch_up(self, order_id: str) -> None:
        if self._store is not None:
            self._seen(await self._store.order(order_id))


def _user() -> str:
    """Who runs this process, for the audit: user@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
