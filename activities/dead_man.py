"""The dead-man switch: while any worker lives, the exchange is told again and again to wait."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, cast

from temporalio import activity

from activities.messages import Account
from trading.oms.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from activities.order_steps import Parts
    from trading.oms.venue import ICancelsAllAfter

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 1.0
_TELLINGS = 4
"""How often the exchange is told within the time that it waits."""
TURN_S = 3600.0


class DeadMan:
    """The activity that holds the switches; `armed_s` has the seconds of each account."""

    def __init__(self, parts: Parts, armed_s: Mapping[tuple[str, str], float]) -> None:
        """Nothing is armed yet."""
        self._parts = parts
        self._armed_s = armed_s

    @activity.defn(name="hold_dead_man_switch")
    async def hold_dead_man_switch(self, account: Account) -> bool:
        """Hold one account's switch for a turn; False, and disarmed, where it is not to be armed.

        A failure to tell the exchange is logged and tried again. A worker that stops leaves the
        switch armed: another one takes over in time, or the exchange cancels.
        """
        key = (account.exchange, account.account)
        seconds = self._armed_s.get(key, 0.0)
        connector = self._parts.connector(*key)
        if connector.capabilities.cancel_all_after is None:
            return False
        switch = cast("ICancelsAllAfter", connector)
        until = time.monotonic() + TURN_S
        next_at = 0.0
        while time.monotonic() < until:
            activity.heartbeat()
            if time.monotonic() >= next_at and await self._tell(switch, account, seconds):
                if not seconds:
                    return False
                next_at = time.monotonic() + seconds / _TELLINGS
            await asyncio.sleep(min(_HEARTBEAT_S, (seconds or 1.0) / _TELLINGS))
        return True

    async def _tell(self, switch: ICancelsAllAfter, account: Account, seconds: float) -> bool:
        try:
            await switch.cancel_all_after(seconds)
        except ExchangeError as error:
            _log.error(
                "%s / %s: the dead-man switch was not set, it is tried again: %s",
                account.exchange,
                account.account,
                error,
            )
            return False
        return True
