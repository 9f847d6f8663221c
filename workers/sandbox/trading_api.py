"""The TRADE endpoints: new order, test, cancel, cancel all, cancel-replace, amend.

Each method checks a request and returns the step for the engine. Source: "Trading endpoints" of the
Public Rest API.
"""

from collections.abc import Callable
from typing import Any

from workers.sandbox import errors, filters, params, reports
from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.exact import text
from workers.sandbox.limits import Limits
from workers.sandbox.market import Market
from workers.sandbox.model import NEW, PARTIALLY_FILLED, Account, Execution, NewOrder, Order
from workers.sandbox.routes import SIGNATURE_PARAMETERS, TRADE, Call, Route

ORDER_PARAMETERS = SIGNATURE_PARAMETERS | {
    "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price",
    "newClientOrderId", "strategyId", "strategyType", "stopPrice", "trailingDelta", "icebergQty",
    "newOrderRespType", "selfTradePreventionMode", "pegPriceType", "pegOffsetValue",
    "pegOffsetType",
}  # fmt: skip
CANCEL_PARAMETERS = SIGNATURE_PARAMETERS | {
    "symbol", "orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions",
}  # fmt: skip
REPLACE_PARAMETERS = ORDER_PARAMETERS | {
    "cancelReplaceMode", "cancelNewClientOrderId", "cancelOrigClientOrderId", "cancelOrderId",
    "cancelRestrictions", "orderRateLimitExceededMode",
}  # fmt: skip
AMEND_PARAMETERS = SIGNATURE_PARAMETERS | {
    "symbol", "orderId", "origClientOrderId", "newClientOrderId", "newQty",
}  # fmt: skip
RESTRICTIONS = {"ONLY_NEW": NEW, "ONLY_PARTIALLY_FILLED": PARTIALLY_FILLED}
REJECT_REASONS = {
    errors.INSUFFICIENT_BALANCE: "INSUFFICIENT_BALANCES",
    errors.WOULD_TRIGGER: "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY",
    errors.WOULD_MATCH: "WOULD_MATCH_IMMEDIATELY",
}
SHAPES: dict[str, Callable[[Order], dict[str, Any]]] = {
    "ACK": reports.acknowledgement,
    "RESULT": reports.result,
    "FULL": reports.full,
}

Step = Callable[[], Any]


class TradingApi:
    """The trading routes over an engine."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        on_rejected: Callable[[Account, NewOrder, str, Execution], None],
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._on_rejected = on_rejected

    def routes(self) -> list[Route]:
        return [
            Route(
                "POST /api/v3/order", "order.place", TRADE, 1, ORDER_PARAMETERS,
                prepare=self.place, counts_order=True, free_on_success=True,
            ),
            Route(
                "POST /api/v3/order/test", "order.test", TRADE,
                lambda p: 20 if p.get("computeCommissionRates") == "true" else 1,
                ORDER_PARAMETERS | {"computeCommissionRates"}, prepare=self.test,
            ),
            Route(
                "DELETE /api/v3/order", "order.cancel", TRADE, 1, CANCEL_PARAMETERS,
                prepare=self.cancel, free_on_success=True,
            ),
            Route(
                "DELETE /api/v3/openOrders", "openOrders.cancelAll", TRADE, 1,
                SIGNATURE_PARAMETERS | {"symbol"}, prepare=self.cancel_all,
            ),
            Route(
                "POST /api/v3/order/cancelReplace", "order.cancelReplace", TRADE, 1,
                REPLACE_PARAMETERS, prepare=self.cancel_replace, counts_order=True,
                free_on_success=True,
            ),
            Route(
                "PUT /api/v3/order/amend/keepPriority", "order.amend.keepPriority", TRADE, 4,
                AMEND_PARAMETERS, prepare=self.amend,
            ),
        ]  # fmt: skip

    # New orders.

    def place(self, call: Call) -> Step:
        request, shape = self._read_order(call)
        self._limits.check_order(call.owner)

        def step() -> Any:
            return shape(self._placed(call, request))

        return step

    def test(self, call: Call) -> Step:
        self._read_order(call)
        rates = (
            self._rates() if params.boolean(call.params, "computeCommissionRates", False) else {}
        )
        return lambda: rates

    def _read_order(self, call: Call) -> tuple[NewOrder, Callable[[Order], dict[str, Any]]]:
        market = params.market_of(call.params, self._engine.markets)
        request = params.new_order(call.params, market)
        shape = SHAPES[params.response_type(call.params, request.type)]
        filters.check_new_order(request, market, call.owner)
        return request, shape

    def _placed(self, call: Call, request: NewOrder) -> Order:
        """Count one more unfilled order, from which its own fills give back; not if refused."""
        self._limits.count_order(call.owner)
        try:
            order = self._engine.place(call.owner, request)
        except ApiError:
            self._limits.discount_order(call.owner)
            raise
        call.headers.update(self._limits.order_headers(call.owner))
        return order

    def _rates(self) -> dict[str, Any]:
        config = self._engine.config
        zero = {"maker": reports.NONE, "taker": reports.NONE}
        return {
            "standardCommissionForOrder": {
                "maker": text(config.maker_fee),
                "taker": text(config.taker_fee),
            },
            "specialCommissionForOrder": zero,
            "taxCommissionForOrder": zero,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "BNB",
                "discount": reports.NONE,
            },
        }

    # Ending orders.

    def cancel(self, call: Call) -> Step:
        market = params.market_of(call.params, self._engine.markets)
        cancel_id = params.client_id(call.params, "newClientOrderId")
        restriction = self._restriction(call)
        order_id, client_id = which_order(call, "orderId", "origClientOrderId")

        def step() -> Any:
            order = self._cancelled(call.owner, market, (order_id, client_id), restriction)
            self._engine.cancel(order, cancel_id)
            return reports.cancellation(order)

        return step

    def cancel_all(self, call: Call) -> Step:
        symbol = params.market_of(call.params, self._engine.markets).spec.symbol

        def step() -> Any:
            orders = list(call.owner.open_orders.get(symbol, {}).values())
            if not orders:
                raise errors.cancel_rejected(errors.UNKNOWN_ORDER)
            cancel_id = self._engine.new_id()
            for order in orders:
                self._engine.cancel(order, cancel_id)
            return [reports.cancellation(order) for order in orders]

        return step

    @staticmethod
    def _restriction(call: Call) -> str | None:
        value = params.optional(call.params, "cancelRestrictions")
        if value is None:
            return None
        if value not in RESTRICTIONS:
            raise errors.invalid_cancel_restrictions()
        return RESTRICTIONS[value]

    @staticmethod
    def _cancelled(
        account: Account, market: Market, which: tuple[int | None, str], restriction: str | None
    ) -> Order:
        """The open order that is meant. Errors: -2011 unknown or restricted, -2039."""
        order = find_order(account, market.spec.symbol, *which)
        if order is None or not order.is_open:
            raise errors.cancel_rejected(errors.UNKNOWN_ORDER)
        if restriction is not None and order.status != restriction:
            raise errors.cancel_rejected(errors.RESTRICTED)
        return order

    # Cancel and replace.

    def cancel_replace(self, call: Call) -> Step:
        """Cancel, then place. Filters and the order count come before both."""
        request, shape = self._read_order(call)
        market = self._engine.markets[request.symbol]
        mode = params.need(call.params, "cancelReplaceMode")
        if mode not in {"STOP_ON_FAILURE", "ALLOW_FAILURE"}:
            raise errors.invalid_data("cancelReplaceMode")
        cancel_id = params.client_id(call.params, "cancelNewClientOrderId")
        restriction = self._restriction(call)
        which = which_order(call, "cancelOrderId", "cancelOrigClientOrderId")
        exceeded = self._exceeded(call)

        def cancel() -> Any:
            order = self._cancelled(call.owner, market, which, restriction)
            self._engine.cancel(order, cancel_id)
            return reports.cancellation(order)

        def place() -> Any:
            if exceeded is not None:
                raise exceeded
            if call.refused_half is not None:
                raise errors.refused_on_demand(call.refused_half)
            return shape(self._placed(call, request))

        def step() -> Any:
            return self._replaced(call, request, (cancel, place), stop=mode == "STOP_ON_FAILURE")

        return step

    def _exceeded(self, call: Call) -> ApiError | None:
        """The order-count error, if CANCEL_ONLY says that the cancel goes on in spite of it."""
        mode = params.optional(call.params, "orderRateLimitExceededMode") or "DO_NOTHING"
        if mode not in {"DO_NOTHING", "CANCEL_ONLY"}:
            raise errors.invalid_data("orderRateLimitExceededMode")
        try:
            self._limits.check_order(call.owner)
        except ApiError as error:
            if mode == "DO_NOTHING":
                raise
            return error
        return None

    def _replaced(
        self, call: Call, request: NewOrder, steps: tuple[Step, Step], *, stop: bool
    ) -> Any:
        cancel, place = steps
        cancel_error, cancelled = _try(cancel)
        if cancel_error is not None and stop:
            self._limits.count_order(call.owner)
            raise _half_failed((cancel_error, cancel_error.body()), (None, None))
        place_error, placed = _try(place)
        if place_error is None and cancel_error is None:
            return {
                "cancelResult": "SUCCESS",
                "newOrderResult": "SUCCESS",
                "cancelResponse": cancelled,
                "newOrderResponse": placed,
            }
        if place_error is not None and cancel_error is None:
            self._tell_rejection(call.owner, request, place_error)
        raise _half_failed(
            (cancel_error, cancelled if cancel_error is None else cancel_error.body()),
            (place_error, placed if place_error is None else place_error.body()),
        )

    def _tell_rejection(self, account: Account, request: NewOrder, error: ApiError) -> None:
        market = self._engine.markets[request.symbol]
        execution = Execution("REJECTED", market.next_execution_id(), self._engine.clock.now_ms())
        reason = REJECT_REASONS.get(error.message, "NONE")
        self._on_rejected(account, request, reason, execution)

    # Amending.

    def amend(self, call: Call) -> Step:
        market = params.market_of(call.params, self._engine.markets)
        params.need(call.params, "newQty")
        quantity = params.decimal(call.params, "newQty")
        client_id = params.client_id(call.params, "newClientOrderId")
        which = which_order(call, "orderId", "origClientOrderId")
        filters.check_quantity(quantity, market.spec)

        def step() -> Any:
            order = find_order(call.owner, market.spec.symbol, *which)
            if order is None:
                raise errors.amend_rejected(errors.UNKNOWN_ORDER)
            amendment = self._engine.amend(order, quantity, client_id)
            return reports.amended(order, amendment)

        return step


def _try(step: Step) -> tuple[ApiError | None, Any]:
    try:
        return None, step()
    except ApiError as error:
        return error, None


def _half_failed(cancel: tuple[ApiError | None, Any], new: tuple[ApiError | None, Any]) -> ApiError:
    """-2022 when nothing succeeded, -2021 (409, or 429 by the order count) when one half did."""
    (cancel_error, cancel_response), (new_error, new_response) = cancel, new
    attempted = new_response is not None
    new_result = "NOT_ATTEMPTED" if not attempted else "FAILURE" if new_error else "SUCCESS"
    data = {
        "cancelResult": "FAILURE" if cancel_error else "SUCCESS",
        "newOrderResult": new_result,
        "cancelResponse": cancel_response,
        "newOrderResponse": new_response,
    }
    if cancel_error and new_result != "SUCCESS":
        return ApiError(-2022, "Order cancel-replace failed.", data=data)
    status = errors.CONFLICT
    retry_after_ms = None
    if new_error is not None and new_error.status == errors.TOO_MANY_REQUESTS:
        status, retry_after_ms = new_error.status, new_error.retry_after_ms
    return ApiError(
        -2021,
        "Order cancel-replace partially failed.",
        status,
        retry_after_ms=retry_after_ms,
        data=data,
    )


def which_order(call: Call, id_name: str, client_id_name: str) -> tuple[int | None, str]:
    """The two ways to name an order; at least one is there. Errors: -1102."""
    order_id = params.long(call.params, id_name)
    client_id = params.client_id(call.params, client_id_name)
    if order_id is None and not client_id:
        raise errors.either(client_id_name, id_name)
    return order_id, client_id


def find_order(account: Account, symbol: str, order_id: int | None, client_id: str) -> Order | None:
    """By id first, and then the client id has to be that order's. Errors: -2039."""
    if order_id is None:
        return account.by_client_id.get((symbol, client_id))
    order = account.orders.get(symbol, {}).get(order_id)
    if order is not None and client_id and order.client_id != client_id:
        raise errors.wrong_client_id()
    return order
