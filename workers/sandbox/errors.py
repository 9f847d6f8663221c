"""Binance's error codes and texts, from "Error codes for Binance".

One exception, ``ApiError``, because on the wire there is one shape: ``{"code": -1121, "msg": "…"}``
with an HTTP status. Each function below makes one documented error; the code is the contract, the
text is Binance's where the document gives it.
"""

from typing import Any

BAD_REQUEST = 400
UNAUTHORIZED = 401
CONFLICT = 409
BANNED = 418
TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503
TOO_MANY_ORDERS = -1015


class ApiError(Exception):
    """An error as it goes over the wire.

    ``retry_after_ms`` is a moment (milliseconds since 1970) and only set for 429 and 418; ``data``
    is the extra object of a failed cancel-replace.
    """

    def __init__(
        self,
        code: int,
        message: str,
        status: int = BAD_REQUEST,
        *,
        retry_after_ms: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_ms = retry_after_ms
        self.data = data

    def body(self) -> dict[str, Any]:
        """The JSON of the answer: ``{"code": int, "msg": str}`` and ``data`` where it has some."""
        body: dict[str, Any] = {"code": self.code, "msg": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


# Requests.


def illegal_characters(name: str, legal: str) -> ApiError:
    return ApiError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def too_many_parameters() -> ApiError:
    return ApiError(-1101, "Duplicate values for a parameter detected.")


def mandatory(name: str) -> ApiError:
    return ApiError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def either(first: str, second: str) -> ApiError:
    return ApiError(-1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!")


def too_great(name: str, greatest: str) -> ApiError:
    return ApiError(
        -1102, f"'{name}' contains unexpected value. Cannot be greater than {greatest}."
    )


def unread_parameters(read: int, sent: int) -> ApiError:
    return ApiError(
        -1104,
        f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.",
    )


def empty(name: str) -> ApiError:
    return ApiError(-1105, f"Parameter '{name}' was empty.")


def not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def overflowed(name: str) -> ApiError:
    return ApiError(-1108, f"Parameter '{name}' overflowed.")


def bad_precision(name: str) -> ApiError:
    return ApiError(-1111, f"Parameter '{name}' has too much precision.")


def invalid_data(name: str) -> ApiError:
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def invalid_time_in_force() -> ApiError:
    return ApiError(-1115, "Invalid timeInForce.")


def invalid_order_type() -> ApiError:
    return ApiError(-1116, "Invalid orderType.")


def invalid_side() -> ApiError:
    return ApiError(-1117, "Invalid side.")


def bad_symbol() -> ApiError:
    return ApiError(-1121, "Invalid symbol.")


def more_than_hours(hours: int) -> ApiError:
    return ApiError(-1127, f"More than {hours} hours between startTime and endTime.")


def bad_combination() -> ApiError:
    return ApiError(-1128, "Combination of optional parameters invalid.")


def invalid_cancel_restrictions() -> ApiError:
    return ApiError(-1145, "Invalid cancelRestrictions")


def invalid_json() -> ApiError:
    return ApiError(-1135, "Invalid JSON Request")


def unknown_path(method: str, path: str) -> ApiError:
    """What Binance's gateway answers for a path that does not exist; not in the error table."""
    return ApiError(-5000, f"Path {path}, Method {method} is invalid", 404)


# Keys, signatures and time.


def outside_recv_window() -> ApiError:
    return ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> ApiError:
    return ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def invalid_signature() -> ApiError:
    return ApiError(-1022, "Signature for this request is not valid.")


def bad_key_format() -> ApiError:
    return ApiError(-2014, "API-key format invalid.", UNAUTHORIZED)


def rejected_key() -> ApiError:
    return ApiError(-2015, "Invalid API-key, IP, or permissions for action.", UNAUTHORIZED)


# Limits.


def too_much_weight(limit: int, interval: str, retry_after_ms: int) -> ApiError:
    return ApiError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per {interval}. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        TOO_MANY_REQUESTS,
        retry_after_ms=retry_after_ms,
    )


def banned(until_ms: int) -> ApiError:
    return ApiError(
        -1003,
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        BANNED,
        retry_after_ms=until_ms,
    )


def too_many_orders(limit: int, interval: str, retry_after_ms: int) -> ApiError:
    return ApiError(
        TOO_MANY_ORDERS,
        f"Too many new orders; current limit is {limit} orders per {interval}.",
        TOO_MANY_REQUESTS,
        retry_after_ms=retry_after_ms,
    )


# Orders.


def filter_failure(name: str) -> ApiError:
    return ApiError(-1013, f"Filter failure: {name}")


def rejected(message: str) -> ApiError:
    return ApiError(-2010, message)


def cancel_rejected(message: str) -> ApiError:
    return ApiError(-2011, message)


def amend_rejected(message: str) -> ApiError:
    return ApiError(-2038, message)


def no_such_order() -> ApiError:
    return ApiError(-2013, "Order does not exist.")


def wrong_client_id() -> ApiError:
    return ApiError(-2039, "Client order ID is not correct for this order ID.")


UNKNOWN_ORDER = "Unknown order sent."
DUPLICATE_ORDER = "Duplicate order sent."
MARKET_CLOSED = "Market is closed."
INSUFFICIENT_BALANCE = "Account has insufficient balance for requested action."
WOULD_TRIGGER = "Order would trigger immediately."
WOULD_MATCH = "Order would immediately match and take."
RESTRICTED = "Order was not canceled due to cancel restrictions."
NO_CHANGE = "The requested action would change no state; rejecting"
NO_INCREASE = "Order amend (quantity increase) is not supported."
NO_LIQUIDITY = "Order book liquidity is less than symbol minimum quantity."


def refused_on_demand(code: int) -> ApiError:
    """What the fault switches refuse an order with; -1015 is the limit of unfilled orders."""
    if code == TOO_MANY_ORDERS:
        return too_many_orders(0, "10 SECOND", 0)
    return ApiError(code, INSUFFICIENT_BALANCE)


# Outcomes that the fault switches can produce; the status of each is the one Binance sends.
UNKNOWN_OUTCOMES: dict[int, tuple[str, int]] = {
    -1006: (
        "An unexpected response was received from the message bus. Execution status unknown.",
        500,
    ),
    -1007: (
        (
            "Timeout waiting for response from backend server. Send status unknown; "
            "execution status unknown."
        ),
        504,
    ),
    -1008: (
        "Server is currently overloaded with other requests. Please try again in a few minutes.",
        503,
    ),
}


def unknown_outcome(code: int) -> ApiError:
    message, status = UNKNOWN_OUTCOMES[code]
    return ApiError(code, message, status)
