"""The pre-trade checks of an order on the venue chosen for it.

The venue's own rules come first (symbol, lot, tick, sizes, notional), because they need no
account; then the risk checker, where the composition brings one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from activities.messages import Denied, RiskAnswer, RiskQuestion
from trading.oms.enums import OrderType, ReasonCode
from trading.oms.models import utc_now
from trading.oms.risk.instrument_checks import (
    check_instrument_known,
    check_min_notional,
    check_price_valid,
    check_quantity_valid,
)
from trading.oms.risk.limits import RiskLimits, WithoutQuote
from trading.oms.risk.snapshot import RiskSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trading.oms.models import Order
    from trading.oms.portfolio import Portfolio
    from trading.oms.risk.base import IRiskChecker
    from trading.oms.risk.snapshot import Check
    from trading.oms.venue import IExecutionConnector

_VENUE_RULES: tuple[tuple[str, Check], ...] = (
    ("instrument_known", check_instrument_known),
    ("quantity_valid", check_quantity_valid),
    ("price_valid", check_price_valid),
    ("min_notional", check_min_notional),
)
_LIMITS = RiskLimits(max_price_deviation=None, without_quote=WithoutQuote.SKIP)


class RiskDesk:
    """Asks about an order: first the venue's rules, then the risk checker."""

    def __init__(
        self,
        connectors: Mapping[tuple[str, str], IExecutionConnector],
        checker: IRiskChecker | None,
        portfolio: Portfolio | None,
    ) -> None:
        """Without a checker only the venue's rules are asked."""
        self._connectors = connectors
        self._checker = checker
        self._portfolio = portfolio

    async def check(self, order: Order, question: RiskQuestion) -> RiskAnswer:
        """The checks that ran, and the denial of the first that did not pass."""
        asked = order.model_copy(
            update={
                "quantity": question.quantity,
                "price": question.price,
                "exchange": question.exchange,
                "account": question.account,
            }
        )
        answer = self._by_venue(asked, question)
        if answer.denied is not None or self._checker is None or self._portfolio is None:
            return answer
        result = await self._checker.check_order(asked, self._portfolio)
        ran = (*answer.checks_run, *result.checks_run)
        if result.passed:
            return RiskAnswer(checks_run=ran)
        code = result.reason_code or ReasonCode.RISK_CHECK_FAILED
        denied = Denied(reason_code=code, reason=result.reason or code.value)
        return RiskAnswer(checks_run=ran, denied=denied)

    def _by_venue(self, order: Order, question: RiskQuestion) -> RiskAnswer:
        connector = self._connectors[question.exchange, question.account]
        snapshot = RiskSnapshot(
            now=utc_now(), limits=_LIMITS, instrument=connector.instrument(order.symbol)
        )
        names = []
        for name, check in _VENUE_RULES:
            if check is check_min_notional and order.order_type is OrderType.MARKET:
                continue  # Without a quote only the exchange can tell.
            names.append(name)
            denial = check(order, snapshot)
            if denial is not None:
                denied = Denied(reason_code=denial.code, reason=denial.message)
                return RiskAnswer(checks_run=tuple(names), denied=denied)
        return RiskAnswer(checks_run=tuple(names))
