"""The exchange's clock, estimated between two looks at it."""

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_DRIFT = 1e-4
"""Seconds by which two clocks may part in a second."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at_ms(milliseconds: int) -> datetime:
    """The time of a Unix time stamp in milliseconds, exactly."""
    return EPOCH + timedelta(milliseconds=milliseconds)


@dataclass
class ExchangeClock:
    """Runs on the monotonic clock, so that a step of this machine's clock cannot move a stamp.

    After the machine slept the estimate is behind, and the exchange refuses what is stamped with
    it (-1021): the safe side. Before the first look it is this machine's clock.
    """

    _exchange_ms: float | None = None
    _seen_at: float = 0.0
    error_s: float = math.inf
    """How far the estimate may be off: half of the way there and back."""

    def observe(self, exchange_ms: int, asked_at: float, answered_at: float) -> None:
        """Take in the exchange's time, read between two readings of `time.monotonic()`.

        A slow answer says less than a quick one before it; it counts where the two contradict each
        other (a clock was set), or once the older has drifted for long enough.
        """
        seen_at, error_s = (asked_at + answered_at) / 2, (answered_at - asked_at) / 2
        if self._exchange_ms is not None:
            known_error_s = self.error_s + _DRIFT * (seen_at - self._seen_at)
            known_ms = self._exchange_ms + (seen_at - self._seen_at) * 1000
            agrees = abs(exchange_ms - known_ms) <= (known_error_s + error_s) * 1000 + 1
            if agrees and error_s > known_error_s:
                return
        self._exchange_ms, self._seen_at, self.error_s = float(exchange_ms), seen_at, error_s

    def observe_floor(self, exchange_ms: int, step_ms: int, asked: float, answered: float) -> None:
        """Take in a time that is cut to whole steps: the truth is up to a step later.

        The latest of several looks is the best, so the estimate only moves forward, unless the
        exchange's clock was provably set back. It is behind by a step at most: the safe side.
        """
        earliest = exchange_ms - answered * 1000
        known = None if self._exchange_ms is None else self._exchange_ms - self._seen_at * 1000
        if known is None or earliest > known or known > exchange_ms + step_ms - asked * 1000:
            self._exchange_ms = float(exchange_ms)
            self._seen_at = answered

    @property
    def is_set(self) -> bool:
        """Whether the exchange's clock has been looked at."""
        return self._exchange_ms is not None

    def now_ms(self) -> int:
        """Milliseconds since 1970 in the exchange's clock; never a network call."""
        if self._exchange_ms is None:
            return time.time_ns() // 1_000_000
        return int(self._exchange_ms + (time.monotonic() - self._seen_at) * 1000)

    def now(self) -> datetime:
        """The same as an aware time."""
        return at_ms(self.now_ms())
