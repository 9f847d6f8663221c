"""What one connector has to know of a venue to trade there: all of it, as data.

A field is a dotted path into a row ("descr.pair"). Amounts are decimal text; times are as `Unit`
says. Nothing here is guessed: what a venue's documents do not say is refused, or left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from activities.connectors.classify import Answer, Rule
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.body import check_json
from activities.connectors.venues.listing import Listing, Row
from trading.oms.venue import Capabilities, OrderRequest, VenueStatus


class Unit(StrEnum):
    """How a venue writes a time."""

    MILLISECONDS = "ms"
    SECONDS = "s"
    ISO = "iso"


class ReadAnswer(Protocol):
    """How a venue's answers are read: its code and its words found. Never raises."""

    def __call__(
        self, status: int, headers: Mapping[str, str], text: str, scrub: Callable[[str], str]
    ) -> Answer:
        """A response, its code and its words found."""
        ...


@dataclass(frozen=True)
class Command:
    """A request that changes something, and where the venue's word on it is in the answer.

    Of the word, `id` and `client_id` are the order's names, where it says them; they must be ours.
    """

    path: str
    asks: Mapping[str, Any] = field(default_factory=dict)
    word: str = ""
    id: str = ""
    client_id: str = ""
    method: str = "POST"


@dataclass(frozen=True)
class OrderFields:
    """A row of an order. `at` are its times, the latest counts; `statuses` the venue's words."""

    id: str
    client_id: str
    symbol: str
    side: str
    status: str
    quantity: tuple[str, ...]
    price: tuple[str, ...]
    executed: str
    at: tuple[str, ...]
    opened: str
    statuses: Mapping[str, VenueStatus]
    worth: str = ""
    reason: str = ""
    unit: Unit = Unit.MILLISECONDS


@dataclass(frozen=True)
class FillFields:
    """A row of a trade. `maker` is a field and its value for a maker.

    A fee without a `currency` is in the quote asset; `fee_sign` is -1 where a cost is negative.
    Where the field `in_quote` is true the quantity is in the quote asset.
    """

    id: str
    order: str
    symbol: str
    side: str
    quantity: str
    price: str
    fee: str
    at: str
    maker: tuple[str, object]
    currency: str = ""
    fee_sign: int = 1
    in_quote: str = ""
    unit: Unit = Unit.MILLISECONDS


@dataclass(frozen=True)
class InstrumentFields:
    """A row of an instrument; `trading` is a field and its value where orders are taken."""

    id: str
    base: str
    quote: str
    tick: str
    lot: str
    least: str
    trading: tuple[str, object]
    most: str = ""
    notional: str = ""
    lot_in_decimals: bool = False


@dataclass(frozen=True)
class BalanceFields:
    """A row of a balance: what is free or the total, and what is locked."""

    asset: str
    locked: str
    free: str = ""
    total: str = ""


@dataclass(frozen=True)
class BookFields:
    """Where the levels of a book are; `level` are the keys of price and quantity."""

    path: str
    asks: Mapping[str, Any]
    bids_at: str
    asks_at: str
    level: tuple[str, str] = ("0", "1")


@dataclass(frozen=True)
class TimeFields:
    """Where the venue tells its time; `step_ms` where it is cut to whole steps."""

    path: str
    field: str
    unit: Unit = Unit.MILLISECONDS
    step_ms: int = 0


@dataclass(frozen=True)
class Switch:
    """A dead-man switch: {timeout_s} in whole seconds within the limits, 0 disarms."""

    command: Command
    least_s: int
    most_s: int


@dataclass(frozen=True)
class VenueRecord:
    """One venue. `order` is the body of the request that places an order, and all of it.

    `check` compares the signed body with it, `headers` are what a new order must carry besides (a
    fence). `groups` are ccxt's names of the public and the private endpoints. `not_found` are the
    (status, code) with which a look-up says that there is no such order. `pauses` are the codes
    after which nothing is asked for so many seconds; 429 and 418 ask for it everywhere.
    `symbols_needed`: lists of ended orders are kept by symbol. `lookup_days` is how far back an
    order is looked for in a list that knows no client ids.
    """

    capabilities: Capabilities
    ccxt: str
    addresses: Callable[[ConnectorSettings], Mapping[str, Any]]
    public: frozenset[str]
    rules: Sequence[Rule]
    read_answer: ReadAnswer
    order: Callable[[OrderRequest, str], Mapping[str, Any]]
    place: Command
    cancel: Command
    lookups: Sequence[Listing]
    open_orders: Listing
    histories: Sequence[Listing]
    fills: Listing
    order_fills: Listing
    instruments: Listing
    balances: Listing
    orders_as: OrderFields
    fills_as: FillFields
    instruments_as: InstrumentFields
    balances_as: BalanceFields
    book: BookFields
    time: TimeFields
    check: Callable[[OrderRequest, Mapping[str, Any], str], None] = check_json
    reduce: Command | None = None
    headers: Callable[[OrderRequest], Mapping[str, str]] = lambda _order: {}
    demo_headers: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[list[str], list[str]] = (["public"], ["private"])
    options: Mapping[str, Any] = field(default_factory=dict)
    not_found: frozenset[tuple[int, str]] = frozenset()
    pauses: Mapping[str, float] = field(default_factory=dict)
    cancel_is_done: bool = False
    lookup_days: int = 7
    symbols_needed: bool = False
    withdraws: tuple[str, Callable[[Row], bool | None]] | None = None
    dead_man: Switch | None = None
    wire: type | None = None
    watch: Mapping[str, Any] | None = None
    """What `watch_orders` of ccxt.pro is told, where it may ring; None: it does not."""
