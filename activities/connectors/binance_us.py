"""Binance US: Binance's protocol at another exchange. Source: docs.binance.us, "Spot API".

It changes no order in place. Its user data stream is the old one with listen keys, which ccxt no
longer opens, so REST is asked again and again. Its weights are half of Binance's.
"""

from activities.connectors.binance_connector import BinanceConnector, Variant
from activities.connectors.binance_limits import BINANCE_US_CARD
from activities.connectors.binance_wire import BinanceSpeech
from activities.connectors.capabilities import binance_spot
from activities.connectors.ccxt_classes import exchange_class
from activities.connectors.settings import ConnectorSettings
from trading.oms.venue import Amend, Capabilities


class BinanceUsWire(BinanceSpeech, exchange_class("binanceus")):  # type: ignore[misc] # No types.
    """ccxt's Binance US."""


def connector(settings: ConnectorSettings) -> BinanceConnector:
    """One account at Binance US."""
    return BinanceConnector(settings, Variant(BinanceUsWire, binance_us, {}, has_stream=False))


def binance_us(**margins_ms: int) -> Capabilities:
    """The capability record: Binance's, without changes in place or in one request."""
    its_own = {
        "exchange_kind": "binanceus",
        "amend": Amend.NONE,
        "cancel_replace": False,
        "rate_card": BINANCE_US_CARD,
    }
    return binance_spot(**margins_ms).model_copy(update=its_own)
