"""What each reason code means and who says it. The reference page is made from this table."""

from collections.abc import Mapping
from typing import NamedTuple

from trading.oms.enums import ReasonCode


class Meaning(NamedTuple):
    """Who says it (denied: our checks; rejected: the exchange; ended: what became of it)."""

    word: str
    text: str


_DENIED, _REJECTED, _ENDED = "denied", "rejected", "ended"

MEANINGS: Mapping[ReasonCode, Meaning] = {
    ReasonCode.ORDER_EXISTS: Meaning(_DENIED, "The id belongs to an order that exists."),
    ReasonCode.ORDER_EXISTS_WITH_DIFFERENT_CONTENT: Meaning(
        _DENIED, "The id belongs to an order with other content; the text names the fields."
    ),
    ReasonCode.NO_EXCHANGE: Meaning(_DENIED, "No such exchange or account is connected."),
    ReasonCode.UNKNOWN_SYMBOL: Meaning(_DENIED, "The venue does not list the symbol."),
    ReasonCode.PRICE_OFF_TICK: Meaning(
        _DENIED, "The price is no multiple of the tick; the text names the nearest valid values."
    ),
    ReasonCode.QUANTITY_OFF_LOT: Meaning(
        _DENIED, "The quantity is no multiple of the lot; the text names the nearest valid values."
    ),
    ReasonCode.QUANTITY_TOO_SMALL: Meaning(_DENIED, "Below the venue's smallest order."),
    ReasonCode.QUANTITY_TOO_LARGE: Meaning(_DENIED, "Above the venue's largest order."),
    ReasonCode.NOTIONAL_TOO_SMALL: Meaning(_DENIED, "Price times quantity is below the minimum."),
    ReasonCode.NOTIONAL_TOO_LARGE: Meaning(_DENIED, "Price times quantity is above the limit."),
    ReasonCode.UNSUPPORTED: Meaning(_DENIED, "The venue or the router cannot do this."),
    ReasonCode.RISK_CHECK_FAILED: Meaning(
        _DENIED, "A custom check said no, or could not be run; the text names it."
    ),
    ReasonCode.SEND_BY_PASSED: Meaning(
        _DENIED,
        "`send_by` or `expire_at` had passed before it could be sent, or nobody had worked on it "
        "for a minute.",
    ),
    ReasonCode.RATE_LIMITED: Meaning(
        _DENIED,
        "The exchange's rate limit has no room for it before `send_by`, `expire_at` or "
        "OMS_RATE_WAIT_S.",
    ),
    ReasonCode.CANCELLED_BEFORE_SEND: Meaning(_ENDED, "Cancelled; nothing was ever sent."),
    ReasonCode.TRADING_HALTED: Meaning(_DENIED, "Trading is halted for all, account or strategy."),
    ReasonCode.NOT_REDUCING: Meaning(
        _DENIED, "It would not make the position smaller, and nothing else is allowed."
    ),
    ReasonCode.STALE_QUOTE: Meaning(_DENIED, "A check needs a fresh quote and there is none."),
    ReasonCode.STALE_BALANCE: Meaning(
        _DENIED, "The account's balances are not known, or were fetched too long ago."
    ),
    ReasonCode.STALE_INSTRUMENT: Meaning(
        _DENIED, "The venue's rules for the symbol were fetched too long ago."
    ),
    ReasonCode.PRICE_TOO_FAR: Meaning(_DENIED, "The price is too far from the market."),
    ReasonCode.TRIGGER_ON_WRONG_SIDE: Meaning(_DENIED, "The stop would trigger at once."),
    ReasonCode.INSUFFICIENT_FUNDS: Meaning(_DENIED, "The account cannot pay for it."),
    ReasonCode.POSITION_LIMIT: Meaning(_DENIED, "The position could pass its limit."),
    ReasonCode.ORDER_COUNT_LIMIT: Meaning(_DENIED, "Too many orders are open."),
    ReasonCode.ORDER_RATE_LIMIT: Meaning(_DENIED, "Too many orders in the last minute."),
    ReasonCode.EXPOSURE_LIMIT: Meaning(_DENIED, "The exposure could pass its limit."),
    ReasonCode.STRATEGY_POSITION_LIMIT: Meaning(
        _DENIED, "The strategy's own position could pass its limit."
    ),
    ReasonCode.STRATEGY_ORDER_COUNT_LIMIT: Meaning(
        _DENIED, "Too many orders of the strategy are open."
    ),
    ReasonCode.STRATEGY_ORDER_RATE_LIMIT: Meaning(
        _DENIED, "Too many orders of the strategy in the last minute."
    ),
    ReasonCode.STRATEGY_EXPOSURE_LIMIT: Meaning(
        _DENIED, "The strategy's own exposure could pass its limit."
    ),
    ReasonCode.DAILY_LOSS_LIMIT: Meaning(_DENIED, "The strategy has lost its limit today."),
    ReasonCode.EXCHANGE_REJECTED: Meaning(
        _REJECTED, "The exchange refused it; its code and text follow."
    ),
    ReasonCode.EXCHANGE_CANCELLED: Meaning(_ENDED, "The exchange cancelled it, unasked by us."),
    ReasonCode.EXCHANGE_EXPIRED: Meaning(
        _ENDED, "It expired at the exchange: an IOC, FOK or market remainder, self-trade…"
    ),
    ReasonCode.CANCEL_REQUESTED: Meaning(_ENDED, "Cancelled because somebody asked for it."),
    ReasonCode.EXPIRY_REACHED: Meaning(_ENDED, "A good-till-date order reached its date."),
    ReasonCode.NOT_PLACED: Meaning(
        _ENDED, "Sent, and proved to have placed nothing; by its rule it is not sent again."
    ),
    ReasonCode.REPLACE_FAILED: Meaning(
        _ENDED, "A modification cancelled the old exchange order and could not place the new one."
    ),
    ReasonCode.RESENDING_STOPPED: Meaning(
        _ENDED,
        "Proved not placed; two sends of one order were alive on this account, so nothing is sent "
        "again there until an operator says so.",
    ),
    ReasonCode.OPERATOR_DEAD: Meaning(_ENDED, "An operator declared it dead."),
}
