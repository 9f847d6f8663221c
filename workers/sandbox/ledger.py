"""Balances, locks and fees: money moves here and nowhere else.

What is conserved: for each asset, the sum over all accounts of free and locked plus the fees taken
equals what was deposited. The market's own account starts at nothing and may go below it.
"""

from decimal import Decimal

from workers.sandbox.config import SymbolSpec
from workers.sandbox.exact import ZERO, round_down
from workers.sandbox.model import BUY, MARKET, UNPRICED_TYPES, Account, Order, Trade


class Ledger:
    """Moves amounts between free, locked and the fees; remembers whose balances changed."""

    def __init__(
        self, maker_fee: Decimal, taker_fee: Decimal, *, fees_in_quote: bool = False
    ) -> None:
        self.maker_fee = maker_fee
        self.taker_fee = taker_fee
        self.fees_in_quote = fees_in_quote  # Kraken's way: buyers pay their fee on top.
        self.fees: dict[str, Decimal] = {}
        self.deposited: dict[str, Decimal] = {}
        self.touched: dict[Account, dict[str, None]] = {}

    def deposit(self, account: Account, asset: str, amount: Decimal) -> None:
        """Give an account an amount; a negative one is a withdrawal."""
        account.balance(asset).free += amount
        self.deposited[asset] = self.deposited.get(asset, ZERO) + amount
        self._touch(account, asset)

    def with_fee(self, cost: Decimal) -> Decimal:
        """What a buyer needs for a cost: more than it where the fee comes on top."""
        return cost * (1 + self.taker_fee) if self.fees_in_quote else cost

    def needed(self, order: Order, spec: SymbolSpec) -> tuple[str, Decimal]:
        """Asset and amount that an order locks while it waits: BUY quote, SELL base.

        A stop that becomes a market order locks at its stop price.
        """
        if order.side != BUY:
            return spec.base, order.remaining
        price = order.stop_price if order.type in UNPRICED_TYPES else order.price
        return spec.quote, self.with_fee(price * order.remaining)

    def lock(self, order: Order, spec: SymbolSpec) -> bool:
        """Lock what the order needs; False, and nothing done, when the account has less."""
        if order.account.unlimited or order.type == MARKET:
            return True
        asset, amount = self.needed(order, spec)
        balance = order.account.balance(asset)
        if balance.free < amount:
            return False
        balance.free -= amount
        balance.locked += amount
        order.locked = amount
        self._touch(order.account, asset)
        return True

    def unlock(self, order: Order, spec: SymbolSpec, amount: Decimal | None = None) -> None:
        """Free what an order still holds, or a part of it."""
        amount = order.locked if amount is None else amount
        if not amount:
            return
        asset = spec.quote if order.side == BUY else spec.base
        balance = order.account.balance(asset)
        balance.locked -= amount
        balance.free += amount
        order.locked -= amount
        self._touch(order.account, asset)

    def settle(self, trade: Trade, spec: SymbolSpec) -> None:
        """Exchange base for quote between the two sides; each pays its fee in what it receives.

        Where fees are in the quote asset the buyer pays its own on top of the cost.
        """
        buyer_rate, seller_rate = (
            (self.maker_fee, self.taker_fee)
            if trade.buyer_is_maker
            else (self.taker_fee, self.maker_fee)
        )
        in_quote = self.fees_in_quote
        charged = trade.quote_quantity if in_quote else trade.quantity
        trade.buyer_commission = self._fee(trade.buyer.account, charged, buyer_rate)
        trade.seller_commission = self._fee(trade.seller.account, trade.quote_quantity, seller_rate)
        on_top, withheld = (
            (trade.buyer_commission, ZERO) if in_quote else (ZERO, trade.buyer_commission)
        )
        reserved = self.with_fee(trade.buyer.price * trade.quantity)
        self._pay(trade.buyer, spec.quote, trade.quote_quantity + on_top, reserved)
        self._pay(trade.seller, spec.base, trade.quantity, trade.quantity)
        self._receive(trade.buyer.account, spec.base, trade.quantity, withheld)
        self._keep(spec.quote, on_top)
        self._receive(
            trade.seller.account, spec.quote, trade.quote_quantity, trade.seller_commission
        )

    def totals(self) -> dict[str, Decimal]:
        """Per asset what was deposited minus the fees: what all accounts must have together."""
        return {
            asset: amount - self.fees.get(asset, ZERO) for asset, amount in self.deposited.items()
        }

    @staticmethod
    def _fee(account: Account, received: Decimal, rate: Decimal) -> Decimal:
        return ZERO if account.unlimited else round_down(received * rate)

    def _pay(self, order: Order, asset: str, amount: Decimal, reserved: Decimal) -> None:
        """Take ``amount`` from the order's lock; what its limit reserved beyond that is freed."""
        balance = order.account.balance(asset)
        if order.locked:
            balance.locked -= reserved
            balance.free += reserved - amount
            order.locked -= reserved
        else:
            balance.free -= amount
        self._touch(order.account, asset)

    def _receive(self, account: Account, asset: str, amount: Decimal, fee: Decimal) -> None:
        account.balance(asset).free += amount - fee
        self._keep(asset, fee)
        self._touch(account, asset)

    def _keep(self, asset: str, fee: Decimal) -> None:
        if fee:
            self.fees[asset] = self.fees.get(asset, ZERO) + fee

    def _touch(self, account: Account, asset: str) -> None:
        if not account.unlimited:
            self.touched.setdefault(account, {})[asset] = None
