"""What the order workflow tells its activities, and what they answer. One model in, one out."""

from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from trading.oms.enums import ReasonCode
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import Exact, Name, Order, OrderState, Symbol, Utc
from trading.oms.venue import ExecutionReport


class Message(BaseModel):
    """What all of them have in common: they are values."""

    model_config = ConfigDict(frozen=True)


class Account(BaseModel):
    """One account at one exchange; the two names that name a connector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name
    account: Name


class OrderAt(Message):
    """One exchange order of ours: which order, which leg, which generation."""

    order_id: str
    leg: int = 1
    generation: int = 1


class ClaimFacts(Message):
    """The send claim that carries an order; `outcome` None means that its sender said nothing.

    `strays` are the generations of other sends of the leg that may be alive. `replaces` is the
    exchange order that this send cancels in the same request: it carries the order until the
    exchange's word on the new one.
    """

    leg: int
    generation: int
    stamp: int
    outcome: str | None
    strays: tuple[int, ...] = ()
    claimed_at: Utc | None = None
    replaces: OrderAt | None = None


class Known(Message):
    """An order that a former run left: the trader's words, the state, the claim that carries it."""

    order: Order
    state: OrderState
    claim: ClaimFacts | None = None


class Denied(Message):
    """A refusal by our own rules, before anything was sent; `numbers` are those compared."""

    reason_code: ReasonCode
    reason: str
    numbers: dict[str, str] = Field(default_factory=dict)


class Routed(Message):
    """The venue chosen for an order, or why there is none.

    An order that was split has a `state` instead, which is the sum of its legs.
    """

    exchange: str = ""
    account: str = ""
    denied: Denied | None = None
    state: OrderState | None = None


class CancelAllWish(Message):
    """Cancel all open orders of an account in a symbol, where they are all ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name
    account: Name
    symbol: Symbol
    reason: str | None = Field(default=None, max_length=200)


class CancelAllAnswer(Message):
    """Whether the exchange was asked to; else why it was not. What became of it, the orders say."""

    is_asked: bool
    why_not: str | None = None


class RiskQuestion(Message):
    """May this order go to this venue? The quantity and price are those to be checked."""

    order_id: str
    exchange: str
    account: str
    quantity: Exact
    price: Exact | None = None
    is_modification: bool = False


class RiskAnswer(Message):
    """Which checks ran, and the denial of the first that did not pass."""

    checks_run: tuple[str, ...] = ()
    denied: Denied | None = None


class RateQuestion(Message):
    """May the order leave now? An order that has waited names its `slot`."""

    exchange: str
    account: str
    order_id: str
    slot: float | None = None


class RateAnswer(Message):
    """How long to wait first, in seconds; 0 means now. The slot is the asker's, unless `denied`."""

    wait_s: float = 0.0
    slot: float | None = None
    denied: Denied | None = None


class Prepared(Message):
    """An order admitted, and what was decided about its first send.

    The order's row was `created` now, or is known; `difference` says what a known one has else.
    `routed`, `risk` and `rate` are None after a denial by the one before, and where there is
    nothing left to be sent: for an order that has a `claim`, has ended, or was split (then `routed`
    has its state).
    """

    created: bool
    state: OrderState
    difference: tuple[str, ...] = ()
    claim: ClaimFacts | None = None
    routed: Routed | None = None
    risk: RiskAnswer | None = None
    rate: RateAnswer | None = None


class LookUp(OrderAt):
    """Look for an exchange order. With `as_it_is` it may have another quantity or price."""

    as_it_is: bool = False


class Send(Message):
    """One send of an order: leg and generation name it, `stamp` counts its stamped requests.

    `revision` is that of the modification which this leg carries out, 0 for the first leg;
    `new_quantity` then is the order's new total. `before` are events to commit with the claim.
    `replaces` is the exchange order to be cancelled by the same request, where the exchange can.
    After `not_after` it is not claimed any more: what it was decided by is too old.
    """

    order_id: str
    exchange: str
    account: str
    leg: int = 1
    generation: int = 1
    stamp: int = 1
    quantity: Exact
    price: Exact | None = None
    stop_price: Exact | None = None
    revision: int = 0
    new_quantity: Exact | None = None
    before: tuple[LifecycleEvent, ...] = ()
    replaces: OrderAt | None = None
    not_after: Utc | None = None


class SendKind(StrEnum):
    """How a send ended: exchange said yes, no; not known; never reached it; we refused it.

    NOT_PLACED: an earlier try of it was proved to have placed nothing; it takes a new generation.
    The last three are of a replacement that left the old order as it was: the exchange has no such
    request, refused it, or did not cancel the old order (which has a fill, or has ended).
    """

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    NEVER_REACHED = "never_reached"
    REFUSED = "refused"
    NOT_PLACED = "not_placed"
    UNSUPPORTED = "unsupported"
    UNCHANGED = "unchanged"
    NOT_CANCELLED = "not_cancelled"


class SendAnswer(Message):
    """The outcome of a send. `retry_after_s` goes with NEVER_REACHED, `denied` with REFUSED.

    `old_leg_ended`: the order to be replaced was cancelled, although the new one is not there.
    """

    kind: SendKind
    state: OrderState
    stamp: int = 1
    retry_after_s: float = 0.0
    denied: Denied | None = None
    fills_missing: bool = False
    reason: str | None = None
    old_leg_ended: bool = False


class Placed(Message):
    """What came of an order's first step.

    Where nothing had to wait it was `sent` from `exchange` and `account` after `checks_run`, or,
    without that, has ended in `state`. Else nothing was sent: the order is `prepared`, and the
    workflow goes on from there.
    """

    exchange: str = ""
    account: str = ""
    checks_run: tuple[str, ...] = ()
    state: OrderState | None = None
    sent: SendAnswer | None = None
    prepared: Prepared | None = None


class Note(Message):
    """Events to commit for an order, and with them a word on one of its claims.

    `not_placed` names a claim that is concluded, `in_doubt` one whose sender said nothing. Where
    others have found out more about it meanwhile, that stands, and the events do not count.
    `unsent_after` is the newest request that the workflow knows of, for events that hold only
    where no later one was claimed.
    """

    order_id: str
    events: tuple[LifecycleEvent, ...]
    not_placed: OrderAt | None = None
    in_doubt: OrderAt | None = None
    unsent_after: ClaimFacts | None = None


class Reports(Message):
    """What the exchange said about an order, to be translated and committed.

    `generation` is the send that carries the order as far as the workflow knows.
    """

    order_id: str
    reports: tuple[ExecutionReport, ...]
    generation: int = 1


class Booked(Message):
    """The state after a commit. `fills_missing`: the exchange's total is above the booked sum.

    `strays` are sends of the order that are alive beside the one that carries it; `carrier` is
    given where that is another one now. `executed` is what the exchange order that was asked for
    has executed in all. `claim` is a send that the workflow does not know of: the events that hold
    only without it do not count.
    """

    state: OrderState
    fills_missing: bool = False
    strays: tuple[OrderAt, ...] = ()
    claim: ClaimFacts | None = None
    carrier: OrderAt | None = None
    executed: Exact = Decimal(0)


class CancelAt(Message):
    """Cancel an exchange order; one that is to be replaced is not marked as cancelled by wish.

    One that ends strays (`of_strays`) is meant for that very send, whatever carries the order.
    """

    at: OrderAt
    reason: str | None = None
    is_replacement: bool = False
    of_strays: bool = False


class CollectAt(OrderAt):
    """Collect the fills of an exchange order; `of_strays` as in `CancelAt`."""

    of_strays: bool = False


class AmendAt(Message):
    """Change an exchange order in place: the order's new total, its price.

    With `denied`, what speaks against it by now, nothing is sent: it is looked whether what was
    sent before, last at `asked_at`, has been carried out.
    """

    at: OrderAt
    new_quantity: Exact
    new_price: Exact | None = None
    revision: int
    denied: str | None = None
    asked_at: Utc | None = None


class ChangeKind(StrEnum):
    """How a cancel or an amendment ended: done, refused, not known yet, or not possible there."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNSUPPORTED = "unsupported"


class ChangeAnswer(Message):
    """The outcome of a cancel or an amendment, with the state after it; the rest as in `Booked`."""

    kind: ChangeKind
    state: OrderState
    reason: str | None = None
    retry_after_s: float = 0.0
    fills_missing: bool = False
    strays: tuple[OrderAt, ...] = ()
    carrier: OrderAt | None = None


class SightingKind(StrEnum):
    """What a look-up saw: the order, nothing before the fence, nothing after it, no answer."""

    SEEN = "seen"
    NOT_YET = "not_yet"
    NOT_PLACED = "not_placed"
    NO_OBSERVATION = "no_observation"


class Sighting(Message):
    """One observation of an order in doubt."""

    kind: SightingKind
    state: OrderState
    fills_missing: bool = False
    strays: tuple[OrderAt, ...] = ()
    carrier: OrderAt | None = None
    reason: str | None = None
