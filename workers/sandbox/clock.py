"""The exchange's clock. It can be set wrong on purpose."""

import time


class Clock:
    """Server time in milliseconds or microseconds since 1970, plus ``skew_ms``."""

    __slots__ = ("skew_ms",)

    def __init__(self) -> None:
        self.skew_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    def now_us(self) -> int:
        return time.time_ns() // 1_000 + self.skew_ms * 1_000
