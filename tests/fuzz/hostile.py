"""Hostile values, for every door alike: what is wrong, absurd, too large or of another kind."""

import copy
import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

IS_LONG = settings.default is not None and settings.default.max_examples > 100
tries = settings(
    max_examples=1_000 if IS_LONG else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 10**30, -(10**400), 2**63, 1.5, float("nan"), float("inf"), 1e308,
    "", " ", "0", "-1", "1e9", "1E+400", "NaN", "Infinity", "0.1", "1" * 5000,
    "0." + "0" * 60 + "1",
    "\x00", "\ud800", "١٢", "BTC/USDT", "btc-usdt", "buy", "BUY", "limit", "GTC", "../../x",
    "x" * 65,
    "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00", "now",
    [], {}, [[]], [None], {"a": 1}, {"": None}, {"\ud800": 1}, ["0.1"], {"order": {"order": {}}},
]  # fmt: skip
CANCEL = {"reason": "why", "wait_s": 0, "exchange": "nowhere", "symbol": "BTC/USDT"}
MODIFY = {"new_quantity": "0.02", "new_price": "29000", "wait_s": 0}
RESOLVE = {"verdict": "adopt", "reason": "why", "by": "ann", "wait_s": 0}
OUTCOME = {"content_hash": "x", "wait_s": 0}
FILL = {
    "fill_id": "f-1", "order_id": "", "exchange": "x", "account": "main", "symbol": "BTC/USDT",
    "side": "buy", "quantity": "0.001", "price": "30000", "fee": "0", "fee_currency": "USDT",
    "timestamp": "2026-01-01T00:00:00Z", "trade_id": "1", "exchange_order_id": "1",
}  # fmt: skip
REPORT: dict[str, Any] = {
    "exchange": "x", "account": "main", "symbol": "BTC/USDT", "exchange_order_id": "1",
    "status": "new", "at": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:00Z",
    "source": "stream", "reason": "why",
}  # fmt: skip
ACCOUNT = {"exchange": "x", "account": "main"}
CANCEL_ALL = {**ACCOUNT, "symbol": "BTC/USDT", "reason": "why"}
RECONCILE: dict[str, Any] = {
    "exchange": "nowhere", "account": "", "dry_run": True,
    "store_before": {"epoch": "e", "head": 1, "entry": "x"},
}  # fmt: skip
odd = st.sampled_from(ODD) | st.text(max_size=20) | st.integers() | st.floats()
anything = st.recursive(
    odd, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
)


def changed(base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The object with some fields of another kind, some missing and some of nobody's."""
    names = st.text(max_size=6)
    if base:
        names |= st.sampled_from(sorted(base))

    def change(parts: tuple[dict[str, Any], set[str]]) -> dict[str, Any]:
        values, gone = parts
        made = {**copy.deepcopy(base), **values}
        return {name: value for name, value in made.items() if name not in gone}

    picked = st.tuples(st.dictionaries(names, anything, max_size=3), st.sets(names, max_size=2))
    return picked.map(change)


def in_words(refusal: Exception) -> None:
    """A refusal says something that can be stored and shown."""
    assert str(refusal).encode()


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
