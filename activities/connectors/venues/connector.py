"""A venue behind `IExecutionConnector` through ccxt, by its record.

Every command is one request, sent once, never throttled, never repeated; ccxt signs it and knows
the endpoints. ccxt's unified calls are passed by: they ask more than they are asked, take a list
that is missing for an empty one, and infer what was filled. Local refusals are
`ExchangeUnavailable` with nothing sent: `local_symbol`, `local_request` and `local_deadline`.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from activities.connectors.account_connector import AccountConnector
from activities.connectors.binance_orders import plain
from activities.connectors.classify import Operation, malformed_answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError, object_of
from activities.connectors.order_rows import joined
from activities.connectors.polled_feed import PolledFeed
from activities.connectors.settings import ConnectorSettings
from activities.connectors.venues.bell import Bell
from activities.connectors.venues.listing import at, filled
from activities.connectors.venues.listing import since as times
from activities.connectors.venues.lists import VenueLists
from activities.connectors.venues.reading import (
    VenueReader,
    instruments_of,
    levels_of,
    moment,
    order_id_of,
)
from activities.connectors.venues.record import Command, VenueRecord
from activities.connectors.venues.wire import OrderCall, wire_class
from activities.connectors.wire import Call
from trading.oms.errors import (
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
    StartUpError,
)
from trading.oms.models import Balance, Fill, Instrument, Quote, utc_now
from trading.oms.routing.markets import VenueMarket
from trading.oms.venue import (
    Capabilities,
    ExecutionReport,
    OrderList,
    OrderRef,
    OrderRequest,
    ReportSource,
    StreamState,
    VenueStatus,
)

logger = logging.getLogger(__name__)
_CLOCK_LOOKS_MAX, _CLOCK_ERROR_S = 5, 0.02
T = TypeVar("T")


class CcxtConnector(AccountConnector):
    """One account at one venue; all calls may run at once on one instance."""

    def __init__(self, settings: ConnectorSettings, record_of: Callable[[], VenueRecord]) -> None:
        """`record_of` makes the venue's record; the same one makes the same wire."""
        settings.check()
        clock = ExchangeClock()
        super().__init__(settings, clock, wire_class(record_of)(settings, clock))
        self._record_of = record_of
        self._record = record = record_of()
        self._check(settings)
        margins = ("processing_bound_ms", "clock_skew_ms", "data_lag_ms")
        known: dict[str, Any] = {name: getattr(settings, name) for name in margins}
        known["fence_ms"] = settings.recv_window_ms
        known["clock_step_ms"] = record.time.step_ms
        self.capabilities: Capabilities = record.capabilities.model_copy(update=known)
        self._instruments: dict[str, Instrument] = {}
        self._names: dict[str, str] = {}
        self._listed: frozenset[str] = frozenset()
        self._traded: set[str] = set()
        names = (self.exchange, self.account)
        self._reader = VenueReader(record, names, self._instruments)
        self._lists = VenueLists(record, self._query, self._clock, self._reader)

    # Life

    async def start(self) -> None:
        """Set the clock, load the instruments, try the key. Raises `StartUpError`."""
        try:
            for _ in range(_CLOCK_LOOKS_MAX):
                await self.server_time()
                if self._record.time.step_ms or self._clock.error_s <= _CLOCK_ERROR_S:
                    break
            await self.load_instruments()
            await self.balances()
        except ExchangeError as error:
            await self.close()
            raise self._not_accepted(error) from error

    async def load_instruments(self) -> None:
        """Read the venue's instruments again."""
        rows = await self._reading(self._lists.rows(self._record.instruments, {}))
        code = self._wire.safe_currency_code  # type: ignore[attr-defined] # ccxt's.
        found = instruments_of(self._record, self.exchange, rows, code)
        # What is delisted keeps its name: its orders are still asked after and cancelled.
        self._instruments.update(found)
        self._names.update({item.symbol: name for name, item in found.items()})
        self._listed = frozenset(item.symbol for item in found.values())

    def instrument(self, symbol: str) -> Instrument | None:
        """The rules of `symbol` (BASE/QUOTE), or None where the venue does not list it."""
        return self._instruments[self._names[symbol]] if symbol in self._listed else None

    async def server_time(self) -> datetime:
        """The exchange's clock, asked now; also sets the estimate."""
        where, call = self._record.time, Call(Operation.QUERY)
        raw = await self._wire.call(call, "GET", where.path)
        answered = time.monotonic()
        told = self._read(lambda body: moment(object_of(body), where.field, where.unit), raw)
        milliseconds = int(times(told)["since_ms"])
        if where.step_ms:
            self._clock.observe_floor(milliseconds, where.step_ms, call.written_at, answered)
        else:
            self._clock.observe(milliseconds, call.written_at, answered)
        return self._clock.now()

    # Commands

    async def place(self, request: OrderRequest) -> ExecutionReport:
        """Send exactly this request, once. Raises the three classes of `ExchangeError`."""
        if request.symbol not in self._listed:
            raise self._unlisted(request.symbol)
        body = self._record.order(request, self._names[request.symbol])
        call = OrderCall(
            Operation.PLACE,
            check_request=partial(self._record.check, request, body),
            check_time=partial(self._check_deadline, request.deadline_ms),
            order=request,
        )
        self._traded.add(request.symbol)
        command = self._record.place
        raw = await self._wire.call(call, command.method, command.path, body)
        ref = OrderRef(symbol=request.symbol, exchange_client_id=request.exchange_client_id)
        return self._done(
            command,
            raw,
            ref,
            Operation.PLACE,
            status=VenueStatus.NEW,
            side=request.side,
            quantity=request.quantity,
            price=request.price,
        )

    async def cancel(self, ref: OrderRef) -> ExecutionReport:
        """Cancel by client id, or by the venue's where it knows no other.

        `ExchangeRejected` when it is unknown or has ended. A cancel that the venue has only taken
        note of says nothing of the status yet.
        """
        command = self._record.cancel
        raw = await self._change(command, ref, Operation.CANCEL)
        status = VenueStatus.CANCELLED if self._record.cancel_is_done else None
        return self._done(command, raw, ref, Operation.CANCEL, status=status)

    async def reduce(self, ref: OrderRef, new_quantity: Decimal) -> ExecutionReport:
        """Reduce the total quantity (base asset) in place, keeping both ids."""
        command = self._record.reduce
        if command is None:
            raise ExchangeUnavailable(
                f"{self.exchange} changes no order in place, nothing was sent", code="local_request"
            )
        raw = await self._change(command, ref, Operation.AMEND, quantity=plain(new_quantity))
        return self._done(command, raw, ref, Operation.AMEND, quantity=new_quantity)

    async def cancel_all_after(self, seconds: float) -> None:
        """Let the venue cancel all open orders unless told again; whole seconds, rounded up."""
        switch, timeout = self._record.dead_man, math.ceil(seconds)
        if switch is None:
            raise ExchangeUnavailable(f"{self.exchange} has no dead-man switch, nothing was sent")
        command = switch.command
        asked = filled(command.asks, {"timeout_s": str(timeout)})
        await self._wire.call(Call(Operation.CANCEL), command.method, command.path, asked)

    # Queries: every failure is `ExchangeUnavailable`, which is not an observation.

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        """Query one order by our client id, with its fills; None: the venue knows none."""
        return await self._reading(self._lists.find(self._names_of(ref)))

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order of the account created since then, whatever its status; without fills."""
        return await self._reading(self._lists.orders_since(self._symbol(symbol), since))

    async def open_orders(self, symbol: str | None = None) -> OrderList:
        """The orders that rest at the venue now, ours and others'; without fills."""
        name = self._symbol(symbol) if symbol is not None else None
        return await self._reading(self._lists.open_orders(name))

    async def resting_in(self, symbols: Collection[str]) -> OrderList:  # noqa: ARG002
        """What rests in these symbols, and in all others: that is one question."""
        return await self.open_orders()

    async def recent_orders(self, since: datetime) -> OrderList:
        """Every order since then, of all symbols where the venue tells of all at once."""
        if not self._record.symbols_needed:
            return await self._reading(self._lists.orders_since(None, since))
        return joined([await self.orders_since(one, since) for one in sorted(self._traded)])

    async def fills_after(
        self, symbol: str, *, trade_id: str | None, since: datetime | None
    ) -> Sequence[Fill]:
        """The account's fills from this trade id on (inclusive), or since a time; oldest first."""
        name = self._symbol(symbol)
        if trade_id is not None:
            return await self._reading(self._lists.fills_from(name, trade_id))
        return await self._reading(self._lists.fills_since(name, since))

    async def fills_of(self, ref: OrderRef) -> Sequence[Fill]:
        """All fills of one order."""
        return await self._reading(self._lists.fills_of(self._names_of(ref)))

    async def balances(self) -> Mapping[str, Balance]:
        """Asset to balance, assets with nothing left out."""
        rows = await self._reading(self._lists.rows(self._record.balances, {}))
        code = self._wire.safe_currency_code  # type: ignore[attr-defined] # ccxt's.
        found = self._read(self._reader.balances, rows)
        named = {code(asset): one for asset, one in found.items()}
        return {name: one.model_copy(update={"asset": name}) for name, one in named.items()}

    async def quote(self, symbol: str) -> Quote:
        """The best bid and ask now; `ExchangeUnavailable` where a side of the book is empty."""
        book = await self.book(symbol)
        if not book.bids or not book.asks:
            raise ExchangeUnavailable("a side of the book is empty")
        bid, ask = book.bids[0].price, book.asks[0].price
        return Quote(exchange=self.exchange, symbol=symbol, bid=bid, ask=ask, received_at=utc_now())

    async def book(self, symbol: str) -> VenueMarket:
        """The best levels of each side now; the fee is not in them."""
        where = self._record.book
        asked = filled(where.asks, {"symbol": self._symbol(symbol)})
        raw = await self._query("GET", where.path, asked)
        bids, asks = (
            self._read(lambda found: levels_of(found, where.level), at(raw, path))
            for path in (where.bids_at, where.asks_at)
        )
        return VenueMarket(
            exchange=self.exchange, symbol=symbol, bids=bids, asks=asks, received_at=utc_now()
        )

    async def can_withdraw(self) -> bool | None:
        """Whether this key may withdraw money; None: the venue does not say."""
        if self._record.withdraws is None:
            return None
        path, read = self._record.withdraws
        return read(self._read(object_of, await self._query("GET", path, {})))

    # Stream

    async def executions(self) -> AsyncIterator[ExecutionReport | StreamState]:
        """What REST tells, asked again and again, and at once when the venue's stream rings.

        Raises `ExchangeUnavailable` when nothing could be asked for `stream_silence_ms`.
        """
        silence_s = self._settings.stream_silence_ms / 1000
        feed, ringing = PolledFeed(self, silence_s), None
        if self._record.watch is not None:
            wire = wire_class(self._record_of)(self._settings, self._clock)
            wire.gate = self.gate
            bell = Bell(wire, self._instruments.items(), self._record.watch)
            ringing = asyncio.create_task(bell.ring(feed.bell.set, silence_s))
        try:
            async with aclosing(feed.events()) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
        finally:
            if ringing is not None:
                ringing.cancel()
                await asyncio.wait([ringing])

    # The rest

    async def _query(self, method: str, path: str, asked: Mapping[str, Any]) -> Any:
        return await self._wire.call(Call(Operation.QUERY), method, path, asked)

    async def _reading(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        raise failure

    async def _change(
        self, command: Command, ref: OrderRef, operation: Operation, **more: str
    ) -> Any:
        names = self._names_of(ref)
        if "{order_id}" in str(command.asks) and names["order_id"] is None:
            report = await self.find_order(ref)
            if report is None:
                text = f"{self.exchange} tells of no such order, nothing was sent"
                raise ExchangeRejected(text, code="local_order")
            names["order_id"] = report.exchange_order_id
        asked = filled(command.asks, {**names, **more})
        return await self._wire.call(Call(operation), command.method, command.path, asked)

    def _done(
        self, command: Command, raw: Any, ref: OrderRef, operation: Operation, **fields: Any
    ) -> ExecutionReport:
        """The venue's word on an order that it has taken or changed: that it is this one."""
        word = self._read(object_of, at(raw, command.word), operation)
        order_id = ref.exchange_order_id
        if command.id:
            order_id = self._read(partial(order_id_of, path=command.id), word, operation)
        if command.client_id and at(word, command.client_id) != ref.exchange_client_id:
            raise OutcomeUnknown("the exchange's answer names another order")
        if ref.exchange_order_id not in {None, order_id}:
            raise OutcomeUnknown("the exchange's answer names another order")
        return ExecutionReport(
            exchange=self.exchange,
            account=self.account,
            symbol=ref.symbol,
            exchange_client_id=ref.exchange_client_id,
            exchange_order_id=order_id,
            at=self._clock.now(),
            received_at=utc_now(),
            source=ReportSource.RESPONSE,
            **fields,
        )

    def _names_of(self, ref: OrderRef) -> dict[str, str | None]:
        return {
            "symbol": self._symbol(ref.symbol),
            "client_id": ref.exchange_client_id,
            "order_id": ref.exchange_order_id,
        }

    def _symbol(self, symbol: str) -> str:
        name = self._names.get(symbol)
        if name is None:
            raise self._unlisted(symbol)
        return name

    def _unlisted(self, symbol: str) -> ExchangeUnavailable:
        return ExchangeUnavailable(
            f"{self.exchange} does not list {symbol!r}, nothing was sent", code="local_symbol"
        )

    def _check(self, settings: ConnectorSettings) -> None:
        """What the settings ask of the venue that it does not have."""
        switch, about = self._record.dead_man, f"account {self.account!r} at {self.exchange!r}"
        if settings.demo and not self._record.demo_headers:
            raise StartUpError(
                f"demo is set for {about}, whose simulated trading has an address of its own or is "
                "not there; give that address instead"
            )
        if (
            switch
            and settings.dead_man_s
            and not (switch.least_s <= math.ceil(settings.dead_man_s) <= switch.most_s)
        ):
            raise StartUpError(
                f"dead_man_s is {settings.dead_man_s:g} for {about}; {switch.least_s} to "
                f"{switch.most_s} seconds are allowed"
            )
