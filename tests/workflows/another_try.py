"""What another try of a workflow task does before this one: its result is lost, its deeds stay."""

from decimal import Decimal

from activities.store import Claim, ClaimOutcome
from tests.workflows.desk import Desk
from trading.oms.identity import exchange_client_id
from trading.oms.lifecycle import EventKind, LifecycleEvent
from trading.oms.models import OrderState, utc_now
from trading.oms.reports import events_of


async def sent_by_another(
    desk: Desk, state: OrderState, leg: int, generation: int, price: Decimal | None = None
) -> Claim:
    """The task that the workflow's repeats has claimed this send; nothing is written yet."""
    assert desk.runtime is not None
    parts, order_id = desk.runtime.parts, state.client_order_id
    first = (await desk.store.claims_of(order_id))[-1].request
    now = parts.connectors[first.exchange, first.account].exchange_now()
    request = first.model_copy(
        update={
            "exchange_client_id": exchange_client_id(parts.deployment, order_id, leg, generation),
            "timestamp_ms": int(now.timestamp() * 1000),
            "price": price or first.price,
        }
    )
    kind = EventKind.LEG_STARTED if leg > 1 else EventKind.RESENT
    started = LifecycleEvent(
        kind=kind,
        at=utc_now(),
        leg=leg,
        exchange_client_id=request.exchange_client_id,
        revision=leg - 1,
        price=price,
    )
    claim = await desk.store.claim_send(
        order_id, leg, generation, request, claimant="the other", events=[started]
    )
    assert claim.won
    return claim


async def sent_once_more(
    desk: Desk, order_id: str, leg: int = 1, *, is_written: bool = True
) -> None:
    """The newest request never reached the exchange; the other has claimed it once more."""
    assert desk.runtime is not None
    last = (await desk.store.claims_of(order_id))[-1]
    where = (last.request.exchange, last.request.account)
    now = desk.runtime.parts.connectors[where].exchange_now()
    request = last.request.model_copy(update={"timestamp_ms": int(now.timestamp() * 1000)})
    claim = await desk.store.reclaim(
        order_id, leg, 1, stamp=last.stamp, request=request, claimant="the other"
    )
    assert claim.won
    if is_written:
        await written(desk, claim)


async def written(desk: Desk, claim: Claim) -> None:
    """The other has written it, and nobody has read its answer."""
    assert desk.runtime is not None
    request = claim.request
    await desk.runtime.parts.connectors[request.exchange, request.account].place(request)


async def acknowledged(desk: Desk, claim: Claim, order_id: str, leg: int, generation: int) -> None:
    """The other has written it and committed the answer; then its process has died."""
    assert desk.runtime is not None
    request = claim.request
    connector = desk.runtime.parts.connectors[request.exchange, request.account]
    report = await connector.place(request)
    await desk.store.settle_claim(
        order_id,
        leg,
        generation,
        outcome=ClaimOutcome.ACCEPTED,
        answer=report.model_dump(mode="json", exclude={"fills"}),
        events=events_of(report, leg, claim.state),
    )


async def never_reached(desk: Desk, order_id: str) -> bool:
    """Whether the newest send of the order has reached nobody."""
    claims = await desk.store.claims_of(order_id)
    return bool(claims) and claims[-1].outcome is ClaimOutcome.NEVER_REACHED
