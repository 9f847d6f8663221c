"""The gate that every request of a connector passes before it leaves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from trading.oms.rate_card import RatePool

LOCAL_RATE_LIMIT = "local_rate_limit"
"""The code of the `ExchangeUnavailable` of a request that had to wait and was not sent."""


@dataclass
class Spent:
    """What requests have cost: the seconds in which their exchange allows as much again."""

    seconds: float = 0.0


_spent: ContextVar[Spent | None] = ContextVar("rate_spent", default=None)


@contextmanager
def spending() -> Iterator[Spent]:
    """Add up what the requests of this block cost; nothing, where nobody counts them."""
    spent = Spent()
    token = _spent.set(spent)
    try:
        yield spent
    finally:
        _spent.reset(token)


def spend(seconds: Callable[[], float]) -> None:
    """For a gate: so much was taken. It is worked out only where somebody counts."""
    if (spent := _spent.get()) is not None:
        spent.seconds += seconds()


class Permit(NamedTuple):
    """One request may leave: what it has taken, by counter and window.

    `taken_at` is in the exchange's clock; `settled` is what the ledger knew to be answered then.
    """

    tokens: Mapping[tuple[str, int], int] = {}
    taken_at: float = 0.0
    settled: Mapping[tuple[str, int], int] = {}


class Response(NamedTuple):
    """What of a response speaks of limits; header names are in lower case.

    `pauses` says whether the exchange asks for a pause, and `pauses_family` whether of one family
    of costs alone (Binance's -1015 stops orders, not cancels).
    """

    headers: Mapping[str, str]
    pauses: bool = False
    pauses_family: str | None = None
    retry_after_s: float | None = None


class IRequestGate(Protocol):
    """Counts the requests of one account at one exchange.

    A connector calls `enter` for every request, asks `is_valid` right before the write, and tells
    by `leave` what came of it.
    """

    async def enter(
        self,
        endpoint: str,
        parameters: Mapping[str, object] | None = None,
        *,
        symbol: str = "",
    ) -> Permit:
        """Take what a request costs, after a short wait at most.

        Raises `ExchangeUnavailable` with the code `local_rate_limit` and `retry_after` where it
        cannot leave yet: nothing was sent.
        """
        ...

    def is_valid(self, permit: Permit) -> bool:
        """Whether the request may still be written now: its windows last, no pause has begun."""
        ...

    def leave(self, permit: Permit, response: Response | None, *, written: bool) -> None:
        """Say what came of it; without a response nobody knows whether it was counted."""
        ...

    def stated(self, pools: Sequence[RatePool]) -> None:
        """Take the limits that the exchange itself has stated."""
        ...


class OpenGate:
    """Lets everything through: for a connector that no worker has put behind the ledger."""

    async def enter(
        self,
        endpoint: str,  # noqa: ARG002
        parameters: Mapping[str, object] | None = None,  # noqa: ARG002
        *,
        symbol: str = "",  # noqa: ARG002
    ) -> Permit:
        """Always."""
        return Permit()

    def is_valid(self, permit: Permit) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def leave(self, permit: Permit, response: Response | None, *, written: bool) -> None:
        """Nothing is counted."""

    def stated(self, pools: Sequence[RatePool]) -> None:
        """Nothing is counted."""
