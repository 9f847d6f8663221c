"""The limits of the risk checks, and how rules narrow them by account, strategy and symbol.

A limit is about what its rule names. Under `[limits]`, or a rule for an exchange or an account, it
is about the account. A rule for a strategy limits that strategy's own position, count, rate and
exposure, and one for a symbol those in that symbol; the account's limits hold besides.
"""

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from trading.oms.models import Exact, Name, Order, Positive, StrategyId, Symbol


class WithoutQuote(StrEnum):
    """What to do where a check needs a quote and there is no fresh one.

    `skip` lets limit orders pass the checks of price and notional, `skip_all` market orders too.
    What must know an amount (capital, position's worth, exposure) denies all the same.
    """

    DENY = "deny"
    SKIP = "skip"
    SKIP_ALL = "skip_all"


class RiskLimits(BaseModel):
    """What the checks compare with; None turns a check off.

    `max_position_size` is in the base asset; `max_exposure`, `max_order_notional` and
    `max_daily_loss` are in the quote asset; `max_price_deviation` is a fraction (0.05 is 5 %).
    `market_margin` is the fraction by which a market order is taken to trade worse than the
    quote. `without_quote` says which orders may pass without a fresh one. `fee_rate` is the worst
    fee that the venue takes from the quote asset of a buy, as a fraction; None: what its connector
    says (Binance takes it from what is received: 0). `check_capital` false leaves it to the
    exchange whether the account can pay. `max_balance_drift` is an account's: the fraction of an
    asset that may come or go without a fill that explains it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_position_size: Positive | None = None
    max_open_orders: int | None = Field(default=None, ge=0)
    max_price_deviation: Positive | None = Decimal("0.05")
    max_exposure: Positive | None = None
    max_order_notional: Positive | None = None
    max_daily_loss: Positive | None = None
    max_orders_per_minute: int | None = Field(default=None, ge=0)
    market_margin: Positive = Decimal("0.01")
    quote_age_s_max: Positive = Decimal(5)
    without_quote: WithoutQuote = WithoutQuote.DENY
    check_capital: bool = True
    fee_rate: Annotated[Exact, Field(ge=0, lt=1)] | None = None
    balance_age_s_max: Positive = Decimal(60)
    instrument_age_s_max: Positive = Decimal(7200)
    max_balance_drift: Positive | None = Decimal("0.001")


class Scope(NamedTuple):
    """Whose numbers a limit is about: a strategy's, those in a symbol, or both; None: all."""

    strategy_id: str | None = None
    symbol: str | None = None

    @property
    def said(self) -> str:
        """In words, as in "of strategy momentum in BTC/USDT"; empty for the whole account."""
        words = [f"of strategy {self.strategy_id}"] if self.strategy_id is not None else []
        words += [f"in {self.symbol}"] if self.symbol is not None else []
        return " ".join(words)


class OwnLimits(NamedTuple):
    """The limits of a strategy's own numbers, or of an account's in one symbol; None: no limit."""

    scope: Scope
    max_position_size: Decimal | None = None
    max_open_orders: int | None = None
    max_exposure: Decimal | None = None
    max_orders_per_minute: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return all(limit is None for limit in self[1:])


_OWN = frozenset(OwnLimits._fields) - {"scope"}
_ACCOUNT = Scope()


def account_limits(limits: RiskLimits) -> OwnLimits:
    """Those of an account's own numbers."""
    return OwnLimits(
        _ACCOUNT,
        limits.max_position_size,
        limits.max_open_orders,
        limits.max_exposure,
        limits.max_orders_per_minute,
    )


class OrderLimits(RiskLimits):
    """The limits of one order: the account's, and in `own` those of its strategy and symbol."""

    own: tuple[OwnLimits, ...] = ()


class LimitRule(BaseModel):
    """Limits for the orders that match; only those that are given here replace the others'.

    A rule that names a strategy or a symbol is about that one's own numbers, see `limits_for`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    exchange: Name | None = None
    account: Name | None = None
    strategy_id: StrategyId | None = None
    symbol: Symbol | None = None
    limits: RiskLimits

    def matches(self, order: Order, exchange: str, account: str) -> bool:
        """Whether each name given here is the order's, on the venue chosen for it."""
        return (
            self.exchange in {None, exchange}
            and self.account in {None, account}
            and self.strategy_id in {None, order.strategy_id}
            and self.symbol in {None, order.symbol}
        )

    @property
    def scope(self) -> Scope:
        """Whose numbers its limits are about."""
        return Scope(self.strategy_id, self.symbol)

    @property
    def given(self) -> dict[str, object]:
        """The limits that are given here."""
        return {name: getattr(self.limits, name) for name in self.limits.model_fields_set}

    def over(self, limits: RiskLimits) -> RiskLimits:
        """Those limits, with what is given here laid over them."""
        return limits.model_copy(update=self.given)


def limits_for(
    order: Order, exchange: str, account: str, default: RiskLimits, rules: Iterable[LimitRule]
) -> OrderLimits:
    """The default with every matching rule laid over it, the later over the earlier.

    What a rule for a strategy or a symbol says of position, count, rate and exposure is laid over
    what earlier rules with the same names say; the account's limits hold besides. A position is
    always that in the order's symbol: a rule for a symbol replaces the account's limit of it.
    """
    limits = default
    own: dict[Scope, dict[str, Any]] = {}
    for rule in rules:
        if not rule.matches(order, exchange, account):
            continue
        given = rule.given
        for name in _OWN & given.keys():
            scope = rule.scope
            if name == "max_position_size":
                scope = scope._replace(symbol=None)
            if any(one is not None for one in scope):
                own.setdefault(scope, {})[name] = given.pop(name)
        limits = limits.model_copy(update=given)
    found = (OwnLimits(scope, **own[scope]) for scope in own)
    values = {name: getattr(limits, name) for name in RiskLimits.model_fields}
    return OrderLimits.model_construct(**values, own=tuple(o for o in found if not o.is_empty))


class RiskRules(BaseModel):
    """The limits of a deployment: those for all, and the rules laid over them in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: RiskLimits = Field(default_factory=RiskLimits)
    rules: tuple[LimitRule, ...] = ()

    def limits_for(self, order: Order, exchange: str, account: str) -> OrderLimits:
        """The limits of this order on the venue chosen for it."""
        if not self.rules:
            return self._of_all
        return limits_for(order, exchange, account, self.limits, self.rules)

    @cached_property
    def _of_all(self) -> OrderLimits:
        """Where there are no rules, all orders have the same."""
        return OrderLimits(**dict(self.limits))

    def for_account(self, exchange: str, account: str) -> RiskLimits:
        """The limits of an account as a whole: no rule for a strategy or a symbol counts."""
        limits = self.limits
        for rule in self.rules:
            names = (rule.exchange in {None, exchange}, rule.account in {None, account})
            if all(names) and rule.strategy_id is None and rule.symbol is None:
                limits = rule.over(limits)
        return limits
