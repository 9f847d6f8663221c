"""ccxt is loaded exchange by exchange, and is the same ccxt."""

import subprocess
import sys

import pytest

from activities.connectors.ccxt_classes import exchange_class

ONLY_ASKED_FOR = """
import sys
from activities.connectors.ccxt_classes import exchange_class

first = exchange_class("binance")
assert first.__mro__[1].__module__ == "ccxt.async_support.binance", first.__mro__
modules = {name for name in sys.modules if name.startswith("ccxt")}
assert not {name for name in modules if "okx" in name or "kraken" in name}, modules

import ccxt.pro
from ccxt.pro.binance import binance
from ccxt.pro.kraken import kraken

assert ccxt.pro.binance is first is binance, ccxt.pro.binance
assert ccxt.pro.kraken is kraken is exchange_class("kraken")
assert ccxt.okx is ccxt.okx and issubclass(ccxt.okx, ccxt.Exchange)
assert ccxt.binanceus({}).id == "binanceus"
assert issubclass(ccxt.InsufficientFunds, ccxt.ExchangeError)
"""
AFTER_THE_WHOLE = """
import ccxt.pro
from activities.connectors.ccxt_classes import exchange_class

assert exchange_class("binance") is ccxt.pro.binance
"""


@pytest.mark.parametrize("program", [ONLY_ASKED_FOR, AFTER_THE_WHOLE])
def test_an_exchange_is_loaded_alone_and_is_the_same_class_by_every_name(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_unknown_exchange_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="mtgox"):
        exchange_class("mtgox")
