"""The specification's interfaces in one place, as Protocols under the specification's names.

`IRiskChecker`, `IOrderRouter` and `IExecutionConnector` stand beside what they speak of
(`trading.oms.risk.base`, `trading.oms.routing.base`, `trading.oms.venue`) and can be imported
from here as well.

A class need not inherit one. One that does and lacks a method cannot be instantiated (but for a
connector: its conformance cards tell).
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from trading.oms.event_bus import Handler, Subscription
from trading.oms.events import OrderEvent
from trading.oms.models import CancelResult, Instrument, Order, OrderResult, OrderState
from trading.oms.risk.base import IRiskChecker
from trading.oms.routing.base import IOrderRouter
from trading.oms.venue import IExecutionConnector

__all__ = [
    "IEventBus",
    "IExecutionConnector",
    "IInstrumentMapper",
    "IOrderManager",
    "IOrderRouter",
    "IRateLimitGuard",
    "IRateLimiter",
    "IRateSlots",
    "IRiskChecker",
    "RateSlot",
]


class IOrderManager(Protocol):
    """The door of the OMS (specification, "IOrderManager")."""

    @abstractmethod
    async def submit_order(self, order: Order) -> OrderResult:
        """Validate, route, check the risk, wait for the rate limit, send, track, publish.

        The same order again is the same order. Refusals are results, not exceptions.
        """
        ...

    @abstractmethod
    async def cancel_order(
        self,
        order_id: str,
        exchange: str | None = None,
        symbol: str | None = None,
        *,
        wait: float = 5.0,
    ) -> CancelResult:
        """Cancel the order and answer when its end is known, or after `wait` seconds.

        `exchange` and `symbol`, where given, must be the order's.
        """
        ...

    @abstractmethod
    async def modify_order(
        self,
        order_id: str,
        new_quantity: Decimal | None = None,
        new_price: Decimal | None = None,
        *,
        wait: float = 5.0,
    ) -> OrderResult:
        """Change the total quantity (what is filled included), the price, or both."""
        ...

    @abstractmethod
    def get_order(self, order_id: str) -> OrderState | None:
        """The order's state; None where no such order exists.

        Raises `StateUnavailable` where this door cannot know.
        """
        ...

    @abstractmethod
    def get_open_orders(
        self,
        exchange: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
    ) -> list[OrderState]:
        """All open orders that match. Raises `StateUnavailable` where this door cannot know."""
        ...

    @abstractmethod
    async def sync_orders(self, exchange: str) -> None:
        """Compare our orders with the exchange's now, and put right what differs."""
        ...


class IRateLimiter(Protocol):
    """The limits of one exchange account, in one process or shared by all."""

    @abstractmethod
    async def acquire(self, endpoint: str) -> None:
        """Wait until a request may be sent, and count it."""
        ...

    @abstractmethod
    def reserve(self, endpoint: str, within_s: float = math.inf) -> float:
        """Count a request: 0 means send it now, else the seconds until the slot that is ours.

        A slot that would come later than after `within_s` seconds is told and not counted.
        """
        ...

    @abstractmethod
    def is_free(self, endpoint: str) -> bool:
        """Whether `reserve` would say "now"; counts nothing."""
        ...

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Let nothing leave for so long: the exchange has answered 429 or 418."""
        ...

    @abstractmethod
    def sync(self, used: Mapping[str, int]) -> None:
        """Take the exchange's own counts by rule, from its response headers."""
        ...

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """How much of each limit is used, as plain JSON."""
        ...


class RateWish(NamedTuple):
    """An order's request that asks for a slot; one that has waited names its `slot`.

    Without an `account` the exchange's first one is meant. It is not to leave later than after
    `within_s` seconds.
    """

    exchange: str
    endpoint: str
    account: str | None = None
    symbol: str = ""
    order_id: str = ""
    strategy_id: str | None = None
    slot: float | None = None
    within_s: float | None = None


def _nothing() -> None:
    """A guard that cannot take back what it has counted."""


class RateSlot(NamedTuple):
    """When a request may leave: after `wait_s` seconds; not `granted`: that would be too late.

    Who waits names the `slot` when he comes back. Who has one for now,
    and leaves nothing after all, calls `give_back`.
    """

    wait_s: float = 0.0
    granted: bool = True
    slot: float | None = None
    give_back: Callable[[], None] = _nothing


class IRateLimitGuard(Protocol):
    """Coordinates the limits of all exchanges (specification, "IRateLimitGuard")."""

    @abstractmethod
    async def check_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> bool:
        """Whether a request may be sent now; counts nothing."""
        ...

    @abstractmethod
    async def acquire_rate_limit(
        self, exchange: str, endpoint: str, account: str | None = None
    ) -> None:
        """Wait until a request may be sent, and count it."""
        ...

    @abstractmethod
    def get_rate_limit_status(self, exchange: str, account: str | None = None) -> dict[str, Any]:
        """How much of each limit is used, who waits, and until when requests pause."""
        ...


class IRateSlots(IRateLimitGuard, Protocol):
    """A guard that gives orders slots to come, so that each waits for its own and no longer."""

    @abstractmethod
    async def reserve(self, wish: RateWish) -> RateSlot:
        """Count a request: a slot now, one in the future that is the order's, or none in time.

        For callers that wait durably and not here: they ask again at the slot's time and name it.
        """
        ...

    @abstractmethod
    def pause(self, exchange: str, seconds: float, account: str | None = None) -> None:
        """Let nothing leave for the exchange for so long (429, 418), cancels included."""
        ...


class IEventBus(Protocol):
    """Where events are published (`trading.oms.event_bus.EventBus` in one process)."""

    @abstractmethod
    async def subscribe(
        self, name: str, handler: Handler, *, after: int | None = None, for_ever: bool = False
    ) -> Subscription:
        """Call `handler` with each event whose name matches, see `EventBus.subscribe`."""
        ...

    @abstractmethod
    async def publish(self, event: OrderEvent) -> None:
        """Give the event to all subscribers without waiting for their handlers."""
        ...

    @abstractmethod
    async def close(self) -> None:
        """End the subscriptions; no event is published any more."""
        ...


class IInstrumentMapper(Protocol):
    """Where the rules of a symbol come from (specification, `instrument_mapper`)."""

    @abstractmethod
    def get_instrument(self, symbol: str, exchange: str | None = None) -> Instrument | None:
        """The rules of the symbol at the venue; None where it is not listed."""
        ...
