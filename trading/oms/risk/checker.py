"""The risk checker: the standard checks in their order, then the custom ones in theirs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal

from trading.oms.enums import OrderSide, ReasonCode
from trading.oms.exact import EXACT
from trading.oms.interfaces import IInstrumentMapper
from trading.oms.models import Order, OrderState, Quote, utc_now
from trading.oms.portfolio import Portfolio
from trading.oms.risk.base import CustomCheck, RiskCheckResult
from trading.oms.risk.checks import STANDARD_CHECKS
from trading.oms.risk.limits import LimitRule, RiskLimits, RiskRules
from trading.oms.risk.snapshot import Check, Denial, RiskSnapshot

CUSTOM_CHECK_S_MAX = 1.0
_NEED_THE_STORE = frozenset({"trading_state", "order_rate", "daily_loss", "balances_fresh"})
"""Checks of what neither a portfolio nor the checker's sources tell."""

GetQuote = Callable[[Order], Awaitable[Quote | None]]
"""The best bid and ask of the order's symbol at its venue; None where there are none."""
GetOpenOrders = Callable[[], Sequence[OrderState]]
"""All open orders, as `StateTracker.get_open_orders` gives them."""


def run_checks(
    order: Order,
    snapshot: RiskSnapshot,
    checks: Iterable[tuple[str, Check]] = STANDARD_CHECKS,
) -> tuple[list[str], Denial | None]:
    """Run the checks up to the first denial; the names that ran, and the denial."""
    names = []
    for name, check in checks:
        names.append(name)
        denial = check(order, snapshot)
        if denial is not None:
            return names, denial
    return names, None


class RiskChecker:
    """Runs the checks of an order (specification, "IRiskChecker").

    The order of the checks is fixed: `STANDARD_CHECKS`, then the custom ones as they were added. In
    a worker the custom ones run between `ORDER_CHECKS` and `ACCOUNT_CHECKS`, which the store makes.
    The first denial ends the run. A custom check that raises, or that takes longer than
    `CUSTOM_CHECK_S_MAX` seconds, denies the order: what cannot be checked does not go out.
    """

    def __init__(
        self,
        limits: RiskLimits | None = None,
        *,
        rules: Iterable[LimitRule] = (),
        instrument_mapper: IInstrumentMapper | None = None,
        get_quote: GetQuote | None = None,
        get_open_orders: GetOpenOrders | None = None,
    ) -> None:
        """The three sources serve `check_order`; `check` takes a ready snapshot instead."""
        self.rules = RiskRules(limits=limits or RiskLimits(), rules=tuple(rules))
        self.has_limits = limits is not None or bool(self.rules.rules)
        self._instrument_mapper = instrument_mapper
        self._get_quote = get_quote
        self._get_open_orders = get_open_orders
        self._custom: dict[str, CustomCheck] = {}

    @property
    def check_names(self) -> list[str]:
        """Every check in the order in which they run."""
        return [*(name for name, _ in STANDARD_CHECKS), *self._custom]

    def limits_for(self, order: Order, exchange: str, account: str) -> RiskLimits:
        """The limits of this order on the venue chosen for it."""
        return self.rules.limits_for(order, exchange, account)

    @property
    def has_custom_checks(self) -> bool:
        """Whether any check was added."""
        return bool(self._custom)

    def add_check(self, name: str, check_func: CustomCheck) -> None:
        """Add a check, behind those added before. Raises `ValueError` for a name that is taken."""
        if name in self.check_names:
            msg = f"there is already a check {name!r}; the checks are {', '.join(self.check_names)}"
            raise ValueError(msg)
        self._custom[name] = check_func

    async def check_order(self, order: Order, portfolio: Portfolio) -> RiskCheckResult:
        """Check against the portfolio and the sources given to the constructor.

        A portfolio is an account's: limits of a strategy's own numbers, or of a symbol's, are not
        compared here but where the order is reserved for, in the store. The trading state, the
        order rate, the daily loss and the age of the balances are known there only, so these
        checks do not run here; nor does the order count without `get_open_orders`.
        """
        unknown = _NEED_THE_STORE if self._get_open_orders else {*_NEED_THE_STORE, "order_count"}
        checks = [(name, check) for name, check in STANDARD_CHECKS if name not in unknown]
        return await self.check(order, await self._snapshot(order, portfolio), portfolio, checks)

    async def check(
        self,
        order: Order,
        snapshot: RiskSnapshot,
        portfolio: Portfolio,
        checks: Iterable[tuple[str, Check]] = STANDARD_CHECKS,
    ) -> RiskCheckResult:
        """Check against a ready snapshot; the custom checks are given the portfolio."""
        names, denial = run_checks(order, snapshot, checks)
        if denial is not None or not self._custom:
            return result_of_checks(names, denial)
        result = await self.check_custom(order, portfolio)
        return result.model_copy(update={"checks_run": [*names, *result.checks_run]})

    async def check_custom(self, order: Order, portfolio: Portfolio) -> RiskCheckResult:
        """Run the added checks alone, up to the first that says no."""
        names: list[str] = []
        for name, check in self._custom.items():
            names.append(name)
            denial = await _run_custom(name, check, order, portfolio)
            if denial is not None:
                return result_of_checks(names, denial)
        return result_of_checks(names, None)

    async def _snapshot(self, order: Order, portfolio: Portfolio) -> RiskSnapshot:
        mapper, get_quote = self._instrument_mapper, self._get_quote
        base, _, quote_asset = order.symbol.partition("/")
        open_orders = self._get_open_orders() if self._get_open_orders else ()
        buys, sells = _open_quantities(open_orders, order)
        limits = self.limits_for(order, order.exchange or "", order.account or "")
        return RiskSnapshot(
            now=utc_now(),
            limits=limits,
            instrument=mapper.get_instrument(order.symbol, order.exchange) if mapper else None,
            quote=await get_quote(order) if get_quote else None,
            available_quote=portfolio.available(quote_asset),
            available_base=portfolio.available(base),
            position=portfolio.get_position(order.symbol),
            open_buys=buys,
            open_sells=sells,
            open_orders=len(open_orders),
            exposure=_exposure(portfolio, open_orders),
            fee_rate=limits.fee_rate or Decimal(0),
        )


def result_of_checks(names: list[str], denial: Denial | None) -> RiskCheckResult:
    """The answer: the checks that ran, and the denial of the last one."""
    if denial is None:
        return RiskCheckResult(passed=True, checks_run=names)
    return RiskCheckResult(
        passed=False,
        reason=denial.message,
        checks_run=names,
        reason_code=denial.code,
        numbers=denial.numbers,
    )


async def _run_custom(
    name: str, check: CustomCheck, order: Order, portfolio: Portfolio
) -> Denial | None:
    try:
        async with asyncio.timeout(CUSTOM_CHECK_S_MAX):
            passed = await check(order, portfolio)
    except TimeoutError:
        message = f"the check {name} has taken longer than {CUSTOM_CHECK_S_MAX:g} s"
    except Exception as error:  # noqa: BLE001 - a check that cannot say yes says no
        message = f"the check {name} has failed: {type(error).__name__}: {error}"
    else:
        if passed:
            return None
        message = f"the check {name} has denied the order"
    return Denial(ReasonCode.RISK_CHECK_FAILED, message, {})


def _open_quantities(orders: Sequence[OrderState], order: Order) -> tuple[Decimal, Decimal]:
    """What other open orders of this symbol may still buy and sell."""
    totals = {OrderSide.BUY: Decimal(0), OrderSide.SELL: Decimal(0)}
    for other in orders:
        if other.symbol == order.symbol and other.client_order_id != order.client_order_id:
            totals[other.side] += max(Decimal(0), other.remaining_quantity)
    return totals[OrderSide.BUY], totals[OrderSide.SELL]


def _exposure(portfolio: Portfolio, orders: Sequence[OrderState]) -> Decimal | None:
    """The worth of the positions and of all open buys; None where a price is missing."""
    try:
        exposure = portfolio.calculate_exposure()
        for order in orders:
            if order.side is OrderSide.BUY and order.remaining_quantity > 0:
                price = order.price or order.stop_price or portfolio.prices[order.symbol]
                worth = EXACT.multiply(order.remaining_quantity, price)
                exposure = EXACT.add(exposure, worth)
    except LookupError:
        return None
    return exposure
