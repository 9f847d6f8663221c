"""What becomes of an account beside its orders: balances fetched, positions set by hand."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from activities.store.account_book import AccountBook, AssetBalance, Watermark
from activities.store.batch import Batch
from activities.store.columns import plain
from activities.store.orders import OnOrder
from activities.store.rows import fill_of
from trading.oms.exact import EXACT
from trading.oms.models import Balance
from trading.oms.positions import Position

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The balances as the exchange gave them; what is not named is 0.

    Every fill up to `as_of` (the exchange's clock) is in them, and none after `as_of_latest`.
    `reserved_before` is what our orders held of each asset before the question: the exchange's
    locks above that, and above what they hold now, are other people's. `adopt` names the symbol
    of each asset that becomes an opening position where the account was never fetched before.
    """

    exchange: str
    account: str
    balances: Mapping[str, Balance]
    as_of: datetime
    as_of_latest: datetime
    fetched_at: datetime
    reserved_before: Mapping[str, Decimal] = field(default_factory=dict)
    adopt: Mapping[str, str] = field(default_factory=dict)


class TakeBalances(OnOrder):
    """Set the account's balances, unless newer ones are there."""

    waits = True

    def __init__(self, fetched: Fetched) -> None:
        """Note what was fetched."""
        super().__init__("")
        self._fetched = fetched
        self._taken = False
        self.accounts = [(fetched.exchange, fetched.account)]

    def plan(self, batch: Batch) -> None:
        """Set totals and the watermark; fills after it are counted anew."""
        given = self._fetched
        book = batch.ledger.books[given.exchange, given.account]
        known = book.watermark
        self._taken = known.as_of is None or given.as_of >= known.as_of
        if not self._taken:
            return
        mark = Watermark(given.as_of, given.as_of_latest, given.fetched_at)
        batch.ledger.set_watermark(book, mark)
        for asset in {*book.balances, *given.balances}:
            book.balances[asset] = self._balance(book, asset)
        for row in batch.ledger.fills_since(book, given.as_of):
            book.count_since(fill_of(row._asdict()))
        for fill in batch.new_fills(given.exchange, given.account):
            book.count_since(fill)
        if known.as_of is None:
            self._adopt(batch, book)

    def _balance(self, book: AccountBook, asset: str) -> AssetBalance:
        found = self._fetched.balances.get(asset)
        if found is None:
            return AssetBalance()
        ours = max(self._fetched.reserved_before.get(asset, _ZERO), book.reserved(asset))
        foreign = max(_ZERO, EXACT.subtract(found.locked, ours))
        total = EXACT.add(found.free, found.locked)
        return AssetBalance(total=total, free=found.free, foreign_locked=foreign)

    def _adopt(self, batch: Batch, book: AccountBook) -> None:
        """What the account holds at the first sight, and our fills do not explain, is a position.

        It belongs to no strategy. Nobody knows what it cost.
        """
        for asset, symbol in sorted(self._fetched.adopt.items()):
            balance = book.balances.get(asset, AssetBalance())
            held = EXACT.add(balance.total, balance.filled_since)
            rest = EXACT.subtract(held, book.position(symbol))
            if rest > 0:
                change = Adjustment(
                    exchange=book.exchange,
                    account=book.account,
                    symbol=symbol,
                    quantity=EXACT.add(_quantity(book, symbol, ""), rest),
                    reason="held when the account was first seen",
                    by="oms",
                )
                adjust(batch, book, change)

    def answer(self, batch: Batch) -> bool:  # noqa: ARG002 - the protocol's
        """Whether they were the newest."""
        return self._taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """Set a position to `quantity`, in the base asset, and say why and who.

    With `expected` only where that is the position before: a fill may have come meanwhile.
    """

    exchange: str
    account: str
    symbol: str
    quantity: Decimal
    reason: str
    by: str
    strategy_id: str = ""
    expected: Decimal | None = None


class AdjustPosition(OnOrder):
    """Set a position by hand, once; the audit keeps what it was."""

    waits = True

    def __init__(self, change: Adjustment) -> None:
        """Note the change."""
        super().__init__("")
        self._change = change
        self._before = _ZERO
        self._ticket = f"adjusted:{uuid.uuid4().hex}"
        self.accounts = [(change.exchange, change.account)]

    def plan(self, batch: Batch) -> None:
        """Set it, at the cost that its average price makes; not again where a try has done it."""
        change = self._change
        book = batch.ledger.books[change.exchange, change.account]
        now = _quantity(book, change.symbol, change.strategy_id)
        noted = batch.ledger.once(self._ticket, plain(now))
        self._before = now if noted is None else Decimal(noted)
        if noted is None and change.expected in {None, now}:
            adjust(batch, book, change)

    def answer(self, batch: Batch) -> Decimal:  # noqa: ARG002 - the protocol's
        """The quantity before."""
        return self._before


def adjust(batch: Batch, book: AccountBook, change: Adjustment) -> None:
    """Set the position in the book and note it in the audit."""
    key = (change.symbol, change.strategy_id)
    known = book.positions.get(key) or Position(
        exchange=change.exchange,
        account=change.account,
        symbol=change.symbol,
        strategy_id=change.strategy_id,
    )
    # Where a part goes or comes, its cost is not known: what stays keeps its average.
    cost = _ZERO
    if known.quantity and (known.quantity > 0) is (change.quantity > 0):
        share = EXACT.divide(
            min(known.quantity.copy_abs(), change.quantity.copy_abs()), known.quantity.copy_abs()
        )
        cost = EXACT.multiply(known.cost, share).quantize(Decimal(1).scaleb(-18), context=EXACT)
    book.positions[key] = replace(known, quantity=change.quantity, cost=cost)
    batch.ledger.adjust(
        {
            "exchange": change.exchange,
            "account": change.account,
            "symbol": change.symbol,
            "strategy_id": change.strategy_id,
            "before": known.quantity,
            "after": change.quantity,
            "reason": change.reason,
            "changed_by": change.by,
            "changed_at": batch.now,
        }
    )


def _quantity(book: AccountBook, symbol: str, strategy_id: str) -> Decimal:
    known = book.positions.get((symbol, strategy_id))
    return known.quantity if known else _ZERO
