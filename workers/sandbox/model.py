"""What the exchange keeps: accounts, orders, trades. Plain records; the rules are elsewhere."""

from dataclasses import dataclass, field
from decimal import Decimal

from workers.sandbox.exact import ZERO

BUY = "BUY"
SELL = "SELL"

LIMIT = "LIMIT"
MARKET = "MARKET"
LIMIT_MAKER = "LIMIT_MAKER"
STOP_LOSS = "STOP_LOSS"
STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
TAKE_PROFIT = "TAKE_PROFIT"
TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"
ORDER_TYPES = (
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    STOP_LOSS,
    STOP_LOSS_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
)
STOP_TYPES = frozenset({STOP_LOSS, STOP_LOSS_LIMIT, TAKE_PROFIT, TAKE_PROFIT_LIMIT})
UNPRICED_TYPES = frozenset({MARKET, STOP_LOSS, TAKE_PROFIT})

GTC = "GTC"
IOC = "IOC"
FOK = "FOK"
TIMES_IN_FORCE = (GTC, IOC, FOK)

NEW = "NEW"
PARTIALLY_FILLED = "PARTIALLY_FILLED"
FILLED = "FILLED"
CANCELED = "CANCELED"
REJECTED = "REJECTED"
EXPIRED = "EXPIRED"
EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"
OPEN_STATUSES = frozenset({NEW, PARTIALLY_FILLED})

STP_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")


@dataclass(slots=True)
class Balance:
    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True, eq=False)
class Account:
    """One account. The market's own is ``unlimited``: it has no locks and may go below zero."""

    key: str
    secret: str = field(repr=False)
    uid: int
    unlimited: bool = False
    updated_ms: int = 0
    balances: dict[str, Balance] = field(default_factory=dict)
    orders: dict[str, dict[int, "Order"]] = field(default_factory=dict)
    open_orders: dict[str, dict[int, "Order"]] = field(default_factory=dict)
    by_client_id: dict[tuple[str, str], "Order"] = field(default_factory=dict)
    trades: dict[str, list["AccountTrade"]] = field(default_factory=dict)

    def balance(self, asset: str) -> Balance:
        """The balance of one asset; made on first use."""
        balance = self.balances.get(asset)
        if balance is None:
            balance = self.balances[asset] = Balance()
        return balance


@dataclass(slots=True)
class NewOrder:
    """An order as asked for and checked, before the engine has seen it."""

    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal = ZERO
    quote_quantity: Decimal = ZERO
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    client_id: str = ""
    stp: str = "NONE"
    strategy_id: int | None = None
    strategy_type: int | None = None


@dataclass(slots=True)
class Amendment:
    execution_id: int
    old_client_id: str
    new_client_id: str
    old_quantity: Decimal
    new_quantity: Decimal
    time_ms: int


@dataclass(slots=True, eq=False)
class Order:
    """An order of the exchange. ``locked`` is what it still holds of the account's balance."""

    id: int
    account: Account
    symbol: str
    client_id: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal
    quote_quantity: Decimal
    price: Decimal
    stop_price: Decimal
    stp: str
    strategy_id: int | None
    strategy_type: int | None
    created_ms: int
    updated_ms: int
    created_ns: int  # Monotonic: when a lagging query may see it.
    status: str = NEW
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    prevented: Decimal = ZERO
    prevented_match_id: int | None = None
    locked: Decimal = ZERO
    working_ms: int | None = None
    on_book: bool = False
    expiry_reason: str | None = None
    cancel_id: str | None = None
    fills: list["Trade"] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed - self.prevented

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES


@dataclass(slots=True, eq=False)
class Trade:
    """One match. Both sides share ``id``, also when one account is on both sides."""

    id: int
    symbol: str
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    time_ms: int
    buyer: Order
    seller: Order
    buyer_is_maker: bool
    base: str
    quote: str
    buyer_fee_asset: str
    buyer_commission: Decimal = ZERO
    seller_commission: Decimal = ZERO
    time_ns: int = 0  # Monotonic, as Order.created_ns.


@dataclass(slots=True)
class AccountTrade:
    """One side of a trade, as ``myTrades`` lists it."""

    trade: Trade
    order: Order
    commission: Decimal
    commission_asset: str
    is_maker: bool


@dataclass(slots=True)
class Execution:
    """What happened to an order, for its ``executionReport``. ``kind`` is Binance's ``x``."""

    kind: str
    id: int
    time_ms: int
    trade: Trade | None = None
    commission: Decimal = ZERO
    commission_asset: str | None = None
    is_maker: bool = False
    client_id: str | None = None
    original_client_id: str = ""
    reject_reason: str = "NONE"
    prevented: "Prevention | None" = None


@dataclass(slots=True)
class Prevention:
    """A match that self-trade prevention stopped ("STP FAQ")."""

    match_id: int
    counter_order_id: int
    price: Decimal
    quantity: Decimal
    expired_quantity: Decimal
