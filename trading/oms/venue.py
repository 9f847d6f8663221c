"""The venue as the OMS sees it: what a connector must do, say and raise.

A connector turns one (exchange, account) into these calls and nothing else. Every call either
returns or raises exactly one of `ExchangeRejected` (definite), `ExchangeUnavailable` (nothing was
sent, or it never reached the engine) or `OutcomeUnknown` (sent, effect unknown); a query that
fails raises `ExchangeUnavailable` and is *not* an observation. Connectors never retry and never
throttle by themselves.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trading.oms.enums import OrderSide, OrderType, TimeInForce
from trading.oms.models import Asset, Balance, Exact, Fill, Id, Instrument, Quote, Utc, VenueName
from trading.oms.rate_card import RateCard
from trading.oms.request_gate import IRequestGate
from trading.oms.routing.markets import VenueMarket


class DedupeScope(StrEnum):
    """Among which orders the exchange refuses a client id that it has seen."""

    OPEN_ONLY = "open_only"
    SESSION = "session"
    WINDOW = "window"
    FOREVER = "forever"
    NONE = "none"


class Amend(StrEnum):
    """What the exchange can change on a resting order without a new one.

    IN_PLACE is quantity and price, both ways; with it, see `venue_changes`.
    """

    IN_PLACE_REDUCE = "in_place_reduce"
    IN_PLACE = "in_place"
    NONE = "none"


class Capabilities(BaseModel):
    """The capability record that drives the order workflow; margins are settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange_kind: str
    dedupe_scope: DedupeScope
    lookup_by_client_id: bool
    fence: str | None
    """The request parameter that makes the exchange refuse a late request; None: no fence."""
    fence_ms: int
    """How long after its stamp a request is still taken (Binance: recvWindow)."""
    processing_bound_ms: int
    """How long after the fence an order may still appear."""
    clock_skew_ms: int = 1000
    clock_step_ms: int = 0
    """The exchange tells its time in steps of so much: our estimate is behind by up to one."""
    data_lag_ms: int = 1000
    """How long a query may lag behind the engine."""
    amend: Amend
    cancel_replace: bool = False
    """Whether one request cancels an order that has no fill and places another."""
    native_gtd: bool = False
    client_id_length: int
    client_id_alphabet: str
    order_history_days: int = 90
    stop_orders: bool = True
    """Whether the connector places stops; where not it refuses them with nothing sent."""
    market_buys: bool = True
    """Whether it can buy at the market in units of the base asset; where not it refuses."""
    cancel_all_after: str | None = None
    """The exchange's dead-man switch; None: it has none. With one, see `ICancelsAllAfter`."""
    cancel_all: bool = False
    """Whether one request cancels all open orders of a symbol. With it, see `ICancelsAll`."""
    taker_fee: Exact = Decimal(0)
    """The worst fee that the exchange takes, as a fraction; `OMS_<NAME>_TAKER_FEE` says yours."""
    fee_in_quote: bool = False
    """Whether a buy's fee comes on top, in the quote asset, and not out of what is received."""
    rate_card: RateCard = RateCard()
    """What the exchange limits, and what each request costs; without pools nothing is limited."""
    stale_stamp_codes: tuple[str, ...] = ()
    """Refusals that say our stamp was too old or too early: the clock is read again."""
    rule_refusal_codes: tuple[str, ...] = ()
    """Refusals by a symbol's rules: those that we know may be old and are read again."""
    experimental: bool = True


class OrderRef(BaseModel):
    """How to name an order that exists (or may exist) at an exchange."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    exchange_client_id: str
    exchange_order_id: str | None = None


class OrderRequest(BaseModel):
    """The exact request to place one order; the send claim stores it before the wire.

    `timestamp_ms` is in the exchange's clock; the exchange refuses the request when it arrives
    after `timestamp_ms + window_ms` (the fence). The bytes sent carry these and no fresher ones.
    `replaces` is the order that the same request cancels first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: str
    account: str
    symbol: str
    exchange_client_id: str
    side: OrderSide
    order_type: OrderType
    quantity: Exact
    price: Exact | None = None
    stop_price: Exact | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    timestamp_ms: int
    window_ms: int
    replaces: OrderRef | None = None

    @property
    def deadline_ms(self) -> int:
        """The fence in the exchange's clock: later than this the exchange refuses it."""
        return self.timestamp_ms + self.window_ms


class VenueStatus(StrEnum):
    """The exchange's own word on an order, in one vocabulary for all exchanges."""

    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class ReportSource(StrEnum):
    """Where an execution report came from."""

    RESPONSE = "response"
    STREAM = "stream"
    QUERY = "query"


class ExecutionReport(BaseModel):
    """What an exchange said about one order at one moment, normalised.

    `cumulative_quantity` is the exchange's executed total (base asset), `cumulative_notional` its
    worth (quote asset) where the exchange tells it; `fills` are the
    executions that this report itself carries (with `order_id` empty: the store fills it in).
    `reason` is the exchange's text for an expiry or a rejection. `quantity` and `price` are the
    order's at the exchange. `status` is None when the report carries a trade alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: VenueName
    account: VenueName
    symbol: VenueName
    exchange_client_id: Id | None = None
    exchange_order_id: Id | None = None
    status: VenueStatus | None = None
    side: OrderSide | None = None
    quantity: Exact | None = None
    price: Exact | None = None
    cumulative_quantity: Exact | None = None
    cumulative_notional: Exact | None = None
    fills: tuple[Fill, ...] = ()
    reason: str | None = None
    at: Utc
    received_at: Utc
    source: ReportSource

    @property
    def where(self) -> tuple[str, str, str]:
        """Exchange, account and symbol."""
        return self.exchange, self.account, self.symbol

    @model_validator(mode="after")
    def _fills_are_its_own(self) -> Self:
        for fill in self.fills:
            if (fill.exchange, fill.account, fill.symbol) != self.where:
                msg = f"a fill is of {fill.exchange} / {fill.account} {fill.symbol}, the report not"
                raise ValueError(msg)
        return self


@dataclass(frozen=True)
class OrderList:
    """The orders of a list that could be read, and a sentence for each row that could not.

    A row that is here counts. From a list with an unreadable row no absence may be concluded: any
    order may be that row.
    """

    reports: tuple[ExecutionReport, ...]
    unreadable: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ExecutionReport]:
        """The orders that could be read."""
        return iter(self.reports)

    def __len__(self) -> int:
        """How many could be read."""
        return len(self.reports)

    @property
    def gap(self) -> str | None:
        """What is not known of this list, in words; None where it is whole."""
        if not self.unreadable:
            return None
        rest = f", and {len(self.unreadable) - 1} more" if len(self.unreadable) > 1 else ""
        return f"a row of the list cannot be read: {self.unreadable[0]}{rest}"


class Transfer(BaseModel):
    """The exchange's own notice of money that came (`amount` above 0) or went without a trade.

    A deposit, a withdrawal, a transfer between accounts. `transfer_id` names it within the
    account: the same notice may come twice, and one that comes while the stream is away, never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: VenueName
    account: VenueName
    transfer_id: Id
    asset: Asset
    amount: Exact
    at: Utc
    received_at: Utc


class StreamState(StrEnum):
    """What the execution stream says about itself."""

    CONNECTED = "connected"
    """Fresh connection: whatever happened before may have been missed; catch up now."""


class ICancelsAll(Protocol):
    """What a connector has besides where its capability record says `cancel_all`."""

    async def cancel_all(self, symbol: str) -> None:
        """Cancel the account's open orders in a symbol, whoever placed them; none is no error.

        Raises `ExchangeRejected` and `ExchangeUnavailable`: nothing was cancelled. After
        `OutcomeUnknown` all, some or none may be.
        """
        ...


class ICancelsAllAfter(Protocol):
    """What a connector has besides where its capability record names `cancel_all_after`."""

    async def cancel_all_after(self, seconds: float) -> None:
        """Let the exchange cancel the account's open orders, unless told again within `seconds`.

        All of them, whoever placed them. 0 disarms it. Raises `ExchangeError`; then the switch is
        as it was before, or as asked.
        """
        ...


class IExecutionConnector(Protocol):
    """One account at one exchange (specification, "IOrderRouter": the connector it routes to)."""

    exchange: str
    account: str
    capabilities: Capabilities
    gate: IRequestGate
    """What every request passes before it leaves; a worker puts the rate ledger here."""

    async def start(self) -> None:
        """Load instruments and set the clock. Raises `StartUpError` with what is wrong."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...

    async def load_instruments(self) -> None:
        """Read the venue's rules again. Raises `ExchangeUnavailable`; then the known ones stay."""
        ...

    def instrument(self, symbol: str) -> Instrument | None:
        """The rules of `symbol`, or None where the venue does not list it."""
        ...

    def exchange_now(self) -> datetime:
        """The exchange's clock, estimated from the last look at it, never a network call."""
        ...

    async def server_time(self) -> datetime:
        """The exchange's clock, asked now; also sets the estimate."""
        ...

    async def place(self, request: OrderRequest) -> ExecutionReport:
        """Send exactly this request, once. Raises the three classes of `ExchangeError`."""
        ...

    async def cancel(self, ref: OrderRef) -> ExecutionReport:
        """Cancel by client id. `ExchangeRejected` when it is unknown or cannot be cancelled."""
        ...

    async def reduce(self, ref: OrderRef, new_quantity: Decimal) -> ExecutionReport:
        """Reduce the total quantity in place, keeping priority and both ids."""
        ...

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        """Query one order by our client id, with its fills; None: the exchange knows none."""
        ...

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order of the account created since then, whatever its status (second source)."""
        ...

    async def open_orders(self, symbol: str | None = None) -> OrderList:
        """The orders that rest at the exchange now, ours and others'."""
        ...

    async def fills_after(
        self, symbol: str, *, trade_id: str | None, since: datetime | None
    ) -> Sequence[Fill]:
        """The account's fills from this trade id on (inclusive), or since a time; oldest first."""
        ...

    async def fills_of(self, ref: OrderRef) -> Sequence[Fill]:
        """All fills of one order; needs `ref.exchange_order_id` where the exchange does."""
        ...

    async def balances(self) -> Mapping[str, Balance]:
        """Asset to balance, assets with nothing left out."""
        ...

    async def quote(self, symbol: str) -> Quote:
        """The best bid and ask now."""
        ...

    async def book(self, symbol: str) -> VenueMarket:
        """The best levels of both sides now, without the fee; for the smart router."""
        ...

    async def can_withdraw(self) -> bool | None:
        """Whether the key may withdraw money (it should not); None: the exchange does not say."""
        ...

    def executions(self) -> AsyncIterator["ExecutionReport | Transfer | StreamState"]:
        """The user-data stream: what happens to orders and, where the exchange tells it, transfers.

        `CONNECTED` comes first and after each gap.
        Raises `ExchangeUnavailable` when the connection is lost for good; iterate again.
        """
        ...


class VenueMargins(BaseModel):
    """How long doubt must last before "not found" counts, from a capability record."""

    model_config = ConfigDict(frozen=True)

    fence_margin_ms: int = Field(ge=0)

    @classmethod
    def of(cls, capabilities: Capabilities) -> "VenueMargins":
        """Processing bound, clock skew and data lag, added."""
        return cls(
            fence_margin_ms=capabilities.processing_bound_ms
            + capabilities.clock_skew_ms
            + capabilities.data_lag_ms
        )
