"""Looking for an order whose send has no known outcome, by several sources.

A failed query sees nothing. "Not placed" needs the fence to have passed by the exchange's own
clock, two lists that do not have the order, and no trade that nobody can explain.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.booking import Booking
from activities.heartbeats import beating
from activities.messages import Booked, LookUp, Sighting, SightingKind
from activities.rate_desk import patient, urgent
from trading.oms.errors import ExchangeError
from trading.oms.exact import EXACT
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import utc_now
from trading.oms.venue import OrderList, OrderRef, VenueMargins

if TYPE_CHECKING:
    from decimal import Decimal

    from activities.order_steps import Parts
    from activities.store import StoredClaim
    from trading.oms.models import OrderState
    from trading.oms.venue import ExecutionReport, IExecutionConnector

_OLDER_ORDERS = timedelta(days=1)


class OrderLookUp:
    """The activity that looks for an order in doubt."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; nothing is opened here."""
        self._parts = parts
        self._store = parts.store
        self._booking = Booking(parts.store)

    @activity.defn(name="look_up_order")
    async def look_up_order(self, at: LookUp) -> Sighting:
        """Look once, by the query for the client id and among all orders since the claim."""
        with patient(), urgent():
            async with beating():
                claim = await self._store.claim(at.order_id, at.leg, at.generation)
                if claim is None:
                    send = f"leg {at.leg}, generation {at.generation}"
                    msg = f"order {at.order_id} has no claim for {send}"
                    raise LookupError(msg)
                request = claim.request
                connector = self._parts.connectors[request.exchange, request.account]
                return await self._look(at, claim, connector)

    async def _look(
        self, at: LookUp, claim: StoredClaim, connector: IExecutionConnector
    ) -> Sighting:
        request = claim.request
        ref = OrderRef(symbol=request.symbol, exchange_client_id=request.exchange_client_id)
        try:
            passed = await fence_has_passed(claim, connector)
            report = await connector.find_order(ref)
            listed = OrderList(())
            if report is None:
                listed = await connector.orders_since(request.symbol, _since(claim, connector))
                report = _with_client_id(listed, request.exchange_client_id)
            if report is None:
                return await self._absent(claim, connector, listed, passed=passed)
            fills = await connector.fills_of(
                ref.model_copy(update={"exchange_order_id": report.exchange_order_id})
            )
        except ExchangeError as error:
            return await self._sees(claim, SightingKind.NO_OBSERVATION, str(error))
        return await self._adopt(at, claim, report.model_copy(update={"fills": tuple(fills)}))

    async def _absent(
        self,
        claim: StoredClaim,
        connector: IExecutionConnector,
        listed: OrderList,
        *,
        passed: bool,
    ) -> Sighting:
        """Two sources do not know it: proof once the fence has passed, and only where one is."""
        if connector.capabilities.fence is None:
            reason = "the exchange has no fence: only an operator can say that it is not there"
            return await self._sees(claim, SightingKind.NOT_YET, reason)
        if listed.gap is not None:
            return await self._sees(claim, SightingKind.NO_OBSERVATION, listed.gap)
        if not passed:
            return await self._sees(claim, SightingKind.NOT_YET, "its deadline has not passed yet")
        unexplained = await self._unexplained_trade(claim, connector, listed)
        if unexplained is not None:
            return await self._sees(claim, SightingKind.NOT_YET, unexplained)
        return await self._sees(claim, SightingKind.NOT_PLACED, None)

    async def _unexplained_trade(
        self,
        claim: StoredClaim,
        connector: IExecutionConnector,
        listed: OrderList,
    ) -> str | None:
        """A trade since the claim of an order that is in no list: the sources disagree."""
        request, since = claim.request, _since(claim, connector)
        fills = await connector.fills_after(request.symbol, trade_id=None, since=since)
        ids = {fill.exchange_order_id for fill in fills if fill.exchange_order_id}
        ids -= {report.exchange_order_id for report in listed}
        unknown = [one for one in sorted(ids) if not await self._is_ours(claim, one)]
        if unknown:
            older = await connector.orders_since(request.symbol, since - _OLDER_ORDERS)
            known = {report.exchange_order_id for report in older}
            unknown = [one for one in unknown if one not in known]
        if not unknown:
            return None
        return f"the sources disagree: there are trades of order {unknown[0]}, which is in no list"

    async def _is_ours(self, claim: StoredClaim, exchange_order_id: str) -> bool:
        """A row of somebody else's order explains nothing: a sweep may have made it of it."""
        request = claim.request
        where = (request.exchange, request.account, request.symbol)
        order_id = await self._store.find_order(where, exchange_order_id)
        return order_id is not None and await self._store.trader_order(order_id) is not None

    async def _adopt(self, at: LookUp, claim: StoredClaim, report: ExecutionReport) -> Sighting:
        """It lives. It is ours only if it is what we claimed to send, or an operator says so."""
        strange = _differences(claim, report)
        names = ("symbol", "side") if at.as_it_is else tuple(strange)
        refused = [strange[name] for name in names if name in strange]
        if refused:
            reason = f"the exchange has another order under our id: {'; '.join(refused)}"
            event = LifecycleEvent(kind=EventKind.ALARM, at=report.at, leg=at.leg, reason=reason)
            await self._store.record(at.order_id, [event])
            return await self._sees(claim, SightingKind.NO_OBSERVATION, reason)
        if strange:
            await self._take_its_terms(at, report)
        asked_for = max(
            at.generation, 2
        )  # The workflow's own may be newer than what is looked for.
        booked = await self._booking.book(at.order_id, [report], generation=asked_for)
        return _seen(booked)

    async def _take_its_terms(self, at: LookUp, report: ExecutionReport) -> None:
        """An operator took the exchange's order as it is: so are quantity and price now."""
        state = await self._state(at.order_id)
        quantity = state.quantity
        if report.quantity is not None:
            quantity = EXACT.add(report.quantity, await self._filled_elsewhere(report, state))
        event = LifecycleEvent(
            kind=EventKind.MODIFIED,
            at=utc_now(),
            leg=at.leg,
            revision=state.revision + 1,
            quantity=quantity,
            price=report.price or state.price,
            stop_price=state.stop_price,
        )
        await self._store.record(at.order_id, [event])

    async def _filled_elsewhere(self, report: ExecutionReport, state: OrderState) -> Decimal:
        total = EXACT.create_decimal(0)
        for fill in await self._store.fills(state.client_order_id):
            if fill.exchange_order_id != report.exchange_order_id:
                total = EXACT.add(total, fill.quantity)
        return total

    async def _sees(self, claim: StoredClaim, kind: SightingKind, reason: str | None) -> Sighting:
        state = await self._state(claim.key.order_id)
        return Sighting(kind=kind, state=state, reason=reason)

    async def _state(self, order_id: str) -> OrderState:
        state = await self._store.order(order_id)
        if state is None:
            msg = f"no order has the id {order_id!r}"
            raise LookupError(msg)
        return state


async def fence_has_passed(claim: StoredClaim, connector: IExecutionConnector) -> bool:
    """Whether, by the exchange's own clock, the claimed request can place nothing any more."""
    now = await connector.server_time()
    margin_ms = VenueMargins.of(connector.capabilities).fence_margin_ms
    return now.timestamp() * 1000 > claim.request.deadline_ms + margin_ms


def _since(claim: StoredClaim, connector: IExecutionConnector) -> datetime:
    since = datetime.fromtimestamp(claim.request.timestamp_ms / 1000, UTC)
    return since - timedelta(milliseconds=connector.capabilities.clock_skew_ms + 1000)


def _with_client_id(reports: OrderList, client_id: str) -> ExecutionReport | None:
    return next((report for report in reports if report.exchange_client_id == client_id), None)


def _seen(booked: Booked) -> Sighting:
    return Sighting(
        kind=SightingKind.SEEN,
        state=booked.state,
        fills_missing=booked.fills_missing,
        strays=booked.strays,
        carrier=booked.carrier,
    )


def _differences(claim: StoredClaim, report: ExecutionReport) -> dict[str, str]:
    """What differs between the claimed request and what the exchange has, by name."""
    request = claim.request
    pairs = [
        ("symbol", request.symbol, report.symbol),
        ("side", request.side, report.side),
        ("quantity", request.quantity, report.quantity),
        ("price", request.price, report.price),
    ]
    return {
        name: f"{name} is {found}, claimed was {claimed}"
        for name, claimed, found in pairs
        if claimed is not None and found is not None and claimed != found
    }
