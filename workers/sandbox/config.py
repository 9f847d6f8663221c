"""What a sandbox exchange is told at its start."""

from dataclasses import dataclass, field, replace
from decimal import Decimal

from workers.sandbox.exact import amount_of

MARKETS = ("replay", "none")
BINANCE = "binance"
KRAKEN = "kraken"
PROTOCOLS = (BINANCE, KRAKEN)


@dataclass(slots=True)
class SymbolSpec:
    """One symbol with the numbers of its filters ("Filters"). Quantities are in the base asset."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    step_size: Decimal
    min_notional: Decimal
    min_quantity: Decimal
    max_quantity: Decimal = Decimal(9000)
    market_max_quantity: Decimal = Decimal(1000)
    min_price: Decimal = Decimal("0.01")
    max_price: Decimal = Decimal(1000000)
    max_notional: Decimal = Decimal(9000000)
    multiplier_up: Decimal = Decimal(5)
    multiplier_down: Decimal = Decimal("0.2")
    average_price_minutes: int = 5
    max_num_orders: int = 200
    max_num_algo_orders: int = 5
    max_num_order_amends: int = 10
    status: str = "TRADING"


def default_symbols() -> tuple[SymbolSpec, ...]:
    """BTCUSDT with the steps of the recorded minute, ETHUSDT and ETHBTC.

    Tick times step is never finer than eight decimals, so that every notional is exact.
    """
    return (
        SymbolSpec(
            "BTCUSDT", "BTC", "USDT", tick_size=Decimal("0.01"), step_size=Decimal("0.000001"),
            min_notional=Decimal(5), min_quantity=Decimal("0.000001"),
        ),
        SymbolSpec(
            "ETHUSDT", "ETH", "USDT", tick_size=Decimal("0.01"), step_size=Decimal("0.0001"),
            min_notional=Decimal(5), min_quantity=Decimal("0.0001"),
        ),
        SymbolSpec(
            "ETHBTC", "ETH", "BTC", tick_size=Decimal("0.00001"), step_size=Decimal("0.001"),
            min_notional=Decimal("0.0001"), min_quantity=Decimal("0.001"),
            min_price=Decimal("0.00001"), max_price=Decimal(1000),
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One entry of ``exchangeInfo.rateLimits``."""

    kind: str  # REQUEST_WEIGHT, RAW_REQUESTS or ORDERS
    interval: str  # SECOND, MINUTE or DAY
    number: int
    limit: int

    @property
    def seconds(self) -> int:
        return self.number * {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86400}[self.interval]

    @property
    def letters(self) -> str:
        """The end of the header's name: ``1M`` in ``X-MBX-USED-WEIGHT-1M``."""
        return f"{self.number}{self.interval[0]}"


def default_limits() -> tuple[RateLimit, ...]:
    return (
        RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6000),
        RateLimit("ORDERS", "SECOND", 10, 100),
        RateLimit("ORDERS", "DAY", 1, 200000),
        RateLimit("RAW_REQUESTS", "MINUTE", 5, 300000),
    )


@dataclass(frozen=True, slots=True)
class KrakenLimits:
    """Kraken's decaying counters at its tier Intermediate ("Spot Trading Limits").

    ``calls`` counts an account's REST calls, ``trading`` its orders per pair; both fall by their
    decay each second. ``nonce_window`` is the keys' setting of that name, in nonces.
    """

    calls: int = 20
    calls_decay: float = 0.5
    trading: int = 125
    trading_decay: float = 2.34
    nonce_window: int = 0


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """An account with one API key. Balances are asset to amount."""

    key: str
    secret: str = field(repr=False)
    balances: dict[str, Decimal] = field(default_factory=dict)


DEFAULT_BALANCES = "BTC=10,ETH=100,USDT=1000000"


def parse_account(raw: str) -> AccountSpec:
    """``KEY:SECRET[:BTC=10,USDT=1000000]`` as on the command line and in the environment.

    Raises:
        ValueError: the text has another shape. The message does not repeat the secret.
    """
    key, _, rest = raw.strip().partition(":")
    secret, _, amounts = rest.partition(":")
    if not key or not secret:
        raise ValueError("an account is KEY:SECRET or KEY:SECRET:ASSET=AMOUNT,…")
    balances = {}
    for item in (amounts or DEFAULT_BALANCES).split(","):
        asset, equals, amount = item.partition("=")
        if not asset or not equals:
            raise ValueError(f"balance of account {key} is {item!r}; ASSET=AMOUNT is allowed")
        balances[asset] = amount_of(amount, asset)
    return AccountSpec(key, secret, balances)


@dataclass(slots=True)
class SandboxConfig:
    """All settings of one sandbox exchange. Times are in milliseconds, rates are fractions.

    ``processing_bound_ms`` is what Binance documents as ten seconds: a request that takes longer
    is answered with -1007, whatever becomes of it. ``replay_loops`` of ``None`` is for ever;
    ``speed`` of 0 is as fast as the machine allows, and then once unless loops are given.
    The ladder is what the replay adds behind the recorded best quote, in quote and base asset.
    """

    name: str = "sandbox"
    protocol: str = BINANCE
    port: int = 0
    market: str = "none"
    speed: Decimal = Decimal(1)
    replay_loops: int | None = None
    ladder_levels: int = 10
    ladder_step: Decimal = Decimal(1)
    ladder_quantity: Decimal = Decimal("0.5")
    accounts: tuple[AccountSpec, ...] = ()
    symbols: tuple[SymbolSpec, ...] = field(default_factory=default_symbols)
    rate_limits: tuple[RateLimit, ...] = field(default_factory=default_limits)
    kraken_limits: KrakenLimits = field(default_factory=KrakenLimits)
    maker_fee: Decimal = Decimal("0.0010")
    taker_fee: Decimal = Decimal("0.0010")
    default_recv_window_ms: int = 5000
    max_recv_window_ms: int = 60000
    processing_bound_ms: int = 10000
    first_id: int | None = None  # Default: from the clock, so that ids grow over restarts too.
    ban_after_429: int = 10
    ban_seconds: int = 120
    unfilled_taker_credit: int = 1
    unfilled_maker_credit: int = 5
    dead_man: bool = False  # An endpoint that Binance Spot does not have: see dead_man.py.
    seed: int = 1

    def __post_init__(self) -> None:
        if self.market not in MARKETS:
            raise ValueError(f"market is {self.market!r}; {' or '.join(MARKETS)} is allowed")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}; {' or '.join(PROTOCOLS)} is allowed")
        if self.speed < 0:
            raise ValueError(f"speed is {self.speed}; 0 (as fast as possible) or more is allowed")
        self.default_recv_window_ms = min(self.default_recv_window_ms, self.max_recv_window_ms)
        keys = [account.key for account in self.accounts]
        if len(set(keys)) != len(keys):
            raise ValueError("two accounts have the same key")

    def set_limits(self, limits: dict[tuple[str, str], int]) -> None:
        """Replace limits by (kind, interval), for example ("ORDERS", "SECOND")."""
        self.rate_limits = tuple(
            replace(limit, limit=limits.get((limit.kind, limit.interval), limit.limit))
            for limit in self.rate_limits
        )
