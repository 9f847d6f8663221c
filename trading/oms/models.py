"""What an order is: the trader's `Order`, the tracked `OrderState`, the `Fill`, and the answers.

Quantities are in the base asset, prices and notionals in the quote asset, all exact `Decimal`s;
times are aware and in UTC. A Python `float` is refused, because it is already rounded when it
arrives; JSON numbers are read as exact decimals at the doors. Source: the specification, "Data
Models"; the extra fields are described where they stand.
"""

import json
import re
import uuid
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from trading.oms.enums import (
    OPEN_STATUSES,
    TERMINAL_STATUSES,
    CancelOutcome,
    IfNotPlaced,
    OrderSide,
    OrderStatus,
    OrderType,
    Pending,
    ReasonCode,
    RejectedBy,
    TimeInForce,
)
from trading.oms.exact import EXACT

INTEGER_DIGITS_MAX = 20
TOTAL_DIGITS_MAX = 40
DECIMALS_MAX = 18
METADATA_BYTES_MAX = 16_384
_LAST_DECIMAL = Decimal(1).scaleb(-DECIMALS_MAX)
_NO_ROUNDING = Context(prec=80, traps=[Inexact, InvalidOperation])
_CLIENT_ORDER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SYMBOL = re.compile(r"[A-Z0-9]{1,15}/[A-Z0-9]{1,15}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NAME_OR_ALL = re.compile(r"[A-Za-z0-9._-]{0,32}")


def utc_now() -> datetime:
    """The present, aware and in UTC."""
    return datetime.now(UTC)


def _exact(value: object) -> object:
    if isinstance(value, float):
        msg = f"is the float {value!r}; give an exact decimal, as in Decimal('0.1') or \"0.1\""
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports ValueErrors with their field
    if isinstance(value, bool):
        msg = f"is {value!r}; give a decimal"
        raise ValueError(msg)  # noqa: TRY004 - as above
    return value


def _bounded(value: Decimal, digits_max: int = INTEGER_DIGITS_MAX) -> Decimal:
    if value.adjusted() >= digits_max:
        msg = f"has more than {digits_max} digits before the point"
        raise ValueError(msg)
    if value.as_tuple().exponent >= -DECIMALS_MAX:  # type: ignore[operator]
        return value
    try:
        return value.quantize(_LAST_DECIMAL, context=_NO_ROUNDING)
    except Inexact:
        msg = f"has more than {DECIMALS_MAX} decimals"
        raise ValueError(msg) from None


def _bounded_total(value: Decimal) -> Decimal:
    return _bounded(value, TOTAL_DIGITS_MAX)


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        msg = f"is {value}; must be greater than 0"
        raise ValueError(msg)
    return value


def _plain(value: Decimal) -> str:
    return format(value, "f")


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        msg = f"is {value.isoformat()} without a time zone; give an aware time, as in ...+00:00"
        raise ValueError(msg)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        msg = f"is {value.isoformat()}; must lie in the years 1 to 9999 in UTC"
        raise ValueError(msg) from None


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"must be plain JSON: {error}"
        raise ValueError(msg) from None
    if "\\u0000" in text:
        msg = "holds the character U+0000, which PostgreSQL cannot store"
        raise ValueError(msg)
    if size > METADATA_BYTES_MAX:
        msg = f"has {size} bytes of JSON, the limit is {METADATA_BYTES_MAX}"
        raise ValueError(msg)
    return value


def _matching(pattern: re.Pattern[str], words: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            msg = f"is {value[:80]!r}; must be {words}"
            raise ValueError(msg)
        return value

    return AfterValidator(check)


Exact = Annotated[
    Decimal,
    BeforeValidator(_exact),
    AfterValidator(_bounded),
    PlainSerializer(_plain, return_type=str, when_used="json"),
]
"""An exact decimal: at most 20 digits before the point and 18 after; text in JSON."""
Total = Annotated[
    Decimal,
    BeforeValidator(_exact),
    AfterValidator(_bounded_total),
    PlainSerializer(_plain, return_type=str, when_used="json"),
]
"""A sum of exact decimals or of their products: up to 40 digits before the point."""
Positive = Annotated[Exact, AfterValidator(_positive)]
Metadata = Annotated[dict[str, Any], AfterValidator(_storable)]
"""Anything that JSON can say, up to 16 KiB; decimals and times go in as text."""
Utc = Annotated[datetime, AfterValidator(_utc)]
Id = Annotated[str, Field(max_length=64)]
"""An id as the store holds it, ours or an exchange's."""
VenueName = Annotated[str, Field(max_length=32)]
"""The name of an exchange, an account or a symbol as the store holds it."""
Asset = Annotated[str, Field(max_length=16)]
"""The name of an asset as the store holds it."""
ClientOrderId = Annotated[
    str, _matching(_CLIENT_ORDER_ID, "1 to 64 of the characters A-Z a-z 0-9 . _ -")
]
Symbol = Annotated[str, _matching(_SYMBOL, "BASE/QUOTE in capitals, as in BTC/USDT")]
Name = Annotated[str, _matching(_NAME, "1 to 32 of the characters A-Z a-z 0-9 . _ -")]
NameOrAll = Annotated[
    str,
    _matching(_NAME_OR_ALL, "1 to 32 of the characters A-Z a-z 0-9 . _ -, or empty for all"),
]
StrategyId = Annotated[
    str, _matching(_CLIENT_ORDER_ID, "1 to 64 of the characters A-Z a-z 0-9 . _ -")
]


def new_client_order_id() -> str:
    """A fresh id: 32 hexadecimal digits."""
    return uuid.uuid4().hex


class Order(BaseModel):
    """What a trader wants. Immutable; submitting the same object again is the same order.

    `exchange` may be empty before routing. `account` empty means the exchange's default one.
    `send_by` is the time after which it must not be sent any more. `if_not_placed` says what to
    do when a send proved to have placed nothing; empty means: resend GTC and GTD orders, reject
    market, IOC and FOK ones. Raises pydantic's `ValidationError`, which names field and rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: Symbol
    side: OrderSide
    order_type: OrderType
    quantity: Positive
    price: Positive | None = None
    stop_price: Positive | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: Utc | None = None
    post_only: bool = False
    reduce_only: bool = False
    strategy_id: StrategyId | None = None
    exchange: Name | None = None
    account: Name | None = None
    send_by: Utc | None = None
    if_not_placed: IfNotPlaced | None = None
    parent_order_id: ClientOrderId | None = None
    client_order_id: ClientOrderId = Field(default_factory=new_client_order_id)
    metadata: Metadata = Field(default_factory=dict)
    created_at: Utc = Field(default_factory=utc_now)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        kind = self.order_type
        self._present("price", wanted=kind in {OrderType.LIMIT, OrderType.STOP_LIMIT})
        self._present("stop_price", wanted=kind in {OrderType.STOP, OrderType.STOP_LIMIT})
        self._present("expire_at", wanted=self.time_in_force is TimeInForce.GTD)
        if self.post_only and (
            kind is not OrderType.LIMIT
            or self.time_in_force not in {TimeInForce.GTC, TimeInForce.GTD}
        ):
            msg = (
                f"post_only is true on a {kind} {self.time_in_force} order; "
                "only limit orders with GTC or GTD can be post-only"
            )
            raise ValueError(msg)
        return self

    def _present(self, field: str, *, wanted: bool) -> None:
        value = getattr(self, field)
        if wanted and value is None:
            msg = f"{field} is missing; a {self.order_type} {self.time_in_force} order needs one"
            raise ValueError(msg)
        if not wanted and value is not None:
            msg = f"{field} is {value}; a {self.order_type} {self.time_in_force} order takes none"
            raise ValueError(msg)

    @property
    def resend_if_not_placed(self) -> bool:
        """Whether a send that placed nothing is repeated: the order's own word, else its type."""
        if self.if_not_placed is not None:
            return self.if_not_placed is IfNotPlaced.RESEND
        return self.order_type is not OrderType.MARKET and self.time_in_force in {
            TimeInForce.GTC,
            TimeInForce.GTD,
        }


def _not_filled(given: dict[str, Any]) -> Decimal:
    return EXACT.subtract(given["quantity"], given["filled_quantity"])


class OrderState(BaseModel):
    """The complete state of an order as the OMS tracks it (specification, "OrderState").

    Beyond the specification: `pending` is what we asked the exchange for, `in_doubt_since` says
    that a send has no known outcome, `rejected_by` and `reason_code` say who ended it and why,
    `fees_by_currency` is the truth of which `fees` is the sum in the quote currency (a fee taken
    in the base asset counts at its fill's price; other currencies are left out), `leg` is the
    number of the exchange order that carries it (a modification may need a new one; 0: the order
    is split, and its legs are orders of their own), `replacing`
    says that the next leg is being prepared, `revision` counts
    modifications, `ended_as` keeps the exchange's final word beneath FILLED, `sequence`
    is the number of its newest journal entry, `inferred_quantity` the part of what is filled whose
    trades the exchange has not listed, `rerouted_quantity` what a split order's legs were refused
    and other legs were made for.
    """

    model_config = ConfigDict(extra="forbid")

    # Identifiers
    client_order_id: str
    exchange_order_id: str | None = None
    exchange_client_id: str | None = None
    exchange: str = ""
    account: str = ""
    symbol: str

    # Order details
    side: OrderSide
    order_type: OrderType
    quantity: Exact
    price: Exact | None = None
    stop_price: Exact | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    expire_at: Utc | None = None
    post_only: bool = False
    reduce_only: bool = False

    # State
    status: OrderStatus = OrderStatus.CREATED
    pending: Pending = Pending.NONE
    in_doubt_since: Utc | None = None
    ended_as: OrderStatus | None = None
    leg: int = 1
    replacing: bool = False
    revision: int = 0
    sequence: int = 0
    filled_quantity: Total = Decimal(0)
    filled_notional: Total = Decimal(0)
    remaining_quantity: Total = Field(default_factory=_not_filled)
    average_fill_price: Exact | None = None
    inferred_quantity: Total = Decimal(0)
    rerouted_quantity: Total = Decimal(0)

    # Timestamps
    created_at: Utc = Field(default_factory=utc_now)
    submitted_at: Utc | None = None
    last_updated_at: Utc = Field(default_factory=utc_now)

    # Metadata
    strategy_id: str | None = None
    parent_order_id: str | None = None
    fees: Total = Decimal(0)
    fees_by_currency: dict[str, Total] = Field(default_factory=dict)
    rejected_by: RejectedBy | None = None
    reason_code: ReasonCode | None = None
    rejection_reason: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, order: Order) -> "OrderState":
        """The state of an order that has just been created."""
        return cls(
            client_order_id=order.client_order_id,
            exchange=order.exchange or "",
            account=order.account or "",
            symbol=order.symbol,
            side=order.side,
            order_type=order.order_type,
            quantity=order.quantity,
            price=order.price,
            stop_price=order.stop_price,
            time_in_force=order.time_in_force,
            expire_at=order.expire_at,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            remaining_quantity=order.quantity,
            created_at=order.created_at,
            last_updated_at=order.created_at,
            strategy_id=order.strategy_id,
            parent_order_id=order.parent_order_id,
            metadata=order.metadata,
        )

    @property
    def is_open(self) -> bool:
        """Whether it may still trade; an order in doubt is open."""
        return self.status in OPEN_STATUSES

    @property
    def is_split(self) -> bool:
        """Whether it is the sum of its legs (`trading.oms.split`)."""
        return self.leg == 0

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended. A late fill can still change an ended order."""
        return self.status in TERMINAL_STATUSES

    @property
    def fill_percentage(self) -> Decimal:
        """How much of the quantity is filled, 0 to 100."""
        if self.quantity > 0:
            return (self.filled_quantity / self.quantity) * 100
        return Decimal(0)


_STATE_FIELDS = set(OrderState.model_fields)


def state_with(values: dict[str, Any]) -> OrderState:
    """What `model_construct` does, at a tenth of its cost: the values are complete and valid."""
    state = OrderState.__new__(OrderState)
    object.__setattr__(state, "__dict__", values)
    object.__setattr__(state, "__pydantic_fields_set__", _STATE_FIELDS)
    object.__setattr__(state, "__pydantic_extra__", None)
    object.__setattr__(state, "__pydantic_private__", None)
    return state


class Fill(BaseModel):
    """One execution of an order (specification, "Fill").

    `order_id` is our client order id. `fill_id` is derived from exchange, account, symbol, trade
    id and exchange order id (`trading.oms.identity.fill_id`), because both sides of a self-trade
    share a trade id. `timestamp` is the exchange's, `received_at` ours. `inferred`: the exchange's
    totals demanded it and no trade was listed; a negative quantity takes back as much of the
    inferred fill that `trade_id` names (`trading.oms.inference`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fill_id: Id = Field(default_factory=lambda: uuid.uuid4().hex)
    order_id: Id
    exchange: VenueName
    account: VenueName = ""
    symbol: VenueName
    side: OrderSide
    quantity: Exact
    price: Exact = Field(ge=0)
    fee: Exact
    fee_currency: Asset
    timestamp: Utc
    received_at: Utc | None = None
    trade_id: Id | None = None
    exchange_order_id: Id | None = None
    is_maker: bool | None = None
    inferred: bool = False

    @model_validator(mode="after")
    def _is_a_trade(self) -> Self:
        if self.quantity <= 0 and not (self.inferred and self.quantity):
            msg = f"quantity is {self.quantity}; must be greater than 0"
            raise ValueError(msg)
        return self


class OrderResult(BaseModel):
    """The answer to a submission or a modification.

    `success` says that the order (or the change) was not refused. An order in doubt is neither
    refused nor confirmed: `success` is true and `in_doubt` too, and the OMS goes on until it
    knows. `error` is the reason in words, `reason_code` from the documented list;
    `content_hash` is that of the order which has the id.
    """

    model_config = ConfigDict(extra="forbid")

    success: bool
    order_id: str
    status: OrderStatus
    in_doubt: bool = False
    error: str | None = None
    reason_code: ReasonCode | None = None
    rejected_by: RejectedBy | None = None
    content_hash: str | None = None
    state: OrderState | None = None


class CancelResult(BaseModel):
    """The answer to a cancel: how it ended and how much was filled (base asset)."""

    model_config = ConfigDict(extra="forbid")

    success: bool
    order_id: str
    outcome: CancelOutcome
    filled_quantity: Exact = Decimal(0)
    status: OrderStatus | None = None
    error: str | None = None


class Instrument(BaseModel):
    """The rules of one symbol at one venue, as fetched at `fetched_at`.

    `tick_size` is the price step, `lot_size` the quantity step, sizes are in the base asset,
    `min_notional` in the quote asset. `is_trading`: the venue takes orders for it.
    """

    model_config = ConfigDict(frozen=True)

    exchange: str
    symbol: str
    base: str
    quote: str
    tick_size: Exact
    lot_size: Exact
    min_order_size: Exact
    max_order_size: Exact | None = None
    min_notional: Exact | None = None
    is_trading: bool = True
    fetched_at: Utc = Field(default_factory=utc_now)


class Quote(BaseModel):
    """The best bid and ask of a symbol at one venue, with the time it was received."""

    model_config = ConfigDict(frozen=True)

    exchange: str
    symbol: str
    bid: Exact
    ask: Exact
    received_at: Utc

    @property
    def mid(self) -> Decimal:
        """The middle between bid and ask."""
        return (self.bid + self.ask) / 2


class Balance(BaseModel):
    """What an account holds of one asset at the exchange: free, and locked by open orders."""

    model_config = ConfigDict(frozen=True)

    asset: str
    free: Exact
    locked: Exact

    @property
    def total(self) -> Decimal:
        """Free and locked together."""
        return self.free + self.locked
