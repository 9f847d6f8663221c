"""Binance Spot behind `IExecutionConnector`, through ccxt.

Every call is one request (queries that page: a few), sent once, never throttled, never repeated.
Local refusals are `ExchangeUnavailable` with nothing sent and a code of ours: `local_symbol`,
`local_request` (what was built is not the order) and `local_deadline` (the fence has passed).
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from activities.connectors.account import balances_of, best_of, levels_of
from activities.connectors.account_connector import AccountConnector
from activities.connectors.binance_limits import pools_of
from activities.connectors.binance_orders import CLIENT_ID, check_bytes, order_parameters, plain
from activities.connectors.binance_replace import replacement_of
from activities.connectors.binance_wire import BinanceWire, EventStream
from activities.connectors.capabilities import binance_spot
from activities.connectors.classify import Operation
from activities.connectors.clock import ExchangeClock
from activities.connectors.fields import clock_of, number_of, object_of, objects_of
from activities.connectors.history import BinanceHistory
from activities.connectors.instruments import instruments_of
from activities.connectors.order_rows import joined, read_orders
from activities.connectors.polled_feed import PolledFeed
from activities.connectors.reports import BinanceReader
from activities.connectors.settings import ConnectorSettings
from activities.connectors.wire import Call, OneWriteWire, RateUsage
from trading.oms.errors import (
    ExchangeError,
    ExchangeRejected,
    ExchangeUnavailable,
    OutcomeUnknown,
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
    Transfer,
    VenueStatus,
)
from trading.oms.venue_changes import Replacement

logger = logging.getLogger(__name__)
REFUSED = 400
"""The HTTP status that goes with the exchange's word on an order; with another it is no word."""
NO_SUCH_ORDER = "-2013"
NOTHING_TO_CANCEL = "-2011"
ORDER_ARCHIVED = "-2026"
_CLOCK_LOOKS_MAX, _CLOCK_ERROR_S = 5, 0.02
_FEW = 13
"""The open orders of so many symbols cost no more than those of all."""


@dataclass(frozen=True)
class Variant:
    """What an exchange that speaks Binance's protocol has of its own.

    `account` are the parameters of the question for balances. Without `has_stream` REST is asked
    again and again for what a stream would tell.
    """

    wire: Callable[[ConnectorSettings, ExchangeClock], OneWriteWire] = BinanceWire
    capabilities: Callable[..., Capabilities] = binance_spot
    account: Mapping[str, str] = field(default_factory=lambda: {"omitZeroBalances": "true"})
    has_stream: bool = True


class BinanceConnector(AccountConnector):
    """One account at Binance Spot; all calls may run at once on one instance."""

    def __init__(self, settings: ConnectorSettings, variant: Variant | None = None) -> None:
        """`variant` is another exchange with Binance's protocol."""
        settings.check()
        self._variant = variant or Variant()
        clock = ExchangeClock()
        super().__init__(settings, clock, self._variant.wire(settings, clock))
        self.capabilities: Capabilities = self._variant.capabilities(
            fence_ms=settings.recv_window_ms,
            processing_bound_ms=settings.processing_bound_ms,
            clock_skew_ms=settings.clock_skew_ms,
            data_lag_ms=settings.data_lag_ms,
        )
        self._instruments: dict[str, Instrument] = {}
        self._names: dict[str, str] = {}
        self._listed: frozenset[str] = frozenset()
        self._traded: set[str] = set()
        self._reader = BinanceReader(self.exchange, self.account, self._instruments)
        self._history = BinanceHistory(self._query, self._clock, self._reader)

    @property
    def rate_usage(self) -> RateUsage:
        """The exchange's own count of our requests, as of the newest response."""
        return self._wire.rate_usage

    # Life

    async def start(self) -> None:
        """Set the clock, load the instruments, try the key. Raises `StartUpError`."""
        try:
            for _ in range(_CLOCK_LOOKS_MAX):
                await self.server_time()
                if self._clock.error_s <= _CLOCK_ERROR_S:
                    break
            await self.load_instruments()
            await self.balances()
        except ExchangeError as error:
            await self.close()
            raise self._not_accepted(error) from error

    async def load_instruments(self) -> None:
        """Read the exchange's symbols and filters again."""
        raw = await self._query("exchangeInfo")
        found = self._read(partial(instruments_of, self.exchange), raw)
        self.gate.stated(self._read(pools_of, raw))
        # What is delisted keeps its name: its orders are still asked after and cancelled.
        self._instruments.update(found)
        self._names.update({item.symbol: name for name, item in found.items()})
        self._listed = frozenset(item.symbol for item in found.values())

    def instrument(self, symbol: str) -> Instrument | None:
        """The rules of `symbol` (BASE/QUOTE), or None where the exchange does not list it."""
        return self._instruments[self._names[symbol]] if symbol in self._listed else None

    # Clock

    async def server_time(self) -> datetime:
        """The exchange's clock, asked now; also sets the estimate."""
        call = Call(Operation.QUERY)
        raw = await self._wire.call(call, "GET", "time")
        answered = time.monotonic()
        milliseconds = self._read(lambda body: clock_of(object_of(body), "serverTime"), raw)
        self._clock.observe(milliseconds, call.written_at, answered)
        return self._clock.now()

    # Commands

    async def place(self, request: OrderRequest) -> ExecutionReport:
        """Send exactly this request, once. Raises the three classes of `ExchangeError`."""
        call, parameters = self._new_order(request, Operation.PLACE)
        raw = await self._wire.call(call, "POST", "order", parameters)
        report = self._read(self._reader.placed, raw, Operation.PLACE)
        _check_name(report, request)
        return report

    async def replace(self, request: OrderRequest) -> Replacement:
        """Cancel `request.replaces`, if it has no fill, and only then place the rest; once.

        Raises `ExchangeRejected` and `ExchangeUnavailable` where neither half was done, and
        `OutcomeUnknown` where nobody knows.
        """
        call, parameters = self._new_order(request, Operation.REPLACE)
        failure = None
        try:
            await self._wire.call(call, "POST", "order/cancelReplace", parameters)
        except ExchangeError as error:
            failure = error
        said = self._read(partial(replacement_of, reader=self._reader), call.answer, call.operation)
        if said is None:
            raise failure or OutcomeUnknown("the exchange's answer names no order")
        if isinstance(said.placed, ExecutionReport):
            _check_name(said.placed, request)
        return said

    def _new_order(
        self, request: OrderRequest, operation: Operation
    ) -> tuple[Call, dict[str, str]]:
        symbol = self._symbol(request.symbol, to_trade=True)
        self._traded.add(request.symbol)
        call = Call(
            operation,
            check_request=partial(check_bytes, request, symbol),
            check_time=partial(self._check_deadline, request.deadline_ms),
        )
        if CLIENT_ID.fullmatch(request.exchange_client_id) is None:
            raise ExchangeUnavailable(
                f"the id {request.exchange_client_id[:80]!r} is not 1 to 36 of A-Z a-z 0-9 _ -",
                code="local_request",
            )
        return call, order_parameters(request, symbol)

    async def cancel(self, ref: OrderRef) -> ExecutionReport:
        """Cancel by client id. `ExchangeRejected` when it is unknown or cannot be cancelled."""
        raw = await self._wire.call(Call(Operation.CANCEL), "DELETE", "order", self._named(ref))
        return self._read(self._reader.cancelled, raw, Operation.CANCEL)

    async def cancel_all(self, symbol: str) -> None:
        """Cancel the account's open orders in a symbol, whoever placed them; none is no error."""
        call = Call(Operation.CANCEL)
        try:
            await self._wire.call(call, "DELETE", "openOrders", {"symbol": self._symbol(symbol)})
        except ExchangeRejected as error:
            if error.code != NOTHING_TO_CANCEL:
                raise

    async def reduce(self, ref: OrderRef, new_quantity: Decimal) -> ExecutionReport:
        """Reduce the total quantity (base asset) in place, keeping priority and both ids."""
        parameters = {
            **self._named(ref),
            "newQty": plain(new_quantity),
            "newClientOrderId": ref.exchange_client_id,
        }
        call = Call(Operation.AMEND)
        raw = await self._wire.call(call, "PUT", "order/amend/keepPriority", parameters)
        return self._read(self._reader.amended, raw, Operation.AMEND)

    # Queries: every failure is `ExchangeUnavailable`, which is not an observation.

    async def find_order(self, ref: OrderRef) -> ExecutionReport | None:
        """Query one order by our client id, with its fills; None: the exchange knows none.

        An archived order (-2026: over 90 days old, ended without a fill) is reported cancelled.
        """
        try:
            report = self._read(self._reader.queried, await self._query("order", self._named(ref)))
        except ExchangeUnavailable as error:
            if (error.status, error.code) == (REFUSED, NO_SUCH_ORDER):
                return None
            if (error.status, error.code) == (REFUSED, ORDER_ARCHIVED):
                return self._archived(ref, error.text)
            raise
        if not report.cumulative_quantity:
            return report
        found = ref.model_copy(update={"exchange_order_id": report.exchange_order_id})
        return report.model_copy(update={"fills": tuple(await self.fills_of(found))})

    async def orders_since(self, symbol: str, since: datetime) -> OrderList:
        """Every order of the account created since then, whatever its status; without fills."""
        return await self._history.orders_since(self._symbol(symbol), since)

    async def open_orders(self, symbol: str | None = None) -> OrderList:
        """The orders that rest at the exchange now, ours and others'; without fills."""
        parameters = {"symbol": self._symbol(symbol)} if symbol is not None else {}
        raw = await self._query("openOrders", parameters)
        return read_orders(self._reader.queried, self._read(objects_of, raw))

    async def resting_in(self, symbols: Collection[str]) -> OrderList:
        """What rests in these symbols and those of `recent_orders`, by symbol where it is cheap."""
        wanted = sorted(self._traded | set(symbols))
        if len(wanted) > _FEW or not self._listed.issuperset(wanted):
            return await self.open_orders()
        return joined([await self.open_orders(one) for one in wanted])

    async def recent_orders(self, since: datetime) -> OrderList:
        """Every order since then of the symbols in which this process has placed one."""
        return joined([await self.orders_since(one, since) for one in sorted(self._traded)])

    async def fills_after(
        self, symbol: str, *, trade_id: str | None, since: datetime | None
    ) -> Sequence[Fill]:
        """The account's fills from this trade id on (inclusive), or since a time; oldest first."""
        name = self._symbol(symbol)
        if trade_id is None and since is not None:
            return await self._history.fills_since(name, since)
        return await self._history.fills({"symbol": name}, from_id=int(trade_id or 0))

    async def fills_of(self, ref: OrderRef) -> Sequence[Fill]:
        """All fills of one order; one more query where the exchange's order id is not given."""
        order_id = ref.exchange_order_id
        if order_id is None:
            raw = await self._query("order", self._named(ref))
            order_id = self._read(lambda body: str(number_of(object_of(body), "orderId")), raw)
        named = {"symbol": self._symbol(ref.symbol), "orderId": order_id}
        return await self._history.fills(named, from_id=None)

    async def balances(self) -> Mapping[str, Balance]:
        """Asset to balance, assets with nothing left out."""
        raw = await self._query("account", self._variant.account)
        return self._read(balances_of, raw)

    async def quote(self, symbol: str) -> Quote:
        """The best bid and ask now; `ExchangeUnavailable` where a side of the book is empty."""
        raw = await self._query("ticker/bookTicker", {"symbol": self._symbol(symbol)})
        bid, ask = self._read(best_of, raw)
        return Quote(exchange=self.exchange, symbol=symbol, bid=bid, ask=ask, received_at=utc_now())

    async def book(self, symbol: str) -> VenueMarket:
        """The best 100 levels of each side now (weight 5); the fee is not in them."""
        raw = await self._query("depth", {"symbol": self._symbol(symbol), "limit": "100"})
        return VenueMarket(
            exchange=self.exchange,
            symbol=symbol,
            bids=self._read(partial(levels_of, side="bids"), raw),
            asks=self._read(partial(levels_of, side="asks"), raw),
            received_at=utc_now(),
        )

    async def can_withdraw(self) -> bool | None:
        """Whether this key may withdraw money; None: the exchange does not say.

        Binance says it of the key at /sapi/v1/account/apiRestrictions, which neither its testnet
        nor the sandbox has; `canWithdraw` of the account is another thing, but no account that
        may not withdraw has a key that may.
        """
        account = await self._query("account", self._variant.account)
        if self._read(object_of, account).get("canWithdraw") is False:
            return False
        try:
            key = self._read(object_of, await self._query("account/apiRestrictions"))
        except ExchangeUnavailable as error:
            logger.info("%s does not say what the key may do: %s", self.exchange, error)
            return None
        answer = key.get("enableWithdrawals")
        return answer if isinstance(answer, bool) else None

    # Stream

    async def executions(self) -> AsyncIterator[ExecutionReport | Transfer | StreamState]:
        """The user-data stream: reports as they happen; `CONNECTED` first and after each gap.

        An event that cannot be read is logged and counted. Raises `ExchangeUnavailable` when the
        connection is lost for good; iterate again. Close it (`aclose`) or cancel its reader.
        """
        if not self._variant.has_stream:
            polled = PolledFeed(self, self._settings.stream_silence_ms / 1000)
            async with aclosing(polled.events()) as events:  # type: ignore[type-var]
                async for event in events:
                    yield event
            return
        stream = EventStream(self._settings, self._clock)
        async with aclosing(self._reports_of(stream, self._reader.streamed)) as reports:  # type: ignore[type-var]
            async for report in reports:
                yield report

    # The rest

    async def _query(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        return await self._wire.call(Call(Operation.QUERY), "GET", path, parameters)

    def _symbol(self, symbol: str, *, to_trade: bool = False) -> str:
        name = self._names.get(symbol)
        if name is None or (to_trade and symbol not in self._listed):
            raise ExchangeUnavailable(
                f"{self.exchange} does not list {symbol!r}, nothing was sent", code="local_symbol"
            )
        return name

    def _named(self, ref: OrderRef) -> dict[str, str]:
        """Both ids where both are known: Binance then refuses a pair that is not one order."""
        named = {
            "symbol": self._symbol(ref.symbol),
            "origClientOrderId": ref.exchange_client_id,
        }
        if ref.exchange_order_id is not None:
            named["orderId"] = ref.exchange_order_id
        return named

    def _archived(self, ref: OrderRef, text: str) -> ExecutionReport:
        return ExecutionReport(
            exchange=self.exchange,
            account=self.account,
            symbol=ref.symbol,
            exchange_client_id=ref.exchange_client_id,
            exchange_order_id=ref.exchange_order_id,
            status=VenueStatus.CANCELLED,
            cumulative_quantity=Decimal(0),
            reason=text,
            at=self._clock.now(),
            received_at=utc_now(),
            source=ReportSource.QUERY,
        )


def _check_name(report: ExecutionReport, request: OrderRequest) -> None:
    named = (request.exchange_client_id, request.symbol)
    if (report.exchange_client_id, report.symbol) != named:
        raise OutcomeUnknown("the exchange's answer names another order")
