"""Until when a list of fills was read whole: a time beside each cursor.

A cursor moves with the fills alone. Where there are none, an exchange that lists by time would be
asked for everything since the cursor's fill, or since the oldest open order, again and again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activities.store import Store
    from trading.oms.venue import IExecutionConnector

_CLOCKS_APART = timedelta(seconds=5)
"""So far ahead may be what another worker takes for the exchange's time."""

_STEP_S = 60


class AskedUntil:
    """The times of one account, by symbol, in the exchange's own clock."""

    def __init__(self, store: Store, connector: IExecutionConnector, kind: str) -> None:
        """`kind` is whose times these are: the first part of their names among the cursors."""
        self._store = store
        self._connector = connector
        self._kind = kind
        self._seen: dict[str, str | None] = {}

    async def but(self, overlap: timedelta, symbol: str) -> datetime | None:
        """From when on to ask; None: nobody has yet, or nobody knows.

        It is earlier by `overlap`: an exchange may list a fill some time after it was made.
        """
        at_s = self._seen[symbol] = await self._store.cursor(self._name(symbol))
        if at_s is None:
            return None
        at, now = datetime.fromtimestamp(int(at_s), UTC), self._connector.exchange_now()
        # A time that lies ahead was set by a wrong clock: it keeps nothing of what was left.
        return None if at > now + _CLOCKS_APART else min(at, now) - overlap

    async def move(self, symbol: str, until: datetime) -> None:
        """The list was read since `but`, and all that it has up to then is seen to.

        It never goes back, and by no step that is small beside what is asked for again anyway.
        """
        known, new_s = self._seen.get(symbol), int(until.timestamp())
        if known is None or new_s - int(known) >= _STEP_S:
            await self._store.advance_cursor(self._name(symbol), known, str(new_s))

    def _name(self, symbol: str) -> str:
        return cursor_name(self._kind, self._connector, symbol)


def cursor_name(kind: str, connector: IExecutionConnector, symbol: str) -> str:
    """Under which name a cursor or a time of a symbol of the account is kept."""
    return f"{kind}:{connector.exchange}:{connector.account}:{symbol}"
