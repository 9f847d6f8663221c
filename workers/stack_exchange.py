"""A sandbox exchange of the local stack: the process, its keys, and its control endpoint."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from trading.oms.errors import StartUpError
from workers.child_process import ChildProcess
from workers.temporal_program import cache_folder

RECV_WINDOW_MS = 1500
"""Small, so that a fence lasts for two seconds and not for fifteen."""
PROCESSING_BOUND_MS = 500
CLOCK_SKEW_MS = 100
DATA_LAG_MS = 100
_READY_S = 60.0
_CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class Keys:
    """The key and the secret of the one account at a sandbox exchange."""

    key: str
    secret: str = field(repr=False)

    @classmethod
    def of(cls, exchange: str, environment: Mapping[str, str]) -> "Keys":
        """Those that OMS_<NAME>_API_KEY and _API_SECRET give, else new ones by chance."""
        prefix = f"OMS_{exchange.upper()}_API_"
        return cls(
            environment.get(f"{prefix}KEY") or secrets.token_hex(16),
            environment.get(f"{prefix}SECRET") or secrets.token_hex(32),
        )


def fast_python(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python keeps what it compiles.

    Where it is told not to, a worker would compile its libraries for ten seconds at each start;
    then they are kept in our cache folder and not beside the source.
    """
    values = dict(environment)
    if values.pop("PYTHONDONTWRITEBYTECODE", ""):
        values["PYTHONPYCACHEPREFIX"] = str(cache_folder().parent / "bytecode")
    return values


class SandboxExchange:
    """One sandbox exchange as a child process. Its keys travel by environment, never as arguments.

    `url` is known once `until_ready` has returned.
    """

    def __init__(self, name: str, keys: Keys, folder: Path, *, market: str) -> None:
        """Start the process; `market` is "replay" (the recorded minute) or "none"."""
        self.name = name
        self.keys = keys
        self.url = ""
        command = [sys.executable, "-m", "workers.sandbox", "--name", name, "--market", market]
        command += ["--max-recv-window-ms", str(RECV_WINDOW_MS)]
        command += ["--default-recv-window-ms", str(RECV_WINDOW_MS)]
        command += ["--processing-bound-ms", str(PROCESSING_BOUND_MS)]
        log_path = folder / f"{name}.log"
        log_path.unlink(missing_ok=True)  # What a run before has said is no news.
        account = f"{keys.key}:{keys.secret}"
        environment = {**fast_python(os.environ), "OMS_SANDBOX_ACCOUNTS": account}
        self.process = ChildProcess(command, log_path, environment)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is told of it."""
        prefix = f"OMS_{self.name.upper()}_"
        values = {
            "URL": self.url,
            "API_KEY": self.keys.key,
            "API_SECRET": self.keys.secret,
            "RECV_WINDOW_MS": str(RECV_WINDOW_MS),
            "PROCESSING_BOUND_MS": str(PROCESSING_BOUND_MS),
            "CLOCK_SKEW_MS": str(CLOCK_SKEW_MS),
            "DATA_LAG_MS": str(DATA_LAG_MS),
        }
        return {prefix + name: value for name, value in values.items()}

    async def until_ready(self) -> None:
        """Wait for the line that says where it listens. Raises `StartUpError` with its log."""
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            for line in self.process.log_path.read_text(errors="replace").splitlines():
                if line.startswith("{") and line.endswith("}"):
                    self.url = json.loads(line)["url"]
                    return
            if self.process.exit_code is not None:
                break
            await asyncio.sleep(0.02)
        msg = f"the sandbox exchange {self.name} has not started:\n{self.process.log_tail()}"
        raise StartUpError(msg)

    # The exchange's own truth, and a hand in its market. No order goes this way.

    async def ledger(self) -> dict[str, Any]:
        """Every order, trade and balance as the exchange has them."""
        return await self._ask("GET", "/control/ledger")

    async def best(self, symbol: str) -> tuple[Decimal, Decimal]:
        """The best bid and ask now."""
        ticker = await self._ask("GET", f"/api/v3/ticker/bookTicker?symbol={symbol}")
        return Decimal(ticker["bidPrice"]), Decimal(ticker["askPrice"])

    async def control(self, what: str, **wish: Any) -> dict[str, Any]:
        """Set a fault, make a trade: see `workers.sandbox.control`."""
        return await self._ask("POST", f"/control/{what}", wish)

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(timeout=_CONTROL_TIMEOUT) as session,
            session.request(method, self.url + path, json=body) as response,
        ):
            answer = json.loads(await response.text())
        if response.status != 200:  # noqa: PLR2004 - HTTP's own word for yes
            msg = f"{method} {path} at {self.name}: {answer}"
            raise RuntimeError(msg)
        return dict(answer)
