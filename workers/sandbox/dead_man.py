"""A dead-man switch: not Binance Spot's, which has none. Off, until the configuration says so.

``POST /api/v3/countdownCancelAll`` with ``countdownTime`` in milliseconds, after the futures API's
``/fapi/v1/countdownCancelAll`` but for the whole account: all its open orders expire unless it
is called again within that time; 0 disarms. Here so that what a worker does with a switch can be
tested against something that strikes.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from workers.sandbox import params
from workers.sandbox.engine import Engine
from workers.sandbox.errors import mandatory
from workers.sandbox.model import Account
from workers.sandbox.routes import SIGNATURE_PARAMETERS, TRADE, Call, Route

REASON = "EXCHANGE_CANCELED"


class DeadManApi:
    """The switches of all accounts over an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def armed(self) -> set[str]:
        """The keys of the accounts whose switch will strike."""
        return set(self._timers)

    def routes(self) -> list[Route]:
        known = SIGNATURE_PARAMETERS | {"countdownTime"}
        name = "POST /api/v3/countdownCancelAll"
        return [Route(name, "", TRADE, 10, known, prepare=self.count_down)]

    def count_down(self, call: Call) -> Callable[[], Any]:
        milliseconds = params.long(call.params, "countdownTime")
        if milliseconds is None:
            raise mandatory("countdownTime")

        def step() -> Any:
            account = call.owner
            known = self._timers.pop(account.key, None)
            if known is not None:
                known.cancel()
            if milliseconds:
                loop = asyncio.get_running_loop()
                self._timers[account.key] = loop.call_later(
                    milliseconds / 1000, self._strike, account
                )
            return {"countdownTime": str(milliseconds)}

        return step

    def _strike(self, account: Account) -> None:
        self._timers.pop(account.key, None)
        for orders in list(account.open_orders.values()):
            for order in list(orders.values()):
                self._engine.expire(order, REASON)
