"""Orders, trades and balances as Binance writes them ("Public Rest API", "User Data Streams")."""

from collections.abc import Iterable
from typing import Any

from workers.sandbox.config import SandboxConfig
from workers.sandbox.exact import ZERO, text
from workers.sandbox.market import Market
from workers.sandbox.model import (
    CANCELED,
    EXPIRED_IN_MATCH,
    STOP_TYPES,
    Account,
    AccountTrade,
    Amendment,
    Execution,
    NewOrder,
    Order,
    Trade,
)

Json = dict[str, Any]
NONE = text(ZERO)


def acknowledgement(order: Order) -> Json:
    """Response type ACK of a new order."""
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": order.created_ms,
    }


def result(order: Order) -> Json:
    """Response type RESULT of a new order."""
    body = acknowledgement(order)
    body.update(_state(order))
    if order.working_ms is not None:
        body["workingTime"] = order.working_ms
    body["selfTradePreventionMode"] = order.stp
    return _conditional(order, body)


def full(order: Order) -> Json:
    """Response type FULL: RESULT and ``fills``, one for each trade."""
    body = result(order)
    body["fills"] = [_fill(order, trade) for trade in order.fills]
    return body


def _fill(order: Order, trade: Trade) -> Json:
    is_buyer = trade.buyer is order
    return {
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "commission": text(trade.buyer_commission if is_buyer else trade.seller_commission),
        "commissionAsset": trade.buyer_fee_asset if is_buyer else trade.quote,
        "tradeId": trade.id,
    }


def cancellation(order: Order) -> Json:
    """The answer to a cancel: ``origClientOrderId`` is the order's, ``clientOrderId`` the cancel's.

    ``status`` is CANCELED; everything else is the order's last state.
    """
    body = {
        "symbol": order.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": order.cancel_id,
        "transactTime": order.updated_ms,
    }
    body.update(_state(order))
    body["status"] = CANCELED
    body["selfTradePreventionMode"] = order.stp
    return _conditional(order, body)


def query(order: Order) -> Json:
    """An order as "Query order", "Current open orders" and "All orders" show it."""
    body: Json = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
    }
    body.update(_state(order))
    body.update(
        {
            "stopPrice": text(order.stop_price),
            "icebergQty": NONE,
            "time": order.created_ms,
            "updateTime": order.updated_ms,
            "isWorking": order.working_ms is not None,
            "workingTime": -1 if order.working_ms is None else order.working_ms,
            "selfTradePreventionMode": order.stp,
        }
    )
    return _conditional(order, body)


def amended(order: Order, amendment: Amendment) -> Json:
    """The answer to "Order Amend Keep Priority"."""
    body: Json = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": -1,
        "origClientOrderId": amendment.old_client_id,
        "clientOrderId": amendment.new_client_id,
        "price": text(order.price),
        "qty": text(order.quantity),
        "executedQty": text(order.executed),
        "preventedQty": text(order.prevented),
        "quoteOrderQty": text(order.quote_quantity),
        "cumulativeQuoteQty": text(order.executed_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.stp,
    }
    return {
        "transactTime": amendment.time_ms,
        "executionId": amendment.execution_id,
        "amendedOrder": body,
    }


def amendment_entry(order: Order, amendment: Amendment) -> Json:
    """One entry of "Query Order Amendments"."""
    return {
        "symbol": order.symbol,
        "orderId": order.id,
        "executionId": amendment.execution_id,
        "origClientOrderId": amendment.old_client_id,
        "newClientOrderId": amendment.new_client_id,
        "origQty": text(amendment.old_quantity),
        "newQty": text(amendment.new_quantity),
        "time": amendment.time_ms,
    }


def _state(order: Order) -> Json:
    return {
        "price": text(order.price),
        "origQty": text(order.quantity),
        "executedQty": text(order.executed),
        "origQuoteOrderQty": text(order.quote_quantity),
        "cummulativeQuoteQty": text(order.executed_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
    }


def _conditional(order: Order, body: Json) -> Json:
    """The fields that appear under conditions ("Conditional fields in Order Responses")."""
    if order.type in STOP_TYPES:
        body["stopPrice"] = text(order.stop_price)
    if order.strategy_id is not None:
        body["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        body["strategyType"] = order.strategy_type
    if order.status == EXPIRED_IN_MATCH:
        body["preventedMatchId"] = order.prevented_match_id
        body["preventedQuantity"] = text(order.prevented)
    if order.expiry_reason is not None:
        body["expiryReason"] = order.expiry_reason
    return body


def my_trade(trade: AccountTrade) -> Json:
    """One entry of "Account trade list"."""
    match = trade.trade
    return {
        "symbol": match.symbol,
        "id": match.id,
        "orderId": trade.order.id,
        "orderListId": -1,
        "price": text(match.price),
        "qty": text(match.quantity),
        "quoteQty": text(match.quote_quantity),
        "commission": text(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": match.time_ms,
        "isBuyer": trade.order is match.buyer,
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def account_information(account: Account, config: SandboxConfig, omit_zero: bool) -> Json:  # noqa: FBT001
    """The answer to "Account information": commissions in basis points, and as rates."""
    return {
        "makerCommission": int(config.maker_fee * 10000),
        "takerCommission": int(config.taker_fee * 10000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": text(config.maker_fee),
            "taker": text(config.taker_fee),
            "buyer": NONE,
            "seller": NONE,
        },
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": account.updated_ms,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": text(balance.free), "locked": text(balance.locked)}
            for asset, balance in sorted(account.balances.items())
            if not omit_zero or balance.free or balance.locked
        ],
        "permissions": ["SPOT"],
        "uid": account.uid,
    }


# Events of the user data stream.


def execution_report(order: Order, execution: Execution, event_ms: int) -> Json:
    """``executionReport`` ("Order Update").

    ``C`` is the client id of the order that a cancel or an amendment was about, and then ``c`` is
    the id of the cancel, or the new id; otherwise ``C`` is empty and ``c`` is the order's.
    """
    trade = execution.trade
    event: Json = {
        "e": "executionReport",
        "E": event_ms,
        "s": order.symbol,
        "c": execution.client_id or order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": text(order.quantity),
        "p": text(order.price),
        "P": text(order.stop_price),
        "F": NONE,
        "g": -1,
        "C": execution.original_client_id,
        "x": execution.kind,
        "X": order.status,
        "r": execution.reject_reason,
        "i": order.id,
        "l": NONE if trade is None else text(trade.quantity),
        "z": text(order.executed),
        "L": NONE if trade is None else text(trade.price),
        "n": "0" if trade is None else text(execution.commission),
        "N": execution.commission_asset,
        "T": execution.time_ms,
        "t": -1 if trade is None else trade.id,
        "I": execution.id,
        "w": order.working_ms is not None and order.is_open,
        "m": execution.is_maker,
        "M": trade is not None,
        "O": order.created_ms,
        "Z": text(order.executed_quote),
        "Y": NONE if trade is None else text(trade.quote_quantity),
        "Q": text(order.quote_quantity),
        "V": order.stp,
    }
    return _conditional_event(order, execution, event)


def _conditional_event(order: Order, execution: Execution, event: Json) -> Json:
    if order.working_ms is not None:
        event["W"] = order.working_ms
    if order.strategy_id is not None:
        event["j"] = order.strategy_id
    if order.strategy_type is not None:
        event["J"] = order.strategy_type
    if execution.prevented is not None:
        prevented = execution.prevented
        event["v"] = prevented.match_id
        event["A"] = text(order.prevented)
        event["B"] = text(prevented.expired_quantity)
        event["u"] = order.account.uid
        event["U"] = prevented.counter_order_id
        event["Cs"] = order.symbol
        event["pl"] = text(prevented.quantity)
        event["pL"] = text(prevented.price)
        event["pY"] = text(prevented.price * prevented.quantity)
    if execution.kind == "EXPIRED" and order.expiry_reason is not None:
        event["eR"] = order.expiry_reason
    return event


def rejection_report(request: NewOrder, reason: str, execution: Execution, event_ms: int) -> Json:
    """``executionReport`` with ``x`` REJECTED: the new order of a half-failed cancel-replace."""
    event: Json = {
        "e": "executionReport",
        "E": event_ms,
        "s": request.symbol,
        "c": request.client_id,
        "S": request.side,
        "o": request.type,
        "f": request.time_in_force,
        "q": text(request.quantity),
        "p": text(request.price),
        "P": text(request.stop_price),
        "F": NONE,
        "g": -1,
        "C": "",
        "x": "REJECTED",
        "X": "REJECTED",
        "r": reason,
        "i": -1,
        "l": NONE,
        "z": NONE,
        "L": NONE,
        "n": "0",
        "N": None,
        "T": execution.time_ms,
        "t": -1,
        "I": execution.id,
        "w": False,
        "m": False,
        "M": False,
        "O": execution.time_ms,
        "Z": NONE,
        "Y": NONE,
        "Q": text(request.quote_quantity),
        "V": request.stp,
    }
    return event


def account_position(account: Account, assets: Iterable[str], event_ms: int) -> Json:
    """``outboundAccountPosition`` ("Account Update") with the assets that may have changed."""
    return {
        "e": "outboundAccountPosition",
        "E": event_ms,
        "u": account.updated_ms,
        "B": [
            {
                "a": asset,
                "f": text(account.balances[asset].free),
                "l": text(account.balances[asset].locked),
            }
            for asset in assets
        ],
    }


def balance_update(asset: str, delta: str, event_ms: int) -> Json:
    """``balanceUpdate``: a deposit or a withdrawal."""
    return {"e": "balanceUpdate", "E": event_ms, "a": asset, "d": delta, "T": event_ms}


def best_quote(market: Market) -> tuple[str, str, str, str]:
    """Bid, its quantity, ask, its quantity; zeros where the book is empty."""
    bid, ask = market.book.best()
    return (
        NONE if bid is None else text(bid.price),
        NONE if bid is None else text(bid.quantity),
        NONE if ask is None else text(ask.price),
        NONE if ask is None else text(ask.quantity),
    )
