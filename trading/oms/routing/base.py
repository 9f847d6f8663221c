"""What the OMS asks of a router, and what a router can say instead of a venue."""

from collections.abc import Mapping
from typing import Protocol

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

    async def route_order(self, order: Order) -> str:
        """The name of the exchange for this order. Raises `RoutingDenied` with the reasons."""
        ...

    def register_exchange(self, exchange_name: str, connector: IExecutionConnector) -> None:
        """Make a venue known; one connector for each account there."""
        ...
