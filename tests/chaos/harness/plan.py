"""What is going to happen in a run, all of it from the seed: the orders, and what breaks when."""

import random
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from trading.oms.enums import OrderSide, OrderType, TimeInForce

KINDS = ("binance", "kraken")
"""The protocols of the exchanges, one each."""
EXCHANGES = len(KINDS)
FIRST_DISASTER_S = 2.0
SEND_WINDOW_MS, LATE_MS, BOUND_MS = 1500, 1800, 2000
KRAKEN_WINDOW_MS = 2500
"""Kraken tells its time in whole seconds, so our stamps are up to one behind."""
FENCE_S = (KRAKEN_WINDOW_MS + BOUND_MS + 500 + 300) / 1000
FENCE = {
    "RECV_WINDOW_MS": str(SEND_WINDOW_MS),
    "PROCESSING_BOUND_MS": str(BOUND_MS),
    "CLOCK_SKEW_MS": "500",
    "DATA_LAG_MS": "300",
    "TIMEOUT_MS": "1500",
}
"""The exchanges keep to it: a late order is taken within `LATE_MS`, a query lags 200 ms."""
FENCES = {"kraken": {"RECV_WINDOW_MS": str(KRAKEN_WINDOW_MS), "TIER": "none"}}
ONE_TAKES = Decimal("0.1")
"""The most that an exchange takes in one order: one that is larger must be split."""


@dataclass(frozen=True)
class Settings:
    """What a run is asked for; `without` names a safeguard that is taken away.

    `pause_s` is the mean time between two disasters: on a slow machine all that has just been
    broken needs longer to come back.
    """

    orders: int = 200
    seed: int = 1
    minutes: float = 1.0
    store: str = "sqlite"
    workers: int = 3
    patience_s: float = 180.0
    without: str = ""
    pause_s: float = 2.0

    @property
    def seconds(self) -> float:
        """How long orders come and things break; the settling comes on top."""
        return self.minutes * 60


WAYS = ("update", "update", "signal", "request cancellation")
"""How somebody cancels: through our client, or with what Temporal's own tools have."""


class Wish(NamedTuple):
    """An order to come. Prices are fractions of the market's price at the time.

    `exchange` is where it goes; None: it names none and is too large for one, so it is split.
    A `hurried` client does not wait for its answer; `again_after_s` later, where that is given,
    it submits the same order once more. `change` follows after `change_after_s`, a cancel one of
    `WAYS`.
    """

    at_s: float
    exchange: int | None
    fields: dict[str, Any]
    price: Decimal | None
    stop_price: Decimal | None
    lives_s: float | None
    hurried: bool
    again_after_s: float | None
    change: str
    way: str
    change_after_s: float
    change_to: Decimal


class Breaks(StrEnum):
    """What breaks."""

    KILL_WORKER = "a worker is killed"
    STOP_WORKER = "a worker is stopped for a moment"
    STOP_SENDER = "a worker is stopped between claim and write for longer than the fence"
    WORKER_CLOCK = "a worker's clock jumps"
    RESTART_TEMPORAL = "the Temporal server is killed"
    RESTART_POSTGRES = "PostgreSQL is killed"
    CUT_TEMPORAL = "the line to Temporal is cut"
    CUT_POSTGRES = "the line to PostgreSQL is cut"
    FREEZE_POSTGRES = "the line to PostgreSQL hangs"
    CUT_EXCHANGE = "the line to an exchange is cut"
    FREEZE_EXCHANGE = "the line to an exchange hangs"
    DISCONNECT = "an exchange closes its streams"
    HALT_SYMBOL = "a symbol is halted"
    EXCHANGE_CLOCK = "an exchange's clock jumps"
    LATE_ACCEPT = "an exchange takes orders late"
    BAN = "an exchange bans the address"
    UNSOLICITED_CANCEL = "an exchange cancels orders of its own accord"
    EXTERNAL_ORDERS = "somebody else trades on the account"
    TERMINATE = "an operator terminates workflows of orders"
    RESET = "an operator resets workflows of orders to their start"


class Disaster(NamedTuple):
    """One of them: when, for how long, to which worker or exchange, and how much."""

    at_s: float
    what: Breaks
    lasts_s: float
    which: int
    size: float


POSTGRES_ONLY = frozenset({Breaks.RESTART_POSTGRES, Breaks.CUT_POSTGRES, Breaks.FREEZE_POSTGRES})
_DECK = [*Breaks, Breaks.KILL_WORKER, Breaks.KILL_WORKER, Breaks.STOP_SENDER]
_LASTS_S = {
    Breaks.STOP_WORKER: (0.5, 4.0),
    Breaks.STOP_SENDER: (FENCE_S + 1, FENCE_S + 4),
    Breaks.WORKER_CLOCK: (3.0, 10.0),
    Breaks.CUT_TEMPORAL: (0.5, 4.0),
    Breaks.CUT_POSTGRES: (0.5, 6.0),
    Breaks.FREEZE_POSTGRES: (0.5, 7.0),
    Breaks.CUT_EXCHANGE: (0.5, 5.0),
    Breaks.FREEZE_EXCHANGE: (0.5, 5.0),
    Breaks.HALT_SYMBOL: (1.0, 5.0),
    Breaks.EXCHANGE_CLOCK: (3.0, 8.0),
    Breaks.LATE_ACCEPT: (3.0, 6.0),
    Breaks.BAN: (1.0, 3.0),
    Breaks.EXTERNAL_ORDERS: (0.5, 2.0),
}
WORKER_KINDS = frozenset(
    {Breaks.KILL_WORKER, Breaks.STOP_WORKER, Breaks.STOP_SENDER, Breaks.WORKER_CLOCK}
)

_BOTH = ("alive", "dead")
PLACE = "place"
ENDPOINTS = {"binance": {PLACE: "POST /api/v3/order"}, "kraken": {PLACE: "AddOrder"}}
_QUIET: list[dict[str, Any]] = [
    *({"fault": "reply_lost", "order": fate, "probability": "0.02"} for fate in _BOTH),
    *({"fault": "http_503", "order": fate, "probability": "0.01"} for fate in _BOTH),
    *({"fault": "code_-1006", "order": fate, "probability": "0.005"} for fate in _BOTH),
    *({"fault": "code_-1007", "order": fate, "probability": "0.01"} for fate in _BOTH),
    *({"fault": "code_-1008", "order": fate, "probability": "0.005"} for fate in _BOTH),
    {"fault": "reply_delayed_ms", "ms": 1700, "probability": "0.01"},
    {"fault": "accept_delayed_ms", "ms": 400, "probability": "0.01"},
    {"fault": "row_garbled", "probability": "0.01"},
    {"fault": "rate_429", "retry_after": "1", "probability": "0.002"},
    {"fault": "garbled", "how": "truncated", "probability": "0.005"},
    {"fault": "garbled", "how": "missing", "probability": "0.005"},
    {"fault": "rest_lag_ms", "ms": 200, "probability": "0.1"},
    {"fault": "stream_duplicate", "probability": "0.05"},
    {"fault": "stream_reorder", "probability": "0.05"},
    {"fault": "stream_drop", "probability": "0.03"},
    {"fault": "stream_delay_ms", "ms": 700, "probability": "0.05"},
    {"fault": "stream_disconnect", "probability": "0.003"},
]
_UNHEARD: list[dict[str, Any]] = [
    {"fault": "stream_drop", "probability": "1"},
    {"fault": "reply_delayed_ms", "ms": 1400, "probability": "0.8", "endpoint": PLACE},
]
"""The exchange has an order long before anybody hears of it: many die between the two."""


def faults(settings: Settings, exchange: int) -> list[dict[str, Any]]:
    """The faults that strike now and then at an exchange, all the time."""
    chosen = _UNHEARD if settings.without == "claims" else _QUIET
    return [
        {**at_endpoint(fault, exchange), "seed": f"{settings.seed}/{exchange}/{number}"}
        for number, fault in enumerate(chosen)
    ]


def at_endpoint(fault: dict[str, Any], exchange: int) -> dict[str, Any]:
    """A fault with its endpoint as the exchange calls it."""
    if "endpoint" not in fault:
        return fault
    return {**fault, "endpoint": ENDPOINTS[KINDS[exchange]][fault["endpoint"]]}


def wishes(settings: Settings) -> list[Wish]:
    """The orders, by time."""
    dice = random.Random(f"orders {settings.seed}")  # noqa: S311 - repeatable on purpose
    times = sorted(dice.uniform(0, settings.seconds) for _ in range(settings.orders))
    return [_wish(at_s, dice) for at_s in times]


def _wish(at_s: float, dice: random.Random) -> Wish:
    side = dice.choice(list(OrderSide))
    away = -1 if side is OrderSide.BUY else 1
    near = Decimal(dice.randrange(-5, 10)) / 10000
    fields: dict[str, Any] = {
        "side": side,
        "quantity": Decimal(dice.randrange(10, 400)) / 10000,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
    }
    price: Decimal | None = 1 + away * near
    stop_price, lives_s = None, None
    kind = dice.choices(list(_KINDS), list(_KINDS.values()))[0]
    exchange: int | None = dice.randrange(EXCHANGES)
    if kind == "split":
        exchange = None
        fields["quantity"] = ONE_TAKES + Decimal(dice.randrange(100, 900)) / 10000
        fields["time_in_force"] = dice.choice([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC])
    elif kind == "market":
        fields["order_type"], price = OrderType.MARKET, None
    elif kind in {"IOC", "FOK"}:
        fields["time_in_force"] = TimeInForce(kind)
    elif kind == "GTD":
        fields["time_in_force"], lives_s = TimeInForce.GTD, dice.uniform(3, 20)
    elif kind == "post_only":
        fields["post_only"] = True
    elif kind.startswith("stop"):
        stop_price = 1 - away * Decimal(dice.randrange(1, 10)) / 10000
        fields["order_type"] = OrderType(kind)
        price = None if kind == "stop" else stop_price - away * Decimal("0.0003")
    return Wish(
        at_s=at_s,
        exchange=exchange,
        fields=fields,
        price=price,
        stop_price=stop_price,
        lives_s=lives_s,
        hurried=dice.random() < 0.1,
        again_after_s=dice.choice([None, dice.uniform(0, 5)]),
        way=dice.choice(WAYS),
        change=dice.choices(["", "cancel", "price", "quantity"], [5, 3, 2, 2])[0],
        change_after_s=dice.choice([0.0, dice.uniform(0, 1), dice.uniform(0, 10)]),
        change_to=Decimal(dice.randrange(-3, 10)) / 10000,
    )


_KINDS = {
    "limit": 9,
    "market": 2,
    "IOC": 3,
    "FOK": 1,
    "GTD": 1,
    "post_only": 2,
    "stop": 1,
    "stop_limit": 1,
    "split": 1,
}


def disasters(settings: Settings, times: int = 1) -> list[Disaster]:
    """What breaks: dealt like a deck of cards, so that a short run sees much of it too.

    `times` is for how many times the planned time: orders may take longer.

    Without the claims workers die, one after the other: that alone must double orders.
    """
    dice = random.Random(f"disasters {settings.seed}")  # noqa: S311 - repeatable on purpose
    cards = [Breaks.KILL_WORKER] if settings.without == "claims" else _DECK
    deck: list[Breaks] = []
    found = []
    at_s = FIRST_DISASTER_S
    while at_s < settings.seconds * times:
        deck = deck or dice.sample(cards, len(cards))
        what = deck.pop()
        if settings.store == "sqlite" and what in POSTGRES_ONLY:
            continue
        which = dice.randrange(settings.workers if what in WORKER_KINDS else EXCHANGES)
        if what is Breaks.BAN:
            which = 0  # After Kraken's lockout we ask nothing for a minute: the run would stand.
        lasts_s = dice.uniform(*_LASTS_S.get(what, (0, 0)))
        found.append(Disaster(at_s, what, lasts_s, which, dice.uniform(-1, 1)))
        at_s += settings.pause_s * dice.uniform(0.25, 1.75)
    return found
