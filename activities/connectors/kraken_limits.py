"""Kraken Spot's rate limits: two counters that decay, by the account's verification tier.

Sources: "Spot Trading Limits" (one counter per account and pair) and "Spot REST Rate Limits" (one
of the account's private calls). What a cancel or an amend costs depends on the order's age; counted
is the most that it can be (8, and 1 + 3 for an order younger than 5 s), so the count here is an
upper bound, and new orders wait longer than Kraken asks where old orders are cancelled. A cancel is
counted and waits for nothing: the engine counts it too, and refuses new orders and changes alone.
"""

from collections.abc import Mapping

from activities.connectors.classify import Answer
from trading.oms.errors import StartUpError
from trading.oms.rate_card import EndpointCost, PoolKind, PoolScope, RateCard, RatePool
from trading.oms.request_gate import Response

TRADING, CALLS = "trading", "calls"
STARTER = "starter"
NO_LIMITS = "none"
"""For an account whose limits are agreed upon and never reached, and for sandboxes."""
_TIERS = {
    STARTER: (60, 1.0, 15, 0.33),
    "intermediate": (125, 2.34, 20, 0.5),
    "pro": (180, 3.75, 20, 1.0),
}
"""Threshold and decay a second of the trading counter, then those of the counter of calls."""
_PAUSES: Mapping[str, tuple[float, str | None]] = {
    "EOrder:Rate limit exceeded": (5.0, TRADING),
    "EAPI:Rate limit exceeded": (5.0, None),
    "EAuth:Rate limit exceeded": (5.0, None),
    "EAuth:Too many requests": (5.0, None),
    "EGeneral:Too many requests": (5.0, None),
    "EGeneral:Temporary lockout": (60.0, None),
}
"""Seconds (Kraken names none) and what stops: by then a counter has room, or a try is worth it."""
_AT_THE_DOOR_S = 5.0
_CANCEL, _AMEND = 8, 4
_LOOK_UPS = ("OpenOrders", "ClosedOrders", "QueryOrders", "QueryTrades")
_CALLS_KEPT = 0.3
"""This part of the few calls is kept for the look-up of an order in doubt."""


def kraken_card(tier: str = STARTER) -> RateCard:
    """The counters of a tier. Raises `StartUpError` for one that Kraken does not have."""
    if tier == NO_LIMITS:
        return RateCard()
    if tier not in _TIERS:
        known = ", ".join([*_TIERS, NO_LIMITS])
        raise StartUpError(f"tier is {tier!r}; allowed are: {known}")
    trading, trading_decay, calls, calls_decay = _TIERS[tier]
    return RateCard(
        pools=(
            RatePool(
                name=TRADING,
                family=TRADING,
                kind=PoolKind.DECAYING,
                scope=PoolScope.SYMBOL,
                limit=trading,
                decay_per_s=trading_decay,
            ),
            RatePool(
                name=CALLS,
                family=CALLS,
                kind=PoolKind.DECAYING,
                scope=PoolScope.ACCOUNT,
                limit=calls,
                decay_per_s=calls_decay,
                urgent_share=_CALLS_KEPT,
            ),
        ),
        endpoints={
            "POST AddOrder": EndpointCost(costs={TRADING: 1}),
            "POST AmendOrder": EndpointCost(costs={TRADING: _AMEND}, urgent=True),
            "POST CancelOrder": EndpointCost(costs={TRADING: _CANCEL}, urgent=True, held=False),
            "POST CancelAllOrdersAfter": EndpointCost(costs={CALLS: 1}, urgent=True, held=False),
            "POST TradesHistory": EndpointCost(costs={CALLS: 2}),
            "POST BalanceEx": EndpointCost(costs={CALLS: 1}),
            # Once a connection, within the time-out of one; what the stream misses costs more.
            "POST GetWebSocketsToken": EndpointCost(costs={CALLS: 1}, urgent=True),
            **{f"POST {name}": EndpointCost(costs={CALLS: 1}) for name in _LOOK_UPS},
        },
        place="POST AddOrder",
    )


def response_of(answer: Answer) -> Response:
    """Kraken counts without telling; what is refused for a limit asks for a pause.

    So does whatever stands before it, which knows no codes: by the status alone.
    """
    seconds, family = _PAUSES.get(answer.code or "", (None, None))
    if seconds is None and answer.is_too_many:
        seconds = max(_AT_THE_DOOR_S, answer.retry_after or 0)
    return Response({}, pauses=seconds is not None, pauses_family=family, retry_after_s=seconds)
