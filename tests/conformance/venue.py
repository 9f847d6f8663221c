"""One venue for the cards: a started connector, a symbol, and orders that suit the symbol."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from trading.oms.enums import OrderSide, OrderType
from trading.oms.identity import exchange_client_id
from trading.oms.models import Instrument
from trading.oms.venue import (
    ExecutionReport,
    IExecutionConnector,
    OrderRef,
    OrderRequest,
    StreamState,
    Transfer,
    VenueStatus,
)
from workers.sandbox.config import KrakenLimits, SandboxConfig, parse_account
from workers.sandbox.server import SandboxServer

SANDBOXES = {
    "binance": SandboxConfig(
        name="binance", accounts=(parse_account("the-key-of-the-cards:the-secret-of-the-cards"),)
    ),
    "kraken": SandboxConfig(
        name="kraken",
        protocol="kraken",
        accounts=(parse_account("the-key-of-the-cards:dGhlIHNlY3JldCBvZiB0aGUgY2FyZHM="),),
        kraken_limits=KrakenLimits(calls=10_000, trading=10_000),
    ),
}
SANDBOXES["binanceus"] = SANDBOXES["binance"]
SANDBOXES |= {f"{kind}-by-record": SANDBOXES[kind] for kind in ("binance", "kraken")}
"""The connector by records passes the cards at both protocols; it has no exchange of its own."""
KINDS = {
    "binance-by-record": "tests.conformance.generic:binance",
    "kraken-by-record": "tests.conformance.generic:kraken",
}
"""What the connector is called in the settings, where not as here."""
ENDED = {VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.REJECTED}
PATIENCE_S = 10
_run = uuid.uuid4().hex
_numbers = itertools.count(1)


@dataclass
class Venue:
    """`server` is the sandbox exchange where the cards run at one, else None."""

    kind: str
    connector: IExecutionConnector
    symbol: str
    server: SandboxServer | None
    resting: list[OrderRequest] = field(default_factory=list)

    @property
    def rules(self) -> Instrument:
        rules = self.connector.instrument(self.symbol)
        assert rules is not None, f"{self.kind} does not list {self.symbol}"
        return rules

    @property
    def first_market_side(self) -> OrderSide:
        """A buy, which a sell can follow; where those are refused the account has to hold some."""
        return OrderSide.BUY if self.connector.capabilities.market_buys else OrderSide.SELL

    def control(self, deed: str, **asked: Any) -> Any:
        """A deed of the sandbox's market or a fault; the card is skipped at a real venue."""
        if self.server is None:
            pytest.skip("this card needs the sandbox exchange's control")
        name = self.symbol.replace("/", "")
        about = {} if deed == "set_faults" else {"symbol": name}
        return getattr(self.server.exchange.control, deed)({**about, **asked})

    def make_a_market(self) -> None:
        if self.server is not None:
            self.control("quote", bid="38990", bid_quantity="2", ask="39010", ask_quantity="2")

    async def order(self, **fields: object) -> OrderRequest:
        """A buy that rests a fifth below the market, with what the card changes."""
        price = fields.get("price") or await self.far_below()
        now = await self.connector.server_time()
        values: dict[str, object] = {
            "exchange": self.connector.exchange,
            "account": self.connector.account,
            "symbol": self.symbol,
            "exchange_client_id": exchange_client_id("cards", f"{_run}-{next(_numbers)}", 1, 1),
            "side": OrderSide.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": self.enough(Decimal(str(price))),
            "price": price,
            "timestamp_ms": int(now.timestamp() * 1000),
            "window_ms": self.connector.capabilities.fence_ms,
        }
        return OrderRequest.model_validate(values | fields)

    async def far_below(self) -> Decimal:
        quote = await self.connector.quote(self.symbol)
        return quote.bid * Decimal("0.8") // self.rules.tick_size * self.rules.tick_size

    def enough(self, price: Decimal) -> Decimal:
        """Twice the smallest order at this price, in whole lots."""
        rules = self.rules
        least = max(rules.min_order_size, (rules.min_notional or Decimal(0)) / price)
        return (2 * least // rules.lot_size + 1) * rules.lot_size

    @asynccontextmanager
    async def placed(self, **fields: object) -> AsyncIterator[tuple[OrderRequest, OrderRef]]:
        """An order that rests while the card looks at it."""
        request = await self.order(**fields)
        report = await self.connector.place(request)
        yield request, named(request, report.exchange_order_id)
        if (await self.found(request)).status not in ENDED:
            await self.connector.cancel(named(request))

    async def found(self, request: OrderRequest) -> ExecutionReport:
        """The order as the venue's query has it, once it has it."""
        ref = named(request)
        report: ExecutionReport = await self.until(lambda: self.connector.find_order(ref))
        return report

    async def ended(self, request: OrderRequest) -> ExecutionReport:
        """The order's last state, by the query."""

        async def look() -> ExecutionReport | None:
            report = await self.connector.find_order(named(request))
            return report if report is not None and report.status in ENDED else None

        report: ExecutionReport = await self.until(look)
        return report

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What `look` answers as soon as it is true; a venue's queries may lag."""
        async with asyncio.timeout(PATIENCE_S):
            while not (seen := await look()):  # noqa: ASYNC110 - a venue has no event for us
                await asyncio.sleep(0.05)
        return seen

    @asynccontextmanager
    async def stream(self) -> AsyncIterator["Stream"]:
        """The execution stream, connected."""
        async with aclosing(self.connector.executions()) as items:  # type: ignore[type-var]
            stream = Stream(items)
            async with asyncio.timeout(PATIENCE_S):
                assert await anext(items) is StreamState.CONNECTED
            yield stream


@dataclass
class Stream:
    """What the stream has said so far of one order at a time."""

    items: AsyncIterator[ExecutionReport | Transfer | StreamState]

    async def of(
        self, request: OrderRequest, enough: Callable[[list[ExecutionReport]], bool]
    ) -> list[ExecutionReport]:
        """The reports on an order until they are `enough`."""
        seen: list[ExecutionReport] = []
        async with asyncio.timeout(PATIENCE_S):
            while not enough(seen):
                item = await anext(self.items)
                if isinstance(item, ExecutionReport) and (
                    item.exchange_client_id == request.exchange_client_id
                ):
                    seen.append(item)
        return seen


def named(request: OrderRequest, exchange_order_id: str | None = None) -> OrderRef:
    return OrderRef(
        symbol=request.symbol,
        exchange_client_id=request.exchange_client_id,
        exchange_order_id=exchange_order_id,
    )
