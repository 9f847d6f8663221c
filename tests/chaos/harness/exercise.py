"""What a run has exercised: how many orders met what, counted in the store."""

import sqlalchemy as sa

from activities.store.schema import fills, order_events, orders, send_claims
from tests.chaos.world import World

_ENDED = ("filled", "cancelled", "expired", "rejected")
_MET = {
    "modified": "order_modified",
    "resent": "order_resent",
    "split": "order_split",
    "alarmed": "order_alarm",
}
"""By what is in an order's journal."""


async def exercised(world: World) -> dict[str, int]:
    """Orders by their end and by what happened to them; legs count, orders of others do not."""
    ours = orders.c.external.is_(False)
    by_status = sa.select(orders.c.status, sa.func.count()).where(ours).group_by(orders.c.status)
    met = (
        sa.select(order_events.c.name, sa.func.count(order_events.c.order_id.distinct()))
        .join(orders, orders.c.client_order_id == order_events.c.order_id)
        .where(ours, order_events.c.name.in_(_MET.values()))
        .group_by(order_events.c.name)
    )
    replaced = sa.select(sa.func.count(send_claims.c.order_id.distinct())).where(
        send_claims.c.leg > 1
    )
    booked = sa.select(sa.func.count()).select_from(fills)
    found = await world.store._read(
        lambda c: (
            {row.status: row[1] for row in c.execute(by_status)},
            {row.name: row[1] for row in c.execute(met)},
            {"replaced": c.scalar(replaced) or 0, "fills": c.scalar(booked) or 0},
        )
    )
    ends, journal, others = found
    return {
        **{name: ends.get(name, 0) for name in _ENDED},
        **{name: journal.get(event, 0) for name, event in _MET.items()},
        **others,
    }
