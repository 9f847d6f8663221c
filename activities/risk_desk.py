"""The pre-trade checks of an order on the venue chosen for it, and the reservation.

First what needs the order, the venue's rules and a quote; then the custom checks; last, in one
step in the store, what depends on all else that the account has open, with the reservation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from activities.messages import Denied, RiskAnswer, RiskQuestion
from activities.quotes import QuoteKey, quotes_of
from activities.store.reservations import ReserveWish
from activities.store.types import OrderFilter
from trading.oms.enums import OrderType, ReasonCode
from trading.oms.errors import ExchangeError, StoreUnavailable
from trading.oms.models import utc_now
from trading.oms.reading import number
from trading.oms.risk.checker import RiskChecker, run_checks
from trading.oms.risk.checks import ORDER_CHECKS
from trading.oms.risk.limits import OrderLimits
from trading.oms.risk.snapshot import RiskSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from activities.store import Store
    from trading.oms.models import Order, OrderState, Quote
    from trading.oms.portfolio import Portfolio
    from trading.oms.risk.base import IRiskChecker, RiskCheckResult
    from trading.oms.risk.limits import RiskLimits, RiskRules
    from trading.oms.risk.snapshot import Denial
    from trading.oms.venue import IExecutionConnector

_log = logging.getLogger(__name__)
_NEWEST = 50
"""Of so many of an account's newest orders the symbols are looked after from the start."""


class LegDenied(NamedTuple):
    """The exchange whose leg was denied (none: the order itself), and the denial."""

    exchange: str
    denied: Denied


class RiskDesk:
    """Asks everything that is to be asked about an order before it is sent."""

    def __init__(
        self,
        connectors: Mapping[tuple[str, str], IExecutionConnector],
        store: Store,
        rules: Callable[[], RiskRules],
        checker: IRiskChecker | None = None,
        portfolio: Portfolio | None = None,
    ) -> None:
        """`rules` gives the limits in force; a checker with limits of its own replaces them.

        Custom checks get `portfolio`, or without one the account's, as the store has it.
        """
        self._connectors = connectors
        self._store = store
        own = isinstance(checker, RiskChecker) and checker.has_limits
        self._rules = (lambda: checker.rules) if own else rules  # type: ignore[union-attr]
        self._checker = checker
        self._portfolio = portfolio
        self.quotes = quotes_of(connectors)
        self._refreshing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._keeping: asyncio.Task[None] | None = None

    def account_limits(self, exchange: str, account: str) -> RiskLimits:
        """The limits of an account as a whole."""
        return self._rules().for_account(exchange, account)

    async def check(self, order: Order, question: RiskQuestion) -> RiskAnswer:
        """The checks that ran, and the denial of the first that did not pass.

        Nothing is denied and kept: an order that passes has its reservation.
        """
        wish, answer = await self.wish(order, question)
        if answer.denied is not None:
            return answer
        reserved = await self._store.risk.reserve(wish)
        return _answer([*answer.checks_run, *reserved.checks_run], reserved.denial)

    async def wish(self, order: Order, question: RiskQuestion) -> tuple[ReserveWish, RiskAnswer]:
        """What is to be reserved, and the checks that need nothing of the account."""
        return await self._before_the_account(_asked(order, question), question)

    @property
    def asks_others(self) -> bool:
        """Whether checks of a user's run, which may take any time."""
        checker = self._checker
        own = isinstance(checker, RiskChecker) and not checker.has_custom_checks
        return checker is not None and not (own and _checks_as_ours(checker))

    async def split(
        self, parent: Order, legs: Sequence[Order], *, adds: bool = False
    ) -> tuple[OrderState | None, LegDenied | None]:
        """Check every leg and make them all with their reservations, or say which was denied.

        The parent after it, where the store was asked. `adds`: it becomes greater by the legs.
        """
        wishes = []
        for leg in legs:
            question = RiskQuestion(
                order_id=leg.client_order_id,
                exchange=leg.exchange or "",
                account=leg.account or "",
                quantity=leg.quantity,
                price=leg.price,
            )
            wish, answer = await self._before_the_account(leg, question)
            if answer.denied is not None:
                return None, LegDenied(question.exchange, answer.denied)
            wishes.append(wish)
        state, denied = await self._store.risk.split(parent.client_order_id, wishes, adds=adds)
        if denied is None:
            return state, None
        said = _answer([], denied.denial).denied
        return state, None if said is None else LegDenied(denied.exchange, said)

    async def preview(self, order: Order, question: RiskQuestion) -> RiskAnswer:
        """The same checks for an order that is not there yet; nothing is reserved."""
        asked = _asked(order, question)
        wish, answer = await self._before_the_account(asked, question)
        if answer.denied is not None:
            return answer
        trading = await self._store.trading_state(
            question.exchange, question.account, order.strategy_id
        )
        found = await self._store.risk.preview(wish, trading)
        return _answer([*answer.checks_run, *found.checks_run], found.denial)

    async def _before_the_account(
        self, asked: Order, question: RiskQuestion
    ) -> tuple[ReserveWish, RiskAnswer]:
        """What needs nothing of the account, and the wish that decides the rest."""
        limits = self._limits_for(asked, question)
        snapshot = await self._snapshot(asked, limits, question)
        wish = ReserveWish(
            order=asked,
            limits=limits,
            instrument=snapshot.instrument,
            quote=snapshot.quote,
            is_modification=question.is_modification,
        )
        ran, denial = run_checks(asked, snapshot, ORDER_CHECKS)
        if denial is not None:
            return wish, _answer(ran, denial)
        custom = await self._custom(asked, question)
        if custom is not None:
            ran += custom.checks_run
            if not custom.passed:
                return wish, _custom_answer(ran, custom)
        prices = await self._prices(asked, limits, question)
        return replace(wish, prices=prices), _answer(ran, None)

    def _limits_for(self, order: Order, question: RiskQuestion) -> RiskLimits:
        """The limits in force; the fee is the venue's where no rule says another."""
        limits = self._rules().limits_for(order, question.exchange, question.account)
        venue = self._connectors[question.exchange, question.account].capabilities
        if limits.fee_rate is None and venue.fee_in_quote:
            return limits.model_copy(update={"fee_rate": venue.taker_fee})
        return limits

    def filter_refused(self, exchange: str, account: str) -> None:
        """The exchange refused an order by a rule that ours let pass: read its rules again."""
        key = (exchange, account)
        if key not in self._refreshing:
            self._refreshing[key] = asyncio.create_task(self._refresh(key))
            self._refreshing[key].add_done_callback(lambda _: self._refreshing.pop(key, None))

    async def keep_quotes(self) -> None:
        """Have the quotes ready of what was traded last, here or before a restart; for ever."""
        limits = self._rules().limits
        if limits.max_price_deviation is not None:
            with contextlib.suppress(StoreUnavailable):
                for key in await self._traded_last():
                    self.quotes.want(key, limits.quote_age_s_max)
        await self.quotes.keep_warm()

    async def _traded_last(self) -> list[QuoteKey]:
        """What the newest orders of all accounts were about, the newest last."""
        found: list[QuoteKey] = []
        for (exchange, account), connector in self._connectors.items():
            newest = await self._store.orders(OrderFilter(exchange, account), limit=_NEWEST)
            found += [
                QuoteKey(exchange, account, order.symbol)
                for order in reversed(newest)
                if connector.instrument(order.symbol) is not None
            ]
        return found

    def run(self) -> None:
        """Begin to keep the quotes, until `close`."""
        self._keeping = asyncio.create_task(self.keep_quotes(), name="quotes")

    async def close(self) -> None:
        """Ask no more."""
        await self.quotes.close()
        tasks = [*self._refreshing.values(), *([self._keeping] if self._keeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self, key: tuple[str, str]) -> None:
        with contextlib.suppress(ExchangeError):
            await self._connectors[key].load_instruments()
            _log.warning("the rules of %s were read again: it has refused an order by one", key[0])

    async def _snapshot(
        self, order: Order, limits: RiskLimits, question: RiskQuestion
    ) -> RiskSnapshot:
        connector = self._connectors[question.exchange, question.account]
        instrument = connector.instrument(order.symbol)
        quote = None
        if instrument is not None and _needs_quote(order, limits):
            key = QuoteKey(question.exchange, question.account, order.symbol)
            quote = await self.quotes.get(key, limits.quote_age_s_max)
        return RiskSnapshot(
            now=utc_now(),
            limits=limits,
            instrument=instrument,
            quote=quote,
            fee_rate=limits.fee_rate or Decimal(0),
        )

    async def _custom(self, order: Order, question: RiskQuestion) -> RiskCheckResult | None:
        checker = self._checker
        if checker is None or not self.asks_others:
            return None
        portfolio = self._portfolio or await self._account(question)
        if isinstance(checker, RiskChecker) and _checks_as_ours(checker):
            return await checker.check_custom(order, portfolio)
        return await checker.check_order(order, portfolio)

    async def _account(self, question: RiskQuestion) -> Portfolio:
        """The account's portfolio with the present prices of what it holds."""
        where = (question.exchange, question.account)
        book = await self._store.risk.book(*where)
        prices = await self._mids({symbol for symbol, _ in book.positions}, question, None)
        return await self._store.risk.portfolio(*where, prices)

    async def _prices(
        self, order: Order, limits: RiskLimits, question: RiskQuestion
    ) -> dict[str, Decimal]:
        """What the positions are worth, where a limit asks for it."""
        own = limits.own if isinstance(limits, OrderLimits) else ()
        wanted = [limits.max_exposure, *(one.max_exposure for one in own)]
        if all(limit is None for limit in wanted):
            return {}
        _, _, quote = order.symbol.partition("/")
        book = await self._store.risk.book(question.exchange, question.account)
        symbols = {symbol for symbol, _ in book.positions if book.position(symbol)}
        held = {symbol for symbol in symbols if symbol.partition("/")[2] == quote}
        return await self._mids(held, question, limits)

    async def _mids(
        self, symbols: set[str], question: RiskQuestion, limits: RiskLimits | None
    ) -> dict[str, Decimal]:
        limits = limits or self._rules().limits
        keys = [QuoteKey(question.exchange, question.account, one) for one in sorted(symbols)]
        quotes: Sequence[Quote | None] = await asyncio.gather(
            *(self.quotes.get(key, limits.quote_age_s_max) for key in keys)
        )
        return {quote.symbol: quote.mid for quote in quotes if quote is not None}


def _checks_as_ours(checker: IRiskChecker) -> bool:
    """Whether its `check_order` is ours, whose standard checks are made here and in the store."""
    return type(checker).check_order is RiskChecker.check_order


def _asked(order: Order, question: RiskQuestion) -> Order:
    """The order as it is to be checked."""
    return order.model_copy(
        update={
            "quantity": question.quantity,
            "price": question.price,
            "exchange": question.exchange,
            "account": question.account,
        }
    )


def _needs_quote(order: Order, limits: RiskLimits) -> bool:
    return order.order_type is OrderType.MARKET or limits.max_price_deviation is not None


def _answer(ran: list[str], denial: Denial | None) -> RiskAnswer:
    if denial is None:
        return RiskAnswer(checks_run=tuple(ran))
    numbers = {name: number(value) for name, value in denial.numbers.items()}
    denied = Denied(reason_code=denial.code, reason=denial.message, numbers=numbers)
    return RiskAnswer(checks_run=tuple(ran), denied=denied)


def _custom_answer(ran: list[str], result: RiskCheckResult) -> RiskAnswer:
    code = result.reason_code or ReasonCode.RISK_CHECK_FAILED
    numbers = {name: number(value) for name, value in result.numbers.items()}
    denied = Denied(reason_code=code, reason=result.reason or code.value, numbers=numbers)
    return RiskAnswer(checks_run=tuple(ran), denied=denied)
