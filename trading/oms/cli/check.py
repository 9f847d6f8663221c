"""`oms submit --check`: everything that could deny an order, and nothing is sent or stored."""

from typing import TYPE_CHECKING, NamedTuple

from trading.oms.cli.failures import Exit, leave
from trading.oms.cli.output import console, put_json
from trading.oms.enums import ReasonCode
from trading.oms.reading import summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.order_steps import Parts
    from trading.oms.cli.target import Target
    from trading.oms.models import Order
    from trading.oms.routing.base import Refusal


class _Verdict(NamedTuple):
    """The checks that passed, and the denial that ended them."""

    passed: list[str]
    code: ReasonCode | None = None
    reason: str = ""
    where: str = ""


async def check_order(target: "Target", order: "Order", *, as_json: bool) -> None:
    """Run the checks in their order up to the first denial, and print them."""
    from workers.composition import parts_of

    async with target.store() as store, target.connectors() as connectors:
        parts = parts_of(target.settings(), store, connectors)
        verdict = await _judge(parts, order)
    if as_json:
        put_json(
            {
                "order_id": order.client_order_id,
                "passed": verdict.code is None,
                "checks_run": verdict.passed,
                "reason_code": verdict.code,
                "reason": verdict.reason or None,
            }
        )
    else:
        _show(order, verdict, is_live=target.is_live(verdict.where or order.exchange))
    leave(Exit.OK if verdict.code is None else Exit.REFUSED)


async def _judge(parts: "Parts", order: "Order") -> _Verdict:
    from activities.splitting import is_to_be_split
    from trading.oms.routing.base import Refusal

    if await parts.store.order(order.client_order_id) is not None:
        reason = f"there is an order with the id {order.client_order_id} already"
        return _Verdict([], ReasonCode.ORDER_EXISTS, reason)
    refused: dict[str, Refusal] = {}
    while True:
        verdict = await _judge_legs(parts, order, refused)
        may_go_elsewhere = is_to_be_split(parts, order) and verdict.where not in refused
        if verdict.code is None or not verdict.where or not may_go_elsewhere:
            return verdict
        # Where the order may be divided, an exchange that denies its part is left out.
        refused[verdict.where] = Refusal(verdict.code, verdict.reason)


async def _judge_legs(parts: "Parts", order: "Order", refused: "Mapping[str, Refusal]") -> _Verdict:
    from trading.oms.routing.base import RoutingDenied

    passed = ["id_is_new"]
    try:
        legs = await _legs(parts, order, refused)
    except RoutingDenied as denial:
        return _Verdict(passed, denial.reason_code, str(denial))
    where = " and ".join(str(leg.exchange) for leg in legs)
    for leg in legs:
        verdict = await _judge_leg(parts, leg)
        passed += [name for name in verdict.passed if name not in passed]
        if verdict.code is not None:
            return verdict._replace(passed=passed)
    return _Verdict(passed, where=where)


async def _legs(parts: "Parts", order: "Order", refused: "Mapping[str, Refusal]") -> "list[Order]":
    """The order with its exchange; where it would be split, one for each."""
    from activities.splitting import is_to_be_split
    from trading.oms.routing.base import IOrderSplitter, Share

    router = parts.router
    if is_to_be_split(parts, order) and isinstance(router, IOrderSplitter):
        shares = await router.divide(order, order.quantity, refused)
    else:
        shares = [Share(await router.route_order(order), order.quantity)]
    return [order.model_copy(update=share._asdict()) for share in shares]


async def _judge_leg(parts: "Parts", order: "Order") -> _Verdict:
    from activities.messages import RiskQuestion

    passed: list[str] = []
    exchange = str(order.exchange)
    account = order.account or parts.default_accounts.get(exchange, "")
    if (exchange, account) not in parts.connectors:
        known = ", ".join(sorted("/".join(key) for key in parts.connectors))
        reason = f"account is {account!r} at {exchange!r}; the accounts here are: {known}"
        return _Verdict(passed, ReasonCode.NO_EXCHANGE, reason)
    passed.append("routed")
    state = await parts.store.trading_state(exchange, account, order.strategy_id)
    if state.value == "halted":
        return _Verdict(passed, ReasonCode.TRADING_HALTED, "trading is halted", exchange)
    passed.append("trading_state")
    question = RiskQuestion(
        order_id=order.client_order_id,
        exchange=exchange,
        account=account,
        quantity=order.quantity,
        price=order.price,
    )
    answer = await parts.risk.preview(order, question)
    ran = answer.checks_run if answer.denied is None else answer.checks_run[:-1]
    passed += [name for name in ran if name not in passed]
    if answer.denied is not None:
        return _Verdict(passed, answer.denied.reason_code, answer.denied.reason, exchange)
    return _Verdict(passed, where=exchange)


def _show(order: "Order", verdict: _Verdict, *, is_live: bool) -> None:
    import click

    out = console()
    live = "[bold white on red] LIVE [/] " if is_live else ""
    where = f" at {verdict.where}" if verdict.where else ""
    out.print(f"{live}{summary(order)}{where}: checked, not sent")
    for name in verdict.passed:
        out.print(f"  [green]passed[/]  {name.replace('_', ' ')}")
    if verdict.code is not None:
        out.print(f"  [red]denied[/]  {verdict.code.value}")
        click.echo(f"denied ({verdict.code.value}): {verdict.reason}", err=True)
