"""A list that a venue keeps, read whole: its pages, its windows of time, its rows.

A list that is not where the record says is an error and never an empty list: absence is concluded
from it. A failing page fails the list, because a part proves nothing.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activities.connectors.clock import EPOCH, at_ms
from activities.connectors.fields import MalformedError, object_of

Row = Mapping[str, Any]
Known = Mapping[str, str | None]
Query = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
PAGES_MAX = 1000
_BLANK = re.compile(r"\{(\w+)\}")


def at(answer: Any, path: str) -> Any:
    """What is at a dotted path ("data.0.bids"); None where the way there ends."""
    found = answer
    for step in path.split(".") if path else ():
        if isinstance(found, list):
            found = found[int(step)] if step.isdecimal() and int(step) < len(found) else None
        elif isinstance(found, dict):
            found = found.get(step)
        else:
            return None
    return found


def filled(asks: Any, known: Known) -> Any:
    """Parameters with their blanks ("{symbol}") filled in; one that is not known is left out."""
    if isinstance(asks, str):
        names = _BLANK.findall(asks)
        if any(known.get(name) is None for name in names):
            return None
        return _BLANK.sub(lambda found: str(known[found[1]]), asks)
    if isinstance(asks, list):
        return [filled(one, known) for one in asks]
    values = {name: filled(one, known) for name, one in asks.items()}
    return {name: value for name, value in values.items() if value is not None}


def since(moment: datetime) -> dict[str, str]:
    """A time in all the forms that venues ask for, rounded down."""
    milliseconds = (moment - EPOCH) // (at_ms(1) - EPOCH)
    text = at_ms(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "since_ms": str(milliseconds),
        "since_s": str(milliseconds // 1000 - 1),
        "since": text,
    }


@dataclass(frozen=True)
class Page:
    """One page as it came: the whole answer, its rows as it has them, and what was asked."""

    answer: Row
    rows: Sequence[Row]
    asked: Mapping[str, Any]


Turn = Callable[[Page], Mapping[str, str | None] | None]
"""What to ask for the next page (a None takes a parameter away); None after the last."""


@dataclass(frozen=True)
class Listing:
    """Where a list is and how it is asked for.

    `rows` is the dotted path to the list. A list that is an object by id has the id put into each
    row as `keyed`. `single`: there is one row and no list. `shape` makes a row flat. A listing that
    `needs` what is not known cannot be asked. `window_ms`: the venue answers for so long at once,
    from {since_ms} to {until_ms}.
    """

    path: str
    rows: str
    asks: Mapping[str, Any] = field(default_factory=dict)
    turn: Turn | None = None
    method: str = "GET"
    keyed: str = ""
    single: bool = False
    shape: Callable[[Row], Row] = dict
    needs: str = ""
    window_ms: int = 0

    async def read(
        self,
        query: Query,
        known: Known,
        now_ms: int,
        reached: Callable[[Sequence[Row]], bool] = lambda _rows: False,
    ) -> list[Row]:
        """All rows, or those up to what is looked for. Raises `MalformedError`."""
        start = known.get("since_ms")
        if not self.window_ms or start is None:
            return await self._pages(query, known, reached)
        rows: list[Row] = []
        for begin in range(int(start), now_ms + 1, self.window_ms):
            until = min(begin + self.window_ms - 1, now_ms)
            span = {"since_ms": str(begin), "until_ms": str(until)}
            rows += await self._pages(query, {**known, **span}, reached)
        return rows

    async def _pages(
        self, query: Query, known: Known, reached: Callable[[Sequence[Row]], bool]
    ) -> list[Row]:
        asked, rows = filled(self.asks, known), list[Row]()
        for _ in range(PAGES_MAX):
            answer = await query(self.method, self.path, asked)
            page = Page(answer if isinstance(answer, dict) else {}, self._rows(answer), asked)
            rows += [self.shape(row) for row in page.rows]
            more = self.turn(page) if self.turn is not None else None
            if more is None or reached(rows):
                return rows
            before, asked = asked, {**asked, **more}
            asked = {name: value for name, value in asked.items() if value is not None}
            if asked == before:
                raise MalformedError("the next page is the same page")
        raise MalformedError(f"a list of more than {PAGES_MAX} pages")

    def _rows(self, answer: Any) -> list[Row]:
        found = at(answer, self.rows)
        if self.single:
            return [object_of(found)]
        if self.keyed:
            return [{self.keyed: one, **object_of(row)} for one, row in object_of(found).items()]
        if not isinstance(found, list):
            raise MalformedError(f"there is no list at {self.rows!r}")
        return [object_of(row) for row in found]


def by_cursor(path: str, parameter: str) -> Turn:
    """The answer names the next page; an empty name is the end."""

    def turn(page: Page) -> Mapping[str, str | None] | None:
        cursor = at(page.answer, path)
        if page.answer.get("has_next") is False:
            return None
        if cursor is not None and not isinstance(cursor, str):
            raise MalformedError(f"{path} is no text")
        return {parameter: cursor} if cursor and page.rows else None

    return turn


def after_last(name: str, parameter: str, size: int) -> Turn:
    """The next page begins behind the last row, where this one was full."""

    def turn(page: Page) -> Mapping[str, str | None] | None:
        if len(page.rows) < size:
            return None
        last = at(page.rows[-1], name)
        if not isinstance(last, str | int) or not str(last):
            raise MalformedError(f"the last row of a page has no {name}")
        return {parameter: str(last)}

    return turn
