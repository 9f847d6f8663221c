"""Kraken Spot behind `IExecutionConnector`, through ccxt.

Every command is one request, sent once, never throttled, never repeated. AddOrder answers with an
identifier alone: what the order did comes by the stream, or by the look-up. Local refusals have
the codes of the Binance connector: `local_symbol`, `local_request` and `local_deadline`.
"""

import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from activities.connectors.account_connector import AccountConnector
from activities.connectors.binance_orders import plain
from activities.connectors.capabilities import kraken_spot
from activities.connectors.classify import Operation, malformed_answer
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import MalformedError, clock_of, number_of, object_of, text_of
from activities.connectors.kraken_history import KrakenHistory, trade_txids
from activities.connectors.kraken_orders import check_bytes, deadline_of, order_parameters
from activities.connectors.kraken_reports import (
    Known,
    KrakenReader,
    asset_names,
    balances_of,
    first_of,
    instruments_of,
    levels,
)
from activities.connectors.kraken_wire import KrakenStream, KrakenWire, query
from activities.connectors.order_rows import read_orders
from activities.connectors.settings import ConnectorSettings
from activities.connectors.wire import Call
from trading.oms.errors import ExchangeError, ExchangeUnavailable, OutcomeUnknown
from trading.oms.models import Balance, Fill, Instrument, Quote, utc_now
from trading.oms.routing.markets import Level, VenueMarket
from trading.oms.venue import (
    Capabilities,
    ExecutionReport,
    OrderList,
    OrderRef,
    OrderRequest,
    StreamState,
    Transfer,
    VenueStatus,
)
from trading.oms.venue_changes import Terms

logger = logging.getLogger(__name__)
CLOCK_STEP_MS = 1000
"""Kraken tells the time in whole seconds."""
DEPTH = "100"
T = TypeVar("T")


class KrakenConnector(AccountConnector):
    """One account at Kraken Spot; all calls may run at once on one instance."""

    def __init__(self, settings: ConnectorSettings) -> None:
        settings.check()
        clock = ExchangeClock()
        super().__init__(settings, clock, KrakenWire(settings, clock))
        self.capabilities: Capabilities = kraken_spot(
            fence_ms=settings.recv_window_ms,
            processing_bound_ms=settings.processing_bound_ms,
            clock_skew_ms=settings.clock_skew_ms,
            data_lag_ms=settings.data_lag_ms,
            tier=settings.tier,
        )
        self._pairs: dict[str, Instrument] = {}
        self._altnames: dict[str, str] = {}
        self._assets: dict[str, str] = {}
        self._reader = KrakenReader(self.exchange, self.account, self._pairs)
        self._history = KrakenHistory(self._query, self._reader)

    # Life

    async def start(self) -> None:
        """Set the clock, load the instruments, try the key. Raises `StartUpError`."""
        try:
            await self.server_time()
            await self.load_instruments()
            await self.balances()
        except ExchangeError as error:
            await self.close()
            raise self._not_accepted(error) from error

    async def load_instruments(self) -> None:
        """Read the exchange's assets and pairs again."""
        assets = self._read(asset_names, await self._ask("Assets"))
        raw = await self._ask("AssetPairs")
        found = self._read(lambda body: instruments_of(self.exchange, body, assets), raw)
        names = {one.symbol: name for name, one in found.items() if "/" not in name}
        self._assets.update(assets)
        self._pairs.clear()
        self._pairs.update(found)
        self._altnames = names

    def instrument(self, symbol: str) -> Instrument | None:
        """The rules of `symbol` (BASE/QUOTE), or None where the exchange does not list it."""
        return self._pairs.get(symbol) if symbol in self._altnames else None

    # Clock

    async def server_time(self) -> datetime:
        """The exchange's clock, asked now; also sets the estimate."""
        asked = time.monotonic()
        raw = await self._ask("Time")
        read = partial(clock_of, name="unixtime", unit_ms=CLOCK_STEP_MS)
        seen_ms = self._read(lambda body: read(object_of(body)), raw)
        self._clock.observe_floor(seen_ms, CLOCK_STEP_MS, asked, time.monotonic())
        return self._clock.now()

    # Commands

    async def place(self, request: OrderRequest) -> ExecutionReport:
        """Send exactly this request, once. Raises the three classes of `ExchangeError`."""
        pair = self._pair(request.symbol)
        parameters = order_parameters(request, pair)
        call = Call(
            Operation.PLACE,
            check_request=partial(check_bytes, request, pair),
            check_time=partial(self._check_deadline, request.deadline_ms),
            symbol=request.symbol,
        )
        raw = await self._wire.call(call, "POST", "AddOrder", parameters)
        at = self._clock.now()
        return self._read(lambda body: self._reader.placed(body, request, at), raw, Operation.PLACE)

    async def cancel(self, ref: OrderRef) -> ExecutionReport:
        """Cancel by client id. `ExchangeRejected` when it is unknown or has ended.

        A cancel that Kraken has only taken note of (`pending`) says nothing of the status yet.
        """
        call = Call(Operation.CANCEL, symbol=ref.symbol)
        named = {"cl_ord_id": ref.exchange_client_id}
        raw = await self._wire.call(call, "POST", "CancelOrder", named)
        row = self._read(object_of, raw, Operation.CANCEL)
        if self._read(lambda body: number_of(body, "count"), row, Operation.CANCEL) != 1:
            raise OutcomeUnknown("the exchange does not say that it cancelled one order")
        status = None if row.get("pending") else VenueStatus.CANCELLED
        return self._changed(ref, status=status)

    async def reduce(self, ref: OrderRef, new_quantity: Decimal) -> ExecutionReport:
        """Reduce the total quantity (base asset) in place, keeping priority and both ids."""
        named = {"cl_ord_id": ref.exchange_client_id, "order_qty": plain(new_quantity)}
        call = Call(Operation.AMEND, symbol=ref.symbol)
        raw = await self._wire.call(call, "POST", "AmendOrder", named)
        self._read(object_of, raw, Operation.AMEND)
        return self._changed(ref, quantity=new_quantity)

    async def cancel_all_after(self, seconds: float) -> None:
        """Let Kraken cancel all open orders unless told again; whole seconds, rounded up.

        A refused nonce leaves the switch as it was: its holder tells Kraken again within a second.
        """
        timeout = math.ceil(seconds)
        call = Call(Operation.CANCEL)
        asked = {"timeout": str(timeout)}
        raw = await self._wire.call(call, "POST", "CancelAllOrdersAfter", asked)
        strikes_at = self._read(
            lambda body: text_of(object_of(body), "triggerTime"), raw, Operation.CANCEL
        )
        if (strikes_at != "0") is not bool(timeout):
            raise OutcomeUnknown(f"the switch was set to {timeout} s, and strikes at {strikes_at}")

    async def amend(self, ref: OrderRef, terms: Terms) -> ExecutionReport:
        """Give a resting order these terms in place, its ids and fills kept ("Amend Order").

        A post-only order whose new price would take is refused and stays as it is.
        """
        named = {
            "cl_ord_id": ref.exchange_client_id,
            "order_qty": plain(terms.quantity),
            "deadline": deadline_of(terms.deadline_ms),
        }
        if terms.price is not None:
            named["limit_price"] = plain(terms.price)
        if terms.post_only:
            named["post_only"] = "true"
        check_time = partial(self._check_deadline, terms.deadline_ms)
        call = Call(Operation.AMEND, check_time=check_time, symbol=ref.symbol)
        raw = await self._wire.call(call, "POST", "AmendOrder", named)
        self._read(object_of, raw, Operation.AMEND)
        return self._changed(ref, quantity=terms.quantity, price=terms.price)

    # Queries: every failure is `ExchangeUnavailable`, which is not an observation.

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        """Query one order by our client id, with its fills; None: the exchange knows none."""
        return await self._reading(self._found(ref.exchange_client_id))

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order of the account created since then, whatever its status; without fills."""
        self._pair(symbol)
        return await self._reading(self._history.orders_since(symbol, since))

    async def open_orders(self, symbol: str | None = None) -> OrderList:
        """The orders that rest at the exchange now, ours and others'; without fills."""
        raw = await self._query("OpenOrders", {})
        rows = self._read(lambda body: object_of(object_of(body).get("open")), raw)
        found = read_orders(lambda row: self._reader.queried(*row), rows.items())
        wanted = tuple(report for report in found if symbol in {None, report.symbol})
        return OrderList(wanted, found.unreadable)

    async def fills_after(
        self, symbol: str, *, trade_id: str | None, since: datetime | None
    ) -> Sequence[Fill]:
        """The account's fills from this trade id on (inclusive) and since a time; oldest first."""
        self._pair(symbol)
        first = int(trade_id) if trade_id is not None else None
        return await self._reading(self._history.fills(symbol, since, trade_id=first))

    async def fills_of(self, ref: OrderRef) -> Sequence[Fill]:
        """All fills of one order."""
        report = await self.find_order(ref)
        return report.fills if report is not None else ()

    async def balances(self) -> Mapping[str, Balance]:
        """Asset to balance, assets with nothing left out."""
        raw = await self._query("BalanceEx", {})
        return self._read(lambda body: balances_of(body, self._assets), raw)

    async def quote(self, symbol: str) -> Quote:
        """The best bid and ask now; `ExchangeUnavailable` where a side of the book is empty."""
        raw = await self._ask("Ticker", {"pair": self._pair(symbol)})
        row = self._read(first_of, raw)
        sides = [self._read(partial(levels, side=side), row) for side in ("b", "a")]
        prices = [side[0][0] for side in sides if side]
        if len(prices) != len(sides) or not all(prices):
            raise ExchangeUnavailable("a side of the book is empty")
        bid, ask = prices
        return Quote(exchange=self.exchange, symbol=symbol, bid=bid, ask=ask, received_at=utc_now())

    async def book(self, symbol: str) -> VenueMarket:
        """The best 100 levels of each side now; the fee is not in them."""
        raw = await self._ask("Depth", {"pair": self._pair(symbol), "count": DEPTH})
        row = self._read(first_of, raw)
        bids, asks = (
            tuple(Level(*level) for level in self._read(partial(levels, side=side), row))
            for side in ("bids", "asks")
        )
        return VenueMarket(
            exchange=self.exchange, symbol=symbol, bids=bids, asks=asks, received_at=utc_now()
        )

    async def can_withdraw(self) -> bool | None:
        """Kraken does not say what a key may do."""
        return None

    # Stream

    async def executions(self) -> AsyncIterator[ExecutionReport | Transfer | StreamState]:
        """`executions` and `balances`: `CONNECTED` first and after each gap, then what they say.

        An event that cannot be read is logged and counted. Raises `ExchangeUnavailable` when the
        connection is lost for good; iterate again. Close it (`aclose`) or cancel its reader.
        """
        stream = KrakenStream(self._settings, self._clock)
        async with aclosing(self._reports_of(stream, self._reader.streamed)) as reports:  # type: ignore[type-var]
            async for report in reports:
                yield report

    # The rest

    async def _found(self, client_id: str) -> ExecutionReport | None:
        entry = await self._history.by_client_id(client_id)
        if entry is None:
            return None
        order_id, row = entry
        report = self._reader.queried(order_id, row)
        fills = await self._history.fills_of(trade_txids(row))
        return report.model_copy(update={"fills": tuple(fills)})

    def _changed(self, ref: OrderRef, **fields: Any) -> ExecutionReport:
        known = Known(ref.symbol, ref.exchange_client_id)
        return self._reader.changed(known, ref.exchange_order_id, self._clock.now(), **fields)

    async def _query(self, path: str, parameters: Mapping[str, Any]) -> Any:
        return await query(self._wire, path, parameters)

    async def _ask(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        return await self._wire.call(Call(Operation.QUERY), "GET", path, parameters)

    async def _reading(self, reading: Awaitable[T]) -> T:
        try:
            return await reading
        except MalformedError as error:
            failure = malformed_answer(str(error), Operation.QUERY)
        raise failure

    def _pair(self, symbol: str) -> str:
        name = self._altnames.get(symbol)
        if name is None:
            raise ExchangeUnavailable(
                f"{self.exchange} does not list {symbol!r}, nothing was sent", code="local_symbol"
            )
        return name
