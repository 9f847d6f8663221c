"""One venue per order: the one that the trader names, else the configured one."""

from trading.oms.models import Order
from trading.oms.routing.base import RoutingDenied
from trading.oms.venue import IExecutionConnector


class SimpleRouter:
    """Routes to `order.exchange`, else `order.metadata["exchange"]`, else the default.

    Where no default is given and one exchange is registered, that one is the default.
    """

    def __init__(self, default_exchange: str | None = None) -> None:
        """`default_exchange` must be registered by the time an order needs it."""
        self.default_exchange = default_exchange
        self._connectors: dict[str, dict[str, IExecutionConnector]] = {}

    @property
    def exchanges(self) -> list[str]:
        """The registered exchanges by name."""
        return sorted(self._connectors)

    def register_exchange(self, exchange_name: str, connector: IExecutionConnector) -> None:
        """Make a venue known; one connector for each account there."""
        self._connectors.setdefault(exchange_name, {})[connector.account] = connector

    def connectors(self, exchange_name: str) -> list[IExecutionConnector]:
        """The connectors of a venue, one for each account, in the order of registration."""
        return list(self._connectors.get(exchange_name, {}).values())

    async def route_order(self, order: Order) -> str:
        """The exchange for this order. Raises `RoutingDenied` that names the known ones."""
        return self.configured(order)

    def named_by(self, order: Order) -> str | None:
        """The exchange that the trader has named. Raises `RoutingDenied` for an unknown one."""
        name = order.exchange or order.metadata.get("exchange")
        if not name:
            return None
        self._must_know(str(name), "exchange")
        return str(name)

    def configured(self, order: Order) -> str:
        """The exchange that the trader has named, else the default."""
        named = self.named_by(order)
        if named is not None:
            return named
        if self.default_exchange is not None:
            self._must_know(self.default_exchange, "the default exchange")
            return self.default_exchange
        if len(self._connectors) == 1:
            return self.exchanges[0]
        msg = f"the order names no exchange and there is no default; {self._known()}"
        raise RoutingDenied(msg)

    def _must_know(self, name: str, what: str) -> None:
        if name not in self._connectors:
            msg = f"{what} is {name[:80]!r}; {self._known()}"
            raise RoutingDenied(msg)

    def _known(self) -> str:
        return f"the known ones are {', '.join(self.exchanges) or 'none'}"
