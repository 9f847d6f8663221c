"""Capability records: what each exchange can and cannot do, as its documentation says."""

import string

from activities.connectors.binance_limits import BINANCE_CARD
from trading.oms.venue import Amend, Capabilities, DedupeScope


def binance_spot(
    *, fence_ms: int, processing_bound_ms: int, clock_skew_ms: int, data_lag_ms: int
) -> Capabilities:
    """Binance Spot (rest-api.md of July 2026); all margins in milliseconds.

    The fence is `timestamp` with `recvWindow` (at most 60,000), checked on receipt and again just
    before the engine; the API gives up after 10 s (-1007), hence the processing bound. An amend
    may only reduce ("Order Amend Keep Priority"). There is no GTD on spot, and no dead-man switch
    (`countdownCancelAll` is the futures API's).
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
        native_gtd=False,
        client_id_length=36,
        client_id_alphabet=string.ascii_letters + string.digits + "-_",
        order_history_days=90,
        rate_card=BINANCE_CARD,
    )
