"""The last trading requests as they came in, with the time at which they were at the exchange."""

import re
from collections import deque
from typing import Any

from aiohttp import web

KEPT = 20_000
_SIGNATURE = re.compile(r"signature=[^&]*")


class RequestsLog:
    """Counts trading requests and keeps the last ones; signatures are left out."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: deque[tuple[int, str, bytes, tuple[int, int], str]] = deque(maxlen=KEPT)

    def add(
        self, name: str, raw: bytes, received: tuple[int, int], request: web.BaseRequest
    ) -> None:
        """``received`` is (ns since 1970, monotonic ns); the latter compares across processes."""
        self.count += 1
        key = request.headers.get("X-MBX-APIKEY", request.headers.get("API-Key", ""))
        self._kept.append((self.count, name, raw, received, key))

    def last(self, most: int) -> list[dict[str, Any]]:
        """The oldest of the last ``most`` first."""
        kept = list(self._kept)[-most:] if most else []
        return [
            {
                "number": number,
                "endpoint": name,
                "account": key,
                "received_ns": received[0],
                "received_monotonic_ns": received[1],
                "raw": _SIGNATURE.sub("signature=…", raw.decode("utf-8", "replace")),
            }
            for number, name, raw, received, key in kept
        ]
