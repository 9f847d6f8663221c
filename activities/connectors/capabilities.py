"""Capability records: what each exchange can and cannot do, as its documentation says."""

import string
from decimal import Decimal

from activities.connectors.binance_limits import BINANCE_CARD
from activities.connectors.kraken_limits import STARTER, kraken_card
from trading.oms.venue import Amend, Capabilities, DedupeScope


def kraken_spot(
    *, fence_ms: int, processing_bound_ms: int, clock_skew_ms: int, data_lag_ms: int, tier: str = ""
) -> Capabilities:
    """Kraken Spot (docs.kraken.com, "Add Order", "Spot Client Order Identifiers").

    The fence is `deadline` (RFC 3339, at most 60 s ahead), after which the engine drops the
    request. A client id is a UUID with or without dashes, or free text of at most 18 characters;
    ours are 32 hexadecimal digits. An amend changes quantity and price in place and keeps the ids.
    The key's nonce must rise: give each worker process a key of its own, or the key a nonce window.
    The dead-man switch counts whole seconds ("Cancel All Orders After X"). The limits are those of
    the account's `tier`; raises `StartUpError` for one that Kraken does not have. The fee is that
    of the first volume tier ("Fee schedule"), in the quote asset unless an order asks otherwise.
    """
    return Capabilities(
        exchange_kind="kraken",
        dedupe_scope=DedupeScope.OPEN_ONLY,
        lookup_by_client_id=True,
        fence="deadline",
        fence_ms=fence_ms,
        processing_bound_ms=processing_bound_ms,
        clock_skew_ms=clock_skew_ms,
        clock_step_ms=1000,
        data_lag_ms=data_lag_ms,
        amend=Amend.IN_PLACE,
        native_gtd=False,
        client_id_length=32,
        client_id_alphabet="0123456789abcdef",
        order_history_days=90,
        cancel_all_after="CancelAllOrdersAfter",
        taker_fee=Decimal("0.004"),
        fee_in_quote=True,
        rate_card=kraken_card(tier or STARTER),
        stale_stamp_codes=("EService:Deadline elapsed", "EAPI:Invalid nonce"),
        rule_refusal_codes=(
            "EOrder:Tick size check failed",
            "EOrder:Order minimum not met",
            "EOrder:Cost minimum not met",
            "EOrder:Invalid price",
            "EGeneral:Invalid arguments",
            "EService:Market in cancel_only mode",
        ),
    )


def binance_spot(
    *, fence_ms: int, processing_bound_ms: int, clock_skew_ms: int, data_lag_ms: int
) -> Capabilities:
    """Binance Spot (rest-api.md of July 2026); all margins in milliseconds.

    The fence is `timestamp` with `recvWindow` (at most 60,000), checked on receipt and again just
    before the engine; the API gives up after 10 s (-1007), hence the processing bound. An amend
    may only reduce ("Order Amend Keep Priority"); an order without a fill is replaced in one
    request ("Cancel an Existing Order and Send a New Order"). There is no GTD on spot, and no
    dead-man switch (`countdownCancelAll` is the futures API's). The fee is a regular user's, taken
    from what is received.
    """
    return Capabilities(
        exchange_kind="binance",
        dedupe_scope=DedupeScope.OPEN_ONLY,
        lookup_by_client_id=True,
        fence="recvWindow",
        fence_ms=fence_ms,
        processing_bound_ms=processing_bound_ms,
        clock_skew_ms=clock_skew_ms,
        data_lag_ms=data_lag_ms,
        amend=Amend.IN_PLACE_REDUCE,
        cancel_replace=True,
        native_gtd=False,
        client_id_length=36,
        client_id_alphabet=string.ascii_letters + string.digits + "-_",
        order_history_days=90,
        cancel_all=True,
        taker_fee=Decimal("0.001"),
        rate_card=BINANCE_CARD,
        stale_stamp_codes=("-1021",),
        rule_refusal_codes=("-1013", "-1121"),
    )
