"""Where the cards run: at a sandbox exchange of the connector's kind, or at a venue with keys.

`OMS_CONFORMANCE` names the kind (`make conformance EXCHANGE=binance` sets it); without it the
cards run for each kind that has a sandbox here, and leave no record. Where the kind's settings are
in the environment (OMS_BINANCE_API_KEY, OMS_BINANCE_URL, …) the venue is the one they name.
"""

import importlib.metadata
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from activities.connectors.conformance import SANDBOX, ConformanceRecord, keep_record
from activities.connectors.registry import build_connector
from activities.connectors.settings import ConnectorSettings, is_loopback
from tests.conformance.venue import KINDS, SANDBOXES, Venue
from trading.oms.models import utc_now
from workers.sandbox.server import SandboxServer
from workers.settings import Settings, exchange_prefix

CHOSEN = os.environ.get("OMS_CONFORMANCE", "")
SYMBOL = os.environ.get("OMS_CONFORMANCE_SYMBOL", "BTC/USDT")
_outcomes: dict[str, str] = {}


@pytest.fixture
async def no_task_left_behind() -> None:
    """Here the exchange and its connections outlive each card."""


@pytest.fixture(scope="session", params=[CHOSEN] if CHOSEN else sorted(SANDBOXES))
async def venue(request: pytest.FixtureRequest) -> AsyncIterator[Venue]:
    """One started connector for all cards of a kind."""
    kind: str = request.param
    async with AsyncExitStack() as stack:
        server = None
        if not os.environ.get(f"{exchange_prefix(kind)}API_KEY"):
            if kind not in SANDBOXES:
                pytest.exit(f"{kind} has no sandbox here: give OMS_{kind.upper()}_API_KEY etc.", 2)
            server = await stack.enter_async_context(SandboxServer(SANDBOXES[kind]))
        connector = build_connector(_settings(kind, server))
        await connector.start()
        stack.push_async_callback(connector.close)
        found = Venue(kind, connector, SYMBOL, server)
        found.make_a_market()
        yield found


def _settings(kind: str, server: SandboxServer | None) -> ConnectorSettings:
    if server is None:
        environment = {f"{exchange_prefix(kind)}KIND": kind, **os.environ}
        (given,) = Settings.from_environment(environment | {"OMS_EXCHANGES": kind}).exchanges
        return given.model_copy(update={"experimental": True})
    account = SANDBOXES[kind].accounts[0]
    return ConnectorSettings.model_validate(
        {
            "exchange": kind,
            "kind": KINDS.get(kind, kind),
            "account": "main",
            "api_key": account.key,
            "secret": account.secret,
            "rest_url": server.url,
        }
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each card ended; a failure in the set-up is a failure of the card."""
    card = report.nodeid.rpartition("::")[2].removeprefix("test_")
    card = card.replace(f"[{CHOSEN}]", "").replace(f"[{CHOSEN}-", "[")
    if "tests/conformance/test_cards" in report.nodeid and (
        report.when == "call" or report.outcome != "passed"
    ):
        _outcomes[card] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the record of a whole run of one kind."""
    if not CHOSEN or not _outcomes or session.config.getoption("keyword"):
        return
    by_outcome: dict[str, Any] = {
        outcome: tuple(card for card, ended in _outcomes.items() if ended == outcome)
        for outcome in ("passed", "failed", "skipped")
    }
    record = ConformanceRecord(
        kind=CHOSEN,
        venue=_where(),
        at=utc_now(),
        ccxt=importlib.metadata.version("ccxt"),
        **by_outcome,
    )
    print(f"\n{keep_record(record)}: {record}")  # noqa: T201 - for who runs the cards


def _where() -> str:
    if not os.environ.get(f"{exchange_prefix(CHOSEN)}API_KEY"):
        return SANDBOX
    address = _settings(CHOSEN, None).rest_url
    return SANDBOX if is_loopback(address) else urlsplit(address).hostname or address
