"""Kraken's errors: texts in a list, with HTTP 200 ("Spot Error Messages")."""

from workers.sandbox import errors
from workers.sandbox.errors import ApiError


class KrakenError(Exception):
    """One refusal as it goes over the wire: ``{"error": [text]}``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def unknown_pair() -> KrakenError:
    return KrakenError("EQuery:Unknown asset pair")


def invalid(name: str = "") -> KrakenError:
    """A parameter that is missing or wrong."""
    return KrakenError("EGeneral:Invalid arguments" + (f":{name}" if name else ""))


INVALID_KEY = "EAPI:Invalid key"
INVALID_SIGNATURE = "EAPI:Invalid signature"
INVALID_NONCE = "EAPI:Invalid nonce"
CALLS_EXCEEDED = "EAPI:Rate limit exceeded"
ORDERS_EXCEEDED = "EOrder:Rate limit exceeded"
LOCKED_OUT = "EGeneral:Temporary lockout"
DEADLINE = "EService:Deadline elapsed"
UNKNOWN_METHOD = "EGeneral:Unknown method"
UNKNOWN_ORDER = "EOrder:Unknown order"
UNAVAILABLE = "EService:Unavailable"
POST_ONLY = "EOrder:Post only order"
DUPLICATE = "EGeneral:Invalid arguments:cl_ord_id not unique"

# What the engine and the filters say in Binance's words.
_WORDS = {
    errors.DUPLICATE_ORDER: DUPLICATE,
    errors.INSUFFICIENT_BALANCE: "EOrder:Insufficient funds",
    errors.WOULD_MATCH: POST_ONLY,
    errors.WOULD_TRIGGER: "EOrder:Invalid price",
    errors.NO_LIQUIDITY: "EOrder:Insufficient liquidity",
    errors.MARKET_CLOSED: "EService:Market in cancel_only mode",
    errors.UNKNOWN_ORDER: UNKNOWN_ORDER,
    "Filter failure: PRICE_FILTER": "EOrder:Tick size check failed",
    "Filter failure: LOT_SIZE": "EOrder:Order minimum not met",
    "Filter failure: MARKET_LOT_SIZE": "EGeneral:Invalid arguments:volume",
    "Filter failure: NOTIONAL": "EOrder:Cost minimum not met",
    "Filter failure: MAX_NUM_ORDERS": "EOrder:Orders limit exceeded",
    "Filter failure: MAX_NUM_ALGO_ORDERS": "EOrder:Orders limit exceeded",
}


def in_krakens_words(error: ApiError) -> KrakenError:
    return KrakenError(_WORDS.get(error.message, "EGeneral:Invalid arguments"))


# The fault switches have Binance's names; this is what Kraken says where the outcome is unknown.
OUTCOMES = {
    "code_-1006": "EGeneral:Internal error",
    "code_-1007": UNAVAILABLE,
    "code_-1008": "EService:Busy",
}
