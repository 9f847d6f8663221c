"""The command line without anything that runs: its help, its words, its arithmetic."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest
from temporalio.service import RPCError, RPCStatusCode

from activities.store import Adjustment
from trading.oms.answers import result_of
from trading.oms.cli.account import positions_of
from trading.oms.cli.failures import Exit, failure
from trading.oms.cli.program import oms, program
from trading.oms.cli.target import DECIDING, Target
from trading.oms.enums import (
    CancelOutcome,
    OrderSide,
    OrderStatus,
    OrderType,
    Pending,
    TradingState,
)
from trading.oms.errors import (
    ExchangeRejected,
    InvalidOrder,
    OrderNotFound,
    ServiceUnavailable,
    StoreUnavailable,
)
from trading.oms.models import CancelResult, Order, OrderResult, OrderState, utc_now


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
    "arguments",
    [
        ("halt", "--strategy", "", "--cancel"),
        ("halt", "--account", " "),
        ("halt", "--reason", ""),
        ("resume", "--account", "", "--reason", "x"),
        ("resume", "", "main", "--reason", "x"),
        ("resume", "--reason", ""),
        ("let-go", "alpha", ""),
        ("cancel", "--symbol", "BTC/USDT", "--strategy", ""),
        ("adjust-position", "alpha/main", "BTC/USDT", "1", "--by", "", "--reason", "x"),
        ("reconcile", "--exchange", ""),
        ("positions", "--strategy", ""),
        ("list", "--symbol", ""),
    ],
)
def test_an_empty_text_is_refused_and_never_means_all(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    """A script whose variable is not set gives one."""
    assert oms(arguments) == Exit.BAD_INPUT
    assert "is empty; give it a value, or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--limit", "0"), "0 is not in the range x>=1"),
        (("--limit", "-1"), "-1 is not in the range x>=1"),
        (("--csv", "--json"), "--csv and --json are two forms; say one"),
    ],
)
def test_a_list_is_of_some_orders_in_one_form(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    assert oms(["list", *options]) == Exit.BAD_INPUT
    assert says in capsys.readouterr().err


def test_an_account_and_a_strategy_are_halted_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both were halted, and of the open orders only those of both cancelled."""
    both = ("halt", "--account", "alpha/main", "--strategy", "s", "--cancel")
    assert oms(both) == Exit.BAD_INPUT
    assert "say one" in capsys.readouterr().err


def test_a_reason_is_no_longer_than_the_journal_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert oms(["halt", "--reason", "x" * 201]) == Exit.BAD_INPUT
    assert "has 201 characters, the limit is 200" in capsys.readouterr().err


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

    resting: tuple[str, ...] = ("x",)
    halted: ClassVar = {"all": TradingState.HALTED, "account:typed/wrong": TradingState.HALTED}

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Any]:
        async def open_orders(wanted: Any, **_: Any) -> list[OrderState]:
            one = order(OrderSide.BUY, "1", "100")
            found = [one.model_copy(update={"client_order_id": name}) for name in self.resting]
            return found if wanted.symbol in {None, one.symbol} else []

        states = dict(self.halted)

        async def set_trading_state(scope: str, state: TradingState, **_: Any) -> None:
            states[scope] = state

        async def trading_states() -> dict[str, TradingState]:
            return states

        async def accounts(exchange: str) -> set[str]:
            return {"seen"} if exchange == "alpha" else set()

        async def adjust_position(change: Adjustment) -> Decimal | None:
            return change.expected

        async def status() -> dict[str, Any]:
            return {}

        yield SimpleNamespace(
            orders=open_orders,
            set_trading_state=set_trading_state,
            trading_states=trading_states,
            risk=SimpleNamespace(accounts=accounts, adjust_position=adjust_position),
            rates=SimpleNamespace(status=status),
        )

    @contextlib.asynccontextmanager
    async def orders(self, *, with_store: bool = False) -> AsyncIterator[Any]:
        yield self

    async def cancel_order(self, order_id: str, *, wait: float, reason: str | None) -> CancelResult:
        click.echo(f"{order_id} within {wait:g} s: {reason}")
        return CancelResult(success=False, order_id=order_id, outcome=CancelOutcome.PENDING)

    async def submit_order(self, order: Order) -> OrderResult:
        raise NotImplementedError


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


def test_a_symbol_may_be_written_small(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trading.oms.cli.halt.find_target", lambda: Beside({}, "here"))
    assert oms(["cancel", "--symbol", "btc/usdt"]) == Exit.PENDING
    assert capsys.readouterr().out.endswith("x: pending\n")


class Partly(Beside):
    """Each of its orders is named after what becomes of its cancel."""

    async def cancel_order(self, order_id: str, **_: Any) -> CancelResult:
        if order_id == "away":
            raise ServiceUnavailable("no worker")
        if order_id == "late":
            raise RPCError("too late", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        outcome = CancelOutcome(order_id)
        is_done = outcome is CancelOutcome.CANCELLED
        return CancelResult(success=is_done, order_id=order_id, outcome=outcome)


@pytest.mark.parametrize("command", [("cancel", "--all"), ("halt", "--cancel")])
@pytest.mark.parametrize(
    ("resting", "said", "code"),
    [
        (("away", "cancelled"), ["away: pending (no worker)", "cancelled: cancelled"], 3),
        (("late", "cancelled"), ["late: pending (too late)", "cancelled: cancelled"], 3),
        (("not_found", "cancelled"), ["not_found: not found", "cancelled: cancelled"], 3),
        (("cancelled",), ["cancelled: cancelled"], 0),
    ],
)
def test_a_cancel_that_fails_leaves_the_others_alone_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    resting: tuple[str, ...],
    said: list[str],
    code: int,
) -> None:
    monkeypatch.setattr(Partly, "resting", resting)
    monkeypatch.setattr("trading.oms.cli.halt.find_target", lambda: Partly({}, "here"))
    assert oms(command) == code
    assert capsys.readouterr().out.splitlines()[-len(resting) :] == said


def test_a_halt_says_that_it_stands_before_it_cancels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trading.oms.cli.halt.find_target", lambda: Beside({}, "here"))
    assert oms(["halt", "--cancel", "--reason", "a storm"]) == Exit.PENDING
    said = ["account:typed/wrong: halted", "all: halted", "x within 5 s: a storm", "x: pending"]
    assert capsys.readouterr().out.splitlines() == said


CONFIGURED = {"OMS_EXCHANGES": "alpha, beta", "OMS_BETA_ACCOUNT": "second"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("halt", "--account", "alpha/mian"), "known; the accounts here are: alpha/main, alpha/se"),
        (("halt", "--account", "beta/seen"), "no account beta/seen is known"),
        (("halt", "--strategy", "a b"), "is 'a b'; must be 1 to 64 of the characters"),
        (("resume", "--account", "nix/main", "--reason", "x"), "no account nix/main is known"),
        (("resume", "--strategy", "a b", "--reason", "x"), "is 'a b'; must be"),
        (("resume", "nix", "main", "--reason", "x"), "no account nix/main is known"),
        (("adjust-position", "nix/main", "A/B", "1", "--reason", "x"), "no account nix/main"),
        (("adjust-position", "alpha/seen", "AB", "1", "--reason", "x"), "must be BASE/QUOTE"),
        (
            ("adjust-position", "alpha/seen", "A/B", "1", "--strategy", "a b", "--reason", "x"),
            "is 'a b'; must be",
        ),
        (("limits", "--exchange", "nix"), "exchange is 'nix'; the exchanges here are: alpha, beta"),
    ],
)
def test_what_does_not_exist_is_neither_halted_nor_resumed_nor_adjusted(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    for module in ("halt", "adjust", "limits"):
        target = f"trading.oms.cli.{module}.find_target"
        monkeypatch.setattr(target, lambda: Beside(CONFIGURED, "here"))
    assert oms(arguments) == Exit.BAD_INPUT
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("halt", "--account", "alpha/seen"),
        ("halt", "--account", "beta/second"),
        ("halt", "--strategy", "a-b"),
        ("resume", "--account", "typed/wrong", "--reason", "it never was"),
    ],
)
def test_what_a_worker_has_seen_or_is_configured_or_was_halted_can_be_changed(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """No worker has been connected to `beta` yet."""
    monkeypatch.setattr("trading.oms.cli.halt.find_target", lambda: Beside(CONFIGURED, "here"))
    assert oms(arguments) == Exit.OK


def test_a_position_may_be_negative(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trading.oms.cli.adjust.find_target", lambda: Beside(CONFIGURED, "here"))
    where = ("adjust-position", "alpha/seen", "eth/usdt")
    assert oms([*where, "-0.5", "--was", "-.25", "--reason", "lent"]) == Exit.OK
    assert capsys.readouterr().out == "alpha / seen: ETH/USDT -0.25 -> -0.5\n"
    assert oms([*where, "--wass", "1", "--reason", "lent"]) == Exit.BAD_INPUT
    assert "No such option '--wass'" in capsys.readouterr().err


def test_a_negative_quantity_is_refused_as_a_quantity(capsys: pytest.CaptureFixture[str]) -> None:
    assert oms(["submit", "buy", "-1", "BTC/USDT"]) == Exit.BAD_INPUT
    assert "quantity: is -1; must be greater than 0" in capsys.readouterr().err


BUY = ("submit", "buy", "0.01", "btc/usdt")


class Unanswered(Beside):
    """Its door takes an order and says its id; then what it was told to happens."""

    error: Exception | None = None

    async def submit_order(self, order: Order) -> OrderResult:
        click.echo(order.client_order_id)
        if self.error is not None:
            raise self.error
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)
        raise NotImplementedError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServiceUnavailable("Temporal did not take the call"), Exit.UNREACHABLE),
        (RPCError("too late", RPCStatusCode.DEADLINE_EXCEEDED, b""), Exit.UNREACHABLE),
        (KeyError("a bug"), Exit.BUG),
        (None, Exit.INTERRUPTED),
        (InvalidOrder("quantity: is 0"), Exit.BAD_INPUT),
    ],
    ids=["away", "late", "bug", "Ctrl-C", "refused"],
)
def test_who_gets_no_answer_is_told_how_to_ask_for_the_same_order(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
    code: Exit,
) -> None:
    monkeypatch.setattr(Unanswered, "error", error)
    monkeypatch.setattr("trading.oms.cli.trade.find_target", lambda: Unanswered({}, "here"))
    assert oms(BUY) == code
    shown = capsys.readouterr()
    told = re.findall(r"to ask for the same one again add --id (\S+)\n", shown.err)
    assert told == ([] if code is Exit.BAD_INPUT else shown.out.split())


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ({"status": OrderStatus.PENDING_SUBMISSION}, Exit.PENDING),
        ({"status": OrderStatus.SUBMITTED}, Exit.PENDING),
        ({"status": OrderStatus.SUBMITTED, "in_doubt_since": utc_now()}, Exit.PENDING),
        ({"status": OrderStatus.ACCEPTED, "pending": Pending.CANCEL}, Exit.PENDING),
        ({"status": OrderStatus.ACCEPTED}, Exit.OK),
        ({"status": OrderStatus.FILLED}, Exit.OK),
        ({"status": OrderStatus.REJECTED}, Exit.REFUSED),
    ],
)
def test_only_what_is_decided_is_done(
    monkeypatch: pytest.MonkeyPatch, update: dict[str, Any], code: Exit
) -> None:
    async def submit_order(_: Beside, __: Order) -> OrderResult:
        return result_of(order(OrderSide.BUY, "0", "0").model_copy(update=update))

    monkeypatch.setattr(Beside, "submit_order", submit_order)
    monkeypatch.setattr("trading.oms.cli.trade.find_target", lambda: Beside({}, "here"))
    assert oms(BUY) == code
