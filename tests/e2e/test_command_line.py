"""The command line without anything that runs: its help, its words, its arithmetic."""

import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import click
import pytest

from trading.oms.cli.account import positions_of
from trading.oms.cli.failures import Exit, failure
from trading.oms.cli.program import oms, program
from trading.oms.cli.target import DECIDING, Target
from trading.oms.enums import CancelOutcome, OrderSide, OrderType
from trading.oms.errors import ExchangeRejected, InvalidOrder, OrderNotFound, StoreUnavailable
from trading.oms.models import CancelResult, OrderState


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("name", sorted(program.commands))
def test_each_command_and_each_option_is_described(name: str) -> None:
    command = program.commands[name]
    assert command.get_short_help_str(limit=80)
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert all(option.help for option in options)


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert oms(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{int(code)}  " in shown for code in Exit)


def test_without_a_stack_and_without_settings_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert oms(["list"]) == Exit.UNREACHABLE
    shown = capsys.readouterr()
    assert "oms up" in shown.err
    assert shown.out == ""


def test_usage_errors_have_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert oms(["nonsense"]) == Exit.BAD_INPUT
    assert oms(["submit", "buy"]) == Exit.BAD_INPUT
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidOrder("quantity: is 0"), Exit.BAD_INPUT),
        (OrderNotFound("no order"), Exit.BAD_INPUT),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), Exit.BAD_INPUT),
        (ExchangeRejected("no", code="-2015"), Exit.REFUSED),
        (StoreUnavailable("away\nfor long"), Exit.UNREACHABLE),
        (ConnectionRefusedError("refused"), Exit.UNREACHABLE),
        (KeyError("a bug"), Exit.BUG),
    ],
)
def test_every_failure_is_one_line_with_a_code(error: Exception, code: Exit) -> None:
    known = failure(error)
    assert known.exit_code == code
    assert "\n" not in known.format_message()


def test_live_is_read_without_any_key() -> None:
    target = Target({"OMS_EXCHANGES": "alpha, my-exchange", "OMS_MY_EXCHANGE_LIVE": "true"}, "here")
    assert target.live_accounts == ["my-exchange"]
    assert target.is_live(None)
    assert not target.is_live("alpha")


def test_a_link_needs_the_address_of_the_ui() -> None:
    assert Target({}, "here").order_link("a") == ""
    target = Target({"OMS_UI_URL": "http://ui/", "TEMPORAL_NAMESPACE": "prod"}, "here")
    assert target.order_link("a") == "http://ui/namespaces/prod/workflows/order-a"


def order(side: OrderSide, filled: str, price: str, **fees: str) -> OrderState:
    quantity = Decimal(filled)
    return OrderState(
        client_order_id="x",
        exchange="alpha",
        account="main",
        symbol="BTC/USDT",
        side=side,
        order_type=OrderType.MARKET,
        quantity=quantity,
        filled_quantity=quantity,
        filled_notional=quantity * Decimal(price),
        fees_by_currency={name: Decimal(fee) for name, fee in fees.items()},
    )


def test_positions_are_net_of_fees_in_both_assets() -> None:
    [position] = positions_of(
        [
            order(OrderSide.BUY, "2", "100", BTC="0.002"),
            order(OrderSide.SELL, "0.5", "120", USDT="0.06", BNB="0.01"),
            order(OrderSide.BUY, "0", "100"),
        ]
    )
    assert position.quantity == Decimal("1.498")
    assert position.cash == Decimal("-140.06")
    assert (position.average_bought, position.average_sold) == (
        Decimal(100),
        Decimal(120),
    )
    assert position.other_fees == {"BNB": Decimal("0.01")}


class Beside(Target):
    """A deployment with one open order, whose door says how long each cancel is waited for."""

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Any]:
        async def open_orders(*_: Any, **__: Any) -> list[OrderState]:
            return [order(OrderSide.BUY, "1", "100")]

        yield SimpleNamespace(orders=open_orders)

    @contextlib.asynccontextmanager
    async def orders(self, *, with_store: bool = False) -> AsyncIterator[Any]:
        async def cancel_order(order_id: str, *, wait: float, reason: str | None) -> CancelResult:
            click.echo(f"{order_id} within {wait:g} s: {reason}")
            return CancelResult(success=False, order_id=order_id, outcome=CancelOutcome.PENDING)

        yield SimpleNamespace(cancel_order=cancel_order)


@pytest.mark.parametrize(("given", "wait"), [((), "5"), (("--wait", "20"), "20")])
@pytest.mark.parametrize("which", [("--symbol", "BTC/USDT"), ("--strategy", "s"), ("--all",)])
def test_cancelling_many_waits_for_each_as_long_as_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    which: tuple[str, ...],
    given: tuple[str, ...],
    wait: str,
) -> None:
    monkeypatch.setattr("trading.oms.cli.halt.find_target", lambda: Beside({}, "here"))
    assert oms(["cancel", *which, "--reason", "a storm", *given]) == Exit.PENDING
    assert capsys.readouterr().out == f"x within {wait} s: a storm\nx: pending\n"
