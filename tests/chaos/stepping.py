"""Walks a coroutine from one suspension to the next, with a word between any two.

An `await` that is not ready suspends its task: there the process can die with half of the work
done. `Stepped` drives a coroutine and calls `at_point` before each of its steps and after each
suspension, so that a test can stop the walk, or the process, at every one of them.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

_OURS = ("activities", "workers", "workflows", "trading")
THE_END = "the end"
_ROOT = Path(__file__).parents[2]


class Stepped:
    """An awaitable around a coroutine. What `before` and `after` await comes in between.

    `before` comes before each step and after the last one; `after` comes when a step has ended
    in a suspension: what the step began (a write to a socket, a command in a queue) is under way,
    and nothing has come back. `after` must not return where it suspends.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        before: Callable[[str], Awaitable[None]],
        after: Callable[[str], None] = lambda _place: None,
    ) -> None:
        """Nothing runs before it is awaited."""
        self._coroutine = coroutine
        self._before = before
        self._after = after

    def __await__(self) -> Generator[Any, Any, Any]:
        """Run the coroutine to its end; its result, or what it raises."""
        resume: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            yield from self._before(place_of(self._coroutine)).__await__()
            try:
                waits_for = resume()
            except StopIteration as end:
                yield from self._before(THE_END).__await__()
                return end.value
            self._after(place_of(self._coroutine))
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - it belongs to the coroutine
                resume = _thrown(self._coroutine, error)
            else:
                resume = lambda: self._coroutine.send(None)  # noqa: E731


def _thrown(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


def place_of(coroutine: Any) -> str:
    """The innermost line of ours at which a coroutine is suspended, as file:line function."""
    place = ""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OURS:
                place = f"{path.relative_to(_ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place
