"""The rate ledger in the store: one row per exchange, changed by one short transaction at a time.

The transactions have a connection of their own: the row's lock is held for as long as its own
statements take, never for a batch of orders. On PostgreSQL they do not wait for the disk. After a
power cut the newest leases are forgotten, which can cost a 429 and never an order.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from activities.store.failures import translated
from activities.store.schema import rate_ledger
from activities.store.transactions import Transactions
from trading.oms.models import utc_now
from trading.oms.rate_card import RatePool
from trading.oms.rate_ledger import Granted, RateLedger, Want, status_of
from trading.oms.rate_pools import Seen

_Found = TypeVar("_Found")
Tokens = dict[tuple[str, int], int]
"""Tokens by counter and window."""


class _Read(Protocol):
    """How the store reads."""

    async def __call__(self, query: Callable[[sa.Connection], _Found]) -> _Found: ...


@dataclass(slots=True)
class RateNews:
    """What one process tells the ledger and asks of it, all at once.

    `now` is in the exchange's clock. `wants` are answered in their order; of the counters in
    `blocks` a small block is leased beyond them.
    """

    exchange: str
    now: float
    rules: Mapping[str, RatePool]
    wants: Sequence[Want] = ()
    blocks: Sequence[str] = ()
    returned: Tokens = field(default_factory=dict)
    settled: Tokens = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    pauses: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class RateWord:
    """The ledger's answer. `settled` is what has been answered to all processes so far."""

    answers: list[Granted]
    blocks: Tokens
    paused: dict[str, float]
    settled: Tokens
    document: Mapping[str, Any]


class RateStore:
    """The store's door to the rate ledger."""

    def __init__(self, transactions: Transactions, read: _Read, name: str) -> None:
        """`name` is the database's, without its password, for errors."""
        self._transactions = transactions
        self._read = read
        self._name = name

    async def tell(self, news: RateNews) -> RateWord:
        """Change the ledger in one transaction. Raises `StoreUnavailable`.

        Not safe to repeat: whoever does not hear the answer forgets what he had leased.
        """
        with translated(self._name):
            return await self._transactions.run(lambda connection: _told(connection, news))

    async def lift_pauses(self, exchange: str) -> None:
        """End every pause at an exchange: for an operator who knows that the ban is over."""

        def lifted(connection: sa.Connection) -> None:
            text = connection.execute(_LOCK, {"exchange": exchange}).scalar_one_or_none()
            if text is None:
                return
            document = {**json.loads(text), "paused": {}}
            connection.execute(_CHANGE, _row(exchange, document))

        with translated(self._name):
            await self._transactions.run(lifted)

    async def status(self, now: Mapping[str, float] | None = None) -> dict[str, dict[str, Any]]:
        """Use, queue and pauses by exchange; `now` is the exchange's clock where it is known."""
        here = utc_now().timestamp()
        rows = await self._read(lambda c: c.execute(sa.select(rate_ledger)).all())
        return {
            row.exchange: status_of(json.loads(row.document), (now or {}).get(row.exchange, here))
            for row in sorted(rows, key=lambda row: row.exchange)
        }


def _told(connection: sa.Connection, news: RateNews) -> RateWord:
    if connection.dialect.name == "postgresql":
        connection.execute(_NO_WAIT)
    text = connection.execute(_LOCK, {"exchange": news.exchange}).scalar_one_or_none()
    if text is None:  # Another process may make the row at this moment.
        connection.execute(_MAKE, _row(news.exchange, {}))
        text = connection.execute(_LOCK, {"exchange": news.exchange}).scalar_one()
    document = json.loads(text)
    word = _applied(RateLedger(document, news.rules, news.now), news)
    connection.execute(_CHANGE, _row(news.exchange, document))
    return word


def _row(exchange: str, document: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(document, separators=(",", ":"))
    return {"name": exchange, "document": text, "changed_at": utc_now()}


def _applied(ledger: RateLedger, news: RateNews) -> RateWord:
    """What is given back comes first, then what was learned, then what is asked for."""
    for (key, window), count in news.returned.items():
        ledger.pools[key].change(window, -count)
    for (key, window), count in news.settled.items():
        ledger.pools[key].settle(window, count)
    for key, seen in news.seen.items():
        ledger.pools[key].see(seen)
    for name, until in news.pauses.items():
        ledger.pause(name, until)
    answers = [ledger.ask(want) for want in news.wants]
    blocks = {
        (key, window): count for key in news.blocks for window, count in ledger.block(key).items()
    }
    settled = {
        (key, window): count
        for key, pool in ledger.pools.items()
        for window, count in pool.settled().items()
    }
    return RateWord(answers, blocks, dict(ledger.paused), settled, ledger.document)


_NO_WAIT = sa.text("SET LOCAL synchronous_commit = off")
_LOCK = (
    sa.select(rate_ledger.c.document)
    .where(rate_ledger.c.exchange == sa.bindparam("exchange"))
    .with_for_update()
)
_VALUES: dict[str, Any] = {name: sa.bindparam(name) for name in ("document", "changed_at")}
_CHANGE = (
    sa.update(rate_ledger).where(rate_ledger.c.exchange == sa.bindparam("name")).values(**_VALUES)
)
_MAKE = sa.text(
    "INSERT INTO rate_ledger (exchange, document, changed_at)"
    " VALUES (:name, :document, :changed_at) ON CONFLICT DO NOTHING"
).bindparams(sa.bindparam("changed_at", type_=rate_ledger.c.changed_at.type))
