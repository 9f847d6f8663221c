"""What the OMS asks of a router, and what a router can say instead of a venue."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol, runtime_checkable

from trading.oms.enums import ReasonCode
from trading.oms.errors import OmsError
from trading.oms.models import Order
from trading.oms.venue import IExecutionConnector


class RoutingDenied(OmsError):
    """No venue can take the order; `venues` says of each one why not.

    The order manager turns it into a denial with `reason_code`.
    """

    def __init__(
        self,
        text: str,
        *,
        reason_code: ReasonCode = ReasonCode.NO_EXCHANGE,
        venues: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the reason per venue for the denial's details."""
        super().__init__(text)
        self.reason_code = reason_code
        self.venues = dict(venues or {})


class IOrderRouter(Protocol):
    """Chooses the venue (specification, "IOrderRouter")."""

    @abstractmethod
    async def route_order(self, order: Order) -> str:
        """The name of the exchange for this order. Raises `RoutingDenied` with the reasons."""
        ...

    @abstractmethod
    def register_exchange(self, exchange_name: str, connector: IExecutionConnector) -> None:
        """Make a venue known; one connector for each account there."""
        ...


class Refusal(NamedTuple):
    """Why a venue does not count: a code, and the reason in words."""

    code: ReasonCode
    text: str


class Share(NamedTuple):
    """What an exchange gets of an order that is split, in the base asset."""

    exchange: str
    quantity: Decimal


@runtime_checkable
class IOrderSplitter(Protocol):
    """A router that can divide an order over several venues."""

    @property
    def splits(self) -> bool:
        """Whether orders that name no exchange are to be divided."""
        ...

    async def divide(
        self, order: Order, quantity: Decimal, refused: Mapping[str, Refusal]
    ) -> Sequence[Share]:
        """One share for each exchange, their sum exactly `quantity`; none for those `refused`.

        Raises `RoutingDenied` with the reasons.
        """
        ...
