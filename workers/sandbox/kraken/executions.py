"""The channels ``executions`` and ``balances``: what happens to an account's orders.

Source: "Executions" of WebSocket v2. An order goes pending_new, new, trade (once for each), and
then filled, canceled or expired, each a message of its own; the trade that completes an order still
says partially_filled. As in Kraken's samples, messages that end an order name no symbol.
"""

from decimal import Decimal
from typing import Any

from workers.sandbox.exact import ZERO
from workers.sandbox.kraken import reports
from workers.sandbox.kraken.names import Names, Pair, given_client_id, orders, trades
from workers.sandbox.kraken.numbers import dumps, exact, rfc3339
from workers.sandbox.model import (
    FILLED,
    LIMIT_MAKER,
    PARTIALLY_FILLED,
    STOP_TYPES,
    UNPRICED_TYPES,
    Account,
    AccountTrade,
    Execution,
    Order,
)
from workers.sandbox.user_streams import Subscription, UserStreams

Json = dict[str, Any]
EXECUTIONS, BALANCES = "executions", "balances"
SNAPSHOT_TRADES = 50
STATUSES = {"closed": "filled", "canceled": "canceled", "expired": "expired"}


class Executions:
    """Tells the accounts' subscribers; part of the engine's listener."""

    def __init__(self, streams: UserStreams, names: Names) -> None:
        self._streams = streams
        self._names = names
        self._ledger_entries = 0

    def snapshot(self, subscription: Subscription, params: Json) -> None:
        """Open orders unless told otherwise, and the last trades if asked for."""
        account = subscription.account
        data: list[Json] = []
        if params.get("snap_orders", True):
            data += [self._state(order, "new") for order in orders(account) if order.is_open]
        if params.get("snap_trades", False):
            data += [self._trade(side) for side in trades(account)[:SNAPSHOT_TRADES]]
        self._send(subscription, "snapshot", data, "", ())

    def executed(self, order: Order, execution: Execution) -> None:
        """Turn one of the engine's executions into Kraken's, which are sometimes two."""
        subscriptions = self._streams.of(order.account, EXECUTIONS)
        if not subscriptions:
            return
        for kind, entry in self._entries(order, execution):
            for subscription in subscriptions:
                self._send(subscription, "update", [entry], order.symbol, (kind, execution.kind))

    def _entries(self, order: Order, execution: Execution) -> list[tuple[str, Json]]:
        if execution.kind == "NEW":
            return [(kind, self._state(order, kind)) for kind in ("pending_new", "new")]
        if execution.kind == "REPLACED":
            return [("amended", self._state(order, "amended"))]
        if execution.trade is None:
            kind = STATUSES[reports.status(order)]
            return [(kind, self._end(order, kind))]
        side = AccountTrade(
            execution.trade,
            order,
            execution.commission,
            execution.commission_asset or "",
            execution.is_maker,
        )
        entries = [("trade", self._trade(side))]
        if order.status == FILLED:
            entries.append(("filled", self._end(order, "filled")))
        return entries

    def _send(
        self,
        subscription: Subscription,
        kind: str,
        data: list[Json],
        symbol: str,
        event: tuple[str, ...],
    ) -> None:
        subscription.sequence += 1
        message = {
            "channel": subscription.channel,
            "type": kind,
            "data": data,
            "sequence": subscription.sequence,
        }
        self._streams.send(subscription, dumps(message), symbol, (subscription.channel, *event))

    # What the messages carry.

    def _known(self, order: Order, kind: str) -> Json:
        body: Json = {
            "order_id": self._names.txid(order),
            "order_userref": order.strategy_id or 0,
            "exec_type": kind,
            "timestamp": rfc3339(order.updated_ms),
        }
        client_id = given_client_id(order)
        return body if client_id is None else {**body, "cl_ord_id": client_id}

    def _state(self, order: Order, kind: str) -> Json:
        pair = self._names.of(order.symbol)
        is_part = order.status == PARTIALLY_FILLED
        body = {
            **self._known(order, kind),
            **_totals(order),
            "symbol": pair.symbol,
            "side": order.side.lower(),
            "order_type": reports.ORDER_TYPES[order.type],
            "order_qty": exact(order.quantity),
            "time_in_force": order.time_in_force,
            "order_status": "partially_filled" if is_part else kind,
            "fee_ccy_pref": "fciq",
            "post_only": order.type == LIMIT_MAKER,
        }
        if kind == "amended":
            body["order_status"] = "partially_filled" if is_part else "new"
        return body | _prices(order)

    def _trade(self, side: AccountTrade) -> Json:
        order, trade = side.order, side.trade
        pair: Pair = self._names.of(trade.symbol)
        return {
            **self._known(order, "trade"),
            **_totals(order),
            "timestamp": rfc3339(trade.time_ms),
            "order_status": "partially_filled",
            "exec_id": self._names.trade_txid(side),
            "trade_id": trade.id,
            "symbol": pair.symbol,
            "side": order.side.lower(),
            "order_type": reports.ORDER_TYPES[order.type],
            "last_qty": exact(trade.quantity),
            "last_price": exact(trade.price),
            "cost": exact(trade.quote_quantity),
            "liquidity_ind": "m" if side.is_maker else "t",
            "fees": [{"asset": side.commission_asset, "qty": exact(side.commission)}],
            "fee_usd_equiv": exact(side.commission),
        }

    def _end(self, order: Order, kind: str) -> Json:
        body = {**self._known(order, kind), **_totals(order), "order_status": kind}
        why = reports.reason(order)
        return body if why is None else {**body, "reason": why, "cancel_reason": why}

    # Balances.

    def balance_snapshot(self, subscription: Subscription) -> None:
        assets = list(subscription.account.balances)
        self._send(subscription, "snapshot", _balances(subscription.account, assets), "", ())

    def deposited(self, account: Account, asset: str, amount: Decimal, now_ms: int) -> None:
        """An entry of the ledger; those of trades are left out here."""
        subscriptions = self._streams.of(account, BALANCES)
        if not subscriptions:
            return
        [body] = _balances(account, [asset])
        kind = "deposit" if amount > 0 else "withdrawal"
        self._ledger_entries += 1
        entry = {
            "ledger_id": f"L{self._ledger_entries:05}-{now_ms}",
            "ref_id": f"R{self._ledger_entries:05}-{now_ms}",
            "timestamp": rfc3339(now_ms),
            "type": kind,
            "subtype": "",
            "category": kind,
            "wallet_type": "spot",
            "wallet_id": "main",
            "amount": exact(amount),
            "fee": exact(ZERO),
            **body,
        }
        for subscription in subscriptions:
            self._send(subscription, "update", [entry], "", ("balanceUpdate", kind))

    def balances_changed(self, account: Account, assets: list[str]) -> None:
        for subscription in self._streams.of(account, BALANCES):
            self._send(subscription, "update", _balances(account, assets), "", ())


def _totals(order: Order) -> Json:
    return {
        "cum_qty": exact(order.executed),
        "cum_cost": exact(order.executed_quote),
        "avg_price": exact(round(reports.average(order), 8)),
    }


def _prices(order: Order) -> Json:
    prices: Json = {}
    if order.type not in UNPRICED_TYPES:
        prices["limit_price"] = exact(order.price)
    if order.type in STOP_TYPES:
        prices["stop_price"] = exact(order.stop_price)
        prices["triggers"] = {"reference": "last", "price": exact(order.stop_price)}
    return prices


def _balances(account: Account, assets: list[str]) -> list[Json]:
    found = []
    for asset in assets:
        balance = account.balances[asset]
        total = exact(max(balance.free + balance.locked, ZERO))
        wallet = {"type": "spot", "id": "main", "balance": total}
        found.append(
            {"asset": asset, "asset_class": "currency", "balance": total, "wallets": [wallet]}
        )
    return found
