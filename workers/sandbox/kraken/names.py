"""Kraken's names: assets like XXBT, pairs like XBTUSDT, orders like OQCLML-BW3P3-BUCMWZ.

The identifiers are computed from the engine's numbers and back, so nothing has to be kept.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from workers.sandbox.config import SymbolSpec
from workers.sandbox.kraken.errors import KrakenError, unknown_pair
from workers.sandbox.market import Market
from workers.sandbox.model import Account, AccountTrade, Order

# The assets that were there first have an X or a Z before their name; Bitcoin is XBT.
IDS = {"BTC": "XXBT", "ETH": "XETH", "USD": "ZUSD", "EUR": "ZEUR"}
ALTNAMES = {"BTC": "XBT"}
ASSET_DECIMALS = 10
MADE_UP_ID_LENGTH = 22  # The engine's own client ids; Kraken takes none of this length.
_BITS = 60
_TXID_LETTERS = 16


def asset_id(asset: str) -> str:
    return IDS.get(asset, asset)


def altname(asset: str) -> str:
    return ALTNAMES.get(asset, asset)


def decimals(step: Decimal) -> int:
    """How many decimals a step of a power of ten has."""
    return max(0, -int(step.normalize().as_tuple().exponent))


@dataclass(frozen=True, slots=True)
class Pair:
    """One market under all its names. ``index`` tells the pairs' identifiers apart."""

    index: int
    market: Market

    @property
    def spec(self) -> SymbolSpec:
        return self.market.spec

    @property
    def altname(self) -> str:
        return altname(self.spec.base) + altname(self.spec.quote)

    @property
    def id(self) -> str:
        if self.spec.base in IDS and self.spec.quote in IDS:
            return asset_id(self.spec.base) + asset_id(self.spec.quote)
        return self.altname

    @property
    def wsname(self) -> str:
        """As version 1 of the WebSocket API and AssetPairs have it."""
        return f"{altname(self.spec.base)}/{altname(self.spec.quote)}"

    @property
    def symbol(self) -> str:
        """As version 2 of the WebSocket API has it."""
        return f"{self.spec.base}/{self.spec.quote}"

    def price(self, value: Decimal) -> str:
        return f"{value:.{decimals(self.spec.tick_size)}f}"


class Names:
    """The pairs of an exchange, by any of their names, and the identifiers of what they trade."""

    def __init__(self, markets: Mapping[str, Market]) -> None:
        self.pairs = [Pair(index, market) for index, market in enumerate(markets.values(), 1)]
        self._by_market = {pair.spec.symbol: pair for pair in self.pairs}
        self._by_name = {
            name: pair
            for pair in self.pairs
            for name in (pair.id, pair.altname, pair.wsname, pair.symbol)
        }

    def pair(self, name: str) -> Pair:
        """Errors: EQuery:Unknown asset pair."""
        pair = self._by_name.get(name)
        if pair is None:
            raise unknown_pair()
        return pair

    def of(self, symbol: str) -> Pair:
        """The pair of one of the engine's symbols."""
        return self._by_market[symbol]

    def txid(self, order: Order) -> str:
        return _txid("O", self.of(order.symbol).index, order.id)

    def trade_txid(self, side: AccountTrade) -> str:
        """Both sides of a match have an identifier of their own."""
        index = 2 * self.of(side.trade.symbol).index + (side.order is side.trade.buyer)
        return _txid("T", index, side.trade.id)

    def order(self, account: Account, txid: str) -> Order | None:
        """The account's order under this identifier."""
        index, number = _numbers(txid)
        for pair in self.pairs:
            if pair.index == index:
                return account.orders.get(pair.spec.symbol, {}).get(number)
        return None

    def trade(self, account: Account, txid: str) -> AccountTrade | None:
        return next((side for side in trades(account) if self.trade_txid(side) == txid), None)


def orders(account: Account) -> list[Order]:
    """All orders of an account, the newest first."""
    found = (order for orders in account.orders.values() for order in orders.values())
    return sorted(found, key=lambda order: (order.created_ns, order.id), reverse=True)


def trades(account: Account) -> list[AccountTrade]:
    """All trades of an account, the newest first."""
    found: Iterable[AccountTrade] = (side for sides in account.trades.values() for side in sides)
    return sorted(found, key=lambda side: (side.trade.time_ns, side.trade.id), reverse=True)


def given_client_id(order: Order) -> str | None:
    """The client's ``cl_ord_id``, where it gave one."""
    return order.client_id if len(order.client_id) != MADE_UP_ID_LENGTH else None


def by_client_id(account: Account, client_id: str) -> Order | None:
    """The open order with this ``cl_ord_id``, else the newest one."""
    found = [order for order in orders(account) if order.client_id == client_id]
    return next((order for order in found if order.is_open), found[0] if found else None)


def _txid(kind: str, index: int, number: int) -> str:
    raw = (index << _BITS | number).to_bytes(_TXID_LETTERS * 5 // 8, "big")
    letters = base64.b32encode(raw).decode()
    return f"{kind}{letters[:5]}-{letters[5:10]}-{letters[10:]}"


def _numbers(txid: str) -> tuple[int, int]:
    """Errors: EOrder:Invalid order for what is no identifier."""
    letters = txid[1:].replace("-", "")
    try:
        raw = int.from_bytes(base64.b32decode(letters), "big")
    except ValueError:
        raise KrakenError("EOrder:Invalid order") from None
    return raw >> _BITS, raw & ((1 << _BITS) - 1)
