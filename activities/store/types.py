"""What the store takes and answers, beside the models of the domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from trading.oms.enums import OrderStatus, ReasonCode, TradingState
from trading.oms.errors import UnreadableOrder
from trading.oms.models import Fill, Order, OrderState
from trading.oms.venue import ExecutionReport, OrderRequest


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How long the store waits, in seconds, and how much it takes at once."""

    answer_within_s: float = 5.0
    """A command that is not committed by then raises `StoreUnavailable`."""
    poll_interval_s: float = 0.05
    """How often SQLite is asked for what other processes have committed."""
    fallback_poll_s: float = 1.0
    """How often a follower looks although nobody woke it."""
    batch_max: int = 500
    """The most commands in one transaction."""
    readers: int = 4
    """Connections for reading."""


class Admission(NamedTuple):
    """The order's row: made now (`created`), or `known` before with what `differs` in words."""

    created: bool
    state: OrderState
    known: Order | None
    differs: list[str]


class ClaimKey(NamedTuple):
    """Names one send: the order, the number of its exchange order, the number of its attempt."""

    order_id: str
    leg: int
    generation: int


class Sent(NamedTuple):
    """One stamped request of an order; the later one is the greater."""

    leg: int
    generation: int
    stamp: int


class ClaimOutcome(StrEnum):
    """How a claimed send ended, as far as is known; a claim without one may be on its way."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NEVER_REACHED = "never_reached"
    """This request provably never reached the engine; it may be stamped anew."""
    NOT_PLACED = "not_placed"
    """Proved by look-ups after the fence."""
    UNKNOWN = "unknown"


class Claim(NamedTuple):
    """The answer to a claim. Only a claim that is `won` may be sent, with exactly `request`.

    Not won and no `refusal`: somebody has claimed this send; `request`, `outcome` and `stamp`
    are theirs. With a `refusal` nothing was claimed.
    """

    won: bool
    request: OrderRequest
    outcome: ClaimOutcome | None
    stamp: int
    refusal: ReasonCode | None
    state: OrderState


class StoredClaim(NamedTuple):
    """A claim as it stands in the store; `answer` is what settled it."""

    key: ClaimKey
    request: OrderRequest
    stamp: int
    claimant: str
    claimed_at: datetime
    outcome: ClaimOutcome | None
    answer: dict[str, Any] | None
    settled_at: datetime | None
    exchange_order_id: str | None


class Standing(NamedTuple):
    """What is known of an order, to be compared with reports of it.

    `state` is None where no order has the id; `is_ours` is false for somebody else's order.
    `sending` are its sends without an outcome, `fills` those of the fills asked for that are
    booked.
    """

    state: OrderState | None
    is_ours: bool
    sending: frozenset[ClaimKey]
    fills: frozenset[str]


class OrderFilter(NamedTuple):
    """Which orders to list; an empty field does not restrict."""

    exchange: str | None = None
    account: str | None = None
    symbol: str | None = None
    strategy_id: str | None = None
    parent_order_id: str | None = None
    statuses: frozenset[OrderStatus] = frozenset()
    in_doubt_only: bool = False
    external: bool | None = None
    created_before: datetime | None = None
    """For the next page: the `created_at` of the last order of this one."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One published event. `sequence` is dense over all orders, `order_sequence` over this one.

    `state` is the order after the event; treat it as read-only, it is shared. `exchange_at` is
    the exchange's time where it gave one, `received_at` when the store was told, `committed_at`
    when it was written.
    """

    sequence: int
    order_id: str
    order_sequence: int
    name: str
    state: OrderState
    fill: Fill | None
    alarm: str | None
    details: Mapping[str, Any] | None
    exchange_at: datetime
    received_at: datetime
    committed_at: datetime


class Listing(NamedTuple):
    """The orders of a list that could be read, and those that could not."""

    orders: list[OrderState]
    unreadable: list[UnreadableOrder]

    @property
    def order_ids(self) -> list[str]:
        """Our ids of both."""
        known = [order.client_order_id for order in self.orders]
        return known + [order.client_order_id for order in self.unreadable]


class InboxItem(NamedTuple):
    """A report that waits for delivery. `claim` names its order; None: an order not of ours."""

    id: int
    report: ExecutionReport
    order_id: str | None
    claim: ClaimKey | None
    added_at: datetime

    @property
    def external(self) -> bool:
        """Whether no order of ours has the report's ids."""
        return self.order_id is None


class Unreadable(NamedTuple):
    """A row of the inbox that is no report this program can read; it stays where it is."""

    id: int
    order_id: str | None
    added_at: datetime
    error: str


def resend_scope(exchange: str, account: str) -> str:
    """The scope of the trading states that stops further generations on an account."""
    return f"resend:{exchange}/{account}"


_STRICTNESS = tuple(TradingState)


def strictest(
    states: dict[str, TradingState], exchange: str, account: str, strategy_id: str | None
) -> TradingState:
    """The strictest of the states for all, for an account and for a strategy."""
    scopes = ["all", f"account:{exchange}/{account}", f"strategy:{strategy_id}"]
    return max((states.get(scope, TradingState.ACTIVE) for scope in scopes), key=_STRICTNESS.index)
