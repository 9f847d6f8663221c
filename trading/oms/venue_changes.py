"""What connectors can do to a resting order besides cancelling it, where their records say so."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from trading.oms.errors import ExchangeError
from trading.oms.models import Exact
from trading.oms.venue import ExecutionReport, OrderRef, OrderRequest


class Terms(BaseModel):
    """What a resting order is to be at its exchange: the total quantity (base asset), the price.

    A `post_only` order must not take anything by it. `deadline_ms` is the fence, in the
    exchange's clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantity: Exact
    price: Exact | None = None
    post_only: bool = False
    deadline_ms: int


@runtime_checkable
class IAmends(Protocol):
    """What a connector has besides where its capability record says `Amend.IN_PLACE`."""

    async def amend(self, ref: OrderRef, terms: Terms) -> ExecutionReport:
        """Give a resting order these terms, its ids and fills kept. Repeating changes nothing.

        Raises the three classes of `ExchangeError`.
        """
        ...


@dataclass(frozen=True)
class Replacement:
    """The exchange's word on both halves of a cancel-replace.

    `cancelled` None: the old order was not cancelled, and so the new one was not attempted.
    `placed` is the new order, or the error that says why it is not there (or not known to be).
    """

    cancelled: ExecutionReport | None
    placed: ExecutionReport | ExchangeError


class IReplaces(Protocol):
    """What a connector has besides where its capability record says `cancel_replace`."""

    async def replace(self, request: OrderRequest) -> Replacement:
        """Cancel `request.replaces`, if it has no fill, and only then place the rest; once.

        Raises `ExchangeRejected` and `ExchangeUnavailable` where neither half was done, and
        `OutcomeUnknown` where nobody knows: then both orders are to be looked for.
        """
        ...
