"""The two pictures of an account that reconciliation compares: ours and the exchange's."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from activities.store import OrderFilter
from trading.oms.enums import OPEN_STATUSES
from trading.oms.exact import EXACT
from trading.oms.models import utc_now
from trading.oms.reconciliation import ExchangePicture, OurLeg, OurPicture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from activities.store import Store
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector

SETTLING = timedelta(seconds=2)
"""What was touched so shortly before the exchange was asked may still be on its way."""


class Pictures(NamedTuple):
    """Both pictures; `orders` are our open ones, `began_at` is our time when it began."""

    ours: OurPicture
    theirs: ExchangePicture
    orders: Sequence[OrderState]
    began_at: datetime


async def our_orders(
    store: Store, connector: IExecutionConnector, *, external: bool | None = None
) -> list[OrderState]:
    """The account's open orders; by `external` only ours or only those of others."""
    wanted = OrderFilter(
        exchange=connector.exchange,
        account=connector.account,
        statuses=OPEN_STATUSES,
        external=external,
    )
    return await store.orders(wanted, limit=None)


async def both_pictures(store: Store, deployment: str, connector: IExecutionConnector) -> Pictures:
    """The exchange's first, then ours, without what was touched meanwhile.

    Raises `ExchangeError`.
    """
    began_at = utc_now()
    theirs = await exchange_picture(connector)
    orders = await our_orders(store, connector)
    untouched = began_at - SETTLING
    touched = {o.exchange_client_id for o in orders if o.last_updated_at >= untouched}
    reports = [r for r in theirs.reports if r.exchange_client_id not in touched]
    ours = await our_picture(store, deployment, orders, reports, untouched)
    return Pictures(ours, theirs._replace(reports=reports), orders, began_at)


async def our_picture(
    store: Store,
    deployment: str,
    orders: Sequence[OrderState],
    theirs: Sequence[ExecutionReport],
    untouched_since: datetime,
) -> OurPicture:
    """Our open legs, and whose the exchange's other open orders are."""
    legs = [
        await _leg(store, order)
        for order in orders
        if order.exchange_client_id is not None and order.last_updated_at < untouched_since
    ]
    ours = {order.exchange_client_id for order in orders}
    ended = {}
    for report in theirs:
        client_id = report.exchange_client_id
        if client_id is None or client_id in ours:
            continue
        claim = await store.find_claim(report.exchange, report.account, client_id)
        if claim is not None:
            ended[client_id] = claim.order_id
    return OurPicture(deployment=deployment, legs=legs, ended=ended)


async def exchange_picture(connector: IExecutionConnector) -> ExchangePicture:
    """The open orders of the whole account. Raises `ExchangeError`: then there is no picture."""
    asked_at = await connector.server_time()
    listed = await connector.open_orders()
    return ExchangePicture(asked_at=asked_at, reports=listed.reports, gap=listed.gap)


async def _leg(store: Store, order: OrderState) -> OurLeg:
    """The exchange order that carries the order now.

    Its quantity is not its claim's: a change in place writes none. It is what the order's other
    exchange orders have left of the order's.
    """
    if order.leg == 1:
        return OurLeg.of(order)
    claims = await store.claims_of(order.client_order_id)
    claim = next(c for c in claims if c.request.exchange_client_id == order.exchange_client_id)
    quantity, filled = order.quantity, EXACT.create_decimal(0)
    for fill in await store.fills(order.client_order_id):
        if fill.exchange_order_id == order.exchange_order_id:
            filled = EXACT.add(filled, fill.quantity)
        else:
            quantity = EXACT.subtract(quantity, fill.quantity)
    return OurLeg(
        order_id=order.client_order_id,
        exchange_client_id=claim.request.exchange_client_id,
        symbol=order.symbol,
        side=order.side,
        quantity=quantity,
        filled_quantity=filled,
        price=order.price,
        sent_at=claim.claimed_at,
        in_doubt=order.in_doubt_since is not None,
    )
