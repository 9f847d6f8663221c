"""`oms bench load`: orders at a rate, to see what a deployment carries."""

import asyncio
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from trading.oms.cli.failures import Exit, Failed, run
from trading.oms.cli.given import TEXT
from trading.oms.cli.output import console, examples, json_option, put_json
from trading.oms.cli.target import find_target
from trading.oms.commands import validated
from trading.oms.errors import OmsError
from trading.oms.models import Order, OrderResult

if TYPE_CHECKING:
    from trading.oms.order_manager import OrderManager

_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class _Wish(NamedTuple):
    """What to send and how fast. `rate` is orders per second, 0 as fast as the lanes go."""

    order: dict[str, Any]
    rate: float
    at_once: int
    seconds: float
    cancel: bool


class _Outcome(NamedTuple):
    """One order: milliseconds from the moment it was due to its answer, and how it went."""

    answer_ms: float
    said: str


@click.group()
def bench() -> None:
    """Measure a deployment."""


@bench.command(
    epilog=examples(
        "oms bench load buy 0.001 BTC/USDT --price 38500 --cancel --at-once 50 --seconds 30",
        "oms bench load buy 0.001 BTC/USDT --exchange alpha --rate 200 --at-once 500",
    )
)
@click.argument("side", type=click.Choice(["buy", "sell"], case_sensitive=False))
@click.argument("quantity")
@click.argument("symbol")
@click.option("--price", help="A limit order at this price; without it, market orders.")
@click.option("--exchange", type=TEXT, help="Where to; without it the orders are routed.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Orders per second in all.")
@click.option("--at-once", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--cancel", is_flag=True, help="Cancel each order once it is accepted.")
@json_option
def load(*, as_json: bool, **given: Any) -> None:
    """Send orders of one kind by the remote door, and tell rates and latencies.

    With --rate an order's time counts from the moment it was due, so that a deployment that falls
    behind shows it. The environment has to name the exchanges as the workers' does, and none of
    them may be set to trade live.
    """
    order = {name: given[name] for name in ("side", "quantity", "symbol", "price", "exchange")}
    order = {name: value for name, value in order.items() if value is not None}
    order["order_type"] = "limit" if "price" in order else "market"
    order["symbol"] = str(order["symbol"]).upper()
    validated(order, Order)
    wish = _Wish(order, given["rate"], given["at_once"], given["seconds"], given["cancel"])
    run(_load(wish, as_json=as_json))


async def _load(wish: _Wish, *, as_json: bool) -> None:
    target = find_target()
    if not target.environment.get("OMS_EXCHANGES"):
        msg = "OMS_EXCHANGES is not set: give the workers' own, so that no real money gets a load"
        raise Failed(msg, Exit.BAD_INPUT)
    if live := target.live_accounts:
        msg = f"{', '.join(live)} is set to trade live; a load is for sandboxes"
        raise Failed(msg, Exit.BAD_INPUT)
    async with target.orders() as oms:
        started = time.monotonic()
        outcomes = await _send_all(oms, wish)
        elapsed = time.monotonic() - started
    figures = _figures(outcomes, elapsed)
    if as_json:
        put_json(figures)
        return
    out = console()
    out.print(f"{figures['orders']} orders in {elapsed:.1f} s: {figures['orders_per_s']} orders/s")
    times = ", ".join(f"{name} {figures[f'answer_{name}_ms']} ms" for name in _SHARES)
    out.print(f"from due to answered: {times}")
    for said, count in figures["outcomes"].items():
        out.print(f"{count:>8}  {said}")


async def _send_all(oms: "OrderManager", wish: _Wish) -> list[_Outcome]:
    begun = time.monotonic()
    numbers = itertools.count()

    async def lane() -> list[_Outcome]:
        done = []
        while (due := _due(begun, next(numbers), wish.rate)) < begun + wish.seconds:
            await asyncio.sleep(due - time.monotonic())
            done.append(await _one(oms, wish, due if wish.rate else time.monotonic()))
        return done

    lanes = await asyncio.gather(*(lane() for _ in range(wish.at_once)))
    return [outcome for done in lanes for outcome in done]


def _due(begun: float, number: int, rate: float) -> float:
    """When the order of this number is to go: at once, where no rate is asked for."""
    return begun + number / rate if rate else time.monotonic()


async def _one(oms: "OrderManager", wish: _Wish, due: float) -> _Outcome:
    order = validated(wish.order, Order)
    try:
        result = await oms.submit_order(order)
    except OmsError as error:
        return _Outcome((time.monotonic() - due) * 1000, f"error: {type(error).__name__}")
    answer_ms = (time.monotonic() - due) * 1000
    if wish.cancel and result.success:
        cancelled = await oms.cancel_order(order.client_order_id)
        return _Outcome(answer_ms, cancelled.outcome.value)
    return _Outcome(answer_ms, _said(result))


def _said(result: OrderResult) -> str:
    if result.in_doubt:
        return "in doubt"
    return result.status.value + (f" ({result.reason_code.value})" if result.reason_code else "")


def _figures(outcomes: list[_Outcome], elapsed_s: float) -> dict[str, Any]:
    times = sorted(outcome.answer_ms for outcome in outcomes)
    places = {name: min(len(times) - 1, int(share * len(times))) for name, share in _SHARES.items()}
    said = Counter(outcome.said for outcome in outcomes)
    return {
        "orders": len(outcomes),
        "elapsed_s": round(elapsed_s, 3),
        "orders_per_s": round(len(outcomes) / elapsed_s, 1),
        **{f"answer_{name}_ms": round(times[at], 1) for name, at in places.items()},
        "outcomes": dict(said.most_common()),
    }
