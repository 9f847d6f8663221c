"""Whatever an exchange answers, a connector answers or raises one of its own errors."""

import contextlib
import copy
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from activities.connectors.venues.connector import CcxtConnector
from tests.activities.test_venue_records import (
    FILL_OF,
    FILLS,
    HISTORIES,
    KINDS,
    LISTED,
    LOOK_UP,
    ORDER_OF,
    PLACE,
    PLACED,
    SYMBOL,
    listed_fills,
    order,
    ref,
)
from tests.activities.venue_answers import NOW_MS, STARTS, connected
from trading.oms.errors import ExchangeError, ExchangeUnavailable

SINCE = datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(hours=1)
NASTY: list[Any] = [
    None, True, False, 0, -1, 10**30, 1.5, "", "0", "-1", "1e9", "NaN", "x" * 300, "\x00", "٣",
    [], {}, [[]], [{}], {"a": {}}, ["a"], [1],
]  # fmt: skip
ROUNDS = 60
Ask = Callable[[CcxtConnector], Awaitable[Any]]
ASKS: list[Ask] = [
    lambda c: c.find_order(ref(c.exchange)),
    lambda c: c.find_order(ref(c.exchange, "7")),
    lambda c: c.fills_of(ref(c.exchange)),
    lambda c: c.orders_since(SYMBOL[c.exchange], SINCE),
    lambda c: c.recent_orders(SINCE),
    lambda c: c.open_orders(),
    lambda c: c.fills_after(SYMBOL[c.exchange], trade_id=None, since=SINCE),
    lambda c: c.fills_after(SYMBOL[c.exchange], trade_id="107", since=None),
    lambda c: c.balances(),
    lambda c: c.quote(SYMBOL[c.exchange]),
    lambda c: c.book(SYMBOL[c.exchange]),
    lambda c: c.server_time(),
    lambda c: c.load_instruments(),
    lambda c: c.can_withdraw(),
]
COMMANDS: list[Ask] = [
    lambda c: c.place(order(c)),
    lambda c: c.cancel(ref(c.exchange, "7")),
    lambda c: c.cancel(ref(c.exchange)),
    lambda c: c.reduce(ref(c.exchange, "7"), Decimal("0.005")),
    lambda c: c.cancel_all_after(60),
]


def spoilt(answer: Any, chance: random.Random) -> Any:
    """The answer with one value in it replaced by a nasty one."""
    answer = copy.deepcopy(answer)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(answer)
    inside, key = chance.choice(places)
    inside[key] = chance.choice(NASTY)
    return answer


def good_answers(kind: str) -> dict[str, Any]:
    listed = LISTED[kind](ORDER_OF[kind]())
    fills = listed_fills(kind, FILL_OF[kind]())
    answers = dict.fromkeys((*HISTORIES[kind], LOOK_UP[kind]), listed) | {FILLS[kind]: fills}
    if kind == "okx":
        answers["GET /api/v5/trade/fills-history"] = fills
        answers["POST /api/v5/trade/cancel-order"] = PLACED[kind]
        answers["POST /api/v5/trade/cancel-all-after"] = PLACED[kind]
        answers["GET /api/v5/account/config"] = LISTED[kind]({"perm": "trade"})
    if kind == "bybit":
        answers["POST /v5/order/cancel"] = PLACED[kind]
    if kind == "coinbase":
        one = {"results": [{"success": True, "order_id": "7"}]}
        answers["POST /api/v3/brokerage/orders/batch_cancel"] = one
        answers["GET /api/v3/brokerage/orders/historical/7"] = {"order": ORDER_OF[kind]()}
    return answers | {f"POST {PLACE[kind]}": PLACED[kind]} | dict(STARTS[kind])


@pytest.mark.parametrize("kind", KINDS)
async def test_any_answer_is_read_or_refused_in_the_connectors_own_words(kind: str) -> None:
    chance = random.Random(7)  # noqa: S311 - no secrets
    async with connected(kind) as (connector, venue):
        good = good_answers(kind)
        for _ in range(ROUNDS):
            text = chance.choice(["<html>", "null", "[]", "{}", "1", "[[]]", '{"data": 1}'])
            path = chance.choice(sorted(good))
            whole = chance.random() < 0.2
            venue.answers |= good | {path: text if whole else spoilt(good[path], chance)}
            for ask in ASKS:
                with contextlib.suppress(ExchangeUnavailable):
                    await ask(connector)
            for command in COMMANDS:
                with contextlib.suppress(ExchangeError):
                    await command(connector)
