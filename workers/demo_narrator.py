"""What the person who watches the demo reads: each event of the journal, as it is committed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

from rich.console import Console
from rich.markup import escape

from activities.store import JournalEntry, Store
from trading.oms.models import Fill, OrderState
from trading.oms.reading import number, summary

_UNTOLD = frozenset({"created", "pending", "routed", "partially_filled", "replace_started"})
"""Steps within a millisecond that tell a watcher nothing; `oms show` has them all."""
_COLOURS = {
    "accepted": "cyan",
    "fill": "green",
    "filled": "bold green",
    "cancelled": "yellow",
    "expired": "yellow",
    "rejected": "red",
    "modified": "cyan",
    "in_doubt": "bold magenta",
    "doubt_ended": "magenta",
    "alarm": "bold red",
}
_PLAINER = {
    "in_doubt": "in doubt",
    "doubt_ended": "doubt ended",
    "cancel_requested": "cancel wanted",
    "modify_requested": "change wanted",
    "leg_started": "replaced",
    "request_ended": "request ended",
}
_CENT = Decimal("0.01")
_CATCH_UP_S = 15.0


class Narrator:
    """Prints scenes, remarks and events; `prefix` is left out of the orders' ids."""

    def __init__(self, console: Console, prefix: str) -> None:
        """Time is counted from now."""
        self._console = console
        self._prefix = prefix
        self._started = time.monotonic()
        self._scenes = 0
        self._told: dict[str, int] = {}
        self._news = asyncio.Event()

    def scene(self, title: str) -> None:
        """Begin a numbered scene."""
        self._scenes += 1
        self._console.print(f"\n[bold]{self._scenes:>2}  {escape(title)}[/]")

    def remark(self, text: str, style: str = "dim") -> None:
        """Say something between the events."""
        self._console.print(f"    [dim]{self._time()}[/]  [{style}]{escape(text)}[/]")

    def wish(self, state: OrderState) -> None:
        """Say what an order wants, before it is sent."""
        self.remark(f"{self.short(state.client_order_id)}: {summary(state)}", "default")

    def short(self, order_id: str) -> str:
        """The order's id without what all of the demo's ids begin with."""
        return order_id.removeprefix(self._prefix)

    @contextlib.asynccontextmanager
    async def following(self, store: Store) -> AsyncIterator[None]:
        """Print every event that is committed while the block runs."""
        task = asyncio.create_task(self._follow(store, await store.head()))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def caught_up(self, state: OrderState | None) -> None:
        """Wait until all that led to this state is printed, so that the lines stand in order."""
        if state is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CATCH_UP_S):
                while self._told.get(state.client_order_id, 0) < state.sequence:
                    self._news.clear()
                    await self._news.wait()

    async def _follow(self, store: Store, head: int) -> None:
        async for entries in store.follow(head):
            for entry in entries:
                if entry.order_id.startswith(self._prefix):
                    self._tell(entry)
            self._news.set()

    def _tell(self, entry: JournalEntry) -> None:
        self._told[entry.order_id] = entry.order_sequence
        word = entry.name.removeprefix("order_")
        if word in _UNTOLD or (word == "leg_started" and entry.state.leg == 1):
            return
        colour = _COLOURS.get(word, "default")
        named = f"  {self.short(entry.order_id):<10} [{colour}]{_PLAINER.get(word, word):<16}[/]"
        line = f"    [dim]{self._time()}[/]  {named} {escape(detail_of(entry))}"
        self._console.print(line.rstrip(), soft_wrap=True)

    def _time(self) -> str:
        return f"{time.monotonic() - self._started:6.2f} s"


def detail_of(entry: JournalEntry) -> str:
    """What is worth saying of an event beside its name."""
    if entry.alarm:
        return entry.alarm
    if entry.fill is not None and entry.name == "order_fill":
        return _fill(entry.fill, entry.state)
    say = _DETAILS.get(entry.name.removeprefix("order_"))
    if say is not None:
        return say(entry.state)
    return str((entry.details or {}).get("reason") or "")


def _sent(state: OrderState) -> str:
    return f"sent to {state.exchange}"


def _filled(state: OrderState) -> str:
    average = (state.average_fill_price or Decimal(0)).quantize(_CENT)
    return f"{number(state.filled_quantity)} at {number(average)} on average"


def _ended(state: OrderState) -> str:
    return f"{number(state.filled_quantity)} of {number(state.quantity)} was filled"


_DETAILS: dict[str, Callable[[OrderState], str]] = {
    "submitted": _sent,
    "leg_started": _sent,
    "accepted": lambda state: f"as {state.exchange_order_id} at {state.exchange}",
    "filled": _filled,
    "modified": summary,
    "cancelled": _ended,
    "expired": _ended,
    "rejected": lambda state: f"by {state.rejected_by or '?'}: {state.rejection_reason}",
    "in_doubt": lambda state: f"nobody knows what became of it; {state.exchange} is asked",
}


def _fill(fill: Fill, state: OrderState) -> str:
    role = {True: ", as maker", False: ", as taker", None: ""}[fill.is_maker]
    left = f"{number(state.remaining_quantity)} left"
    return f"{number(fill.quantity)} at {number(fill.price)}{role}; {left}"
