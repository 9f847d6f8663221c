"""An order manager with a user's own parts, which have what the specification asks for and no more.

Everything else is real: a Temporal server, a worker, a store and two sandbox exchanges.
"""

from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from temporalio.client import Client

from tests.workflows.desk import Desk, a_desk, an_order, until
from trading.oms.enums import OrderStatus, ReasonCode, RejectedBy
from trading.oms.events import OrderEvent
from trading.oms.interfaces import IRateLimitGuard
from trading.oms.models import Balance, Order, utc_now
from trading.oms.order_manager import OrderManager
from trading.oms.portfolio import Portfolio
from trading.oms.risk.base import CustomCheck, RiskCheckResult
from trading.oms.risk.checker import RiskChecker
from trading.oms.routing.simple import SimpleRouter
from trading.oms.venue import IExecutionConnector

pytestmark = pytest.mark.temporal


@pytest.fixture
async def no_task_left_behind() -> None:
    """The worker and the exchanges outlive the test by a moment."""


@pytest.fixture
async def idle(temporal_client: Client, sqlite_url: str) -> AsyncIterator[Desk]:
    """A desk of two exchanges without a worker: that is the order manager's own."""
    async with a_desk(temporal_client, sqlite_url, exchanges=2, work=False) as desk:
        yield desk


class OwnBus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[OrderEvent] = []
        self.is_closed = False

    async def subscribe(
        self, name: str, handler: Any, *, after: int | None = None, for_ever: bool = False
    ) -> Any:
        raise NotImplementedError

    async def publish(self, event: OrderEvent) -> None:
        self.published.append(event)

    async def close(self) -> None:
        self.is_closed = True


class OwnGuard:
    """Has room as the answers say, and from the last one on as that one does."""

    def __init__(self, *answers: bool) -> None:
        self._answers = deque(answers)
        self.asked: list[tuple[str, str]] = []
        self.acquired: list[tuple[str, str]] = []

    async def check_rate_limit(self, exchange: str, endpoint: str) -> bool:
        self.asked.append((exchange, endpoint))
        return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]

    async def acquire_rate_limit(self, exchange: str, endpoint: str) -> None:
        self.acquired.append((exchange, endpoint))

    def get_rate_limit_status(self, exchange: str) -> dict[str, Any]:
        return {"exchange": exchange}

    @property
    def as_ours(self) -> IRateLimitGuard:
        """Our interface lets the account be named too; the specification's does not."""
        return cast("IRateLimitGuard", self)


class OwnChecker:
    """Decides alone, whatever the standard checks say."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Portfolio]] = []

    def add_check(self, name: str, check_func: CustomCheck) -> None:
        raise NotImplementedError

    async def check_order(self, order: Order, portfolio: Portfolio) -> RiskCheckResult:
        self.seen.append((order.client_order_id, portfolio))
        if order.quantity == Decimal("0.013"):
            return RiskCheckResult(passed=False, reason="it is thirteen", checks_run=["thirteen"])
        return RiskCheckResult(passed=True, checks_run=["thirteen"])


class TurningRouter(SimpleRouter):
    """Each time it is asked another exchange is the best."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    async def route_order(self, order: Order) -> str:
        self._asked += 1
        return self.exchanges[(self._asked - 1) % len(self.exchanges)]


class OwnKindOfOurs(OwnChecker, RiskChecker):
    """Is ours in all but its verdict."""

    def __init__(self) -> None:
        OwnChecker.__init__(self)
        RiskChecker.__init__(self)


class OwnRouter:
    """Sends all to one exchange."""

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange

    async def route_order(self, order: Order) -> str:
        return self._exchange

    def register_exchange(self, exchange_name: str, connector: IExecutionConnector) -> None:
        """It knows where."""


@pytest.mark.parametrize("checks", [OwnChecker, OwnKindOfOurs])
async def test_every_part_may_be_the_users_own(idle: Desk, checks: type[OwnChecker]) -> None:
    bus, guard, checker = OwnBus(), OwnGuard(False, False, True), checks()
    money = Balance(asset="USDT", free=Decimal(7), locked=Decimal(0))
    portfolio = Portfolio(balances={"USDT": money})
    first, second = idle.exchanges
    router = OwnRouter(second.name)
    good, bad = an_order(), an_order(quantity="0.013")
    began = utc_now()

    async with OrderManager(
        bus, checker, guard.as_ours, router, portfolio, settings=idle.settings, client=idle.client
    ) as oms:
        accepted = await oms.submit_order(good)
        assert accepted.status is OrderStatus.ACCEPTED, accepted
        assert accepted.state is not None
        assert accepted.state.exchange == second.name
        assert utc_now() - began > timedelta(seconds=0.5)
        assert guard.asked == [(second.name, "place")] * 3
        assert guard.acquired == [(second.name, "place")]

        refused = await oms.submit_order(bad)
        assert (refused.status, refused.rejected_by) == (OrderStatus.REJECTED, RejectedBy.RISK)
        assert refused.reason_code is ReasonCode.RISK_CHECK_FAILED
        assert "it is thirteen" in str(refused.error)
        assert (first.requests(), second.requests()) == (0, 1)

        names = [await idle.names(order.client_order_id) for order in (good, bad)]
        await until(lambda: _has(bus, sum(map(len, names))))

    assert {order_id for order_id, _ in checker.seen} == {good.client_order_id, bad.client_order_id}
    assert all(given is portfolio for _, given in checker.seen)
    for order, journal in zip((good, bad), names, strict=True):
        told = [one.name for one in bus.published if one.order_id == order.client_order_id]
        assert told == journal
    assert bus.is_closed


@pytest.mark.parametrize(
    ("most_s", "within_s"), [(0.6, None), (60.0, 0.8)], ids=["its wait", "its send_by"]
)
async def test_what_a_guard_never_has_room_for_is_denied_in_the_end(
    idle: Desk, monkeypatch: pytest.MonkeyPatch, most_s: float, within_s: float | None
) -> None:
    monkeypatch.setattr("activities.placing.MAX_WAIT_S", most_s)
    guard = OwnGuard(False)
    async with OrderManager(
        rate_limit_guard=guard.as_ours, settings=idle.settings, client=idle.client
    ) as oms:
        send_by = None if within_s is None else utc_now() + timedelta(seconds=within_s)
        denied = await oms.submit_order(an_order(send_by=send_by))

    assert (denied.status, denied.rejected_by) == (OrderStatus.REJECTED, RejectedBy.RISK)
    assert denied.reason_code is ReasonCode.RATE_LIMITED
    assert guard.asked
    assert guard.acquired == []
    assert [exchange.requests() for exchange in idle.exchanges] == [0, 0]


@pytest.mark.parametrize(("send_within_s", "status"), [(60.0, "accepted"), (0.2, "rejected")])
async def test_an_order_stays_where_it_has_asked_for_a_slot(
    idle: Desk, send_within_s: float, status: str
) -> None:
    """The exchange that is the best a moment later has another limit."""
    guard = OwnGuard(False, True)
    first, second = idle.exchanges
    async with OrderManager(
        rate_limit_guard=guard.as_ours,
        order_router=TurningRouter(),
        settings=idle.settings,
        client=idle.client,
    ) as oms:
        send_by = utc_now() + timedelta(seconds=send_within_s)
        result = await oms.submit_order(an_order(send_by=send_by))

    assert result.state is not None
    assert (result.status, result.state.exchange) == (status, first.name)
    assert {exchange for exchange, _ in guard.asked + guard.acquired} == {first.name}
    assert second.requests() == 0


async def _has(bus: OwnBus, count: int) -> bool:
    return len(bus.published) >= count
