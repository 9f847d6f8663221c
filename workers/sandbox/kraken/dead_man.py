"""The dead-man switch: CancelAllOrdersAfter ("Cancel All Orders After X").

``timeout`` in whole seconds, below a day; 0 disarms. The time is told as ``currentTime`` and
``triggerTime`` in whole seconds, ``triggerTime`` "0" where nothing will strike.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from workers.sandbox.engine import Engine
from workers.sandbox.errors import ApiError
from workers.sandbox.kraken.errors import invalid
from workers.sandbox.kraken.names import orders
from workers.sandbox.model import Account

DAY_S = 86_400


class DeadMan:
    """The switches of all accounts over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def armed(self) -> set[str]:
        """The keys of the accounts whose switch will strike."""
        return set(self._timers)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def cancel_all_after(self, account: Account, params: dict[str, str]) -> Callable[[], Any]:
        raw = params.get("timeout", "")
        if not raw.isdecimal() or int(raw) >= DAY_S:
            raise invalid("timeout")
        seconds = int(raw)

        def step() -> Any:
            known = self._timers.pop(account.key, None)
            if known is not None:
                known.cancel()
            if seconds:
                loop = asyncio.get_running_loop()
                self._timers[account.key] = loop.call_later(seconds, self._strike, account)
            now = datetime.fromtimestamp(self._engine.clock.now_ms() / 1000, UTC)
            strikes_at = _text(now + timedelta(seconds=seconds)) if seconds else "0"
            return {"currentTime": _text(now), "triggerTime": strikes_at}

        return step

    def _strike(self, account: Account) -> None:
        self._timers.pop(account.key, None)
        for order in orders(account):
            if order.is_open:
                with contextlib.suppress(ApiError):  # A halted market keeps its orders.
                    self._engine.cancel(order)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
