"""The words of the order book: statuses, sides, types and reasons, by the specification's names."""

from enum import StrEnum


class _Word(StrEnum):
    """A string enum that reads its value in any letter case, as other languages spell it."""

    @classmethod
    def _missing_(cls, value: object) -> "_Word | None":
        if isinstance(value, str):
            for member in cls:
                if member.value.lower() == value.lower():
                    return member
        return None


class OrderStatus(_Word):
    """Where an order stands *at the exchange*; what we asked for is `Pending`, doubt is a time."""

    CREATED = "created"
    PENDING_SUBMISSION = "pending_submission"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ERROR = "error"
    EXPIRED = "expired"


OPEN_STATUSES = frozenset(
    {
        OrderStatus.CREATED,
        OrderStatus.PENDING_SUBMISSION,
        OrderStatus.SUBMITTED,
        OrderStatus.ACCEPTED,
        OrderStatus.PARTIALLY_FILLED,
    }
)
TERMINAL_STATUSES = frozenset(OrderStatus) - OPEN_STATUSES


class OrderSide(_Word):
    """The side of the trader."""

    BUY = "buy"
    SELL = "sell"


class OrderType(_Word):
    """How the price is set."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(_Word):
    """How long an order works: till cancelled, immediate-or-cancel, fill-or-kill, till a date."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"


class Pending(_Word):
    """What we have asked the exchange for and not yet heard about."""

    NONE = "none"
    CANCEL = "cancel"
    MODIFY = "modify"


class RejectedBy(_Word):
    """Who said no: our risk checks, the exchange, or the OMS itself (proved not placed)."""

    RISK = "risk"
    EXCHANGE = "exchange"
    OMS = "oms"


class IfNotPlaced(_Word):
    """What to do when a send proved to have placed nothing."""

    RESEND = "resend"
    REJECT = "reject"


class CancelOutcome(_Word):
    """How a cancel ended, as far as is known when it is answered."""

    CANCELLED = "cancelled"
    ALREADY_FILLED = "already_filled"
    ALREADY_ENDED = "already_ended"
    NOT_FOUND = "not_found"
    PENDING = "pending"
    IN_DOUBT = "in_doubt"


class Verdict(_Word):
    """An operator's word on an order in doubt: take what is there, give it up, send it again."""

    ADOPT = "adopt"
    DEAD = "dead"
    RETRY = "retry"


class TradingState(_Word):
    """What may be traded now: everything, only what makes positions smaller, nothing."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class ReasonCode(_Word):
    """Why an order was denied, rejected or ended; the reference page is made from this list."""

    # Denied before anything was sent.
    ORDER_EXISTS = "order_exists"
    ORDER_EXISTS_WITH_DIFFERENT_CONTENT = "order_exists_with_different_content"
    NO_EXCHANGE = "no_exchange"
    UNKNOWN_SYMBOL = "unknown_symbol"
    PRICE_OFF_TICK = "price_off_tick"
    QUANTITY_OFF_LOT = "quantity_off_lot"
    QUANTITY_TOO_SMALL = "quantity_too_small"
    QUANTITY_TOO_LARGE = "quantity_too_large"
    NOTIONAL_TOO_SMALL = "notional_too_small"
    UNSUPPORTED = "unsupported"
    RISK_CHECK_FAILED = "risk_check_failed"
    SEND_BY_PASSED = "send_by_passed"
    RATE_LIMITED = "rate_limited"
    CANCELLED_BEFORE_SEND = "cancelled_before_send"
    TRADING_HALTED = "trading_halted"
    NOT_REDUCING = "not_reducing"
    STALE_QUOTE = "stale_quote"
    STALE_BALANCE = "stale_balance"
    STALE_INSTRUMENT = "stale_instrument"
    PRICE_TOO_FAR = "price_too_far"
    TRIGGER_ON_WRONG_SIDE = "trigger_on_wrong_side"
    NOTIONAL_TOO_LARGE = "notional_too_large"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    POSITION_LIMIT = "position_limit"
    ORDER_COUNT_LIMIT = "order_count_limit"
    ORDER_RATE_LIMIT = "order_rate_limit"
    EXPOSURE_LIMIT = "exposure_limit"
    STRATEGY_POSITION_LIMIT = "strategy_position_limit"
    STRATEGY_ORDER_COUNT_LIMIT = "strategy_order_count_limit"
    STRATEGY_ORDER_RATE_LIMIT = "strategy_order_rate_limit"
    STRATEGY_EXPOSURE_LIMIT = "strategy_exposure_limit"
    DAILY_LOSS_LIMIT = "daily_loss_limit"
    # Said by the exchange.
    EXCHANGE_REJECTED = "exchange_rejected"
    EXCHANGE_CANCELLED = "exchange_cancelled"
    EXCHANGE_EXPIRED = "exchange_expired"
    # Decided by us, from proof or by an operator.
    CANCEL_REQUESTED = "cancel_requested"
    EXPIRY_REACHED = "expiry_reached"
    NOT_PLACED = "not_placed"
    REPLACE_FAILED = "replace_failed"
    RESENDING_STOPPED = "resending_stopped"
    OPERATOR_DEAD = "operator_dead"
