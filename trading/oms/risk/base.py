"""What the OMS asks of a risk checker, and the answer."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from trading.oms.enums import ReasonCode
from trading.oms.models import Order
from trading.oms.portfolio import Portfolio

CustomCheck = Callable[[Order, Portfolio], Awaitable[bool]]
"""True lets the order pass. One that raises denies it."""


class RiskCheckResult(BaseModel):
    """Whether an order may go out; where not, why, with the numbers that were compared.

    `checks_run` are the names of the checks in the order in which they ran; the last one is the
    one that denied. `numbers` are in the units that `reason` speaks of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool
    reason: str | None = None
    checks_run: list[str] = Field(default_factory=list)
    reason_code: ReasonCode | None = None
    numbers: dict[str, Decimal] = Field(default_factory=dict)


class IRiskChecker(Protocol):
    """Decides before anything is sent (specification, "IRiskChecker")."""

    @abstractmethod
    async def check_order(self, order: Order, portfolio: Portfolio) -> RiskCheckResult:
        """Run the pre-trade checks; a denial is a value, never an exception."""
        ...

    @abstractmethod
    def add_check(self, name: str, check_func: CustomCheck) -> None:
        """Add a check. In a worker it runs before those that the store makes (docs/risk.md)."""
        ...
