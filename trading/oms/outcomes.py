"""Who in this process waits for the outcome of an order."""

import asyncio
import contextlib
from collections.abc import Iterator

from trading.oms.answers import is_answer
from trading.oms.models import OrderState


class Outcomes:
    """Wakes those who wait for an order, when a state of it that is an answer was committed."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._waiting: dict[str, list[asyncio.Future[OrderState]]] = {}

    @contextlib.contextmanager
    def expected(self, order_id: str) -> Iterator[asyncio.Future[OrderState]]:
        """The order's outcome, for as long as the block lasts."""
        outcome: asyncio.Future[OrderState] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(order_id, []).append(outcome)
        try:
            yield outcome
        finally:
            outcome.cancel()
            waiting = self._waiting[order_id]
            waiting.remove(outcome)
            if not waiting:
                del self._waiting[order_id]

    def committed(self, state: OrderState) -> None:
        """Who is awake stays as it is."""
        if is_answer(state):
            for outcome in self._waiting.get(state.client_order_id, ()):
                if not outcome.done():
                    outcome.set_result(state)

    def __len__(self) -> int:
        """How many orders somebody waits for."""
        return len(self._waiting)
