"""The two pictures of an account that reconciliation compares: ours and the exchange's."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from activities.store import OrderFilter
from trading.oms.enums import OPEN_STATUSES
from trading.oms.errors import UnreadableOrder
from trading.oms.exact import EXACT
from trading.oms.models import utc_now
from trading.oms.reconciliation import (
    ExchangePicture,
    Key,
    OurLeg,
    OurPicture,
    is_unconfirmed,
    key_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from activities.store import Listing, Store
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector

SETTLING = timedelta(seconds=2)
"""What was touched so shortly before the exchange was asked may still be on its way."""


class Pictures(NamedTuple):
    """Both pictures."""

    ours: OurPicture
    theirs: ExchangePicture


async def our_orders(
    store: Store, connector: IExecutionConnector, *, external: bool | None = None
) -> Listing:
    """The account's open orders; by `external` only ours or only those of others."""
    wanted = OrderFilter(
        exchange=connector.exchange,
        account=connector.account,
        statuses=OPEN_STATUSES,
        external=external,
    )
    return await store.listing(wanted)


async def both_pictures(store: Store, deployment: str, connector: IExecutionConnector) -> Pictures:
    """The exchange's first, then ours, without what was touched meanwhile.

    Raises `ExchangeError`.
    """
    untouched_since = utc_now() - SETTLING
    theirs = await exchange_picture(connector)
    here = await our_orders(store, connector)
    ours = await our_picture(store, deployment, here, theirs.reports, untouched_since)
    return Pictures(ours, theirs)


async def our_picture(
    store: Store,
    deployment: str,
    here: Listing,
    theirs: Sequence[ExecutionReport],
    untouched_since: datetime,
) -> OurPicture:
    """Our open legs, and whose the exchange's other open orders are."""
    left_out = {key_of(order) for order in here.unreadable}
    unreadable = {order.client_order_id: str(order) for order in here.unreadable}
    legs = []
    for order in here.orders:
        if order.last_updated_at >= untouched_since:
            left_out.add(key_of(order))
        elif key_of(order) is not None:
            legs.append(await _leg(store, order))
    ours = left_out | {leg.key for leg in legs}
    ended: dict[Key, str] = {}
    for report in theirs:
        client_id = report.exchange_client_id
        if client_id is None or client_id in ours:
            continue
        claim = await store.find_claim(report.exchange, report.account, client_id)
        if claim is None:
            continue
        try:
            owner = await store.order(claim.order_id)
        except UnreadableOrder as error:
            left_out.add(client_id)
            unreadable[claim.order_id] = str(error)
            continue
        if owner is not None and owner.last_updated_at >= untouched_since:
            left_out.add(client_id)  # It may have ended since the exchange was asked.
        else:
            ended[client_id] = claim.order_id
    return OurPicture(
        deployment=deployment,
        legs=legs,
        ended=ended,
        left_out={key for key in left_out if key is not None},
        unreadable=list(unreadable.values()),
    )


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
        in_doubt=is_unconfirmed(order),
    )
