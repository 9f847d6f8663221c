"""The store: every order, fill, claim and journal entry, on SQLite or PostgreSQL.

It decides whatever two processes could race for: an order id is admitted once, a send is claimed
once, a fill is booked once, a cursor never goes back. Every write may be repeated. Writes raise
`StoreUnavailable` when the database does not confirm within `StoreSettings.answer_within_s`
seconds, and reads when it does not answer (after 2 s more where a connection hangs);
`StoreRefused` says that it never will.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL

from activities.store import inbox, reads
from activities.store.claims import ClaimRequest, ClaimSend, Settle, Settlement
from activities.store.engine import complaints, make_engines, masked, sqlite_file, store_url
from activities.store.export import Exports
from activities.store.failures import translated
from activities.store.follow import Followers
from activities.store.orders import Admit, AdmitExternal, Record
from activities.store.past import Past
from activities.store.rate_store import RateStore
from activities.store.risk_store import RiskStore
from activities.store.types import (
    Admission,
    Claim,
    ClaimKey,
    ClaimOutcome,
    InboxItem,
    JournalEntry,
    Listing,
    OrderFilter,
    Sent,
    Standing,
    StoredClaim,
    StoreSettings,
    Unreadable,
    strictest,
)
from activities.store.upkeep import Upkeep
from activities.store.writer import Writer
from trading.oms.enums import OPEN_STATUSES, TradingState
from trading.oms.errors import StartUpError
from trading.oms.lifecycle import LifecycleEvent
from trading.oms.models import Fill, Order, OrderState
from trading.oms.venue import ExecutionReport, OrderRequest

_Found = TypeVar("_Found")


class Store:
    """One process's door to the store; safe to use from many tasks of one event loop."""

    def __init__(self, url: URL, settings: StoreSettings) -> None:
        """Use `Store.open`."""
        self._url = url
        self._name = masked(url)
        self._settings = settings
        self._engines = make_engines(url, settings)
        self._followers = Followers(self._engines, settings, self.events_after)
        self._writer = Writer(self._engines.writes, settings, self._followers.committed)
        self.exports = Exports(self._read)
        self.past = Past(self._read)
        self.risk = RiskStore(self._writer, self._read, url.get_backend_name())
        self.upkeep = Upkeep(self._writer, self._read)
        self.rates = RateStore(self._engines.leases, self._read, masked(url))

    @classmethod
    async def open(
        cls, url: str, *, create: bool = False, settings: StoreSettings | None = None
    ) -> Self:
        """Connect and check; `create` makes or migrates the schema first.

        `url` is sqlite:///path or postgresql://user:password@host/database. Raises
        `StartUpError` with everything that is wrong, `StoreUnavailable` when nobody answers.
        """
        store = cls(store_url(url), settings or StoreSettings())
        try:
            if create:
                await store.migrate()
            await store._refuse_what_is_wrong()
        except BaseException:
            await store.close()
            raise
        return store

    async def _refuse_what_is_wrong(self) -> None:
        if wrong := await self.check():
            raise StartUpError("; ".join(wrong))

    def __repr__(self) -> str:
        """The address, without its password."""
        return f"Store({self._name})"

    @property
    def commits(self) -> int:
        """How many transactions this process has committed; for metrics."""
        return self._writer.commits

    async def close(self) -> None:
        """Commit what is queued, end the followers, and close every connection."""
        await self._writer.close()
        await self._followers.close()
        await self._engines.dispose()

    async def migrate(self) -> None:
        """Bring the schema to this program's version; nothing to do is fine."""
        from activities.store.migrate import migrate

        with translated(self._name):
            await migrate(self._url, self._settings)

    async def check(self) -> list[str]:
        """What is wrong (schema version, durability of commits), each with what to do."""
        file = sqlite_file(self._url)
        if file is not None and not file.is_file():
            return [f"there is no store at {file}; migrate it first, which makes it"]
        return await self._read(lambda c: complaints(c, self._name))

    async def _read(self, query: Callable[[sa.Connection], _Found]) -> _Found:
        """What `query` reads; asked again where its connection had died since the last one."""
        with translated(self._name):
            async with asyncio.timeout(self._settings.answer_within_s):
                try:
                    return await self._engines.reads.run(query)
                except sa.exc.DBAPIError as error:
                    if not error.connection_invalidated:
                        raise
                return await self._engines.reads.run(query)

    # Orders and fills.

    async def admit(self, order: Order) -> Admission:
        """Insert an order (status CREATED, event order_created), or find the one with its id.

        A known order comes back with `created` false, and `differs` says field by field how.
        """
        return await self._writer.do(Admit(order))  # type: ignore[no-any-return]

    async def admit_external(self, state: OrderState) -> OrderState:
        """Insert an order that was not placed by this system, so that its fills have an order."""
        return await self._writer.do(AdmitExternal(state))  # type: ignore[no-any-return]

    async def record(
        self,
        order_id: str,
        events: Sequence[LifecycleEvent],
        unsent_after: Sent | None = None,
    ) -> OrderState:
        """Apply events and journal what they changed, in one transaction; the state after it.

        Each fill is booked once, by its `fill_id`, whoever records it and how often; an overfill
        is alarmed. With `unsent_after`, the newest request that the caller knows of, nothing is
        applied where a later one was claimed: it may be on its way. Raises `OrderNotFound`.
        """
        return await self._writer.do(Record(order_id, events, unsent_after))  # type: ignore[no-any-return]

    async def order(self, order_id: str) -> OrderState | None:
        """The state of an order, or None where no order has this id."""
        return await self._read(lambda c: reads.order(c, order_id))

    async def standing(self, order_id: str, fill_ids: Sequence[str]) -> Standing:
        """What is known of an order, to be compared with reports of these fills; one read."""
        return await self._read(lambda c: reads.standing(c, order_id, fill_ids))

    async def trader_order(self, order_id: str) -> Order | None:
        """The order exactly as the trader gave it; None for unknown and external orders."""
        return await self._read(lambda c: reads.trader_order(c, order_id))

    async def open_orders(
        self,
        exchange: str | None = None,
        account: str | None = None,
        symbol: str | None = None,
        strategy_id: str | None = None,
    ) -> list[OrderState]:
        """Every open order (in doubt is open), newest first, external ones too."""
        wanted = OrderFilter(exchange, account, symbol, strategy_id, statuses=OPEN_STATUSES)
        return await self.orders(wanted, limit=None)

    async def orders(
        self, wanted: OrderFilter | None = None, *, limit: int | None = 100
    ) -> list[OrderState]:
        """Those of the `listing` that can be read; the log names the others."""
        return (await self.listing(wanted or OrderFilter(), limit)).orders

    async def listing(self, wanted: OrderFilter, limit: int | None = None) -> Listing:
        """The orders that pass a filter, newest first, at most `limit` (None: all)."""
        rows = await self._read(lambda c: reads.order_rows(c, wanted, limit))
        return await reads.states_of(rows)

    async def fills(self, order_id: str) -> list[Fill]:
        """The fills of an order, oldest first by the exchange's time."""
        return await self._read(lambda c: reads.fills_of_order(c, order_id))

    async def fills_known(self, fill_ids: Sequence[str]) -> set[str]:
        """Those of the ids that are booked."""
        return await self._read(lambda c: reads.fills_known(c, fill_ids))

    # Send claims.

    async def claim_send(  # noqa: PLR0913 - a claim is what it names
        self,
        order_id: str,
        leg: int,
        generation: int,
        request: OrderRequest,
        *,
        claimant: str,
        not_after: datetime | None = None,
        before: Sequence[LifecycleEvent] = (),
        events: Sequence[LifecycleEvent] = (),
    ) -> Claim:
        """Claim a send durably; only who gets `won` may send, and exactly `request`.

        Refused with a reason code, and nothing claimed, when the order is cancelled, asked to be
        cancelled or ended (CANCELLED_BEFORE_SEND or its own code), after `not_after`
        (SEND_BY_PASSED), and while trading is halted (TRADING_HALTED). A won claim applies
        `events`, LEG_STARTED (where `events` has none), RESENT for a later generation, and
        SUBMITTED in the same transaction (with a REPLACE_STARTED neither of the two starts);
        `before` is applied to a refused one too. Raises `OrderNotFound`.
        """
        key = ClaimKey(order_id, leg, generation)
        wish = ClaimRequest(key, request, claimant, not_after, before, events)
        return await self._writer.do(ClaimSend(wish))  # type: ignore[no-any-return]

    async def reclaim(  # noqa: PLR0913 - as above
        self,
        order_id: str,
        leg: int,
        generation: int,
        *,
        stamp: int,
        request: OrderRequest,
        claimant: str,
        not_after: datetime | None = None,
        events: Sequence[LifecycleEvent] = (),
    ) -> Claim:
        """Claim again with a new request after a refusal that proved that nothing was placed.

        Won only where the claim still has `stamp` and its outcome is NEVER_REACHED; the new stamp
        is one more. Refused like `claim_send`. Raises `OrderNotFound`.
        """
        key = ClaimKey(order_id, leg, generation)
        wish = ClaimRequest(key, request, claimant, not_after, (), events, stamp)
        return await self._writer.do(ClaimSend(wish))  # type: ignore[no-any-return]

    async def settle_claim(  # noqa: PLR0913 - as above
        self,
        order_id: str,
        leg: int,
        generation: int,
        *,
        outcome: ClaimOutcome,
        answer: dict[str, Any] | None = None,
        events: Sequence[LifecycleEvent] = (),
        stamp: int | None = None,
    ) -> OrderState:
        """Set how a claimed send ended and apply events, in one transaction; the state after it.

        ACCEPTED, REJECTED and NOT_PLACED stay, except that proof turns NOT_PLACED into ACCEPTED.
        With a `stamp` that a re-claim has overtaken, only ACCEPTED counts. Of a word that does
        not count only the fills are applied. Raises `OrderNotFound`.
        """
        key = ClaimKey(order_id, leg, generation)
        settlement = Settlement(key, outcome, answer, events, stamp)
        return await self._writer.do(Settle(settlement))  # type: ignore[no-any-return]

    async def claim(self, order_id: str, leg: int, generation: int) -> StoredClaim | None:
        """One claim, or None."""
        key = ClaimKey(order_id, leg, generation)
        return next((c for c in await self.claims_of(order_id) if c.key == key), None)

    async def claims_of(self, order_id: str) -> list[StoredClaim]:
        """Every claim of an order, by leg and generation."""
        return await self._read(lambda c: reads.claims_of_order(c, order_id))

    async def find_claim(
        self, exchange: str, account: str, exchange_client_id: str
    ) -> ClaimKey | None:
        """Which send has this client id at the exchange; None: it is not ours."""
        return await self._read(lambda c: reads.claim_by(c, exchange, account, exchange_client_id))

    async def find_order(self, where: tuple[str, str, str], exchange_order_id: str) -> str | None:
        """The order that has, or had by a leg, this id at (exchange, account, symbol)."""
        return await self._read(
            lambda c: reads.order_id_by_exchange_id(c, where, exchange_order_id)
        )

    # Trading states.

    async def set_trading_state(
        self, scope: str, state: TradingState, *, reason: str | None = None, by: str
    ) -> None:
        """Halt, reduce or resume "all", "account:EXCHANGE/ACCOUNT" or "strategy:ID".

        When this returns, no claim is granted any more against it.
        """
        await self._writer.do(inbox.SetTradingState(scope, state, reason, by))

    async def trading_states(self) -> dict[str, TradingState]:
        """Every scope that was ever set, with its state."""
        return await self._read(reads.trading_states)

    async def trading_state(
        self, exchange: str = "", account: str = "", strategy_id: str | None = None
    ) -> TradingState:
        """The strictest of the states for all, for the account and for the strategy."""
        return strictest(await self.trading_states(), exchange, account, strategy_id)

    # The journal.

    async def events_after(
        self, sequence: int, limit: int = 500, names: Collection[str] | None = None
    ) -> list[JournalEntry]:
        """The journal after `sequence`, in order and without gaps (but `names`: only those)."""
        return await self._read(lambda c: reads.entries(c, sequence, limit, names))

    async def events_of(
        self, order_id: str, after: int = 0, limit: int = 1000
    ) -> list[JournalEntry]:
        """One order's journal after its own number `after`."""
        return await self._read(lambda c: reads.entries_of_order(c, order_id, after, limit))

    async def head(self) -> int:
        """The sequence of the newest entry; 0 in an empty journal."""
        return await self._read(reads.head)

    def subscribe(self, callback: Callable[[list[JournalEntry]], None]) -> Callable[[], None]:
        """Call back right after each commit of *this process*, in order; returns how to stop.

        It runs on the event loop before the callers get their answers: keep it short. A commit
        whose confirmation was lost is not told; `follow` tells everything.
        """
        return self._followers.subscribe(callback)

    def follow(self, after: int) -> AsyncGenerator[list[JournalEntry]]:
        """Every entry after a sequence, from all processes, in order, without loss, for ever.

        Yields batches. Ends when the store is closed. While the database is away it waits. Raises
        `JournalWentBack` where the store was restored: what was yielded is not in it any more.
        """
        return self._followers.follow(after)

    async def epoch(self) -> str:
        """The id that this store was given when it was made."""
        return await self._read(reads.epoch)

    # The execution inbox and cursors.

    async def inbox_add(self, reports: Sequence[ExecutionReport]) -> list[int]:
        """Keep reports for delivery; their ids, in order. The same report keeps its first id."""
        return await self._writer.do(inbox.InboxAdd(reports))  # type: ignore[no-any-return]

    async def inbox_undelivered(
        self,
        exchange: str,
        account: str,
        limit: int = 500,
        *,
        after: int = 0,
        but: Collection[str] = (),
        foreign_before: datetime | None = None,
    ) -> list[InboxItem | Unreadable]:
        """The oldest reports that wait for delivery, with their orders.

        `after` is the id of the last one seen. Left out are the reports of the orders in `but`
        and, with `foreign_before`, those that are no order's and were added later.
        """
        wanted = inbox.Wanted(exchange, account, after, but, foreign_before)
        return await self._read(lambda c: inbox.undelivered(c, wanted, limit))

    async def inbox_delivered(self, ids: Sequence[int]) -> None:
        """Note that the orders have booked these reports."""
        await self._writer.do(inbox.InboxDelivered(ids))

    async def inbox_oldest(self, exchange: str, account: str) -> datetime | None:
        """Since when the oldest undelivered report waits; None: none does."""
        return await self._read(lambda c: c.scalar(inbox.oldest_query(exchange, account)))

    async def inbox_prune(self, delivered_before: datetime) -> int:
        """Forget reports that were delivered before then; how many."""
        return await self._writer.do(inbox.InboxPrune(delivered_before))  # type: ignore[no-any-return]

    async def cursor(self, name: str) -> str | None:
        """Where a cursor stands; None: it was never set."""
        return await self._read(lambda c: reads.cursor(c, name))

    async def advance_cursor(self, name: str, expected: str | None, new: str) -> bool:
        """Move a cursor from `expected` to `new`; whether it stands at `new` now.

        False when it stands elsewhere, or when both are digits and `new` is less: never back.
        """
        return await self._writer.do(inbox.AdvanceCursor(name, expected, new))  # type: ignore[no-any-return]
