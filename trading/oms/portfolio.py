"""What an account holds and what that is worth: the picture that risk checks are given."""

from collections.abc import Mapping
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from trading.oms.exact import EXACT
from trading.oms.models import Balance, Exact, Symbol


class Portfolio(BaseModel):
    """Balances, positions and prices of one account at one moment (specification, "Portfolio").

    `positions` are in the base asset by symbol, signed; on a spot account they are not negative.
    `prices` are in the quote asset by symbol. `reserved` is what our own open orders hold of an
    asset and the exchange's `locked` does not show yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quote_currency: str = "USDT"
    balances: Mapping[str, Balance] = Field(default_factory=dict)
    reserved: Mapping[str, Exact] = Field(default_factory=dict)
    positions: Mapping[Symbol, Exact] = Field(default_factory=dict)
    prices: Mapping[Symbol, Exact] = Field(default_factory=dict)

    @property
    def buying_power(self) -> Decimal:
        """What is free to spend, in the quote currency."""
        return self.available(self.quote_currency)

    def available(self, asset: str) -> Decimal:
        """What is free of an asset, our reservations taken off; never below 0."""
        balance = self.balances.get(asset)
        free = Decimal(0) if balance is None else balance.free
        return max(Decimal(0), free - self.reserved.get(asset, Decimal(0)))

    def get_position(self, symbol: str) -> Decimal:
        """The position of a symbol in its base asset; 0 where there is none."""
        return self.positions.get(symbol, Decimal(0))

    def calculate_exposure(self) -> Decimal:
        """The worth of all positions, both signs added up, in the quote currency.

        Raises `LookupError` with the symbol of a position that has no price: an exposure that
        leaves it out would be too small.
        """
        total = Decimal(0)
        for symbol, position in self.positions.items():
            if not position:
                continue
            if symbol not in self.prices:
                msg = f"the exposure is not known: {symbol} is held and has no price"
                raise LookupError(msg)
            worth = EXACT.multiply(position.copy_abs(), self.prices[symbol])
            total = EXACT.add(total, worth)
        return total
