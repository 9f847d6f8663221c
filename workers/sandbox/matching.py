"""Orders meeting: the match loop, self-trade prevention, and how an order ends."""

import time
from decimal import Decimal
from typing import Protocol

from workers.sandbox.clock import Clock
from workers.sandbox.ledger import Ledger
from workers.sandbox.market import Market
from workers.sandbox.model import (
    BUY,
    EXPIRED,
    EXPIRED_IN_MATCH,
    FILLED,
    PARTIALLY_FILLED,
    UNPRICED_TYPES,
    Account,
    AccountTrade,
    Execution,
    Order,
    Prevention,
    Trade,
)


class Listener(Protocol):
    """Who is told what happened, in the order in which it happened."""

    def executed(self, order: Order, execution: Execution) -> None: ...

    def traded(self, trade: Trade) -> None: ...

    def balances_changed(self, account: Account, assets: list[str]) -> None: ...

    def deposited(self, account: Account, asset: str, amount: Decimal) -> None: ...

    def book_changed(self, market: Market) -> None: ...


class Matcher:
    """Trades an order against the book and keeps the record of trades with a user in them."""

    def __init__(self, ledger: Ledger, clock: Clock, listener: Listener) -> None:
        self._ledger = ledger
        self._clock = clock
        self.listener = listener
        self.trades: list[Trade] = []

    def match(self, taker: Order, market: Market) -> None:
        """Trade until the order is done or nothing in the book is within its limit."""
        limit = None if taker.type in UNPRICED_TYPES else taker.price
        while taker.is_open:
            maker = market.book.next_maker(taker.side, limit)
            if maker is None:
                return
            if maker.account is taker.account and taker.stp != "NONE":
                self._prevent(taker, maker, market)
            else:
                self._trade(taker, maker, market)

    def _trade(self, taker: Order, maker: Order, market: Market) -> None:
        quantity = min(taker.remaining, maker.remaining)
        buyer, seller = (taker, maker) if taker.side == BUY else (maker, taker)
        trade = Trade(
            id=market.next_trade_id(),
            symbol=market.spec.symbol,
            price=maker.price,
            quantity=quantity,
            quote_quantity=maker.price * quantity,
            time_ms=self._clock.now_ms(),
            buyer=buyer,
            seller=seller,
            buyer_is_maker=buyer is maker,
            base=market.spec.base,
            quote=market.spec.quote,
            buyer_fee_asset=(market.spec.quote if self._ledger.fees_in_quote else market.spec.base),
            time_ns=time.monotonic_ns(),
        )
        market.book.take(maker, quantity)
        self._ledger.settle(trade, market.spec)
        market.printed(trade)
        self._fill(maker, trade, market)
        self._fill(taker, trade, market)
        self._record(trade, market)
        self.listener.traded(trade)

    def _fill(self, order: Order, trade: Trade, market: Market) -> None:
        order.executed += trade.quantity
        order.executed_quote += trade.quote_quantity
        order.updated_ms = trade.time_ms
        if order.remaining:
            order.status = PARTIALLY_FILLED
        else:
            self.close(order, market, FILLED)

    def _record(self, trade: Trade, market: Market) -> None:
        """Keep the trade for its users, and report it: the taker's side first."""
        if trade.buyer.account.unlimited and trade.seller.account.unlimited:
            return
        self.trades.append(trade)
        buyer = (
            trade.buyer,
            trade.buyer_commission,
            trade.buyer_fee_asset,
            trade.buyer_is_maker,
        )
        seller = (trade.seller, trade.seller_commission, trade.quote, not trade.buyer_is_maker)
        sides = (seller, buyer) if trade.buyer_is_maker else (buyer, seller)
        for order, commission, asset, is_maker in sides:
            account = order.account
            if account.unlimited:
                continue
            order.fills.append(trade)
            account.trades.setdefault(trade.symbol, []).append(
                AccountTrade(trade, order, commission, asset, is_maker)
            )
            self.listener.executed(
                order,
                Execution(
                    "TRADE",
                    market.next_execution_id(),
                    trade.time_ms,
                    trade=trade,
                    commission=commission,
                    commission_asset=asset,
                    is_maker=is_maker,
                ),
            )

    def _prevent(self, taker: Order, maker: Order, market: Market) -> None:
        """Expire one or both orders of an account instead of letting them trade ("STP FAQ")."""
        match_id = market.next_match_id()
        quantity = min(taker.remaining, maker.remaining)
        price = maker.price
        expiring = {
            "EXPIRE_TAKER": (taker,),
            "EXPIRE_MAKER": (maker,),
            "EXPIRE_BOTH": (taker, maker),
        }[taker.stp]
        for order in expiring:
            counter = maker if order is taker else taker
            left = order.remaining
            self.close(order, market, EXPIRED_IN_MATCH)
            order.prevented += left
            order.prevented_match_id = match_id
            execution = self._execution("TRADE_PREVENTION", market)
            execution.prevented = Prevention(match_id, counter.id, price, quantity, left)
            self.listener.executed(order, execution)

    def expire(self, order: Order, market: Market, reason: str) -> None:
        """End an order by the rules or by the exchange, with its reason (``eR``)."""
        order.expiry_reason = reason
        self.close(order, market, EXPIRED)
        if not order.account.unlimited:
            self.listener.executed(order, self._execution("EXPIRED", market))

    def close(self, order: Order, market: Market, status: str) -> None:
        """Take an order out of everything that waits, free what it holds, set its last status."""
        account = order.account
        if order.on_book:
            if order.remaining:
                market.book.remove(order)
            order.on_book = False
        market.stops.pop(order.id, None)
        self._ledger.unlock(order, market.spec)
        order.status = status
        order.updated_ms = self._clock.now_ms()
        account.open_orders[order.symbol].pop(order.id, None)
        if account.unlimited:  # The market's own orders are many; nobody asks for them again.
            account.orders[order.symbol].pop(order.id, None)
            account.by_client_id.pop((order.symbol, order.client_id), None)

    def _execution(self, kind: str, market: Market) -> Execution:
        return Execution(kind, market.next_execution_id(), self._clock.now_ms())
