"""What an exchange limits and what each request costs there: a part of the capability record.

A pool is one counter of the exchange. Requests cost by family ("weight", "orders"): an exchange
may count one family in several pools at once, per ten seconds and per day.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

URGENT_SHARE = 0.1
"""This part of a limit is kept for cancels, changes and questions about one order."""


class PoolKind(StrEnum):
    """How the exchange forgets what was used: at the window's end, or bit by bit."""

    FIXED_WINDOW = "fixed_window"
    DECAYING = "decaying"


class PoolScope(StrEnum):
    """Whose requests are counted together."""

    ADDRESS = "address"
    ACCOUNT = "account"
    SYMBOL = "symbol"
    """Of one account in one symbol."""


class RatePool(BaseModel):
    """One counter of an exchange.

    A fixed window is `window_s` seconds long and begins at a multiple of that in the exchange's
    clock; a decaying counter loses `decay_per_s`. `count_header` is the response header (lower
    case) with the exchange's own count; where what it says falls behind ours, the exchange has
    given something back (Binance: an order's first fill, the weight of a request that succeeded).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    kind: PoolKind = PoolKind.FIXED_WINDOW
    scope: PoolScope
    limit: int = Field(ge=1)
    window_s: float = Field(default=0.0, ge=0)
    decay_per_s: float = Field(default=0.0, ge=0)
    urgent_share: float = Field(default=URGENT_SHARE, ge=0, lt=1)
    count_header: str = ""

    def seconds_of(self, weight: int) -> float:
        """In how many seconds the exchange allows so much, again and again."""
        per_s = self.decay_per_s or self.limit / self.window_s
        return weight / per_s

    def key(self, account: str, symbol: str = "") -> str:
        """The counter's name among those of one exchange: "weight_1m", "orders_10s:main"."""
        parts = {
            PoolScope.ADDRESS: [self.name],
            PoolScope.ACCOUNT: [self.name, account],
            PoolScope.SYMBOL: [self.name, account, symbol],
        }
        return ":".join(parts[self.scope])


class EndpointCost(BaseModel):
    """What one request costs by family. `with_parameter` has other costs where one is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    costs: Mapping[str, int]
    with_parameter: Mapping[str, Mapping[str, int]] = Field(default_factory=dict)
    urgent: bool = False
    """Whether it may use the share that is kept, whoever asks: cancels and changes."""
    held: bool = True
    """Whether it waits for room; the exchange counts what is not held, and never refuses it."""


class Cost(NamedTuple):
    """What a request costs in each counter, by the counter's key."""

    costs: Mapping[str, int]
    urgent: bool = False
    held: bool = True


class RateCard(BaseModel):
    """The pools of an exchange and the costs of its endpoints ("POST order").

    An endpoint that is not listed costs `unlisted` in the pools of addresses. Without pools nothing
    is limited.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pools: tuple[RatePool, ...] = ()
    endpoints: Mapping[str, EndpointCost] = Field(default_factory=dict)
    place: str = ""
    """The endpoint that places an order."""
    unlisted: int = 1

    def cost_of(
        self,
        endpoint: str,
        account: str,
        *,
        symbol: str = "",
        parameters: Mapping[str, object] | None = None,
    ) -> Cost:
        """What one request costs; an order is also meant by the endpoint "place".

        One that names no symbol costs nothing in the counters of symbols.
        """
        row = self.endpoints.get(self.place if endpoint == "place" else endpoint)
        if row is None:
            costs = {
                pool.key(account): self.unlisted
                for pool in self.pools
                if pool.scope is PoolScope.ADDRESS
            }
            return Cost(costs)
        by_family = row.costs
        for name, other in row.with_parameter.items():
            if name in (parameters or {}):
                by_family = other
        return Cost(
            {
                pool.key(account, symbol): by_family[pool.family]
                for pool in self.pools
                if by_family.get(pool.family) and (symbol or pool.scope is not PoolScope.SYMBOL)
            },
            row.urgent,
            row.held,
        )

    def pool_of(self, key: str) -> RatePool:
        """The pool that a counter belongs to."""
        name = key.partition(":")[0]
        return next(pool for pool in self.pools if pool.name == name)

    def with_pools(self, pools: Sequence[RatePool]) -> Self:
        """The same costs with the limits that the exchange has stated; none: those known stay."""
        return self.model_copy(update={"pools": tuple(pools)}) if pools else self
