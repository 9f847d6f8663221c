"""Finding and building connectors: ours, and Python entry points of the group `oms.connectors`.

A connector of one's own is a callable that takes `ConnectorSettings` and returns an
`IExecutionConnector`, named in the package's metadata (`[project.entry-points."oms.connectors"]`)
or in the setting itself, as "module:name". Nothing installed can take the place of one of ours.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from activities.connectors.conformance import record_of
from activities.connectors.settings import ConnectorSettings, is_loopback
from trading.oms.errors import StartUpError
from trading.oms.venue import IExecutionConnector

__all__ = ["GROUP", "ConnectorSettings", "build_connector"]
GROUP = "oms.connectors"
OURS = {
    "binance": "activities.connectors.binance_connector:BinanceConnector",
    "binanceus": "activities.connectors.binance_us:connector",
    "kraken": "activities.connectors.kraken_connector:KrakenConnector",
    "bybit": "activities.connectors.venues.bybit:connector",
    "coinbase": "activities.connectors.venues.coinbase:connector",
    "okx": "activities.connectors.venues.okx:connector",
}


def build_connector(settings: ConnectorSettings) -> IExecutionConnector:
    """The connector that `settings.kind` names, not started yet.

    Raises `StartUpError` for a kind that is not installed, a market that is not spot, an address
    beyond this machine without `live`, one behind an experimental connector without
    `experimental`, or a dead-man switch that the exchange does not have.
    """
    settings.check()
    record = record_of(settings.kind)
    is_proved = record is not None and record.is_proof
    if not is_proved and not settings.experimental and not is_loopback(settings.rest_url):
        raise StartUpError(
            f"the connector {settings.kind!r} is experimental ({record or 'its cards never ran'}); "
            f"set experimental=true for account {settings.account!r} at {settings.exchange!r} if "
            "real orders are to go through it all the same"
        )
    connector = _found(settings)
    if settings.dead_man_s and connector.capabilities.cancel_all_after is None:
        raise StartUpError(
            f"dead_man_s is {settings.dead_man_s:g} for account {settings.account!r} at "
            f"{settings.exchange!r}, and {connector.capabilities.exchange_kind!r} has no dead-man "
            "switch; set it to 0"
        )
    known: dict[str, Any] = {"experimental": False} if is_proved else {}
    if settings.taker_fee is not None:
        known["taker_fee"] = settings.taker_fee
    if known:
        connector.capabilities = connector.capabilities.model_copy(update=known)
    return connector


def _found(settings: ConnectorSettings) -> IExecutionConnector:
    known = {point.name: point.value for point in entry_points(group=GROUP)} | OURS
    place = known.get(settings.kind, settings.kind)
    if ":" in place:
        return _at(place)(settings)
    raise StartUpError(
        f"no connector of the kind {settings.kind!r} is installed; known: "
        f"{', '.join(sorted(known))}"
    )


def _at(place: str) -> Callable[[ConnectorSettings], IExecutionConnector]:
    try:
        found: Callable[[ConnectorSettings], IExecutionConnector] = EntryPoint(
            "", place, GROUP
        ).load()
    except (ImportError, AttributeError) as error:
        msg = f"there is no connector at {place!r}: {error}"
        raise StartUpError(msg) from error
    return found
