"""What a route is, and what a call on it carries. The routes themselves are in the ``*_api``s."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workers.sandbox.model import Account

NONE = "NONE"
TRADE = "TRADE"
USER_DATA = "USER_DATA"
USER_STREAM = "USER_STREAM"

SIGNATURE_PARAMETERS = frozenset({"timestamp", "recvWindow", "signature", "apiKey"})


@dataclass(slots=True)
class Call:
    """One request on its way: what was asked, by whom, and until when it is valid."""

    route: "Route"
    params: dict[str, str]
    ip: str
    key: str | None
    signature: str | None
    payloads: tuple[bytes, ...]  # What the signature may be over.
    over_websocket: bool = False
    account: Account | None = None
    timestamp_us: int = 0
    recv_window_us: int = 0
    lag_ns: int = 0
    refused_half: int | None = None  # A fault: the code for the new order of a cancel-replace.
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> Account:
        """The account of a signed call."""
        if self.account is None:
            raise LookupError(f"{self.route.name} is not a signed call")
        return self.account


Answer = Callable[[Call], Any]
Prepare = Callable[[Call], Callable[[], Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. Exactly one of ``answer`` and ``prepare`` is set.

    ``prepare`` checks a trading request and returns the step for the engine, because between the
    two the time is checked once more.
    """

    name: str  # "POST /api/v3/order"
    method: str  # "order.place" of the WebSocket API; empty where there is none
    security: str
    weight: int | Callable[[dict[str, str]], int]
    parameters: frozenset[str]
    answer: Answer | None = None
    prepare: Prepare | None = None
    counts_order: bool = False
    free_on_success: bool = False

    def weight_of(self, params: dict[str, str]) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(params)
