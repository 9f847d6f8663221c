"""Nonces: each must be above all before it, or new within the key's window below the highest.

Source: "Spot REST Authentication". The window is a setting of the key ("nonce window"), in the
nonces' own unit.
"""

from workers.sandbox.kraken.errors import INVALID_NONCE, KrakenError
from workers.sandbox.model import Account

KEPT_MAX = 10_000


class Nonces:
    """What the keys have used."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._highest: dict[str, int] = {}
        self._used: dict[str, set[int]] = {}

    def check(self, account: Account, text: str) -> None:
        """Use a nonce. Errors: EAPI:Invalid nonce."""
        highest, used = self._highest.get(account.key, 0), self._used.setdefault(account.key, set())
        nonce = int(text) if text.isdecimal() else 0
        if nonce <= highest - self._window or nonce in used or not nonce:
            raise KrakenError(INVALID_NONCE)
        self._highest[account.key] = highest = max(highest, nonce)
        used.add(nonce)
        if len(used) > KEPT_MAX:
            self._used[account.key] = {one for one in used if one > highest - self._window}
