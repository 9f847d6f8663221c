"""`python -m bench.market URL`: the other side of the market, as a process of its own.

Each byte on its stdin is one order that rests; for each it sells one lot at that price, so that
the exchange fills the order that has waited longest. Its CPU is nobody's in the figures.
"""

import http.client
import json
import os
import sys
from decimal import Decimal
from urllib.parse import urlsplit

PRICE = Decimal(30000)
LOT = Decimal("0.001")
RESTING_SYMBOL = "BTCUSDT"
_READ_MAX = 1000


def main(url: str) -> None:
    """Trade until stdin ends."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    while count := len(os.read(sys.stdin.fileno(), _READ_MAX)):
        order = {
            "symbol": RESTING_SYMBOL,
            "side": "SELL",
            "price": str(PRICE),
            "quantity": str(LOT * count),
        }
        connection.request("POST", "/control/market_order", json.dumps(order))
        response = connection.getresponse()
        answer = response.read()
        if response.status != http.HTTPStatus.OK:
            sys.exit(f"the exchange refuses the market's order: {answer!r}")


if __name__ == "__main__":
    main(sys.argv[1])
