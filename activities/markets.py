"""What the router asks of the venues: their books, and whether they may be traded on at all."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from activities.quotes import QuoteKey, books_of
from activities.store import TradingState
from trading.oms.enums import OrderSide, ReasonCode
from trading.oms.models import utc_now
from trading.oms.routing.base import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from activities.risk_desk import RiskDesk
    from activities.store import Store
    from trading.oms.models import Order
    from trading.oms.risk.limits import RiskRules
    from trading.oms.routing.markets import VenueMarket
    from trading.oms.venue import IExecutionConnector

_BOOK_AGE_S = Decimal(1)
"""How long a book is used again; what is older is asked for, and given only where that fails."""
_HALT_AGE_S = 2.0
"""How long a symbol counts as halted before the venue is asked whether it trades again."""


class Markets:
    """The venues as the smart router sees them."""

    def __init__(
        self,
        connectors: Mapping[tuple[str, str], IExecutionConnector],
        store: Store,
        default_accounts: Mapping[str, str],
        risk: RiskDesk,
        rules: Callable[[], RiskRules],
    ) -> None:
        """`rules` gives the limits in force, which say whether an account must be able to pay."""
        self._connectors = connectors
        self._store = store
        self._accounts = default_accounts
        self._risk = risk
        self._rules = rules
        self._books = books_of(connectors)

    async def market(self, exchange: str, order: Order) -> VenueMarket | Refusal | str | None:
        """The book there with the venue's fee; or why the venue does not count; None: no quote.

        A book that cannot be had anew comes as it was, with its time: the router has the limit.
        """
        account = order.account or self._accounts.get(exchange, "")
        state = await self._store.trading_state(exchange, account, order.strategy_id)
        if state is TradingState.HALTED:
            return Refusal(ReasonCode.TRADING_HALTED, "trading is halted there")
        if self._is_halted(exchange, account, order.symbol):
            return f"the venue has halted {order.symbol}"
        key = QuoteKey(exchange, account, order.symbol)
        book = await self._books.get(key, _BOOK_AGE_S) or self._books.newest(key)
        if book is None:
            return None
        limits = self._rules().limits_for(order, exchange, account)
        spendable = (
            await self._spendable(exchange, account, order) if limits.check_capital else None
        )
        venue = self._connectors[exchange, account].capabilities
        fee = {"fee_rate": venue.taker_fee, "fee_in_quote": venue.fee_in_quote}
        return book.model_copy(update={**fee, "spendable": spendable})

    async def _spendable(self, exchange: str, account: str, order: Order) -> Decimal | None:
        """What the account can give for the order; None before its balances have been read."""
        known = await self._store.risk.book(exchange, account)
        if known.watermark.as_of is None:
            return None
        base, _, quote = order.symbol.partition("/")
        return known.available(quote if order.side is OrderSide.BUY else base)

    def _is_halted(self, exchange: str, account: str, symbol: str) -> bool:
        """By the venue's own rules, which are read again now and then while they say so."""
        rules = self._connectors[exchange, account].instrument(symbol)
        if rules is None or rules.is_trading:
            return False
        if (utc_now() - rules.fetched_at).total_seconds() > _HALT_AGE_S:
            self._risk.filter_refused(exchange, account)
        return True

    async def close(self) -> None:
        """Ask no more."""
        await self._books.close()
