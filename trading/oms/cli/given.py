"""What may be given to a command: text that says something, amounts, accounts that are known."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import click
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from trading.oms.cli.failures import Exit, Failed
from trading.oms.commands import problem
from trading.oms.models import Exact, StrategyId, Symbol

if TYPE_CHECKING:
    from activities.store import Store
    from trading.oms.cli.target import Target

_NEGATIVE = re.compile(r"-[.\d]")
_AMOUNTS: TypeAdapter[Decimal] = TypeAdapter(Exact)


class Text(click.ParamType[str]):
    """A text that is not empty: an empty one would mean "all", where a variable was not set."""

    name = "text"

    def __init__(self, length_max: int | None = None) -> None:
        """`length_max` is in characters; without it any length will do."""
        self._length_max = length_max

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The text as it was given."""
        text = str(value)
        if not text.strip():
            self.fail("is empty; give it a value, or leave it out", param, ctx)
        if self._length_max is not None and len(text) > self._length_max:
            self.fail(f"has {len(text)} characters, the limit is {self._length_max}", param, ctx)
        return text


TEXT = Text()
REASON = Text(200)
"""As much as the journal takes."""
BY = Text(100)


class Word(click.ParamType[str]):
    """A text of a form that an order's field has too."""

    name = "text"

    def __init__(self, form: Any) -> None:
        """`form` is the type of the field."""
        self._form: TypeAdapter[str] = TypeAdapter(form)

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The text as it was given."""
        try:
            return self._form.validate_python(value)
        except ValidationError as error:
            self.fail(problem(error), param, ctx)


STRATEGY = Word(StrategyId)
SYMBOL = Word(Annotated[Symbol, BeforeValidator(str.upper)])


class WithAmounts(click.Command):
    """A command that takes -0.5 for an amount and not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; only where something looks like an amount, no option is unknown."""
        ctx.ignore_unknown_options = any(_NEGATIVE.match(argument) for argument in args)
        return super().parse_args(ctx, args)


class Amount(click.ParamType[Decimal]):
    """An exact decimal of the base asset."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        """A finite decimal that the store can hold."""
        try:
            amount: Decimal = _AMOUNTS.validate_python(value)
        except ValidationError as error:
            self.fail(f"{value!r} is no amount: {error.errors()[0]['msg']}", param, ctx)
        return amount


def place(account: str) -> tuple[str, str]:
    """The exchange and the account of "alpha/main". Raises `Failed`."""
    exchange, _, name = account.partition("/")
    if not (exchange and name):
        msg = f"account is {account!r}; write EXCHANGE/ACCOUNT, as in alpha/main"
        raise Failed(msg, Exit.BAD_INPUT)
    return exchange, name


async def refuse_unknown(target: "Target", store: "Store", exchange: str, account: str) -> None:
    """Raise `Failed` where no worker has seen the account and no setting names it."""
    seen = {(exchange, name) for name in await store.risk.accounts(exchange)}
    known = target.accounts | seen
    if (exchange, account) not in known:
        names = ", ".join("/".join(one) for one in sorted(known)) or "none"
        msg = f"no account {exchange}/{account} is known; the accounts here are: {names}"
        raise Failed(msg, Exit.BAD_INPUT)
